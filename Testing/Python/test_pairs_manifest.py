"""The manifest of a cohort, and runs that are stopped, resumed, or that meet what has changed in between."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from cohort_support import MOVED, WANTED, brain, lowered, tiny_plan, write_case, write_cohort

from MRDiffusionLib.cohort.build import build_pairs
from MRDiffusionLib.cohort.cluster import one_by_one
from MRDiffusionLib.cohort.decision import FAILED, KEPT
from MRDiffusionLib.cohort.manifest import LINES, TABLE, Manifest, Record, failure, file_record
from MRDiffusionLib.cohort.plan import PAIR_FILES, Job, Plan, find_cases
from MRDiffusionLib.errors import InputError, StorageError, UserError
from MRDiffusionLib.worker.outputs import PREFIX

Go = Callable[..., list[str]]


@pytest.fixture(scope="module")
def plan(tiny_degrader_pack: Path, tiny_enhancer_pack: Path) -> Plan:
    return tiny_plan(tiny_degrader_pack, tiny_enhancer_pack)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and, in `out`, its pairs."""
    folder = tmp_path_factory.mktemp("finished")
    build_pairs(write_cohort(folder / "in", ["faulty", "kept", "moved"]), folder / "out", plan, one_by_one)
    return folder


@pytest.fixture
def source(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "in", tmp_path / "in"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def done(finished: Path, out: Path) -> None:
    """An earlier run has built all pairs of `source`."""
    shutil.copytree(finished / "out", out)


@pytest.fixture
def go(source: Path, out: Path, plan: Plan) -> Go:
    """Builds the pairs; gives the names of the cases that this run worked on."""

    def go(stop_after: int | None = None, plan: Plan = plan) -> list[str]:
        worked = []

        def run(jobs: Iterable[Job]) -> Generator[Record, None, None]:
            for record in one_by_one(jobs):
                if stop_after is not None and len(worked) == stop_after:
                    raise KeyboardInterrupt
                worked.append(record["case"])
                yield record

        with contextlib.suppress(KeyboardInterrupt):
            build_pairs(source, out, plan, run)
        return worked

    return go


def records(out: Path) -> dict[str, Record]:
    lines = (out / LINES).read_text().splitlines()
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert len({record["case"] for record in found}) == len(found), "one line a case"
    return {record["case"]: record for record in found}


def table(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("done")
def test_a_run_writes_images_decisions_and_reasons(out: Path) -> None:
    assert {name: record["decision"] for name, record in records(out).items()} == {
        name: WANTED[name] for name in ("faulty", "kept", "moved")
    }
    rows = table(out)
    assert [row["case"] for row in rows] == ["faulty", "kept", "moved"]
    assert "pixels apart (limit 0.5)" in rows[2]["reason"] and float(rows[2]["misalignment_pixels"]) > 2
    assert float(rows[0]["spikes"]) > 6 > float(rows[1]["spikes"])


@pytest.mark.usefixtures("done")
def test_a_finished_run_is_not_done_again(go: Go, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert len(before) == 8 and go() == []
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == before


def test_a_stopped_run_goes_on(go: Go, out: Path) -> None:
    assert go(stop_after=1) == ["faulty"]
    assert list(records(out)) == ["faulty"]
    first = records(out)["faulty"]
    assert go() == ["kept", "moved"]
    assert records(out)["faulty"] == first


@pytest.mark.usefixtures("done")
def test_what_has_changed_is_done_again(go: Go, source: Path, out: Path, plan: Plan) -> None:
    low = source / "moved" / "low.nii.gz"
    os.utime(low)
    assert go() == [], "another time alone is no change"
    write_case(source / "new", brain(), lowered(brain(), MOVED, seed=9))
    (source / "new" / "low.nii.gz").replace(low)
    (source / "new" / "high.nii.gz").replace(source / "new" / "high.nii")  # no longer gzip
    assert go() == ["moved", "new"]
    (out / "kept" / "low.nii.gz").unlink()
    (out / "faulty" / "high.nii.gz").write_bytes(b"short")
    assert go() == ["faulty", "kept", "new"], "lost pairs, and what failed"
    assert go(plan=replace(plan, level=0.7)) == ["faulty", "kept", "moved", "new"]
    assert go(plan=replace(plan, level=0.7, device="auto", batch=1)) == ["new"]


@pytest.mark.usefixtures("done")
def test_a_case_that_fails_now_leaves_no_old_pair(go: Go, source: Path, out: Path) -> None:
    mine = out / "kept" / "notes.txt"
    mine.write_text("mine")
    for name in ("moved", "kept"):
        (source / name / "low.nii.gz").write_bytes(b"")
    assert go() == ["kept", "moved"]
    assert records(out)["moved"]["decision"] == FAILED and "is empty" in records(out)["moved"]["reason"]
    assert not (out / "moved").exists()
    assert list((out / "kept").iterdir()) == [mine], "only what is ours is removed"
    assert {path.name for path in out.glob("*/*")} <= {*PAIR_FILES, "notes.txt"}


@pytest.mark.usefixtures("done")
def test_a_torn_last_line_costs_its_case_alone(go: Go, out: Path) -> None:
    lines = (out / LINES).read_bytes()
    (out / LINES).write_bytes(lines[:-20])
    assert go() == ["moved"]
    assert sorted(records(out)) == ["faulty", "kept", "moved"]


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"{}\n", b"3\n", b'{"case": "kept", "plan": {}, "decision": "kept"}\n']
)
def test_a_line_that_is_no_record_is_told(go: Go, out: Path, line: bytes) -> None:
    go(stop_after=1)
    with (out / LINES).open("ab") as stream:
        stream.write(line)
    before = (out / LINES).read_bytes()
    with pytest.raises(InputError, match=r"line 2 of .*manifest.jsonl is no record. Remove the line"):
        go()
    assert (out / LINES).read_bytes() == before


def test_a_worker_s_leftovers_are_removed_at_the_end(go: Go, out: Path) -> None:
    left = out / "faulty" / f"{PREFIX}1"
    left.mkdir(parents=True)
    go(stop_after=0)
    assert not left.exists()


def test_two_runs_at_once_are_refused(go: Go, out: Path) -> None:
    go(stop_after=1)
    with Manifest(out), pytest.raises(StorageError, match="another run writes into"):
        go()
    assert go() == ["kept", "moved"]


def test_a_file_system_without_locks_will_do(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert len(go()) == 3


def test_a_full_disk_loses_nothing(small_disk: Callable[[int], Path], plan: Plan) -> None:
    """Of a file system of 64 kB: the line that does not fit is taken back, those before it stay."""
    small = small_disk(64)
    jobs = [Job(f"case-{n}", small, small, plan, {}) for n in range(60)]
    done = 0
    with pytest.raises(StorageError, match=r"cannot be written.*No space left"), Manifest(small) as manifest:
        for job in jobs:
            manifest.add(failure(job, 2000 * "x"))
            done += 1
    assert 20 < done < 60
    assert len(Manifest(small)) == done


def test_a_full_disk_of_a_worker_fails_its_case(go: Go, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from MRDiffusionLib.cohort import case

    def full(*_: object) -> None:
        raise StorageError(f"{out} cannot be written to (No space left on device)", "Free some space")

    with monkeypatch.context() as patch:
        patch.setattr(case, "write_together", full)
        assert len(go()) == 3
    assert all("No space left" in record["reason"] for record in records(out).values())
    assert len(go()) == 3 and records(out)["kept"]["decision"] == KEPT


def test_names_in_the_table_are_no_formulas(out: Path, plan: Plan) -> None:
    out.mkdir()
    names = ["=1+1", 'a,b\n"c"', os.fsdecode(b"\xff"), "名前"]
    with Manifest(out) as manifest:
        for name in names:
            manifest.add(failure(Job(name, out, out, plan, {}), "why"))
        assert [record["case"] for record in manifest] == sorted(names)
    assert sorted(row["case"] for row in table(out)) == sorted(["'=1+1", names[1], "\\udcff", names[3]])
    with Manifest(out) as again:
        assert [record["case"] for record in again] == sorted(names)


def test_the_newest_record_counts(out: Path, plan: Plan) -> None:
    out.mkdir()
    job = Job("case", out, out, plan, {})
    with Manifest(out) as manifest:
        for reason in ("first", "second"):
            manifest.add(failure(job, reason))
        found = manifest.get("case")
        assert found is not None and found["reason"] == "second" and manifest.get("other") is None
    assert len((out / LINES).read_text().splitlines()) == 1


def test_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    one = file_record(path)
    path.write_bytes(b"x" * 2_999_999 + b"y")
    assert one["bytes"] == 3_000_000 and file_record(path)["sha256"] != one["sha256"]
    with pytest.raises(InputError, match="cannot be read"):
        file_record(tmp_path / "b")


# Folders.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source, out: shutil.rmtree(source), "in cannot be read"),
        (lambda source, out: [shutil.rmtree(case) for case in source.iterdir()], "holds no case"),
        (lambda source, out: out.write_text("a file"), "out cannot be made"),
        (lambda source, out: out.symlink_to(source / "kept"), "lies in"),
        (lambda source, out: (source / "manifest.csv").mkdir(), "a case is named manifest.csv"),
    ],
)
def test_folders_that_cannot_be_used_are_told(go: Go, source: Path, out: Path, change, message: str) -> None:
    change(source, out)
    with pytest.raises(UserError, match=message):
        go()


def test_hidden_folders_and_files_are_no_cases(source: Path) -> None:
    (source / ".snapshot").mkdir()
    (source / "list.txt").write_text("")
    assert find_cases(source) == ["faulty", "kept", "moved"]


def test_folders_may_be_given_from_here(source: Path, out: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker stands elsewhere: it is told the whole path."""
    monkeypatch.chdir(source.parent)
    seen: list[Job] = []

    def run(jobs: Iterable[Job]) -> Generator[Record, None, None]:
        seen.extend(jobs)
        yield from ()

    build_pairs(Path("in"), Path("out"), plan, run)
    assert all(job.source.is_absolute() and job.place == out / job.case for job in seen) and len(seen) == 3
