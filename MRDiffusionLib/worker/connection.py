"""A program at another computer, over ssh: how it is started, and what went wrong in words."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque

from ..errors import DeviceError

OPTIONS = {
    "BatchMode": "yes",  # nobody is there to type a password
    "ConnectTimeout": "15",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ControlPath": "none",  # a shared connection would outlive this one
    "ForwardX11": "no",
    "ForwardAgent": "no",
    "RemoteCommand": "none",
}

PYTHON = "python3"
"""What is called there unless something else is said."""

_HOST = re.compile(r"(ssh://)?([\w.+-]+@)?[\w\[][\w.:\[\]%-]*")

_INSTALL = "Install MRDiffusion there, and give the Python of its environment as 'Python there' (--python)"

_SAID: tuple[tuple[str, str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "{host} shows another host key than last time",
        "Ask who runs it whether it was set up anew. If so, remove the old key with: ssh-keygen -R {name}",
    ),
    (
        "Host key verification failed",
        "{host} is not known to this computer yet",
        "Connect once by hand in a terminal, with: ssh {host}, compare the fingerprint and answer yes",
    ),
    (
        "Permission denied|Too many authentication failures",
        "{host} does not let this user in without a password",
        "Set up a key once in a terminal, with: ssh-keygen, then ssh-copy-id {host}; or load it with ssh-add",
    ),
    (
        "Could not resolve hostname|Name or service not known",
        "the computer {host} cannot be found",
        "Check its name, and the network",
    ),
    (
        "Connection refused",
        "{host} does not accept connections",
        "Start its SSH server, or give another port as ssh://user@host:port",
    ),
    (
        "timed out|No route to host|Network is unreachable|not responding",
        "{host} does not answer",
        "Check that it is switched on, and the network, VPN and firewall in between",
    ),
    ("No module named '?MRDiffusionLib", "MRDiffusion is not installed for that Python on {host}", _INSTALL),
    (
        "unrecognized arguments|invalid choice",
        "MRDiffusion on {host} is too old for this",
        "Install the same version there as here",
    ),
)


class Remote:
    """A running program there.

    Args:
        host: as ssh takes it: a name of its configuration, user@host, or ssh://user@host:port.
        python: the interpreter there; '~/' at its beginning is the home folder there.
        arguments: of `python -m MRDiffusionLib`.

    Attributes:
        process: ssh, with its three pipes.

    Raises:
        DeviceError: the host is no name, or ssh cannot be started.
    """

    def __init__(self, host: str, python: str, *arguments: str) -> None:
        self.host = host
        if not _HOST.fullmatch(host):
            raise DeviceError(f"{host!r} is not a computer's name", "Give user@host, or ssh://user@host:port")
        program = shutil.which("ssh")
        if program is None:
            raise DeviceError("the program ssh was not found on this computer", "Install an OpenSSH client")
        options = [part for name, value in OPTIONS.items() for part in ("-o", f"{name}={value}")]
        there = " ".join([_quoted(python or PYTHON), "-m", "MRDiffusionLib", *map(shlex.quote, arguments)])
        try:
            self.process = subprocess.Popen(
                [program, "-T", *options, "--", host, there],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise DeviceError(f"ssh cannot be started ({error.strerror or error})", "Install it again") from error
        self._said: deque[str] = deque(maxlen=200)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def said(self) -> str:
        """The last lines of ssh and of the program on standard error."""
        return "".join(self._said)

    def problem(self, begun: bool) -> DeviceError:
        """Why it has ended although nobody asked it to.

        Args:
            begun: whether the program there had begun to answer.
        """
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._listener.join(1)
        self.close()
        return explained(self.host, code, self.said, begun)

    def close(self, grace: float = 0.0) -> None:
        """End it, by force after `grace` seconds; the program there then ends too, as its standard input closes."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError, ValueError):
            assert self.process.stdin is not None
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line.decode(errors="replace"))


def explained(host: str, code: int, said: str, begun: bool = False) -> DeviceError:
    """How a connection ended, in words.

    Args:
        code: exit code of ssh: 255 is its own, any other is the program's.
        said: what came on standard error.
        begun: whether the program there had begun to answer.
    """
    name = re.sub(r"(.*):(\d+)", r"'[\1]:\2'", host.removeprefix("ssh://").rpartition("@")[2])
    if begun and (code == 255 or code < 0):  # below zero: ssh itself was ended here
        return DeviceError(f"the connection to {host} broke", "Check the network, then run again")
    if begun:
        how = f"signal {code - 128}" if code > 128 else f"code {code}"
        hint = "Perhaps its memory was full: draw fewer samples, or see what else runs there"
        return DeviceError(f"the worker on {host} ended unexpectedly ({how})", hint)
    for pattern, message, hint in _SAID:
        if re.search(pattern, said):
            return DeviceError(message.format(host=host, name=name), hint.format(host=host, name=name))
    if code in (126, 127, 9009):  # 9009 is Windows' word for it
        return DeviceError(f"that Python was not found on {host}", _INSTALL)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), f"ssh ended with code {code}")
    return DeviceError(f"no worker could be started on {host}: {last}", f"Try in a terminal: ssh {host}")


def _quoted(python: str) -> str:
    """For the shell there, which must still see the '~/'."""
    home = "~/" if python.startswith("~/") else ""
    return home + shlex.quote(python.removeprefix(home))


def _environment() -> dict[str, str]:
    """3D Slicer's own libraries come first in its processes, and the system's ssh does not run with them."""
    return {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")}
