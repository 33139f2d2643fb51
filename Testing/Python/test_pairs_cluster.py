"""Pairs on Dask: a local cluster of two processes whose workers die, a scheduler at an address, jobs of SLURM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cohort_support
import pytest
from cohort_support import WANTED, tiny_plan, write_cohort

from MRDiffusionLib.cohort import cluster
from MRDiffusionLib.cohort.build import build_pairs
from MRDiffusionLib.cohort.cluster import AHEAD, at, completed, local, one_by_one, run_on
from MRDiffusionLib.cohort.manifest import LINES, Record
from MRDiffusionLib.cohort.plan import Job, Plan
from MRDiffusionLib.cohort.slurm import read_slurm, slurm
from MRDiffusionLib.errors import InputError, SettingError, UserError
from MRDiffusionLib.worker.outputs import PREFIX

distributed = pytest.importorskip("distributed")

NAMES = [f"{what}-{number}" for number in range(2) for what in ("alone", "faulty", "kept", "moved")]


@pytest.fixture(scope="module")
def plan(tiny_degrader_pack: Path, tiny_enhancer_pack: Path) -> Plan:
    return tiny_plan(tiny_degrader_pack, tiny_enhancer_pack)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "in", NAMES)


@pytest.fixture(scope="module")
def expected(source: Path, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """What one process makes of the cohort."""
    out = tmp_path_factory.mktemp("expected")
    build_pairs(source, out, plan, one_by_one)
    return results(out)


@pytest.fixture(scope="module")
def two() -> Iterator[distributed.Client]:
    """Two processes on this machine."""
    with local(2, "cpu") as client:
        yield client


def results(out: Path) -> dict[str, Record]:
    """What a record says but for how long it took."""
    records = [json.loads(line) for line in (out / LINES).read_text().splitlines()]
    assert len(records) == len({record["case"] for record in records})
    keys = ("decision", "level", "measurements", "inputs", "outputs", "plan")
    return {record["case"]: {key: record.get(key) for key in keys} for record in records}


def jobs(count: int, plan: Plan, *others: str) -> Iterator[Job]:
    """Jobs that never look at a file."""
    for name in [*others, *(str(number) for number in range(count))]:
        yield Job(name, Path("/"), Path("/"), plan, {})


def test_cases_of_a_killed_worker_are_done_by_another(
    two: distributed.Client, source: Path, plan: Plan, expected: dict[str, Record], tmp_path: Path
) -> None:
    """Killed in the midst of its cases; the result is that of one process, each case once."""
    killed = []

    def run(todo: Iterable[Job]) -> Generator[Record, None, None]:
        for record in completed(two, todo):
            if not killed:
                busy = {address: keys for address, keys in two.processing().items() if keys}
                pids = two.run(os.getpid, workers=list(busy))
                address, pid = next(iter(pids.items()))
                killed.append((pid, len(busy[address])))
                os.kill(pid, signal.SIGKILL)
            yield record

    counts = build_pairs(source, tmp_path / "out", plan, run)
    assert killed and killed[0][1] >= 1
    assert killed[0][0] not in two.run(os.getpid).values()
    assert counts == {decision: 2 for decision in WANTED.values()}
    assert results(tmp_path / "out") == expected
    assert not list((tmp_path / "out").rglob(f"{PREFIX}*"))


def test_a_case_that_kills_its_workers_fails_alone(
    two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patient(dask_scheduler: distributed.Scheduler) -> None:
        dask_scheduler.allowed_failures = 1

    two.run_on_scheduler(patient)
    monkeypatch.setattr(cluster, "work", cohort_support.deadly)
    found = {record["case"]: record["reason"] for record in completed(two, jobs(0, plan, "deadly"))}
    assert list(found) == ["deadly"] and "several workers died while they worked on it" in found["deadly"]
    two.wait_for_workers(2, timeout=30)
    assert len(list(completed(two, jobs(4, plan)))) == 4


def test_work_is_shared_and_few_cases_are_under_way(
    two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.wait_for_workers(2, timeout=30)
    monkeypatch.setattr(cluster, "work", cohort_support.slow)
    taken, most = [], 0
    for done, record in enumerate(completed(two, (taken.append(job) or job for job in jobs(16, plan)))):
        most = max(most, len(taken) - done)
        taken[0] = record
    assert most <= 2 * AHEAD, "memory goes by workers, not by cases"


def test_the_work_of_two_is_done_by_both(two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    two.wait_for_workers(2, timeout=30)
    monkeypatch.setattr(cluster, "work", cohort_support.slow)
    done = Counter(record["reason"] for record in completed(two, jobs(30, plan)))
    assert len(done) == 2 and min(done.values()) >= 3, done


class Interrupted(threading.Event):
    """Ctrl-C as soon as somebody waits, however fast the loop is."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt


def test_an_interrupt_of_dask_itself_is_not_told_as_an_error(
    two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask cancels then what it has not begun, and logs that as an exception."""
    monkeypatch.setattr(cluster, "work", cohort_support.slow)
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = logged.append  # type: ignore[method-assign]
    with contextlib.closing(run_on(at(two.scheduler.address), jobs(50, plan))) as running:
        next(running)
        logging.getLogger("tornado.application").addHandler(handler)
        try:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(distributed.utils, "threading", SimpleNamespace(Event=Interrupted, get_ident=lambda: 0))
                two.sync(asyncio.sleep, 0)
            two.sync(asyncio.sleep, 0)  # what was begun before is over
            running.close()
        finally:
            logging.getLogger("tornado.application").removeHandler(handler)
    assert not logged, logged[0].getMessage()


def test_a_run_that_is_stopped_leaves_nothing_at_the_scheduler(
    two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "work", cohort_support.slow)
    running = run_on(at(two.scheduler.address), jobs(50, plan))
    next(running)
    running.close()

    def tasks(dask_scheduler: distributed.Scheduler) -> int:
        return len(dask_scheduler.tasks)

    deadline = time.monotonic() + 10
    while two.run_on_scheduler(tasks):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_scheduler_at_an_address(two: distributed.Client, source: Path, plan: Plan, tmp_path: Path) -> None:
    for name in ("moved-0", "alone-0"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).symlink_to(source / name)
    counts = build_pairs(tmp_path / "in", tmp_path / "out", plan, lambda todo: run_on(at(two.scheduler.address), todo))
    assert counts == {WANTED["moved"]: 1, WANTED["alone"]: 1}


def test_a_finished_run_starts_no_cluster(plan: Plan) -> None:
    assert list(run_on(at("tcp://nobody:1"), iter(()))) == []


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "tcp://127.0.0.1:port"])
def test_nobody_at_the_address_is_told(address: str, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", "1s")
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}"):
        list(run_on(at(address), jobs(1, plan)))


def test_a_worker_with_other_packs_stops_the_run(two: distributed.Client, source: Path, plan: Plan) -> None:
    job = Job("kept-0", source / "kept-0", source, plan, {**plan.identity(), "version": "other"})
    with pytest.raises(UserError, match="not those of the run"):
        list(completed(two, [job]))


def test_a_cluster_that_lacks_this_package_is_told(
    two: distributed.Client, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(_: Job) -> Record:
        raise ModuleNotFoundError("No module named 'MRDiffusionLib'")

    monkeypatch.setattr(cluster, "work", lacking)
    with pytest.raises(InputError, match=r"the cluster cannot run a case .*Install this MRDiffusion"):
        list(completed(two, jobs(1, plan)))


def test_without_dask_the_way_out_is_told(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"needs the packages dask and distributed. Install .*--workers 0"):
        list(run_on(local(2, "cpu"), jobs(1, plan)))


def test_each_worker_gets_a_gpu_in_turn() -> None:
    environments = [cluster.worker_environment(["0", "GPU-b"], number) for number in range(3)]
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in environments] == ["0", "GPU-b", "0"]
    assert "CUDA_VISIBLE_DEVICES" not in cluster.worker_environment([], 0)


def test_workers_do_not_grow(two: distributed.Client) -> None:
    """Dask's profiler keeps more and more of what it sees."""

    def periodic(dask_worker: distributed.Worker) -> list[str]:
        return list(dask_worker.periodic_callbacks)

    assert all("profile" not in names for names in two.run(periodic).values())


# SLURM, without one: `sbatch` is a script that runs the job here.

SETTINGS = {"jobs": 2, "cores": 1, "memory": "1GB", "walltime": "00:10:00", "job_extra_directives": ["--gres=gpu:1"]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "slurm.json"
    path.write_text(json.dumps(SETTINGS))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", r"slurm.json cannot be read \(Expecting value"),
        ("[]", "does not say jobs, cores and memory. For example"),
        ('{"jobs": 2}', "does not say jobs, cores and memory"),
        (json.dumps({**SETTINGS, "jobs": 0}), "has jobs 0"),
        (json.dumps({**SETTINGS, "jobs": True}), "has jobs True"),
        (json.dumps({**SETTINGS, "cores": 4, "processes": 2}), "give as many processes as cores"),
        (json.dumps({**SETTINGS, "walltme": "1"}), "makes no SLURM cluster"),
    ],
)
def test_settings_that_make_no_cluster_are_told(
    config: Path, plan: Plan, programs: Callable[..., None], text: str, message: str
) -> None:
    programs(sbatch="exit 1\n")
    config.write_text(text)
    with pytest.raises((InputError, SettingError), match=message):
        list(run_on(slurm(config), jobs(1, plan)))


def test_a_missing_file_is_told(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_slurm(tmp_path / "no.json")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts shell scripts where programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def programs(**scripts: str) -> None:
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}")
            (folder / name).chmod(stat.S_IRWXU)

    return programs


def test_without_slurm_that_is_told(config: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="sbatch is not found"):
        list(run_on(slurm(config), jobs(1, plan)))


def test_a_job_that_slurm_refuses_is_told(config: Path, plan: Plan, programs: Callable[..., None]) -> None:
    programs(sbatch="echo invalid partition >&2\nexit 1\n", scancel="")
    interrupt = signal.getsignal(signal.SIGINT)
    with pytest.raises(SettingError, match=r"sbatch refused a job of .*slurm.json"):
        list(run_on(slurm(config), jobs(1, plan)))
    assert signal.getsignal(signal.SIGINT) is interrupt  # dask-jobqueue takes it


def test_jobs_of_slurm_do_the_cases(
    config: Path, plan: Plan, tmp_path: Path, programs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(
        sbatch=f"""cp "$1" {tmp_path}/job.sh
            setsid sh {tmp_path}/job.sh >{tmp_path}/log 2>&1 &
            echo "Submitted batch job $!"
            """,
        scancel=f"""echo "$@" >>{tmp_path}/cancelled
            kill -- "-$1"
            """,
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(cluster, "work", cohort_support.slow)
    config.write_text(json.dumps({**SETTINGS, "jobs": 1, "job_script_prologue": ["export MINE=1"]}))
    found = list(run_on(slurm(config), jobs(3, plan)))
    assert len(found) == 3 and str(os.getpid()) not in found[0]["reason"]
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH --gres=gpu:1" in script and "#SBATCH -t 00:10:00" in script and "#SBATCH --mem=" in script
    assert "PROFILE__ENABLED=False" in script and "export OMP_NUM_THREADS=1" in script and "export MINE=1" in script
    assert "--nthreads 1" in script and sys.executable in script
    assert (tmp_path / "cancelled").read_text().strip(), "the job ends with the run"
