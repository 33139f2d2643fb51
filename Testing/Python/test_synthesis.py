"""Synthesis end to end with a small pack of random weights: what must hold whatever the network predicts."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MRDiffusionLib import tasks
from MRDiffusionLib.errors import InputError, PackError, SettingError
from MRDiffusionLib.imaging import Geometry, Volume, read_volume, write_volume
from MRDiffusionLib.request import Request, request_from_provenance
from MRDiffusionLib.settings import DEFAULT_SCALE, SynthesisSettings
from MRDiffusionLib.tasks.conditions import read_conditions
from MRDiffusionLib.tasks.synthesis import Guided

OBLIQUE = (0.6, 0.0, 0.8, 0.0, 1.0, 0.0, -0.8, 0.0, 0.6)


@pytest.fixture
def pack(tiny_synthesis_pack: Path) -> Path:
    return tiny_synthesis_pack


@pytest.fixture
def make(pack: Path, tmp_path: Path):
    """Writes volumes on one grid and gives a request for LGE from bSSFP and T2."""

    def build(slices: int = 3, seed: int = 0, inputs: tuple[str, ...] = ("bSSFP", "T2"), **settings: object) -> Request:
        rng = np.random.default_rng(1)
        geometry = Geometry((40, 36, slices), (2.0, 2.0, 8.0), (-30.0, 12.0, 5.0), OBLIQUE)
        files = {}
        for role in inputs:
            files[role] = str(tmp_path / f"{role}.nii.gz")
            write_volume(Volume(rng.uniform(1, 100, (slices, 36, 40)).astype(np.float32), geometry), files[role])
        chosen = {"target": "LGE", "steps": 3, "samples": 2, **settings}
        return Request("synthesis", str(pack), files, SynthesisSettings(**chosen), seed, precision="fp32")

    return build


def test_the_result_lies_where_the_first_volume_does(make):
    result = tasks.run(make())
    made = result.volumes["result"]
    first = read_volume(make().inputs["bSSFP"]).geometry
    assert made.array.shape == (3, 32, 32) and made.geometry.spacing == (2.0, 2.0, 8.0)
    middles = [g.affine() @ [*((np.array(g.size) - 1) / 2), 1] for g in (made.geometry, first)]
    assert np.allclose(*middles, atol=1e-4) and made.geometry.direction == pytest.approx(first.direction)
    assert np.isfinite(made.array).all() and made.array.min() >= 0 and made.array.max() <= 1000
    assert (result.volumes["standard_deviation"].array > 0).any()
    assert result.warnings == ()


def test_a_run_is_made_again_from_its_provenance_bit_by_bit(make):
    first = tasks.run(make(scales=(("bSSFP", 2.0), ("T2", 0.5)), eta=0.5))
    again = tasks.run(request_from_provenance(json.dumps(first.provenance)))
    for role, volume in first.volumes.items():
        assert np.array_equal(volume.array, again.volumes[role].array)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_slice_alone_is_the_slice_of_the_volume(make, batch):
    seen: dict[int, Volume] = {}
    wanted = replace(make(scales=(("bSSFP", 1.7),)), batch=4)
    whole = tasks.run(wanted, preview=seen.__setitem__).volumes["result"]
    assert seen and all(image.geometry.agrees_with(whole.geometry.part((n,))) for n, image in seen.items())
    alone = tasks.run(replace(make(scales=(("bSSFP", 1.7),)), slices=(1,), batch=batch)).volumes["result"]
    assert np.array_equal(whole.array[1], alone.array[0])
    centre = np.array([15.5, 15.5, 1, 1])
    assert np.allclose(whole.geometry.affine() @ centre, alone.geometry.affine() @ (centre * [1, 1, 0, 1]))


def test_scales_of_one_are_the_joint_prediction_and_of_zero_the_unconditional_one(make):
    for mode in ("nested", "averaged"):
        parts = guided(make(guidance=mode, scales=(("bSSFP", 1.0), ("T2", 1.0))))
        z, gamma = torch.randn(1, *parts.latents.shape[2:]), torch.zeros(1)
        joint = parts._conditional([0])(z, gamma, torch.tensor([[True, True]]))
        assert torch.equal(parts.of([0])(z, gamma), joint)
    zero = [
        tasks.run(make(guidance=mode, scales=(("bSSFP", 0.0), ("T2", 0.0)), start="noise"))
        for mode in ("nested", "averaged", "composable")
    ]
    for result in zero[1:]:
        assert np.allclose(result.volumes["result"].array, zero[0].volumes["result"].array, atol=1e-2)
    # Unconditional: other images give the same.
    other = make(scales=(("bSSFP", 0.0), ("T2", 0.0)), start="noise")
    volume = read_volume(other.inputs["T2"])
    write_volume(Volume(volume.array[:, ::-1].copy(), volume.geometry), other.inputs["T2"])
    assert np.allclose(tasks.run(other).volumes["result"].array, zero[0].volumes["result"].array, atol=1e-2)


def test_a_scale_that_nobody_chose_is_written_down(make):
    recorded = tasks.run(make(scales=(("T2", 0.5),))).provenance["request"]["settings"]["scales"]
    assert recorded == {"bSSFP": DEFAULT_SCALE, "T2": 0.5}


def test_one_condition_alone_gives_a_result_and_says_so(make):
    result = tasks.run(make(inputs=("T2",)))
    assert any("bSSFP is not given" in sentence for sentence in result.warnings)


def guided(request: Request) -> Guided:
    model = tasks.PackCache().synthesiser(request.pack, torch.device("cpu"), "fp32")
    given = read_conditions(request.inputs, model.info)
    return Guided(given, list(range(given.count)), model, request.settings)


def test_strength_zero_gives_the_one_pass_prediction_itself(make):
    """Not what the autoencoder makes of it."""
    request = make(start="regression", strength=0.0)
    nothing = tasks.run(request)
    assert not nothing.volumes["standard_deviation"].array.any()
    made = (guided(request).regression.numpy() + 1) * 500
    assert np.allclose(nothing.volumes["result"].array, made, atol=0.01)


def test_what_the_autoencoder_loses_of_the_prediction_comes_back_as_far_as_noise_leaves_it(make):
    parts, rows = guided(make(start="regression")), [0, 2]
    decoded = parts.model.network.decode(parts.start[rows])
    lost = parts.regression[rows] - decoded
    assert lost.abs().max() > 0.01
    for gamma in (-12.0, -2.0, 1.0, 6.0):
        kept = math.sqrt(1 / (1 + math.exp(gamma)))  # alpha, variance preserving
        expected = (decoded + kept * lost).clamp(-1, 1)
        assert torch.allclose(parts.image(parts.start[rows], rows, torch.tensor(gamma)), expected, atol=1e-5)
    # Of another start it would be the detail of another contrast.
    other = guided(make(start="bSSFP"))
    assert torch.equal(other.image(other.start[rows], rows, torch.tensor(0.0)), other._decoded(other.start[rows]))


def test_strength_one_forgets_the_start(make):
    begins = [tasks.run(make(start=start, strength=1.0)).volumes["result"].array for start in ("bSSFP", "T2")]
    begins += [tasks.run(make(start=start, strength=0.3)).volumes["result"].array for start in ("bSSFP", "T2")]
    assert np.abs(begins[0] - begins[1]).mean() < 0.5 * np.abs(begins[2] - begins[3]).mean()


def test_a_volume_on_another_grid_is_resampled_and_a_person_told(make):
    request = make()
    volume = read_volume(request.inputs["T2"])
    geometry = replace(volume.geometry, spacing=(2.5, 2.5, 8.0))
    write_volume(Volume(volume.array, geometry), request.inputs["T2"])
    assert any("T2 has another geometry than bSSFP" in sentence for sentence in tasks.run(request).warnings)


def test_slices_that_another_volume_does_not_reach_are_made_without_it(make):
    request = make(slices=5)
    volume = read_volume(request.inputs["T2"])
    write_volume(Volume(volume.array[:4], replace(volume.geometry, size=(40, 36, 4))), request.inputs["T2"])
    result = tasks.run(request)
    assert any("4 of 5 slices" in sentence for sentence in result.warnings)
    alone = tasks.run(make(slices=5, inputs=("bSSFP",)))
    made, without = (each.volumes["result"].array for each in (result, alone))
    assert np.array_equal(made[4], without[4]) and not np.array_equal(made[3], without[3])
    write_volume(Volume(volume.array[:2], replace(volume.geometry, size=(40, 36, 2))), request.inputs["T2"])
    with pytest.raises(InputError, match="T2 covers 2 of the 5 slices of bSSFP"):
        tasks.run(request)


def test_a_slice_without_signal_stays_empty(make):
    request = make()
    for path in request.inputs.values():
        volume = read_volume(path)
        array = volume.array.copy()
        array[1] = 0
        write_volume(Volume(array, volume.geometry), path)
    made = tasks.run(request).volumes["result"].array
    assert not made[1].any() and made[0].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "T1"}, "target = 'T1'"),
        ({"target": ""}, "target = ''"),
        ({"target": "T2"}, "T2 is both the target and given"),
        ({"inputs": ("bSSFP", "FLAIR")}, "given FLAIR is no sequence"),
        ({"scales": (("LGE", 1.0),)}, "a scale for LGE"),
        ({"start": "LGE"}, "start = LGE is not given"),
    ],
)
def test_what_the_pack_cannot_do_is_named(make, changes, words):
    with pytest.raises(SettingError, match=words):
        tasks.run(make(**changes))


def test_a_pack_of_another_task_is_refused(make):
    with pytest.raises(PackError, match="superresolution"):
        tasks.run(replace(make(), pack="brain-t1-128"))
    request = Request("superresolution", make().pack, {"low_resolution": make().inputs["T2"]})
    with pytest.raises(PackError, match="synthesis"):
        tasks.run(request)


def test_scales_outside_their_range_are_refused(make):
    with pytest.raises(SettingError, match=r"scales of T2 = 11"):
        make(scales=(("T2", 11.0),))


# What a pack has not seen.


def with_domain(pack: Path, tmp_path: Path, **domain: object) -> Path:
    folder = tmp_path / "own"
    shutil.copytree(pack, folder)
    values = json.loads((folder / "pack.json").read_text())
    values["domain"] |= domain
    (folder / "pack.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(("plane", "angle"), [("axial", "53"), ("coronal", "90"), ("sagittal", None)])
def test_slices_of_another_plane_are_warned_of(make, pack, tmp_path, plane, angle):
    # The normal is (0.8, 0, 0.6): 53 degrees from the axis of the body, 37 from left to right.
    request = replace(make(), pack=str(with_domain(pack, tmp_path, plane=plane)))
    warnings = [sentence for sentence in tasks.run(request).warnings if "degrees against" in sentence]
    assert len(warnings) == 1 and (angle is None or f"by {angle} degrees against the {plane}" in warnings[0])


def test_the_packs_own_plane_is_not_warned_of(make, pack, tmp_path):
    request = make()
    for path in request.inputs.values():
        volume = read_volume(path)
        straight = replace(volume.geometry, direction=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0))
        write_volume(Volume(volume.array, straight), path)
    assert tasks.run(replace(request, pack=str(with_domain(pack, tmp_path, plane="axial")))).warnings == ()


def test_a_volume_that_is_brighter_than_the_training_is_asked_about(make, pack, tmp_path):
    limits = {"T2": [0.9, 1.0], "bSSFP": [0.2, 0.8]}
    request = replace(make(), pack=str(with_domain(pack, tmp_path, median=limits)))
    warnings = tasks.run(request).warnings
    assert len(warnings) == 1 and "T2 is not as bright" in warnings[0] and "0.90 to 1.00" in warnings[0]


def test_large_fields_of_view_and_large_pixels_are_warned_of(make):
    request = make()
    for path in request.inputs.values():
        volume = read_volume(path)
        write_volume(Volume(volume.array, replace(volume.geometry, spacing=(3.5, 3.5, 8.0))), path)
    warnings = tasks.run(request).warnings
    assert any("140 x 126 mm" in sentence for sentence in warnings)
    assert any("pixels of 3.50 mm" in sentence for sentence in warnings)
