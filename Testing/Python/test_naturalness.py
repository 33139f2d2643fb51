"""Quality without a reference: the fits against known distributions, and that worse images are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.evaluation import naturalness
from MRDiffusionLib.evaluation.naturalness import asymmetric_gaussian, features, fit, load
from MRDiffusionLib.imaging import read_volume
from MRDiffusionLib.physics.degradation import degrade

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "MRDiffusionLib" / "evaluation" / "naturalness-brain-t1.json"


def sample() -> NDArray[np.float32]:
    """The middle one of the sample's slices, white at 1, of a test subject."""
    array = read_volume(ROOT / "MRDiffusion" / "Resources" / "SampleData" / "brain-t1-fine.nii.gz").array
    return np.asarray(array[2] / (np.percentile(array[array > 0.05 * array.max()], 99.5) / 0.93))


@pytest.mark.parametrize(
    ("draw", "shape", "deviation"),
    [
        (lambda rng, n: rng.normal(0, 0.7, n), 2.0, 0.7),
        (lambda rng, n: rng.laplace(0, 1.0, n), 1.0, np.sqrt(2)),
    ],
)
def test_shape_and_deviation_of_known_distributions_are_found(draw, shape: float, deviation: float):
    values = draw(np.random.default_rng(0), (3, 200_000))
    shapes, left, right = asymmetric_gaussian(values)
    assert shapes == pytest.approx(shape, rel=0.03)
    assert left == pytest.approx(deviation, rel=0.02) and right == pytest.approx(deviation, rel=0.02)


def test_an_asymmetric_distribution_has_its_own_sides():
    rng = np.random.default_rng(1)
    left, right = -np.abs(rng.normal(0, 1.0, 100_000)), np.abs(rng.normal(0, 3.0, 300_000))
    # Each side in proportion to its deviation, so that the density has no step at 0.
    shape, to_left, to_right = asymmetric_gaussian(np.concatenate([left, right])[None])
    assert shape == pytest.approx(2.0, rel=0.03)
    assert to_left == pytest.approx(1.0, rel=0.02) and to_right == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_worse_images_are_further_from_good_ones(kind: str):
    good, image = load(SHIPPED), torch.from_numpy(sample())
    generator = torch.Generator().manual_seed(0)
    distances = [good.distance(degrade(image, kind, level, generator).numpy()) for level in (0.0, 0.4, 0.9)]
    assert distances == sorted(distances) and distances[2] > 1.5 * distances[0]


def test_brightness_matters_little():
    good, image = load(SHIPPED), sample()
    assert good.distance(0.8 * image) == pytest.approx(good.distance(image), rel=0.2)


def test_what_it_was_fitted_to_is_near():
    rng = np.random.default_rng(0)
    images = [np.clip(rng.normal(0.5, 0.05, (128, 128)), 0.1, 1) for _ in range(4)]
    own = fit(images[:3], "noise")
    assert own.distance(images[3]) < 0.3 * own.distance(sample())


def test_a_fit_survives_its_file(tmp_path: Path):
    own = fit([sample()], "one slice")
    own.save(tmp_path / "own.json")
    again = load(tmp_path / "own.json")
    assert again.source == "one slice" and again.distance(sample()) == pytest.approx(own.distance(sample()), abs=1e-3)


def test_air_does_not_count():
    image = np.zeros((128, 128))
    image[:96, :96] = np.random.default_rng(0).uniform(0.3, 0.9, (96, 96))
    whole = features(image)
    cut = features(image[:96, :96])
    assert 0 < len(whole) <= len(cut) + 7 and whole.shape[1] == 36


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((128, 128)), "too little of the image is not air"),
        (np.ones((20, 128)), "has no patch of 48x48"),
        (np.ones((3, 128, 128)), "has no patch"),
    ],
)
def test_images_without_a_patch_are_refused(image: NDArray[np.float64], message: str):
    with pytest.raises(InputError, match=message):
        load(SHIPPED).distance(image)


@pytest.mark.parametrize("text", ["", "{}", '{"mean": [1], "covariance": [[1]], "source": "x"}'])
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(InputError):
        naturalness.load(tmp_path / "own.json")
