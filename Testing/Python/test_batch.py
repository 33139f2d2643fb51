"""A folder of volumes: what becomes of each, what is done again and what is not."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from MRDiffusionLib.cli import main
from MRDiffusionLib.cohort.batch import WORD, find_cases
from MRDiffusionLib.errors import InputError, StorageError
from MRDiffusionLib.imaging.volume import Geometry, Volume, read_volume, write_volume
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import EnhancementSettings, SynthesisSettings
from MRDiffusionLib.worker.protocol import worker_environment

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def volumes(low_volume: Path, tmp_path: Path) -> Path:
    """Two volumes of different formats, and what is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(low_volume, folder / "one.nrrd")
    write_volume(read_volume(low_volume), folder / "two.x.nii.gz")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.nii").write_text("hello")
    (folder / "sub.nii").mkdir()
    return folder


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "batch.csv").open(newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def enhance(run: Run, tiny_enhancer_pack: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def enhance(*more: object) -> tuple[int, str, str]:
        arguments = ("--pack", tiny_enhancer_pack, "--level", "0.5", "--precision", "fp32")
        return run("enhance", tmp_path / "in", tmp_path / "out", *arguments, *more)

    return enhance


def test_every_volume_gets_a_result_in_its_format(enhance: Run, volumes: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in volumes.iterdir() if path.is_file()}
    code, out, err = enhance()
    assert (code, err) == (0, "") and out.split() == ["2", "done", "0", "kept", "0", "failed"]
    made = [f"{WORD}-{name}" for name in ("one.json", "one.nrrd", "two.x.json", "two.x.nii.gz")]
    assert names(tmp_path / "out") == sorted([*made, "batch.csv"])
    for name in ("one.nrrd", "two.x.nii.gz"):
        given, result = read_volume(volumes / name), read_volume(tmp_path / "out" / f"{WORD}-{name}")
        assert result.geometry.size == given.geometry.size
        np.testing.assert_allclose(result.geometry.direction, given.geometry.direction, atol=1e-5)
    written = json.loads((tmp_path / "out" / f"{WORD}-one.json").read_text())
    assert written["synthetic"] and written["outputs"]["result"]["file"] == f"{WORD}-one.nrrd"
    assert written["outputs"]["result"]["sha256"] == read_volume(tmp_path / "out" / f"{WORD}-one.nrrd").sha256
    rows = table(tmp_path / "out")
    assert rows["one"]["state"] == "done" and rows["one"]["result"] == f"{WORD}-one.nrrd"
    assert {path: path.read_bytes() for path in before} == before


def test_a_result_of_a_folder_is_that_of_its_file_alone(
    enhance: Run, run: Run, volumes: Path, tiny_enhancer_pack: Path, tmp_path: Path
) -> None:
    enhance()
    alone = tmp_path / "alone.nrrd"
    run("enhance", volumes / "one.nrrd", alone, "--pack", tiny_enhancer_pack, "--level", 0.5, "--precision", "fp32")
    assert read_volume(alone).sha256 == read_volume(tmp_path / "out" / f"{WORD}-one.nrrd").sha256


def test_what_is_done_stays_and_what_has_changed_is_done_again(enhance: Run, volumes: Path, tmp_path: Path) -> None:
    enhance()
    places = {name: tmp_path / "out" / f"{WORD}-{name}" for name in ("one.nrrd", "two.x.nii.gz")}
    times = {name: path.stat().st_mtime_ns for name, path in places.items()}

    def again(*more: object) -> list[str]:
        code, _, _ = enhance(*more)
        assert code == 0
        found = [name for name, path in places.items() if path.stat().st_mtime_ns != times[name]]
        times.update({name: path.stat().st_mtime_ns for name, path in places.items()})
        return found

    assert again() == [] and table(tmp_path / "out")["one"]["state"] == "kept"
    (volumes / "one.nrrd").touch()
    assert again() == []  # the same voxels
    changed = read_volume(volumes / "one.nrrd")
    write_volume(Volume(changed.array + 1, changed.geometry), volumes / "one.nrrd")
    assert again() == ["one.nrrd"]
    places["two.x.nii.gz"].unlink()
    times["two.x.nii.gz"] = 0
    assert again() == ["two.x.nii.gz"]
    (tmp_path / "out" / f"{WORD}-one.json").write_text("{")
    assert again() == ["one.nrrd"]
    assert again("--level", "0.4") == list(places)
    assert again("--level", "0.4", "--force") == list(places)


def test_a_case_that_fails_stops_no_other(enhance: Run, volumes: Path, tmp_path: Path) -> None:
    enhance()
    (volumes / "one.nrrd").write_bytes(b"no volume")
    code, out, err = enhance()
    assert code == 2 and out.split() == ["0", "done", "1", "kept", "1", "failed"]
    assert "failed: one: " in err and "1 of 2 cases failed" in err and "batch.csv" in err
    rows = table(tmp_path / "out")
    assert rows["one"]["state"] == "failed" and "one.nrrd" in rows["one"]["told"] and not rows["one"]["result"]
    # Nobody must take the old result for that of the file which is there now.
    assert names(tmp_path / "out") == [f"{WORD}-two.x.json", f"{WORD}-two.x.nii.gz", "batch.csv"]


def test_what_was_made_of_the_same_files_outlives_a_failure(
    enhance: Run, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusionLib import tasks

    enhance()
    (tmp_path / "out" / f"{WORD}-two.x.json").unlink()  # now it could be anybody's
    before = names(tmp_path / "out")

    def fails(*_: object, **__: object) -> None:
        raise InputError("it does not work", "Try later")

    monkeypatch.setattr(tasks, "run", fails)
    code, _, err = enhance("--level", "0.4")
    assert code == 2 and "2 of 2 cases failed" in err and names(tmp_path / "out") == before


def test_a_stop_leaves_what_is_done_and_a_table(
    enhance: Run, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusionLib import tasks

    complete, done = tasks.run, []

    def interrupted(request: Request, **options: object) -> object:
        if done:
            raise KeyboardInterrupt
        done.append(request)
        return complete(request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "run", interrupted)
    code, _, err = enhance()
    assert code == 130 and "cancelled" in err
    assert names(tmp_path / "out") == [f"{WORD}-one.json", f"{WORD}-one.nrrd", "batch.csv"]
    assert list(table(tmp_path / "out")) == ["one"]
    monkeypatch.undo()
    code, out, _ = enhance()
    assert code == 0 and out.split() == ["1", "done", "1", "kept", "0", "failed"]


def test_cases_of_several_sequences_are_folders(run: Run, tiny_synthesis_pack: Path, tmp_path: Path) -> None:
    grid = Geometry((32, 32, 2), (2.0, 2.0, 8.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    for case, roles in (("b", ("bSSFP", "T2")), ("a", ("t2",))):
        for number, role in enumerate(roles):
            (tmp_path / "in" / case).mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(number).uniform(0, 100, (2, 32, 32)).astype(np.float32)
            write_volume(Volume(values, grid), tmp_path / "in" / case / f"{role}.nii.gz")
    (tmp_path / "in" / "empty").mkdir()
    arguments = ("--cases", tmp_path / "in", "--target", "LGE", "--pack", tiny_synthesis_pack)
    quick = ("--steps", 2, "--samples", 2, "--precision", "fp32")
    code, out, err = run("synthesize", tmp_path / "out", *arguments, *quick)
    assert (code, err) == (0, "") and out.split()[:2] == ["2", "done"]
    made = json.loads((tmp_path / "out" / f"{WORD}-b.json").read_text())
    assert list(made["request"]["inputs"]) == ["bSSFP", "T2"]
    assert f"{WORD}-b_standard_deviation.nii.gz" in names(tmp_path / "out")
    rows = table(tmp_path / "out")
    assert list(rows) == ["a", "b"] and "bSSFP is not given" in rows["a"]["told"]
    code, out, _ = run("synthesize", tmp_path / "out", *arguments, *quick)
    assert out.split()[:4] == ["0", "done", "2", "kept"]


@pytest.mark.parametrize(
    ("change", "out", "error", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "out", InputError, "cannot be read"),
        (lambda folder: (folder / "one.nrrd").unlink() or (folder / "two.x.nii.gz").unlink(), "out", InputError, "no"),
        (lambda folder: shutil.copy(folder / "one.nrrd", folder / "one.nii"), "out", InputError, "have one name"),
        (lambda folder: None, "in", StorageError, "lies in"),
        (lambda folder: None, "in/results", StorageError, "lies in"),
        (lambda folder: None, "missing/results", StorageError, "cannot be made"),
        (lambda folder: None, "out.nii.gz", StorageError, "the name of a volume"),
    ],
)
def test_folders_that_cannot_be_used_are_named(
    volumes: Path, tmp_path: Path, change: Callable[[Path], object], out: str, error: type[Exception], message: str
) -> None:
    change(volumes)
    request = Request("enhancement", "p", {"image": "x"}, EnhancementSettings())
    with pytest.raises(error, match=message):
        find_cases(volumes, tmp_path / out, request, ["image"])


def test_folders_of_cases_that_cannot_be_used_are_named(volumes: Path, tmp_path: Path) -> None:
    request = Request("synthesis", "p", {"T2": "x"}, SynthesisSettings("LGE"))
    with pytest.raises(InputError, match="holds no case") as caught:
        find_cases(volumes, tmp_path / "out", request, ["bSSFP", "T2"])
    assert "bSSFP.nii.gz, T2.nii.gz" in caught.value.hint
    (volumes / "p").mkdir()
    for name in ("T2.nii", "t2.nrrd"):
        (volumes / "p" / name).touch()
    with pytest.raises(InputError, match="holds T2 twice"):
        find_cases(volumes, tmp_path / "out", request, ["bSSFP", "T2"])


def test_looking_for_cases_loads_no_simpleitk() -> None:
    """The panel does it in Slicer's process."""
    code = "import sys, MRDiffusionLib.cohort.batch; print({'torch', 'SimpleITK', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=worker_environment(), capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr
