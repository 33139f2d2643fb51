"""Workers that are jobs of SLURM, through dask-jobqueue."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SettingError
from .cluster import ENVIRONMENT, needs_dask

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client


@contextlib.contextmanager
def slurm(config: Path) -> Iterator[Client]:
    """Jobs of SLURM, through dask-jobqueue.

    Args:
        config: a JSON file with `jobs`, their number, and whatever `dask_jobqueue.SLURMCluster` takes.

    Raises:
        InputError: dask-jobqueue is not installed, a file that cannot be read, no sbatch here.
        SettingError: settings that SLURMCluster or sbatch do not take, or workers of several threads.
    """
    options = read_slurm(config)
    if shutil.which("sbatch") is None:
        raise InputError("SLURM's sbatch is not found on this machine", "Start this on a machine that submits jobs")
    with needs_dask("dask-jobqueue"):
        # Importing it takes Ctrl-C for its own purposes.
        interrupt = signal.getsignal(signal.SIGINT)
        from dask_jobqueue import SLURMCluster
        from distributed import Client, Status
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    jobs = options.pop("jobs")
    options.setdefault("scheduler_options", {"dashboard_address": ":0"})
    variables = ["export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"]  # `cluster.NO_PROFILER`
    variables += [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
    options["job_script_prologue"] = variables + list(options.get("job_script_prologue", []))
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f"{config} makes no SLURM cluster ({error})", "See dask_jobqueue.SLURMCluster") from error
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        cluster.sync(_submitted, cluster)
        if refused := [job for job in cluster.workers.values() if job.job_id is None]:
            for job in refused:
                job.status = Status.failed  # or Dask could not close the cluster
            raise SettingError(f"sbatch refused a job of {config}", "It says above why")
        yield client


async def _submitted(cluster: SLURMCluster) -> None:
    """Dask submits in the background, where an error would only be logged and the run wait for ever."""
    with contextlib.suppress(RuntimeError):
        await cluster


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
    if not all(type(number) is int and number > 0 for number in (jobs, cores, processes)) or cores != processes:
        what = f"jobs {jobs!r}, cores {cores!r} and processes {processes!r}"
        hint = "A worker has one thread: give as many processes as cores; job_cpu asks SLURM for more cores"
        raise SettingError(f"{config} has {what}", hint)
    return options
