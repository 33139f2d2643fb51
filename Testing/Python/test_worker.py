"""The worker, as real processes: its stream stays clean, a run that fails or is stopped leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_support import FAKE, fake, files, until, wait_until

from MRDiffusionLib.errors import SettingError, StorageError
from MRDiffusionLib.request import Progress, Request, Result
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.worker import protocol
from MRDiffusionLib.worker.client import RunCancelled, WorkerClient, WorkerDied, WorkerError
from MRDiffusionLib.worker.folder import PREFIX, PrivateFolder
from MRDiffusionLib.worker.outputs import told_of, write_together

Start = Callable[..., WorkerClient]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """What a worker takes for the system's temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def start(temporary: Path) -> Iterator[Start]:
    """Start fake workers; all are ended after the test."""
    workers = []

    def start(*arguments: str) -> WorkerClient:
        command = [sys.executable, FAKE, *arguments]
        workers.append(WorkerClient(command, {**os.environ, "TMPDIR": str(temporary)}))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.close()


def test_ready_comes_first_and_a_run_ends_with_its_result(start: Start, output: Path) -> None:
    worker = start()
    message = worker.receive()
    assert message.pop("seconds") >= 0
    assert message == {"type": "ready", "device": "cpu", "versions": {"fake": "1"}}
    seen: list[dict[str, Any]] = []
    request = fake("quick")
    message = worker.run(request, output, seen.append)
    assert message["volumes"] == {"result": str(output / "result-1.nrrd")}
    assert (output / "result-1.nrrd").read_bytes() == b"voxels"
    assert message["warnings"] == ["careful"]
    assert Request.from_json(message["provenance"]["request"]) == request
    assert [m["type"] for m in seen] == ["progress"]
    assert worker.run(request, output)["measurements"]["runs"] == 2
    assert files(output) == ["result-1.nrrd", "result-2.nrrd"]
    assert worker.close() == 0


def test_two_files_are_compared_between_runs(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    worker.send({"type": "evaluate", "id": "a", "reference": "r.nrrd", "test": "t.nrrd", "factor": 2})
    worker.send({"type": "evaluate", "id": "b", "reference": "fails", "test": "t.nrrd", "mask": "m.nrrd"})
    worker.send({"type": "evaluate", "id": "c", "reference": "r.nrrd"})
    worker.send({"type": "evaluate", "id": "d", "reference": "r.nrrd", "test": "t.nrrd", "factor": 0})
    found = {message["id"]: message for message in (worker.receive(20) for _ in range(4))}
    assert "the factor of evaluation d is 0" in found["d"]["message"]
    assert found["a"]["type"] == "evaluation"
    assert found["a"]["figures"] == {"files": ["r.nrrd", "t.nrrd", "", 2], "whole": {"psnr_db": None}}
    assert (found["b"]["type"], found["b"]["message"]) == ("error", "the reference shows 3 % of the volume")
    assert found["c"]["type"] == "error" and "reference and test" in found["c"]["hint"]
    assert worker.run(fake("quick"), output)["type"] == "result"


def test_what_libraries_print_does_not_reach_the_stream(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    seen: list[dict[str, Any]] = []
    assert worker.run(fake("noisy"), output, seen.append)["id"] == "1"
    assert seen == []
    assert worker.close() == 0
    for words in ("printed while warming up", "noise from Python", '"noise"', "noise from a child"):
        assert words in worker.stderr


def test_progress_is_thinned_but_first_and_last_come(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    seen: list[dict[str, Any]] = []
    worker.run(fake("fast:20000"), output, seen.append)
    steps = [m["step"] for m in seen]
    assert steps[0] == 1 and steps[-1] == 20000 and steps == sorted(set(steps))
    assert len(steps) < 100
    assert {m["seconds_left"] for m in seen} == {None}, "NaN is no JSON"
    seen.clear()
    begin = time.monotonic()
    worker.run(fake("slow:0.6"), output, seen.append)
    seconds = time.monotonic() - begin
    progress, previews = ([m for m in seen if m["type"] == kind] for kind in ("progress", "preview"))
    assert 3 <= len(progress) <= 10 * seconds + 2
    assert 1 <= len(previews) <= len(progress)
    assert progress[-1] == {"type": "progress", "id": "2", "slice": 1, "slices": 1, "step": 120, "steps": 120,
                            "seconds_left": 0.0}  # fmt: skip


def test_previews_are_arrays_in_the_private_folder(start: Start, output: Path, temporary: Path) -> None:
    worker = start()
    worker.wait_ready()
    for _ in range(10):
        seen: list[dict[str, Any]] = []
        worker.run(fake("slow:0.01"), output, seen.append)
        preview = next(m for m in seen if m["type"] == "preview")
        image = np.load(preview["path"])
        assert image.shape == (2, 3) and image.dtype == np.float32 and preview["slice"] == 0
        assert preview["affine"] == [[1, 0, 0, 4], [0, 2, 0, 5], [0, 0, 3, 6], [0, 0, 0, 1]]
        assert Path(preview["path"]).parent.parent == temporary
    assert len(list(temporary.rglob("preview-*.npy"))) == 8, "older ones are removed"
    worker.close()
    assert files(temporary) == []


def test_previews_that_nobody_looks_at_are_not_made(start: Start, output: Path, temporary: Path) -> None:
    worker = start()
    worker.wait_ready()
    message = {"type": "run", "id": "x", "request": fake("slow:0.05").to_json(), "output": str(output)}
    worker.send({**message, "previews": False})
    seen: set[str] = set()
    while "result" not in seen:
        seen.add(worker.receive(20)["type"])
    assert "progress" in seen and "preview" not in seen and not list(temporary.rglob("preview-*"))


def test_cancel_stops_a_run_and_the_next_one_starts(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    first, second = worker.submit(fake("slow"), output), worker.submit(fake("quick"), output)
    until(worker, "progress")
    begin = time.monotonic()
    worker.cancel(first)
    with pytest.raises(RunCancelled):
        worker.wait(first)
    assert time.monotonic() - begin < 5
    worker.wait(second)
    worker.cancel(first)  # too late: nothing happens
    assert worker.run(fake("quick"), output)["id"] == "3"
    assert files(output) == ["result-2.nrrd", "result-3.nrrd"]


def test_runs_wait_in_order_and_one_can_be_taken_out(start: Start, output: Path) -> None:
    worker = start()
    ids = [worker.submit(fake("slow:0.5"), output), *(worker.submit(fake("quick"), output) for _ in range(3))]
    worker.cancel(ids[2])
    ends = []
    while len(ends) < 4:
        message = worker.receive()
        if message["type"] in protocol.ENDS:
            ends.append((message["type"], message["id"]))
    assert ends == [("cancelled", "3"), ("result", "1"), ("result", "2"), ("result", "4")]


def test_what_is_changed_for_lack_of_memory_is_told_before_the_end(start: Start, output: Path) -> None:
    worker = start()
    seen: list[dict[str, Any]] = []
    worker.run(dataclasses.replace(fake("quick"), batch=2), output, seen.append)
    assert [message["message"] for message in seen if message["type"] == "note"] == [
        "Memory was short: computed 2 at a time."
    ]


def test_getting_warm_gives_way_to_whatever_comes(start: Start, output: Path) -> None:
    worker = start()
    worker.send({"type": "warm", "id": "w1", "pack": "quick", "device": "cpu"})
    assert until(worker, "warmed")["measurements"] == [{"runs": 1, "device": "cpu", "folder": True}]
    worker.send({"type": "warm", "id": "w2", "pack": "slow"})
    time.sleep(0.2)
    begun = time.monotonic()
    worker.send({"type": "warm", "id": "w3", "pack": "slow"})  # another pack was chosen
    run_id = worker.submit(fake("quick"), output)
    seen: list[dict[str, Any]] = []
    assert worker.wait(run_id, seen.append)["volumes"]
    assert time.monotonic() - begun < 10  # each would have taken 20 s
    assert sorted(message["id"] for message in seen if message["type"] == "cancelled") == ["w2", "w3"]
    worker.send({"type": "warm", "id": "w4", "pack": "fails:input"})
    assert until(worker, "error")["id"] == "w4"
    assert worker.run(fake("quick"), output)["volumes"]


def test_a_run_does_not_give_way_to_getting_warm(start: Start, output: Path) -> None:
    worker = start()
    run_id = worker.submit(fake("slow:0.3"), output)
    until(worker, "progress")
    worker.send({"type": "warm", "id": "w", "pack": "quick"})
    assert worker.wait(run_id)["volumes"]
    assert until(worker, "warmed")["id"] == "w"


def test_an_id_in_use_is_refused_without_harm_to_its_run(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    line = protocol.encode({"type": "run", "id": "a", "request": fake("slow:0.5").to_json(), "output": str(output)})
    worker.send_line(line + line + b'{"type": "run", "id": "a"}\n')
    for words in ("run a is queued or running", "output"):
        refused = until(worker, "error")
        assert refused["id"] is None and words in refused["message"]
    assert until(worker, "result")["id"] == "a"
    worker.send_line(line)
    assert until(worker, "result")["id"] == "a"


BAD_LINES: list[tuple[bytes, str | None, str, str]] = [
    (b"{", None, "input", "JSON"),
    (b"\xff\xfe\x00", None, "input", "JSON"),
    (b"[" * 100_000, None, "input", "JSON"),
    (b'{"type": "run", "id": ' + b"9" * 5000 + b"}", None, "input", "JSON"),
    (b"[1]", None, "input", "object"),
    (b"{}", None, "input", "type None"),
    (b'{"type": ["run"]}', None, "input", "type"),
    (b'{"type": "dance", "id": "1"}', None, "input", "dance"),
    (b'{"type": "cancel"}', None, "input", "id"),
    (b'{"type": "run", "id": "../x"}', None, "input", "id"),
    (b'{"type": "warm", "id": "x"}', "x", "input", "pack of warm x"),
    (b'{"type": "warm", "id": "x", "pack": "p", "device": "tpu"}', "x", "setting", "device"),
    (b'{"type": "run", "id": "x", "request": {}}', "x", "input", "output"),
    (b'{"type": "run", "id": "x", "output": "/", "request": []}', "x", "setting", "request"),
    (b'{"type": "run", "id": "x", "output": "/", "request": {}, "previews": 1}', "x", "input", "previews"),
    (b'{"type": "run", "id": "x", "output": "/", "request": {"task": "t"}}', "x", "setting", "inputs, pack"),
    (b'{"type": "run", "id": "x", "output": "/", "request": {"task": "superresolution", "pack": "p", "inputs": '
     b'{"low_resolution": "a"}, "settings": {"weight": 7}}}', "x", "setting", "weight = 7"),
]  # fmt: skip


def test_bad_messages_are_answered_and_survived(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    worker.send_line(b"\n  \n")
    for line, run_id, kind, words in BAD_LINES:
        worker.send_line(line + b"\n")
        message = worker.receive()
        assert (message["type"], message["id"], message["kind"]) == ("error", run_id, kind), line[:80]
        assert words in message["message"] and len(message["message"]) < 300
    assert worker.run(fake("quick"), output)["measurements"]["runs"] == 1


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("input", "input", "T2 has 3 slices"),
        ("value", "internal", "ValueError: an accident"),
        ("memory", "memory", "not enough memory"),
        ("cuda", "memory", "not enough memory"),
        ("allocator", "memory", "not enough memory"),
        ("disk", "storage", "No space left"),
        ("exit", "internal", "SystemExit"),
        ("interrupt", "internal", "KeyboardInterrupt"),
        ("module", "internal", "monai"),
    ],
)
def test_a_run_that_fails_costs_one_message(start: Start, output: Path, what: str, kind: str, words: str) -> None:
    worker = start()
    seen: list[dict[str, Any]] = []
    with pytest.raises(WorkerError) as caught:
        worker.run(fake(f"fails:{what}"), output, seen.append)
    error = caught.value
    assert not isinstance(error, WorkerDied)
    assert error.kind == kind and words in error.message and error.hint
    assert ("Traceback" in error.details) == (what != "input")
    assert [m["type"] for m in seen] == ["ready"]
    after = worker.run(fake("quick"), output)
    assert after["measurements"] == {"runs": 2, "freed": [True] if kind == "memory" else []}
    assert files(output) == ["result-2.nrrd"]


def test_a_result_that_cannot_be_sent_is_an_error(start: Start, output: Path) -> None:
    worker = start()
    with pytest.raises(WorkerError, match="cannot be written as JSON") as caught:
        worker.run(fake("odd"), output)
    assert caught.value.kind == "internal"
    assert files(output) == []
    worker.run(fake("quick"), output)


def test_no_room_for_the_second_volume_leaves_neither(start: Start, output: Path) -> None:
    worker = start()
    with pytest.raises(WorkerError, match="No space left") as caught:
        worker.run(fake("writes:full"), output)
    assert caught.value.kind == "storage" and str(output) in caught.value.message
    assert files(output) == []
    with pytest.raises(WorkerError, match="does not exist") as caught:
        worker.run(fake("quick"), output / "missing")
    assert caught.value.kind == "storage"
    worker.run(fake("quick"), output)


def test_a_cancel_while_results_are_written_leaves_none(start: Start, output: Path) -> None:
    worker = start()
    worker.wait_ready()
    run_id = worker.submit(fake("writes:slowly"), output)
    wait_until(lambda: len(files(output)) == 3)
    worker.cancel(run_id)
    with pytest.raises(RunCancelled):
        worker.wait(run_id)
    assert files(output) == []


@pytest.mark.parametrize("behaviour", ["slow", "stuck", "writes:slowly"])
def test_it_ends_and_cleans_up_when_its_input_closes(
    start: Start, output: Path, temporary: Path, behaviour: str
) -> None:
    worker = start()
    worker.wait_ready()
    worker.submit(fake(behaviour), output)
    if behaviour == "writes:slowly":
        wait_until(lambda: len(files(output)) == 3)
    else:
        until(worker, "progress")
    assert files(temporary) != []
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(15) == 0
    assert files(temporary) == [] and files(output) == []


@pytest.mark.parametrize(
    ("number", "behaviour"), [(signal.SIGTERM, "slow"), (signal.SIGTERM, ""), (signal.SIGINT, "stuck")]
)
def test_a_signal_ends_it_and_it_cleans_up(
    start: Start, output: Path, temporary: Path, number: int, behaviour: str
) -> None:
    worker = start()
    worker.wait_ready()
    if behaviour:
        worker.submit(fake(behaviour), output)
        until(worker, "progress")
    worker.process.send_signal(number)
    assert worker.process.wait(15) == 128 + number
    assert files(temporary) == [] and files(output) == []


def test_a_killed_worker_is_reported_and_its_folder_cleaned_by_the_next(
    start: Start, output: Path, temporary: Path
) -> None:
    other = start()
    other.wait_ready()
    worker = start()
    worker.wait_ready()
    run_id = worker.submit(fake("slow"), output)
    until(worker, "preview")
    worker.process.kill()
    with pytest.raises(WorkerDied, match=r"signal 9.*memory"):
        worker.wait(run_id)
    with pytest.raises(WorkerDied):
        worker.receive()
    with pytest.raises(WorkerDied):
        worker.submit(fake("quick"), output)
    assert files(output) == []
    assert len(list(temporary.iterdir())) == 2
    fresh = start()
    fresh.wait_ready()
    assert len(list(temporary.iterdir())) == 2, "the dead worker's folder is gone, the living one's is not"
    other.run(fake("slow:0.01"), output)
    assert fresh.run(fake("quick"), output)


def test_it_ends_when_its_parent_is_killed(temporary: Path, output: Path) -> None:
    code = (
        "import sys, time; from MRDiffusionLib.worker.client import WorkerClient\n"
        f"worker = WorkerClient([sys.executable, {FAKE!r}]); worker.wait_ready()\n"
        f"worker.send({{'type': 'run', 'id': '1', 'output': {str(output)!r}, 'request': {fake('slow').to_json()!r}}})\n"
        "print(worker.process.pid, flush=True); time.sleep(60)"
    )
    environment = protocol.worker_environment({**os.environ, "TMPDIR": str(temporary)})
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    int(parent.stdout.readline())
    assert len(list(temporary.iterdir())) == 1
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not list(temporary.iterdir()))
    assert files(output) == []


def test_missing_libraries_are_named(start: Start, output: Path) -> None:
    worker = start("broken")
    with pytest.raises(WorkerError, match=r"torch cannot be found.*requirements\.txt"):
        worker.wait_ready()
    with pytest.raises(WorkerError, match="torch cannot be found"):
        worker.run(fake("quick"), output)
    assert worker.close() == 0


def test_the_private_folder_is_private_and_links_are_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(victim)
    with PrivateFolder(tmp_path) as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        with PrivateFolder(tmp_path):
            assert folder.path.is_dir()
    assert not folder.path.exists()
    assert files(victim) == ["lock"]
    with pytest.raises(StorageError, match="temporary folder"):
        PrivateFolder(tmp_path / "missing")


def test_files_written_together_replace_older_ones_or_leave_them(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")

    def refuse(path: Path) -> None:
        path.write_text("half")
        raise StorageError(f"{path} cannot be written", "Free some space")

    with pytest.raises(StorageError) as caught:
        write_together({first: lambda path: path.write_text("new") and None, second: refuse})
    assert caught.value.message == f"{second} cannot be written"
    assert files(tmp_path) == ["a"] and first.read_text() == "old"
    write_together({path: lambda path: path.write_text("new") and None for path in (first, second)})
    assert files(tmp_path) == ["a", "b"] and first.read_text() == second.read_text() == "new"


def test_a_signal_during_the_moves_waits_for_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    move = Path.replace

    def interrupted_move(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted_move)
    with pytest.raises(KeyboardInterrupt):
        write_together({place: lambda path: path.touch() for place in places})
    assert files(tmp_path) == ["a", "b"]


def test_messages_are_one_line_of_json_whatever_is_in_them(tmp_path: Path) -> None:
    outcome = Result(
        {},
        {"nan": float("nan"), "many": np.array([1.0, np.inf]), "count": np.int64(3), "share": np.float32(0.5)},
        {"path": tmp_path, "pair": (1, 2), "text": "ü\n\udcff"},
    )
    line = protocol.encode(protocol.result("1", {"result": tmp_path / "r.nrrd"}, told_of(outcome)))
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    message = json.loads(line, parse_constant=pytest.fail)
    assert message["measurements"] == {"nan": None, "many": [1.0, None], "count": 3, "share": 0.5}
    assert message["provenance"] == {"path": str(tmp_path), "pair": [1, 2], "text": "ü\n\udcff"}
    line = protocol.encode(protocol.progress("1", Progress(1, 2, 3, 4, float("inf"))))
    assert json.loads(line)["seconds_left"] is None
    with pytest.raises(TypeError):
        protocol.encode({"a": object()})


def test_parse_reads_what_a_client_sends() -> None:
    request = fake("p")
    line = protocol.encode({"type": "run", "id": "7", "request": request.to_json(), "output": "/o"})
    assert protocol.parse(line) == protocol.Run("7", request, "/o")
    assert protocol.parse('{"type": "cancel", "id": "7"}') == protocol.Cancel("7")
    assert protocol.parse('{"type": "shutdown"}') == protocol.Shutdown()


def test_the_protocol_and_the_client_load_no_heavy_library() -> None:
    code = (
        "import sys, MRDiffusionLib.worker.protocol, MRDiffusionLib.worker.client;"
        "print([m for m in ('torch', 'monai', 'numpy', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_rehearsal_needs_no_torch_and_says_that_it_is_one(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'monai', 'safetensors'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from MRDiffusionLib.imaging import Geometry, Volume, write_volume\n"
        "from MRDiffusionLib.request import Request\n"
        "from MRDiffusionLib.settings import SuperResolutionSettings\n"
        "from MRDiffusionLib.worker.rehearsal import Rehearsal\n"
        "oblique = Geometry((9, 8, 4), (1., 2., 3.), (4., 5., 6.), (.6, 0., .8, 0., 1., 0., -.8, 0., .6))\n"
        "given = Volume(np.arange(288, dtype=np.float32).reshape(4, 8, 9), oblique)\n"
        "write_volume(given, sys.argv[1])\n"
        "settings = SuperResolutionSettings(matrix=(16, 18), steps=2, samples=2)\n"
        "inputs, told = {'low_resolution': sys.argv[1]}, []\n"
        "request = Request('superresolution', 'p', inputs, settings, slices=(1, 2))\n"
        "result = Rehearsal().run(request, told.append, None, print)\n"
        "made = result.volumes['result']\n"
        "wanted = oblique.part((1, 2)).refined((16, 18))\n"
        "assert len(told) == 4 and made.array.shape == (2, 16, 18)\n"
        "np.testing.assert_allclose(made.geometry.affine(), wanted.affine(), atol=1e-6)\n"
        "assert (made.array[:, ::2, ::2] == given.array[1:3]).all(), made.array\n"
        "assert not result.volumes['standard_deviation'].array.any()\n"
        "assert result.provenance['rehearsal'] and 'no model' in result.warnings[0]\n"
    )
    volume = str(tmp_path / "volume.nrrd")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", code, volume], check=True, env=environment)


def test_the_workers_environment_finds_the_package_and_drops_other_itk_plugins(tmp_path: Path) -> None:
    environment = protocol.worker_environment(
        {"PATH": os.environ["PATH"], "ITK_AUTOLOAD_PATH": "/x", "SITK_AUTOLOAD_PATH": "/y", "PYTHONPATH": "/z"}
    )
    assert "ITK_AUTOLOAD_PATH" not in environment and "SITK_AUTOLOAD_PATH" not in environment
    assert environment["PYTHONPATH"].split(os.pathsep)[1:] == ["/z"]
    done = subprocess.run(
        [sys.executable, "-c", "import MRDiffusionLib"], env=environment, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0


# From here on with torch and a real, tiny network.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerClient, Path]]:
    """One worker for all tests below: it has to survive them anyway."""
    temporary = tmp_path_factory.mktemp("temporary")
    with WorkerClient(environment={**os.environ, "TMPDIR": str(temporary)}) as worker:
        assert worker.wait_ready()["seconds"] < 30
        yield worker, temporary
        assert worker.close() == 0
    assert files(temporary) == []


def superresolution(pack: Path, low: Path, slices: tuple[int, ...] | None = None, **settings: Any) -> Request:
    chosen = SuperResolutionSettings(**{"matrix": (32, 32), "steps": 5, **settings})
    return Request("superresolution", str(pack), {"low_resolution": str(low)}, chosen, precision="fp32", slices=slices)


def test_a_real_run_gives_volumes_on_the_refined_grid(
    real: tuple[WorkerClient, Path], tiny_pack_32: Path, low_volume: Path, output: Path
) -> None:
    from MRDiffusionLib import tasks
    from MRDiffusionLib.imaging.volume import read_volume

    worker, _ = real
    seen: list[dict[str, Any]] = []
    request = superresolution(tiny_pack_32, low_volume, samples=2)
    message = worker.run(request, output, seen.append)
    assert set(message["volumes"]) == {"result", "standard_deviation"}
    result = read_volume(message["volumes"]["result"])
    assert result.array.shape == (3, 32, 32)
    assert result.geometry.agrees_with(read_volume(low_volume).geometry.refined((32, 32)))
    progress = [m for m in seen if m["type"] == "progress"]
    assert (progress[0]["slice"], progress[0]["step"], progress[-1]["slice"], progress[-1]["step"]) == (1, 1, 3, 5)
    preview = next(m for m in seen if m["type"] == "preview")
    assert np.load(preview["path"]).shape == (32, 32)
    assert message["provenance"]["synthetic"] is True
    # The same request here, and what the provenance says run again there, on packs that are warm now.
    here = tasks.run(request)
    np.testing.assert_allclose(result.array, here.volumes["result"].array, atol=1e-3)
    again = worker.run(Request.from_json(message["provenance"]["request"]), output)
    np.testing.assert_array_equal(read_volume(again["volumes"]["result"]).array, result.array)


@pytest.mark.parametrize("pack", ["tiny_pack", "tiny_synthesis_pack", "tiny_degrader_pack", "tiny_enhancer_pack"])
def test_a_real_pack_is_tried_before_the_first_run(
    real: tuple[WorkerClient, Path], pack: str, request: pytest.FixtureRequest
) -> None:
    worker, temporary = real
    worker.send({"type": "warm", "id": "w", "pack": str(request.getfixturevalue(pack)), "device": "cpu"})
    timed, full = until(worker, "warmed")["measurements"]
    assert timed["seconds"] > 0 and "seconds" not in full and timed["work"] > 0
    assert timed["batch"] == 4 and full["at_once"] == 4 * timed["at_once"] and timed["computed_on"] == "CPU"
    assert 50 < timed["peak_memory_mb"] < 20000
    assert not list(temporary.rglob("*.nrrd"))


def test_a_pack_that_cannot_be_tried_is_an_error(real: tuple[WorkerClient, Path]) -> None:
    worker, _ = real
    for pack, words in (("nonesuch", "nonesuch"), ("brain-t1-128-regression", "cannot be run on its own")):
        worker.send({"type": "warm", "id": "w", "pack": pack})
        message = until(worker, "error")
        assert message["kind"] == "pack" and words in message["message"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets earlier peaks")
def test_the_peak_of_memory_is_that_of_the_run(tmp_path: Path) -> None:
    code = """
import numpy
from MRDiffusionLib.worker.peak import PeakMemory
first = PeakMemory()
large = numpy.ones(40_000_000)
del large
large_mb = first.mb("cpu")
second = PeakMemory()
small = numpy.ones(5_000_000)
print(large_mb - second.mb("cpu"))
"""
    environment = protocol.worker_environment()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert 200 < float(done.stdout) < 400  # 320 MB less 40 MB


def test_a_real_run_is_cancelled_within_a_step(
    real: tuple[WorkerClient, Path], tiny_pack_32: Path, low_volume: Path, output: Path
) -> None:
    worker, _ = real
    run_id = worker.submit(superresolution(tiny_pack_32, low_volume, steps=1000), output)
    while (message := worker.receive())["type"] != "progress":
        pass
    assert message["step"] < 1000
    worker.cancel(run_id)
    steps: list[int] = []
    with pytest.raises(RunCancelled):
        worker.wait(run_id, lambda m: steps.append(m.get("step", 0)))
    assert max(steps, default=0) < 1000
    assert files(output) == []


def test_real_errors_keep_their_kind(
    real: tuple[WorkerClient, Path], tiny_pack_32: Path, low_volume: Path, output: Path, tmp_path: Path
) -> None:
    worker, _ = real
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_pack_32, damaged)
    with (damaged / "weights.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    for request, kind, words in (
        (superresolution(tiny_pack_32, tmp_path / "missing.nrrd"), "input", "missing.nrrd does not exist"),
        (superresolution(tmp_path / "nowhere", low_volume), "pack", "nowhere"),
        (superresolution(damaged, low_volume), "pack", "checksum"),
        (superresolution(tiny_pack_32, low_volume, matrix=(16, 64)), "setting", "16x64"),
        (superresolution(tiny_pack_32, low_volume, slices=(7,)), "setting", "slice 7"),
        (dataclasses.replace(superresolution(tiny_pack_32, low_volume), device="cuda:99"), "device", "cuda:99"),
    ):
        with pytest.raises(WorkerError, match=words) as caught:
            worker.run(request, output)
        assert caught.value.kind == kind and caught.value.hint and not caught.value.details
    assert files(output) == []
    assert worker.run(superresolution(tiny_pack_32, low_volume, slices=(1,)), output)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="memory of another process can be limited on Linux only")
def test_a_real_run_without_memory_is_survived(
    real: tuple[WorkerClient, Path], tiny_pack: Path, tiny_pack_32: Path, low_volume: Path, output: Path, tmp_path: Path
) -> None:
    """The k-space of 512 slices of 128x128 pixels takes 64 MiB in one piece."""
    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume

    worker, _ = real
    worker.run(superresolution(tiny_pack_32, low_volume), output)  # what has to be loaded is loaded
    volume = read_volume(low_volume)
    geometry = dataclasses.replace(volume.geometry, size=(16, 16, 512))
    write_volume(Volume(np.resize(volume.array, (512, 16, 16)), geometry), tmp_path / "long.nrrd")
    large = dataclasses.replace(superresolution(tiny_pack, tmp_path / "long.nrrd", matrix=(128, 128)), batch=512)

    pid = worker.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + 4_000_000, before[1]))
    try:
        with pytest.raises(WorkerError, match="not enough memory") as caught:
            worker.run(large, output)
        assert caught.value.kind == "memory" and "fewer slices" in caught.value.hint
        assert worker.run(superresolution(tiny_pack_32, low_volume), output)
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)


def test_a_real_worker_ends_in_mid_run_when_its_input_closes(
    real: tuple[WorkerClient, Path], tiny_pack_32: Path, low_volume: Path, output: Path
) -> None:
    """The last test of the shared worker."""
    worker, temporary = real
    worker.submit(superresolution(tiny_pack_32, low_volume, steps=1000), output)
    until(worker, "preview")
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(10) == 0
    assert files(output) == [] and files(temporary) == []


def test_settings_are_checked_before_anything_is_sent() -> None:
    with pytest.raises(SettingError):
        superresolution(Path("p"), Path("l"), weight=2)
