"""Cases on Dask distributed: this machine's cores or GPUs, or a scheduler that runs already; `slurm` has another.

Dask is imported when a cluster is wanted. Its workers get the names of files and send a record back, so memory depends
on the number of workers and not of cases; all of them must see the same folders.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UserError
from .manifest import Record, failure
from .plan import Job

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Cases under way for each worker: the next one is there when it has finished one."""
ENVIRONMENT = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
"""Variables of a worker: one thread."""
NO_PROFILER = {"distributed.worker.profile.enabled": False}
"""Dask's profiler keeps what each second was spent on: a worker grew by 0.2 MB a case."""
MISSING = "a cluster needs the packages dask and distributed"
HINT = "Install MRDiffusion[cohort], or give --workers 0"
PATIENCE = "10s"
"""For an answer of a scheduler."""


def work(job: Job) -> Record:
    """What a worker runs. Torch is loaded there, not where the run is started."""
    from .case import attempt

    return attempt(job)


def one_by_one(jobs: Iterable[Job]) -> Generator[Record, None, None]:
    """In this process, without Dask."""
    yield from map(work, jobs)


def run_on(cluster: AbstractContextManager[Client], jobs: Iterable[Job]) -> Generator[Record, None, None]:
    """On a cluster (`local`, `at`, `slurm`) that is started with the first job and closed when this is.

    Raises:
        UserError: what the cluster and `completed` raise.
    """
    remaining = iter(jobs)
    first = next(remaining, None)
    if first is not None:
        # A Ctrl-C while Dask begins to wait for its loop makes it fail there (`distributed.utils.sync`): only a log.
        with _quiet("tornado.application"), cluster as client:
            yield from completed(client, itertools.chain([first], remaining))


def completed(client: Client, jobs: Iterable[Job]) -> Generator[Record, None, None]:
    """Records of all jobs as they come, in any order.

    No more than `AHEAD` for each worker are under way. When a worker dies, Dask gives its cases to another; one that
    kills several (`distributed.scheduler.allowed-failures`, 3) is a failed one.

    Raises:
        UserError: workers or scheduler lack this package or have another one, or the scheduler is gone.
    """
    from distributed import Future, as_completed

    remaining, under_way = iter(jobs), dict[Future, Job]()
    done = as_completed(loop=client.loop)

    def fill() -> None:
        while len(under_way) < AHEAD * max(1, len(client.nthreads())):
            job = next(remaining, None)
            if job is None:
                return
            # Not the name of the case: another run on the same scheduler may have one of that name.
            future = client.submit(work, job, key=f"case-{os.urandom(8).hex()}", pure=False)
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
    except UserError:
        raise
    except Exception as error:  # of Dask: `work` raises none
        what = f"the cluster cannot run a case ({type(error).__name__}: {error})"
        raise InputError(what, "Install this MRDiffusion where its scheduler and its workers run") from error
    return record


@contextlib.contextmanager
def local(workers: int | None = None, device: str = "auto") -> Iterator[Client]:
    """Processes of one thread each on this machine.

    Args:
        workers: how many; None takes one for each GPU, or without GPUs one for each core.
        device: of the plan. Unless it is 'cpu', each worker sees one of the GPUs, in turn.

    Raises:
        InputError: Dask is not installed.
    """
    with needs_dask():
        import dask
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
        number: {"cls": Nanny, "options": {**shared, "env": worker_environment(gpus, number)}}
        for number in range(count)
    }
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": options}
    with _quiet("distributed"), dask.config.set(NO_PROFILER):
        cluster = SpecCluster(workers=specification, scheduler=scheduler, silence_logs=logging.CRITICAL)
        try:
            with Client(cluster) as client:
                client.wait_for_workers(count)
                yield client
        finally:
            cluster.close()


@contextlib.contextmanager
def at(address: str) -> Iterator[Client]:
    """A scheduler that runs already, such as `dask scheduler` with `dask worker --nthreads 1` on other machines.

    Raises:
        InputError: Dask is not installed, or nobody answers there.
    """
    with needs_dask():
        from distributed import Client
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {address}", "Start one with: dask scheduler") from error
    with client:
        yield client


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    count = torch.cuda.device_count()
    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return chosen[:count] or [str(number) for number in range(count)]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_environment(gpus: list[str], number: int) -> dict[str, str]:
    """Variables of a local worker: those of every worker, and one of the GPUs if there are any."""
    return {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else ENVIRONMENT


@contextlib.contextmanager
def needs_dask(package: str = "") -> Iterator[None]:
    """Around the import of Dask: says what to install. Raises InputError."""
    try:
        yield
    except ImportError as error:
        raise InputError(f"{MISSING}{f', and {package}' if package else ''}", HINT) from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Dask tells at length of each worker that dies or is ended; the records say what matters."""
    logger = logging.getLogger(name)
    before, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = before
