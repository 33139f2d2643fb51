"""One case, from two files to two files and a record; packs of random weights."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cohort_support import MOVED, WANTED, brain, job, lowered, placed, spiked, tiny_plan, write_case, write_cohort

from MRDiffusionLib.cohort import case
from MRDiffusionLib.cohort.case import attempt
from MRDiffusionLib.cohort.decision import FAILED, HIGH_SYNTHESISED, KEPT, LOW_SYNTHESISED
from MRDiffusionLib.cohort.manifest import Record
from MRDiffusionLib.cohort.plan import Plan, case_seed
from MRDiffusionLib.errors import InputError, PackError, SettingError
from MRDiffusionLib.imaging import Volume, read_volume, sha256_of
from MRDiffusionLib.imaging.resample import resample
from MRDiffusionLib.worker.outputs import PREFIX

OBLIQUE = (0.6, 0.0, 0.8, 0.0, 1.0, 0.0, -0.8, 0.0, 0.6)
LEFT_HANDED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
Build = Callable[..., tuple[Record, Path]]


@pytest.fixture
def plan(tiny_degrader_pack: Path, tiny_enhancer_pack: Path) -> Plan:
    return tiny_plan(tiny_degrader_pack, tiny_enhancer_pack)


@pytest.fixture
def build(plan: Plan, tmp_path: Path) -> Build:
    """Writes a case, builds its pair, gives the record and the folder of the pair."""

    def build(high: Volume | None, low: Volume | None, plan: Plan = plan, name: str = "case") -> tuple[Record, Path]:
        source = tmp_path / "in" / name
        if not source.exists():
            write_case(source, high, low)
        wanted = job(plan, source, tmp_path / "out")
        return attempt(wanted), wanted.place

    return build


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_an_aligned_pair_is_kept_to_the_last_bit(build: Build) -> None:
    high = brain()
    low = lowered(high)
    record, place = build(high, low)
    assert record["decision"] == KEPT and names(place) == ["high.nii.gz", "low.nii.gz"]
    assert np.array_equal(read_volume(place / "high.nii.gz").array, high.array)
    assert np.array_equal(read_volume(place / "low.nii.gz").array, low.array)
    assert record["provenance"] is None and record["level"] == 0.5
    for role, volume in (("high", high), ("low", low)):
        output = record["outputs"][role]
        assert output["sha256"] == sha256_of(volume.array)
        assert output["bytes"] == (place / output["file"]).stat().st_size


@pytest.mark.parametrize(("name", "made", "kept"), [("moved", "low", "high"), ("faulty", "high", "low")])
def test_a_misaligned_pair_gets_one_image_made_of_the_other(
    build: Build, tmp_path: Path, name: str, made: str, kept: str
) -> None:
    write_cohort(tmp_path / "in", [name])
    given = read_volume(tmp_path / "in" / name / f"{kept}.nii.gz")
    record, place = build(None, None, name=name)
    assert record["decision"] == WANTED[name]
    assert names(place) == sorted([f"{made}.json", "high.nii.gz", "low.nii.gz"])
    new = read_volume(place / f"{made}.nii.gz")
    assert np.array_equal(read_volume(place / f"{kept}.nii.gz").array, given.array)
    assert not np.array_equal(new.array, given.array) and new.geometry.agrees_with(given.geometry)
    written = json.loads((place / f"{made}.json").read_text())
    assert written["synthetic"] is True and record["provenance"]["synthetic"] is True
    assert written["request"]["settings"]["level"] == record["level"] == 0.5
    assert written["outputs"]["result"] == {"file": f"{made}.nii.gz", "sha256": sha256_of(new.array)}


def test_the_level_is_estimated_from_the_low_quality_image(build: Build, plan: Plan, tmp_path: Path) -> None:
    record, _ = build(brain(), lowered(brain(), MOVED), replace(plan, level=None))
    assert 0 < record["level"] < 1 and record["level"] != 0.5
    assert record["provenance"]["request"]["settings"]["level"] == record["level"]


@pytest.mark.parametrize("direction", [OBLIQUE, LEFT_HANDED])
@pytest.mark.parametrize("faulty", [False, True])
def test_every_geometry_is_kept(build: Build, direction: tuple[float, ...], faulty: bool) -> None:
    changes = {"spacing": (0.9, 1.3, 5.0), "origin": (-20.0, 31.0, 7.0), "direction": direction}
    high = placed(brain(), **changes)
    low = lowered(high, MOVED)
    record, place = build(spiked(high) if faulty else high, low)
    assert record["decision"] == (HIGH_SYNTHESISED if faulty else LOW_SYNTHESISED)
    for role in ("high", "low"):
        assert read_volume(place / f"{role}.nii.gz").geometry.agrees_with(high.geometry)


@pytest.mark.parametrize("moved", [False, True])
def test_a_low_quality_image_on_another_grid_is_put_on_the_other_s(build: Build, moved: bool) -> None:
    """The faulty one's pair is made of the low-quality image as it lies on the grid of the high-quality one."""
    high = brain()
    coarse = high.geometry.refined((48, 48))
    low = resample(lowered(high, MOVED if moved else None, level=0.2), coarse)
    record, place = build(spiked(high), low)
    assert record["decision"] == (HIGH_SYNTHESISED if moved else KEPT), record["reason"]
    pair = [read_volume(place / f"{role}.nii.gz") for role in ("high", "low")]
    assert pair[0].geometry.agrees_with(high.geometry) and pair[1].geometry.agrees_with(high.geometry)
    assert np.allclose(pair[1].array, resample(low, high.geometry).array, atol=1e-5)
    if moved:
        given = record["provenance"]["request"]["inputs"]["image"]
        assert given == str(place / "low.nii.gz") and names(place) == ["high.json", "high.nii.gz", "low.nii.gz"]


def test_the_record_is_the_same_whoever_makes_it(build: Build, tmp_path: Path) -> None:
    """In another thread, with other numbers of threads, before or after another case."""
    write_cohort(tmp_path / "in", ["moved-1", "faulty-1"])
    first = {name: build(None, None, name=name)[0] for name in ("moved-1", "faulty-1")}
    again: dict[str, Record] = {}
    threads = torch.get_num_threads()

    def other() -> None:
        torch.set_num_threads(3)
        for name in ("faulty-1", "moved-1"):
            again[name] = build(None, None, name=name)[0]

    thread = threading.Thread(target=other)
    case.warm_packs.cache_clear()
    thread.start()
    thread.join()
    torch.set_num_threads(threads)
    for name, record in first.items():
        assert again[name]["outputs"] == record["outputs"] and again[name]["reason"] == record["reason"]
        assert again[name]["measurements"] == record["measurements"]


def test_each_case_has_its_own_noise(build: Build) -> None:
    high, low = brain(), lowered(brain(), MOVED)
    one, other = (build(high, low, name=name)[0]["outputs"]["low"]["sha256"] for name in ("one", "other"))
    assert one != other
    assert case_seed(0, "one") == case_seed(0, "one") != case_seed(1, "one")


def test_threads_of_a_worker_take_turns(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, most = [], []

    def watched(job: object) -> Record:
        busy.append(job)
        most.append(len(busy))
        threading.Event().wait(0.05)
        busy.pop()
        return {}

    monkeypatch.setattr(case, "build_case", watched)
    threads = [threading.Thread(target=build, args=(brain(), brain()), kwargs={"name": f"{n}"}) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


# Cases that cannot be done.


@pytest.mark.parametrize(
    ("high", "low", "message"),
    [
        (brain(), None, "holds no low-quality image"),
        (None, brain(), "holds no high-quality image"),
        (
            brain(),
            Volume(np.full_like(brain().array, 7), brain().geometry),
            "all voxels of the low-quality image have the value 7",
        ),
        (brain(), placed(brain(), origin=(500.0, 0.0, 0.0)), "shows 0% of what the high-quality one shows"),
        (brain("reference"), Volume(brain("reference").array[:, ::-1].copy(), brain("reference").geometry), "explains"),
    ],
    ids=["no low", "no high", "constant", "elsewhere", "another body part"],
)
def test_a_bad_case_is_a_record_with_a_message(
    build: Build, high: Volume | None, low: Volume | None, message: str
) -> None:
    record, place = build(high, low)
    assert record["decision"] == FAILED and message in record["reason"] and "internal" not in record["reason"]
    assert names(place) == []


def test_voxels_that_are_no_numbers_are_told(build: Build, tmp_path: Path) -> None:
    source = write_case(tmp_path / "in" / "case", brain(), None)
    array = brain().array.copy()
    array[1, 5, 5] = np.nan
    # ITK reads such voxels of a NIfTI file as 0.
    sitk.WriteImage(sitk.GetImageFromArray(array), str(source / "low.nrrd"))
    record, _ = build(None, None)
    assert record["decision"] == FAILED and "low.nrrd" in record["reason"] and "NaN" in record["reason"]


def test_files_that_are_no_images_or_too_many(build: Build, tmp_path: Path) -> None:
    source = write_case(tmp_path / "in" / "case", brain(), brain())
    (source / "LOW.nrrd").write_bytes(b"")
    assert "holds LOW.nrrd and low.nii.gz" in build(None, None)[0]["reason"]
    (source / "low.nii.gz").unlink()
    assert "LOW.nrrd is empty" in build(None, None)[0]["reason"]
    (source / "LOW.nrrd").write_bytes(b"\x00" * 400)
    assert "is not an image that can be read" in build(None, None)[0]["reason"]


@pytest.mark.parametrize("name", ["=1+1", "a b'\"$(x);&|", "名前-é", "..hidden.. ", "a,b"])
def test_odd_names_are_names(build: Build, name: str) -> None:
    record, place = build(brain(), lowered(brain(), MOVED), name=name)
    assert record["decision"] == LOW_SYNTHESISED and place.name == name and (place / "low.json").exists()


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff\xfe"), "two\nlines", "\x1b[2J"])
def test_names_that_are_no_text_are_told(build: Build, tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / name).mkdir(parents=True)
    record, _ = build(None, None, name=name)
    assert record["decision"] == FAILED and "is no text. Rename the folder" in record["reason"]
    assert record["reason"].isprintable()


def test_a_file_in_the_place_of_the_pair_is_told(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case").write_text("mine")
    record, place = build(brain(), lowered(brain()))
    assert record["decision"] == FAILED and f"{place} cannot be made (File exists)" in record["reason"]
    assert place.read_text() == "mine"


def test_what_a_killed_worker_left_is_removed(build: Build, tmp_path: Path) -> None:
    left = tmp_path / "out" / "case" / f"{PREFIX}x"
    left.mkdir(parents=True)
    (left / "high.nii.gz").write_bytes(b"half")
    assert names(build(brain(), lowered(brain()))[1]) == ["high.nii.gz", "low.nii.gz"]


def test_faults_of_ours_and_empty_memory_do_not_stop_a_run(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in (
        (RuntimeError("oops"), "internal error: RuntimeError: oops"),
        (MemoryError(), "not enough memory"),
    ):

        def accident(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(case, "measure_misalignment", accident)
        record, _ = build(brain(), lowered(brain()))
        assert record["decision"] == FAILED and words in record["reason"]


def test_a_worker_with_other_packs_stops_the_run(plan: Plan, tmp_path: Path) -> None:
    wanted = job(plan, write_case(tmp_path / "in" / "case", brain(), lowered(brain())), tmp_path / "out")
    with pytest.raises(PackError, match="not those of the run"):
        attempt(replace(wanted, identity={**wanted.identity, "degrader_sha256": "0" * 64}))


# Plans.


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"kind": "blur"}, PackError, "tiny-degrader is for degradation noise, not for degradation blur"),
        ({"kind": "fog"}, SettingError, "kind = 'fog' is unknown"),
        ({"level": 1.5}, SettingError, "level"),
        ({"steps": 0}, SettingError, "steps"),
        ({"seed": -1}, SettingError, "seed"),
        ({"degrader": "no-such-pack"}, PackError, "'no-such-pack' is unknown"),
    ],
)
def test_what_no_case_could_be_done_with_is_found_first(plan: Plan, changes, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        replace(plan, **changes).check()


def test_packs_the_wrong_way_round_are_refused(plan: Plan) -> None:
    with pytest.raises((PackError, InputError), match="tiny-enhancer is for enhancement"):
        replace(plan, degrader=plan.enhancer, enhancer=plan.degrader).check()


def test_what_decides_a_result_is_in_the_identity(plan: Plan) -> None:
    json.dumps(plan.identity())
    for changes in ({"level": 0.6}, {"seed": 1}, {"steps": 3}, {"precision": "bf16"}):
        assert replace(plan, **changes).identity() != plan.identity()
    assert replace(plan, device="cuda", batch=4).identity() == plan.identity()
