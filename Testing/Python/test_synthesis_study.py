"""The measures of the synthesis study on constructed cases, and the study itself with runs of a step each."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.training.config import config_from
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.paired import Paired, write_paired

STUDIES = Path(__file__).resolve().parents[1] / "Studies"
UNET = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4}
AUTOENCODER = {"channels": [8, 8], "latent_channels": 2, "num_res_blocks": 1, "norm_groups": 4}


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(STUDIES))
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("synthesis_measures", monkeypatch)


def heart(slices: int = 2, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a ring of wall around blood with a scar on its right, and an LGE: 0.1 remote, 0.5 blood, 0.6 scar."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y)
    labels = np.zeros((slices, size, size), np.uint16)
    labels[:, radius < 16] = 200
    labels[:, (radius < 16) & (x > 8) & (np.abs(y) < 6)] = 2221
    labels[:, radius < 9] = 500
    lge = np.select([labels == 200, labels == 500, labels == 2221], [0.1, 0.5, 0.6], 0.3)
    return lge, labels


# Scar.


def test_the_threshold_lies_between_remote_myocardium_and_blood(measures):
    lge, labels = heart()
    assert measures.scar_threshold(lge, labels) == pytest.approx(0.3)
    # Whatever the gain of the scan.
    assert np.array_equal(measures.scar(lge, labels), measures.scar(0.5 * lge, labels))


def test_the_rule_finds_the_drawn_scar_and_nothing_in_a_healthy_wall(measures):
    lge, labels = heart()
    assert measures.dice(measures.scar(lge, labels), labels == 2221) > 0.9
    assert not measures.scar(np.where(labels == 2221, 0.1, lge), labels).any()


def test_a_bright_edge_alone_is_partial_volume_with_blood(measures):
    lge, labels = heart()
    healthy = np.where(labels == 2221, 0.1, lge)
    y, x = np.mgrid[:48, :48] - 23.5
    healthy[:, (np.hypot(x, y) >= 9) & (np.hypot(x, y) < 9.8)] = 0.4
    assert not measures.scar(healthy, labels).any()


def test_a_slice_alone_has_its_scar_with_the_threshold_of_the_patient(measures):
    lge, labels = heart()
    labels[1][labels[1] == 500] = 0
    threshold = measures.scar_threshold(lge, labels)
    assert np.array_equal(measures.scar(lge, labels)[1:], measures.scar(lge[1:], labels[1:], threshold))


def test_missed_and_invented_scars_are_counted_by_piece(measures):
    true, made = np.zeros((2, 3, 20, 20), bool)
    true[:, 2:6, 2:6] = True  # shown
    made[:, 4:8, 4:8] = True
    true[0, 15:18, 15:18] = True  # missed
    made[1, 2:5, 15:18] = True  # invented
    true[2, 10, 10] = True  # too small to count
    assert measures.unmatched(true, made, least=5) == (1, 2)
    assert measures.unmatched(made, true, least=5) == (1, 2)
    assert measures.unmatched(true, true, least=5) == (0, 2)


def test_a_synthetic_scar_is_compared_with_the_true_one(measures):
    lge, labels = heart()
    case = measures.Lge(lge, labels, voxel_ml=0.02)
    assert case.kind == "old" and case.reference()["ml"] == pytest.approx(case.compare(lge)["ml"])
    same, none = case.compare(lge), case.compare(np.where(labels == 2221, 0.1, lge))
    assert (same["missed"], same["invented"], same["dice"]) == (0, 0, 1.0)
    assert (none["missed"], none["invented"], none["ml"], none["dice"]) == (1, 0, 0.0, 0.0)
    labels[0, 0, 0] = 1220
    assert measures.Lge(lge, labels, 0.02).kind == "acute"


# The deviation, and closeness.


def test_auroc_is_the_share_of_pairs_in_order(measures):
    rng = np.random.default_rng(0)
    score, positive = rng.normal(size=200).round(1), rng.random(200) < 0.3
    a, b = score[positive], score[~positive]
    pairs = (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()
    assert measures.auroc(score, positive) == pytest.approx(pairs)
    assert measures.auroc(positive.astype(float), positive) == 1 and measures.auroc(-1.0 * positive, positive) == 0
    assert measures.auroc(score, np.zeros(200, bool)) is None


def test_a_deviation_that_is_large_where_the_scar_is_missed_flags_it(measures):
    lge, labels = heart()
    made = np.where(labels == 2221, 0.1, lge)
    flags = measures.Lge(lge, labels, 0.02).flags(made, np.where(labels == 2221, 0.2, 0.05))
    assert flags["missed"] > 3 * flags["remote"] and flags["invented"] is None and flags["auroc"] == 1
    blind = measures.Lge(lge, labels, 0.02).flags(made, np.full(lge.shape, 0.05))
    assert blind["auroc"] == 0.5 and blind["missed"] == pytest.approx(blind["remote"])


def test_edges_agree_whatever_the_contrast_and_less_the_more_is_mixed_in(measures):
    rng = np.random.default_rng(0)
    image, other = (np.cumsum(np.cumsum(rng.normal(size=(40, 40)), 0), 1) for _ in range(2))
    assert measures.edge_agreement(image, 1 - 2 * image) == pytest.approx(measures.edge_agreement(image, image))
    values = [measures.edge_agreement(image, (1 - w) * image + w * other) for w in (0, 0.3, 0.6, 1)]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]
    assert measures.edge_agreement(image, np.ones_like(image)) == 0


# The study.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive of small hearts with its cohort's manifest, and a folder of runs of a step each."""
    folder = tmp_path_factory.mktemp("study")
    lge, labels = heart(3, 32)
    volume = np.stack([0.8 * (labels > 0), 0.4 + 0.2 * (labels == 2221), lge], axis=1) * 255
    names = [*(f"myops_training_10{n}" for n in range(1, 4)), *(f"myops_test_20{n}" for n in range(1, 5))]
    patient, group = np.repeat(names, 3), np.repeat([name.split("_")[1] for name in names], 3)
    images = np.concatenate([volume * gain for gain in np.linspace(0.7, 1, len(names))]).astype(np.uint8)
    archive = folder / "hearts.npz"
    sequences = ("bSSFP", "T2", "LGE")
    write_paired(
        Paired(
            images,
            np.tile(labels, (len(names), 1, 1)),
            patient,
            group,
            sequences,
            1.4,
            {"percentile": 99.5, "value": 0.9},
        ),
        archive,
    )
    origins = {name: {"anatomy": f"{'real' if i % 2 else 'model'} {i}"} for i, name in enumerate(names)}
    (folder / "simulated.json").write_text(json.dumps({"patients": origins}))
    common = {
        "data": str(archive),
        "train_patients": ["myops_training_*"],
        "validation_patients": ["myops_training_103"],
        "precision": "32-true",
        "validate_every": 1,
        "picture_every": 9,
        "copies": 1,
        "phases": [{"steps": 1, "batch": 2, "crop": 32}],
    }
    runs = folder / "runs"
    synthesis = {"task": "synthesis", "autoencoder": str(runs / "autoencoder" / "best.ckpt"), "network": UNET}
    for name, own in {
        "autoencoder": {"task": "autoencoder", "network": AUTOENCODER},
        "cmrdiff": {**synthesis, "features": {"channels": 8}, "heatmap": {}},
        "plain": synthesis,
        "regression": {"task": "translation", "network": UNET},
    }.items():
        train(config_from({"name": name, **common, **own}), runs / name, accelerator="cpu", log=lambda line: None)
    return archive, runs


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("figures", "superresolution", "synthesis_measures", "synthesis_report", "synthesis_figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load("synthesis", monkeypatch)


def test_the_study_resumes_and_writes_its_tables(study, trained, tmp_path, monkeypatch):
    rows = [
        ("regression U-Net", study.Row("regression", "LGE")),
        ("GAN", study.Row("gan", "LGE")),
        ("CMRDiff, start noise", study.Row("cmrdiff", "LGE", {"start": "noise", "samples": 2, "steps": 1})),
    ]
    monkeypatch.setattr(study, "rows_hallucination", lambda: rows)
    archive, runs = trained
    arguments = [str(archive), str(runs), "--out", str(tmp_path), "--precision", "fp32", "--set", "hallucination"]
    study.main(arguments)
    table = (tmp_path / "tables.md").read_text()
    # The GAN has no run, and is left out.
    assert "Scar volume: old (4 patients)" in table and "start noise, mean of 2" in table and "GAN" not in table
    assert "**simulated**" in table
    assert {path.name for path in tmp_path.glob("*.png")} == {"hallucination.png", "scar-volume.png"}
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    # Two methods: 4 patients of 3 slices and their scar.
    assert len(lines) == 2 * 4 * (3 + 1) and {json.loads(line)["slice"] for line in lines} == {0, 1, 2, "all"}

    # Killed while it wrote a line: that patient is computed again, and nobody else.
    (tmp_path / "scores.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])
    computed = []
    store = study.Study._store
    monkeypatch.setattr(study.Study, "_store", lambda self, *a: (computed.append(a[1].name), store(self, *a)))
    study.main(arguments)
    assert computed == ["myops_test_204"] and (tmp_path / "tables.md").read_text() == table


def test_scores_of_other_weights_do_not_count(study, trained, tmp_path):
    archive, runs = trained
    entry = {"row": study.Row("cmrdiff", "T2").key, "method": "cmrdiff", "patient": "myops_test_201", "slice": 0}
    (tmp_path / "scores.jsonl").write_text(json.dumps({**entry, "weights": "0" * 12}) + "\n")
    one = study.Study(study.read_archive(archive, None, 10.0), tmp_path, "cpu", "fp32", 4)
    (tmp_path / "packs").mkdir()
    one.add(
        study.Runs(runs, one.archive, one.device, "fp32", tmp_path / "packs"), [one.archive.patient(entry["patient"])]
    )
    assert len(one.stored) == 1 and not one.done


def test_a_guided_start_takes_the_regression_of_the_pack_that_the_run_began_with(study, trained, tmp_path, capsys):
    """Whoever goes on from a pack's weights need not train its baseline again, which is then not judged."""
    archive, runs = trained
    one = study.Study(study.read_archive(archive, None, 10.0), tmp_path, "cpu", "fp32", 4)
    (tmp_path / "packs").mkdir()
    first = study.Runs(runs, one.archive, one.device, "fp32", tmp_path / "packs")
    pack = first.model("cmrdiff").info.folder
    own = tmp_path / "runs"
    shutil.copytree(runs / "cmrdiff", own / "cmrdiff")
    config = json.loads((own / "cmrdiff" / "config.json").read_text())
    (own / "cmrdiff" / "config.json").write_text(json.dumps({**config, "start": str(pack)}))
    (tmp_path / "more").mkdir()
    second = study.Runs(own, one.archive, one.device, "fp32", tmp_path / "more")
    assert second.has_start("cmrdiff") and not second.has("regression")
    weights = [each.model("cmrdiff").network.regression.state_dict() for each in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    one.add(second, [one.archive.patient("myops_test_201")])
    rows = [("CMRDiff", study.Row("cmrdiff", "T2", {"steps": 1})), ("regression U-Net", study.Row("regression", "T2"))]
    part = study.Part("main", rows, [one.archive.patient("myops_test_201")])
    one.run(part)
    assert one.complete(part) and one.rows(part) == rows[:1]
    assert "regression U-Net is left out" in capsys.readouterr().out


def test_scales_that_help_up_to_a_point_are_not_called_helpful_throughout(study, monkeypatch):
    rises = load("synthesis_report", monkeypatch).rises
    assert rises(np.array([0.1, 0.2, 0.3])) == "yes" and rises(np.array([0.1, 0.3, 0.2])) == "up to 2 of 3"


def test_examinations_of_one_person_count_once(study, monkeypatch):
    difference = load("synthesis_report", monkeypatch).difference
    first, second = np.array([1.0, 3.0, 5.0, 8.0]), np.array([0.0, 1.0, 2.0, 3.0])
    twice = difference(first, second, ["a", "a", "b", "c"])
    assert twice == difference(np.array([2.0, 5.0, 8.0]), np.array([0.5, 2.0, 3.0]), ["a", "b", "c"])
    assert twice != difference(first, second, list("abcd")) and twice.startswith("+3.17")
    unknown = np.array([np.nan, 3.0, 5.0, 8.0])
    assert difference(unknown, second, ["a", "a", "b", "c"]).startswith("+3.33")


def test_a_row_is_known_by_all_its_settings(study):
    plain, named = study.Row("cmrdiff", "LGE"), study.Row("cmrdiff", "LGE", {"steps": 20})
    assert plain.key == named.key and plain.key != study.Row("cmrdiff", "LGE", {"steps": 10}).key


def test_patients_with_runs_of_their_own_are_left_out_one_by_one(study, trained, tmp_path):
    archive, runs = trained
    paired = study.read_paired(archive)
    assert study.folds(paired, runs) == [(runs, [f"myops_test_20{n}" for n in range(1, 5)])]
    (tmp_path / "myops_training_102").mkdir()
    assert study.folds(paired, tmp_path) == [(tmp_path / "myops_training_102", ["myops_training_102"])]


def test_what_is_copied_is_the_sequence_that_is_nearest_in_other_patients(study, trained):
    archive = study.read_archive(trained[0], None, 10.0)
    assert archive.simulated and archive.patient("myops_test_201").kind == "real anatomy"
    images = archive.paired.images[archive.paired.group == "training"].astype(float)
    other = {name: np.square(images[:, i] - images[:, 2]).mean() for i, name in enumerate(("bSSFP", "T2"))}
    tested = sorted(set(archive.paired.patient[archive.paired.group == "test"].tolist()))
    assert archive.nearest("LGE", tested) == min(other, key=lambda name: other[name])


def test_it_must_be_said_whether_cardiac_patients_are_simulated(study, trained, tmp_path):
    alone = tmp_path / "hearts.npz"
    alone.write_bytes(trained[0].read_bytes())
    with pytest.raises(InputError, match="nothing says whether"):
        study.read_archive(alone, None, 10.0)
    assert not study.read_archive(alone, tmp_path, 10.0).simulated
