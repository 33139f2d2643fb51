"""The study of super-resolution runs, resumes and writes its table; with tiny packs and simulated blobs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

STUDIES = Path(__file__).resolve().parents[1] / "Studies"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(STUDIES))
    spec = importlib.util.spec_from_file_location("superresolution", STUDIES / "superresolution.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "superresolution", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight subjects of 40 slices, as the archive of the real study holds them."""
    folder = tmp_path / "data" / "brain_t1"
    folder.mkdir(parents=True)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    head = ((y / 0.8) ** 2 + (x / 0.6) ** 2 < 1) * (120 + 60 * np.sin(9 * x) * np.cos(7 * y))
    images = np.concatenate([[head * (0.5 + 0.01 * n) * size for n in range(40)] for size in np.linspace(1, 0.8, 8)])
    np.savez(folder / "axial128_u8.npz", images=images.astype(np.uint8), subject=np.repeat(np.arange(53, 61), 40))
    return tmp_path / "data"


def test_the_study_resumes_and_writes_its_table(
    study: ModuleType, data: Path, tmp_path: Path, tiny_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = [str(data), "--out", str(out), "--set", "quick", "--prior", str(tiny_pack), "--regression", ""]
    study.main(arguments)
    (scores,) = out.glob("scores-*.jsonl")
    lines = scores.read_text().splitlines()
    rows = {json.loads(line)["row"] for line in lines}
    # Three classical methods and one guided row, two factors, one slice of eight subjects.
    assert len(rows) == 8 and len(lines) == 64
    table = (out / "tables.md").read_text()
    assert "projection, mean of 4" in table and "projection, single sample" in table and "zero filling" in table

    # Killed while it wrote a line: that score and the later ones are lost, and only they are computed again.
    scores.write_text("\n".join(lines[:40]) + "\n" + lines[40][:30])
    computed = []
    store = study.Study._store
    monkeypatch.setattr(study.Study, "_store", lambda self, *a: (computed.append(len(a[2])), store(self, *a)))
    study.main(arguments)
    assert sum(computed) == 24
    assert (out / "tables.md").read_text() == table


def test_zero_filling_scores_as_an_independent_computation(study: ModuleType, data: Path) -> None:
    subject = study.pick(study.t1_subjects(data, 53, 53), range(20, 21))[0]
    truth = subject.slices[0].astype(np.float64)
    k_space = np.fft.fftshift(np.fft.fft2(truth))
    centre = np.abs(np.arange(128) - 64) <= 31
    filled = np.fft.ifft2(np.fft.ifftshift(k_space * np.outer(centre, centre))).real
    expected = 10 * np.log10(truth.max() ** 2 / np.mean((np.clip(filled, 0, None) - truth) ** 2))
    image = study.enlarge(study.low_resolution(subject, 64), "zero filling")[0]
    assert study.scores(truth, image, truth.max())["psnr"] == pytest.approx(expected, abs=0.01)


def test_simulated_noise_has_its_size_and_belongs_to_the_slice(study: ModuleType, data: Path) -> None:
    subject = study.t1_subjects(data, 53, 53)[0]
    clean, noisy = (study.low_resolution(subject, 64, noise) for noise in (0.0, 0.02))
    sigma, bright = 0.02 * subject.slices.max(), clean > 0.3 * clean.max()
    # Far above the noise a Rician error is a Gaussian one; in the dark air the magnitude is Rayleigh.
    assert (noisy - clean)[bright].std() == pytest.approx(sigma, rel=0.02)
    assert np.median(noisy[:, :6, :6]) == pytest.approx(1.1774 * sigma, rel=0.05)
    alone = study.low_resolution(study.pick([subject], range(7, 8))[0], 64, 0.02)
    peak = subject.slices.max() / subject.slices[7].max()  # the size goes with the largest intensity of what is given
    assert np.corrcoef((alone - clean[7:8])[bright[7:8]] * peak, (noisy - clean)[7:8][bright[7:8]])[0, 1] > 0.99


def test_the_residual_is_that_of_the_sample_in_noise_levels(
    study: ModuleType, data: Path, tmp_path: Path, tiny_pack: Path
) -> None:
    """Replacement ends on the measurement itself: nothing is left. A weight of 0 ignores it: far more than noise."""
    computed = study.Study(tmp_path / "out", "cpu", (str(tiny_pack), ""), 2)
    subjects = study.pick(study.t1_subjects(data, 53, 53), range(15, 16))
    rows = [study.Row("replacement", 32, {"steps": 2, "weight": weight}, 0.02) for weight in (1.0, 0.0)]
    computed.run(study.Part("noise", rows, subjects))
    with_data, without = (computed.done[row.key, "T1 53", 15]["residual_over_noise"] for row in rows)
    assert with_data < 1e-3 and without > 10
