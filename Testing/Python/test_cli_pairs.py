"""`pairs build` as a person runs it: what it says, its exit codes, Ctrl-C, and the same command again."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from cohort_support import write_cohort

from MRDiffusionLib.cli import main
from MRDiffusionLib.cli.pairs import Cases, in_words, summary
from MRDiffusionLib.cohort.decision import DECISIONS, KEPT
from MRDiffusionLib.request import Progress
from MRDiffusionLib.worker.protocol import worker_environment

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main(["pairs", "build", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def quick(tiny_degrader_pack: Path, tiny_enhancer_pack: Path) -> list[str]:
    """Flags for a run of moments."""
    packs = ["--degrader", str(tiny_degrader_pack), "--enhancer", str(tiny_enhancer_pack)]
    return ["--kind", "noise", *packs, "--steps", "2", "--device", "cpu"]


def cases(out: Path) -> dict[str, dict[str, object]]:
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    return {record["case"]: record for record in records}


def test_a_run_ends_with_a_summary(quick: list[str], tmp_path: Path, run: Run) -> None:
    write_cohort(tmp_path / "in", ["faulty", "kept", "moved"])
    code, out, err = run(tmp_path / "in", tmp_path / "out", *quick, "--workers", 0, "--level", 0.5)
    assert (code, err) == (0, "")
    assert out == (
        "      1   33%  kept\n"
        "      1   33%  low-quality image synthesised\n"
        "      1   33%  high-quality image synthesised\n"
        "      0    0%  failed\n"
    )
    assert cases(tmp_path / "out")["moved"]["level"] == 0.5
    assert run(tmp_path / "in", tmp_path / "out", *quick, "--workers", 0, "--level", 0.5) == (0, out, "")


def test_cases_that_failed_are_named_and_the_rest_is_done(quick: list[str], tmp_path: Path, run: Run) -> None:
    source = write_cohort(tmp_path / "in", ["alone", "kept"])
    (source / "\x1b[2J").mkdir()
    code, out, err = run(source, tmp_path / "out", *quick, "--workers", 0)
    assert code == 2 and "1   33%  kept" in out
    assert "failed: alone: " in err and "holds no low-quality image" in err
    assert "error: 2 of 3 cases failed" in err and f"{tmp_path / 'out' / 'manifest.csv'} has the reasons" in err
    assert "\x1b" not in err and "failed: ?[2J: " in err
    assert 0 < cases(tmp_path / "out")["kept"]["level"] < 1, "auto is the default"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--level", "2"], "level"),
        (["--level", "high"], "neither a number nor auto"),
        (["--kind", "fog"], "invalid choice"),
        (["--limit", "fog=1"], "'fog=1' is no limit such as misaligned_pixels=0.5"),
        (["--limit", "spikes=many"], "is no limit"),
        (["--workers", "2", "--scheduler", "tcp://x:1"], "not allowed with"),
        (["--workers", "-1"], "not a whole number"),
        (["--degrader", "no-such"], "pack 'no-such' is unknown"),
        (["--slurm", "no.json"], "no.json cannot be read"),
        (["--scheduler", "tcp://127.0.0.1:port"], "no Dask scheduler answers"),
    ],
)
def test_wrong_flags_are_told(quick: list[str], tmp_path: Path, run: Run, flags: list[str], message: str) -> None:
    (tmp_path / "in" / "case").mkdir(parents=True)
    code, out, err = run(tmp_path / "in", tmp_path / "out", *quick, *flags)
    assert code == 2 and out == "" and message in err


def test_limits_come_from_the_command_line(quick: list[str], tmp_path: Path, run: Run) -> None:
    write_cohort(tmp_path / "in", ["moved"])
    code, out, _ = run(
        tmp_path / "in",
        tmp_path / "out",
        *quick,
        "--workers",
        0,
        "--limit",
        "misaligned_pixels=9",
        "--limit",
        "spikes=7",
    )
    assert code == 0 and "1  100%  kept" in out
    assert "(limit 9)" in str(cases(tmp_path / "out")["moved"]["reason"])


def read(terminal: int) -> str:
    """What the terminal shows next; nothing where it says nothing for 0.2 s or has been hung up."""
    if not select.select([terminal], [], [], 0.2)[0]:
        return ""
    try:
        return os.read(terminal, 4096).decode()
    except OSError:
        return ""


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_on_a_terminal_and_the_same_command_again(quick: list[str], tmp_path: Path, run: Run) -> None:
    """On two processes; the terminal's Ctrl-C reaches all of them."""
    source = write_cohort(tmp_path / "in", [f"moved-{number:02}" for number in range(40)])
    arguments = [str(source), str(tmp_path / "out"), *quick, "--level", "0.5"]
    command = [sys.executable, "-m", "MRDiffusionLib", "pairs", "build", *arguments, "--workers", "2"]
    ours, theirs = pty.openpty()
    environment = {**worker_environment(), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text, deadline = "", time.monotonic() + 90
    try:
        while not re.search(r"[#-]{20}  ([2-9]|[123][0-9]) of 40 cases, \d+ (s|min).* left", text):
            assert time.monotonic() < deadline and child.poll() is None, text
            text += read(ours)
        workers = psutil.Process(child.pid).children(recursive=True)
        os.killpg(child.pid, signal.SIGINT)
        out, _ = child.communicate(timeout=30)
        while more := read(ours):
            text += more
    finally:
        child.kill()
        os.close(ours)
    assert child.returncode == 130 and out == b""
    assert text.rstrip().endswith("stopped; the same command goes on from here\r\ncancelled"), text
    assert "Traceback" not in text and "distributed" not in text
    assert len(workers) >= 2
    # The resource tracker of multiprocessing ends by itself, a moment after the process that it serves.
    deadline = time.monotonic() + 20
    while left := [worker for worker in workers if alive(worker)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    first = cases(tmp_path / "out")
    assert 2 <= len(first) < 40 and not list((tmp_path / "out").rglob(".MRDiffusion-partial*"))

    code, _, err = run(*arguments, "--workers", 0)
    assert (code, err) == (0, "") and len(cases(tmp_path / "out")) == 40
    assert {name: cases(tmp_path / "out")[name] for name in first} == first


def test_time_left_goes_by_the_cases_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    told: list[Progress] = []
    shown = Cases()
    monkeypatch.setattr(Cases, "__call__", lambda self, state: told.append(state))
    shown.tell(90, 100, None)
    assert in_words(told[-1]) == "90 of 100 cases"
    now = 106.0
    shown.tell(92, 100, {"decision": KEPT})
    assert in_words(told[-1]) == "92 of 100 cases, 48 s left"


def test_every_decision_has_a_line() -> None:
    assert [line.split("  ")[-1] for line in summary(Counter({KEPT: 3})).splitlines()] == list(DECISIONS)


def test_help_and_wrong_flags_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from MRDiffusionLib.cli import main\n"
        "try: end = main(sys.argv[1:])\n"
        "except SystemExit as error: end = error.code\n"
        "print('|', end, [m for m in ('torch', 'monai', 'SimpleITK', 'distributed') if m in sys.modules])"
    )
    for flags, expected in ((["--help"], 0), (["in"], 2), (["in", "out", "--kind", "fog"], 2)):
        command = [sys.executable, "-c", code, "pairs", "build", *flags]
        done = subprocess.run(command, env=worker_environment(), capture_output=True, text=True)
        assert done.stdout.rpartition("|")[2].strip() == f"{expected} []", done.stderr
