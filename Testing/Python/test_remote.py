"""A worker at another computer: what goes over the line, what is left at either end, and what a person is told."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_support import FAKE, files, until, wait_until

from MRDiffusionLib.errors import DeviceError
from MRDiffusionLib.request import Request
from MRDiffusionLib.worker import frames, protocol
from MRDiffusionLib.worker.client import RunCancelled, WorkerClient, WorkerError
from MRDiffusionLib.worker.connection import Remote, explained
from MRDiffusionLib.worker.streamed import Streamed

FAKE_SSH = """#!/bin/sh
echo "$*" >> {log}
case " $* " in *" LD=set "*) ;; esac
[ -z "$LD_LIBRARY_PATH" ] || {{ echo "OpenSSL version mismatch" >&2; exit 255; }}
if [ -f {says} ]; then cat {says} >&2; exit 255; fi
while [ "$1" != "--" ]; do shift; done
echo $$ > {pid}
echo "Welcome to the other computer"
exec sh -c "$3"
"""

PYTHON_THERE = """#!/bin/sh
export TMPDIR={there} PYTHONPATH={root}
exec {python} {fake} {options} "$@"
"""


class Place:
    """Two temporary folders, 'here' and 'there', a fake ssh between them and a fake Python there."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there, self.bin = (folder / name for name in ("here", "there", "bin"))
        self.says, self.log, self.pid = (folder / name for name in ("says", "log", "pid"))
        for each in (self.here, self.there, self.bin):
            each.mkdir()
        self.workers: list[WorkerClient] = []
        self.python = self.program("python-there", self.python_there())
        self.program("ssh", FAKE_SSH.format(says=self.says, log=self.log, pid=self.pid))

    def program(self, name: str, text: str) -> str:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def python_there(self, options: str = "", script: str = FAKE) -> str:
        root = Path(__file__).parents[2]
        return PYTHON_THERE.format(there=self.there, root=root, python=sys.executable, fake=script, options=options)

    def start(self, host: str = "radiologist@workstation") -> WorkerClient:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        command = [*protocol.worker_command(), "--ssh", host, "--python", self.python]
        environment = {**os.environ, "TMPDIR": str(self.here), "PATH": path, "LD_LIBRARY_PATH": "/slicer/lib"}
        self.workers.append(WorkerClient(command, environment))
        return self.workers[-1]

    def break_line(self) -> None:
        """As if the network went away: ssh ends, and the worker's standard input closes."""
        os.kill(int(self.pid.read_text()), 9)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for worker in made.workers:
        worker.close()
    wait_until(lambda: files(made.here) == [] and files(made.there) == [])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def volume(folder: Path, name: str = "low.nrrd", size: int = 3 * frames.BLOCK + 17) -> Path:
    """A file of random bytes that half compresses."""
    path = folder / name
    path.write_bytes(np.random.default_rng(len(name)).integers(0, 16, size, np.uint8).tobytes())
    return path


def request(behaviour: str, *paths: Path) -> Request:
    inputs = {f"T{number}": str(path) for number, path in enumerate(paths, 1)}
    settings = {"target": "LGE"}
    return Request.from_json({"task": "synthesis", "pack": behaviour, "inputs": inputs, "settings": settings})


def test_volumes_go_there_and_come_back_and_nothing_stays(place: Place, tmp_path: Path, output: Path) -> None:
    (tmp_path / "second").mkdir()
    first, second = volume(tmp_path, "same name.nrrd"), volume(tmp_path / "second", "same name.nrrd", 5)
    asked = request("copies", first, second)
    worker = place.start()
    assert worker.wait_ready()["versions"] == {"fake": "1"}
    message = worker.run(asked, output)
    assert message["volumes"] == {role: str(output / f"{role}-1.nrrd") for role in ("result", "standard_deviation")}
    assert (output / "result-1.nrrd").read_bytes() == first.read_bytes()
    assert (output / "standard_deviation-1.nrrd").read_bytes() == second.read_bytes()
    assert Request.from_json(message["provenance"]["request"]) == asked, "with the paths of this computer"
    assert "files" not in message and len(files(output)) == 2
    wait_until(lambda: not list(place.there.glob("*/run-*")) and not list(place.here.glob("*/received-*")))
    worker.run(asked, output)
    assert worker.close() == 0
    assert os.listdir(place.here) == os.listdir(place.there) == []
    assert "BatchMode=yes" in place.log.read_text() and "-- radiologist@workstation" in place.log.read_text()


def test_comparisons_previews_and_errors_look_as_from_here(place: Place, tmp_path: Path, output: Path) -> None:
    worker = place.start()
    one, other = volume(tmp_path, "one.nrrd"), volume(tmp_path, "other.nrrd")
    worker.send({"type": "evaluate", "id": "a", "reference": str(one), "test": str(other)})
    assert until(worker, "evaluation")["figures"]["files"] == [str(one), str(other), "", 1.0]
    seen: list[dict[str, Any]] = []
    worker.run(request("slow:0.6", one), output, seen.append)
    previews = [message for message in seen if message["type"] == "preview"]
    assert previews and np.load(previews[-1]["path"]).shape == (2, 3)
    assert Path(previews[-1]["path"]).is_relative_to(place.here)
    with pytest.raises(WorkerError) as caught:
        worker.run(request("names", one), output)
    assert (caught.value.message, caught.value.kind) == (f"{one} is odd", "input")
    with pytest.raises(WorkerError, match=r"missing\.nrrd cannot be read.*one file"):
        worker.run(request("copies", tmp_path / "missing.nrrd"), output)
    with pytest.raises(WorkerError, match="on radiologist@workstation: There is not enough memory"):
        worker.run(request("fails:memory", one), output)
    with pytest.raises(WorkerError, match="nowhere does not exist"):
        worker.run(request("copies", one), output / "nowhere")
    assert worker.run(request("copies", one), output)["type"] == "result"


def test_cancel_stops_the_run_there(place: Place, tmp_path: Path, output: Path) -> None:
    worker, low = place.start(), volume(tmp_path)
    worker.wait_ready()
    first, second = worker.submit(request("slow", low), output), worker.submit(request("quick", low), output)
    until(worker, "progress")
    worker.cancel(first)
    with pytest.raises(RunCancelled):
        worker.wait(first, timeout=10)
    worker.wait(second)
    assert files(output) == ["result-2.nrrd"]


def test_when_the_panel_goes_in_mid_run_the_worker_there_ends(place: Place, tmp_path: Path, output: Path) -> None:
    for end in (lambda worker: worker.close(), lambda worker: worker.process.kill()):
        worker = place.start()
        worker.submit(request("slow", volume(tmp_path)), output)
        until(worker, "progress")
        end(worker)
        wait_until(lambda: os.listdir(place.there) == [])
    assert files(output) == []
    last = place.start()  # a killed relay's folder is removed by the next one
    last.wait_ready()
    assert len([each for each in place.here.iterdir() if each.is_dir()]) == 1


def test_a_line_that_fails_costs_the_run_and_the_next_one_connects_again(
    place: Place, tmp_path: Path, output: Path
) -> None:
    place.says.write_text("ssh: connect to host workstation port 22: Connection refused\n")
    worker, low = place.start(), volume(tmp_path)
    for _ in range(2):
        with pytest.raises(WorkerError, match=r"does not accept connections.*SSH server") as caught:
            worker.run(request("copies", low), output)
        assert caught.value.kind == "device" and "Connection refused" in caught.value.details
    place.says.unlink()
    assert worker.run(request("copies", low), output)["type"] == "result"


def test_another_version_there_is_refused(place: Place, tmp_path: Path, output: Path) -> None:
    place.program("python-there", place.python_there("old"))
    with pytest.raises(WorkerError, match=r"version 0\.0\.1, here it is .*same version"):
        place.start().run(request("copies", volume(tmp_path)), output)


def test_the_other_end_writes_nowhere_but_into_the_output(place: Place, tmp_path: Path, output: Path) -> None:
    """A worker that names other places for its results."""
    evil = tmp_path / "evil.py"
    evil.write_text(
        "import sys\n"
        "from MRDiffusionLib import __version__\n"
        "from MRDiffusionLib.worker import frames\n"
        "out = sys.stdout.buffer\n"
        "frames.send(out, {'type': 'hello', 'version': __version__})\n"
        "sys.stdin.readline()\n"
        f"message = {{'type': 'result', 'id': '1', 'volumes': {{'result': '{tmp_path}/taken'}},\n"
        f"           'files': ['{tmp_path}/taken'], 'warnings': []}}\n"
        "import json, struct, zlib\n"
        "data = zlib.compress(b'voxels')\n"
        "out.write(json.dumps(message).encode() + b'\\n' + struct.pack('>I', len(data)) + data + bytes(4))\n"
        "out.flush()\n"
        "sys.stdin.read()\n"
    )
    place.program("python-there", place.python_there(script=str(evil)))
    message = place.start().run(request("copies", volume(tmp_path)), output)
    assert message["volumes"] == {"result": str(output / "taken")}
    assert (output / "taken").read_bytes() == b"voxels" and not (tmp_path / "taken").exists()


SAID: list[tuple[int, str, str, str]] = [
    (255, "ssh: Could not resolve hostname x: Name or service not known", "cannot be found", "name"),
    (255, "ssh: connect to host x port 22: Connection timed out", "does not answer", "VPN"),
    (255, "u@x: Permission denied (publickey,password).", "without a password", "ssh-copy-id u@x"),
    (255, "No ED25519 host key is known for x\nHost key verification failed.", "not known", "ssh u@x"),
    (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "another", "-R x"),
    (127, "bash: line 1: python9: command not found", "Python was not found", "Python there"),
    (1, "/usr/bin/python3: No module named MRDiffusionLib", "not installed for that Python", "Install"),
    (2, "error: unrecognized arguments: --stream", "too old", "same version"),
    (255, "kex_exchange_identification: read: odd", "kex_exchange_identification: read: odd", "terminal"),
    (255, "", "code 255", "terminal"),
]


@pytest.mark.parametrize(("code", "said", "message", "hint"), SAID)
def test_what_ssh_says_is_told_in_words(code: int, said: str, message: str, hint: str) -> None:
    problem = explained("u@x", code, said)
    assert message in problem.message and hint in problem.hint and "x" in problem.message


def test_how_a_connection_ended_is_told() -> None:
    assert "broke" in explained("x", 255, "", begun=True).message
    assert "signal 9" in explained("x", 137, "", begun=True).message
    hint = explained("ssh://u@x:2222", 255, "REMOTE HOST IDENTIFICATION HAS CHANGED").hint
    assert hint.endswith("ssh-keygen -R '[x]:2222'")


@pytest.mark.parametrize("host", ["-oProxyCommand=false", "", "a b", "u@", "x;ls"])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(DeviceError, match="not a computer's name"):
        Remote(host, "python3", "worker")


def test_without_ssh_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="ssh was not found"):
        Remote("x", "python3", "worker")


def test_the_check_of_another_computer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from MRDiffusionLib.worker.check import check_there

    monkeypatch.setenv("PATH", f"{place.bin}{os.pathsep}{os.environ['PATH']}")
    python = place.program("python-check", '#!/bin/sh\necho \'{"problems": [], "version": "1"}\'\n')
    assert check_there("x", python)["version"] == "1"
    with pytest.raises(DeviceError, match="Python was not found on x"):
        check_there("x", str(place.bin / "none"))


# The frames


def place_in(folder: Path) -> Callable[[dict[str, Any], int, str], Path]:
    return lambda _message, number, _name: folder / str(number)


def framed(tmp_path: Path) -> bytes:
    stream = io.BytesIO()
    frames.send(stream, {"type": "run"}, [volume(tmp_path, "a"), volume(tmp_path, "b", 0)])
    frames.send(stream, {"type": "next"})
    return stream.getvalue()


def test_frames_bring_files_of_any_size(tmp_path: Path) -> None:
    stream = io.BytesIO(framed(tmp_path))
    (tmp_path / "to").mkdir()
    message = frames.receive(stream, place_in(tmp_path / "to"))
    assert message is not None and [Path(name).name for name in message["files"]] == ["a", "b"]
    assert [(tmp_path / "to" / n).read_bytes() for n in "01"] == [(tmp_path / n).read_bytes() for n in "ab"]
    assert frames.receive(stream, place_in(tmp_path)) == {"type": "next"}
    assert frames.receive(stream, place_in(tmp_path)) is None


def test_frames_that_are_cut_or_damaged_end_the_stream(tmp_path: Path) -> None:
    whole = framed(tmp_path)
    first = whole.index(b"\n") + 1
    for broken in (whole[: first - 3], whole[: first + 2], whole[: first + 100], whole[:first] + b"\xff" * 9):
        assert frames.receive(io.BytesIO(broken), place_in(tmp_path)) is None


def test_a_file_that_cannot_be_stored_does_not_stop_the_stream(tmp_path: Path) -> None:
    stream = io.BytesIO(framed(tmp_path))
    with pytest.raises(frames.UnplacedError, match=r"cannot be stored.*Free some space") as caught:
        frames.receive(stream, place_in(tmp_path / "missing"))
    assert caught.value.received["type"] == "run"
    assert frames.receive(stream, place_in(tmp_path)) == {"type": "next"}


def test_a_silent_line_is_taken_for_cut_but_signs_of_life_keep_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    lost = threading.Event()
    with os.fdopen(reading, "rb") as requests, os.fdopen(writing, "wb") as other_end:
        streamed = Streamed(requests, io.BytesIO(), tmp_path, 0.4, lost.set)
        threading.Thread(target=lambda: list(streamed), daemon=True).start()
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            frames.send(other_end, {"type": "alive"})
            time.sleep(0.05)
        assert not lost.is_set()
        assert lost.wait(5)


# The real ssh and sshd, on the loopback


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server of its own, with its own keys and port; gives the folder of its files."""
    program = next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(path)), None)
    if program is None:
        pytest.skip("sshd (Debian: openssh-server) is not installed")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    port = free_port()
    (folder / "sshd.conf").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} " + (folder / "host.pub").read_text())
    (folder / "port").write_text(str(port))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it puts nothing, but wants to be confined
    log = (folder / "log").open("wb")
    server = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd.conf"], stdout=log, stderr=log)
    wait_until(lambda: b"listening" in (folder / "log").read_bytes())
    yield folder
    server.terminate()
    server.wait()
    log.close()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def use_real_ssh(place: Place, sshd: Path, key: str = "user", known: str = "known") -> str:
    """A program `ssh` that reads no configuration of the person who runs the tests; gives the host."""
    real = next(path for path in ("/usr/bin/ssh", "/usr/local/bin/ssh") if os.path.exists(path))
    (sshd / key).chmod(stat.S_IRUSR)
    files = f"-o UserKnownHostsFile={sshd / known} -o GlobalKnownHostsFile=/dev/null -i {sshd / key}"
    place.program("ssh", f'#!/bin/sh\nexec {real} -F none {files} -o IdentitiesOnly=yes "$@"\n')
    return f"ssh://127.0.0.1:{(sshd / 'port').read_text()}"


def test_over_real_ssh(place: Place, sshd: Path, tmp_path: Path, output: Path) -> None:
    worker, low = place.start(use_real_ssh(place, sshd)), volume(tmp_path, size=3_000_000)
    message = worker.run(request("copies", low), output)
    assert Path(message["volumes"]["result"]).read_bytes() == low.read_bytes()
    run_id = worker.submit(request("slow", low), output)
    until(worker, "progress")
    worker.cancel(run_id)
    with pytest.raises(RunCancelled):
        worker.wait(run_id, timeout=10)
    worker.submit(request("slow", low), output)
    until(worker, "progress")
    assert worker.close() == 0
    wait_until(lambda: os.listdir(place.there) == [])
    assert os.listdir(place.here) == []


def test_a_real_connection_that_breaks_in_mid_run(place: Place, sshd: Path, tmp_path: Path, output: Path) -> None:
    import psutil

    worker, low = place.start(use_real_ssh(place, sshd)), volume(tmp_path)
    run_id = worker.submit(request("slow", low), output)
    until(worker, "progress")
    (client,) = (each for each in psutil.Process(worker.process.pid).children() if "ssh" in each.name())
    client.kill()
    with pytest.raises(WorkerError, match=r"connection to .* broke"):
        worker.wait(run_id, timeout=20)
    wait_until(lambda: os.listdir(place.there) == [])
    assert worker.run(request("copies", low), output)["type"] == "result"


@pytest.mark.parametrize(
    ("key", "known", "words"),
    [
        ("stranger", "known", "ssh-copy-id"),
        ("user", "nobody", "Connect once by hand"),
        ("user", "changed", "ssh-keygen -R"),
    ],
)
def test_real_ssh_never_asks_and_says_what_to_do(
    place: Place, sshd: Path, tmp_path: Path, output: Path, key: str, known: str, words: str
) -> None:
    port, other = (sshd / "port").read_text(), (sshd / "stranger.pub").read_text()
    (sshd / "changed").write_text(f"[127.0.0.1]:{port} {other}")
    with pytest.raises(WorkerError, match=words):
        place.start(use_real_ssh(place, sshd, key, known)).run(request("copies", volume(tmp_path)), output)
