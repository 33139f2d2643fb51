"""Cases on Dask distributed: this machine's cores or GPUs, a scheduler that runs already, or SLURM.

Dask is imported when a cluster is wanted. Its workers get the names of files and send a record back, so memory depends
on the number of workers and not of cases; all of them must see the same folders.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SettingError, UserError
from .manifest import Record, failure
from .plan import Job

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Cases under way for each worker: the next one is there when it has finished one."""
MISSING = "a cluster needs the packages dask and distributed"
HINT = "Install MRDiffusion[cohort], or give --workers 0"
POLITE = 1.0
"""Seconds that local workers get to end in the midst of a case; they lose nothing by being killed."""


def work(job: Job) -> Record:
    """What a worker runs. Torch is loaded there, not where the run is started."""
    from .case import attempt

    return attempt(job)


def one_by_one(jobs: Iterable[Job]) -> Iterator[Record]:
    """In this process, without Dask."""
    return map(work, jobs)


def completed(client: Client, jobs: Iterable[Job]) -> Iterator[Record]:
    """Records of all jobs as they come, in any order.

    No more than `AHEAD` for each worker are under way. When a worker dies, Dask gives its cases to another; one that
    kills several (`distributed.scheduler.allowed-failures`, 3) is a failed one.

    Raises:
        UserError: the workers cannot import this package, or the scheduler is gone.
    """
    from distributed import Future, as_completed

    remaining, under_way = iter(jobs), dict[Future, Job]()
    done = as_completed(loop=client.loop)

    def fill() -> None:
        while len(under_way) < AHEAD * max(1, len(client.nthreads())):
            job = next(remaining, None)
            if job is None:
                return
            # The name of a case is one only within this run: another may be on the same scheduler.
            future = client.submit(work, job, key=f"{job.case}-{os.urandom(8).hex()}", pure=False)
            under_way[future] = job
            done.add(future)

    try:
        fill()
        for future in done:
            yield _record(future, under_way.pop(future))
            future.release()
            fill()
    finally:
        client.cancel(list(under_way))


def _record(future: Future, job: Job) -> Record:
    from distributed import CancelledError, KilledWorker

    try:
        record: Record = future.result()
    except KilledWorker as error:
        deaths = "several workers died while they worked on it; it may need more memory"
        return failure(job, f"{deaths} (the last one was {error.last_worker.address})")
    except CancelledError as error:
        raise UserError(
            "the Dask scheduler is gone or gave up this run", "The same command goes on from here"
        ) from error
    except ImportError as error:
        raise InputError(f"a worker cannot import what it needs ({error})", "Install MRDiffusion there too") from error
    return record


@contextlib.contextmanager
def local(workers: int, device: str) -> Iterator[Client]:
    """Processes of one thread each on this machine.

    Args:
        workers: how many; 0 takes one for each GPU, or without GPUs one for each core.
        device: of the plan. Unless it is 'cpu', each worker sees one of the GPUs, in turn.

    Raises:
        InputError: Dask is not installed.
    """
    with _dask():
        from distributed import Client, Nanny, Scheduler, SpecCluster
    gpus = [] if device == "cpu" else visible_gpus()
    count = workers or len(gpus) or usable_cores()
    shared: dict[str, Any] = {
        "nthreads": 1,
        "host": "127.0.0.1",
        "dashboard": False,
        # Pausing at a share of the memory would leave a worker asleep for ever: torch itself is a large part of it.
        "memory_limit": None,
        "preload": ["MRDiffusionLib.cohort.preload"],
        "silence_logs": logging.ERROR,
    }
    specification = {
        number: {"cls": Nanny, "options": {**shared, "env": _environment(gpus, number)}} for number in range(count)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    with _quiet():
        cluster = SpecCluster(workers=specification, scheduler=scheduler, silence_logs=logging.CRITICAL)
        try:
            with Client(cluster) as client:
                client.wait_for_workers(count)
                yield client
        finally:
            cluster.close(timeout=POLITE)


@contextlib.contextmanager
def at(address: str) -> Iterator[Client]:
    """A scheduler that runs already, such as `dask scheduler` with `dask worker --nthreads 1` on other machines.

    Raises:
        InputError: Dask is not installed, or nobody answers there.
    """
    with _dask():
        from distributed import Client
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {address}", "Start one with: dask scheduler") from error
    with client:
        yield client


@contextlib.contextmanager
def slurm(config: Path) -> Iterator[Client]:
    """Jobs of SLURM, through dask-jobqueue.

    Args:
        config: a JSON file with `jobs`, their number, and whatever `dask_jobqueue.SLURMCluster` takes.

    Raises:
        InputError: dask-jobqueue is not installed, a file that cannot be read, no sbatch here.
        SettingError: settings that SLURMCluster does not take, or workers of several threads.
    """
    options = read_slurm(config)
    with _dask("dask-jobqueue"):
        from dask_jobqueue import SLURMCluster
        from distributed import Client
    jobs = options.pop("jobs")
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f"{config} makes no SLURM cluster ({error})", "See dask_jobqueue.SLURMCluster") from error
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        yield client


def read_slurm(config: Path) -> dict[str, Any]:
    """The settings of a SLURM cluster. Raises InputError, SettingError."""
    example = (
        '{"jobs": 8, "cores": 1, "memory": "8GB", "walltime": "04:00:00", "job_extra_directives": ["--gres=gpu:1"]}'
    )
    try:
        options = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{config} cannot be read ({error})", f"Give a file such as {example}") from error
    if not isinstance(options, dict) or not {"jobs", "cores", "memory"} <= set(options):
        raise SettingError(f"{config} does not say jobs, cores and memory", f"For example {example}")
    jobs, cores, processes = options["jobs"], options["cores"], options.setdefault("processes", options["cores"])
    if not all(isinstance(number, int) and number > 0 for number in (jobs, cores, processes)) or cores != processes:
        what = f"jobs {jobs!r}, cores {cores!r} and processes {processes!r}"
        hint = "A worker has one thread: give as many processes as cores; job_cpu asks SLURM for more cores"
        raise SettingError(f"{config} has {what}", hint)
    return options


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    count = torch.cuda.device_count()
    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return chosen[:count] or [str(number) for number in range(count)]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(gpus: list[str], number: int) -> dict[str, str]:
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**threads, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else threads


@contextlib.contextmanager
def _dask(package: str = "") -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(f"{MISSING}{f', and {package}' if package else ''}", HINT) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask tells at length of each worker that dies or is ended; the records say what matters."""
    logger = logging.getLogger("distributed")
    before, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = before
