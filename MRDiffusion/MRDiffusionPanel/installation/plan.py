"""What is missing or of a wrong version, how large it is and where it comes from, before a person agrees to it."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from pathlib import Path

import MRDiffusionLib
from MRDiffusionLib.errors import UserError
from MRDiffusionLib.worker.libraries import NEEDED, Library, libraries

from ..text import _
from . import remembered

DOWNLOAD_MB = {"torch": 200, "monai": 3, "einops": 1, "SimpleITK": 55, "safetensors": 1}
"""What is downloaded, roughly; `TORCH_GPU_MB` for the torch of a computer with an NVIDIA card."""

TORCH_GPU_MB = 3000
INSTALLED = 3
"""How many times larger than its download a library is on the disk: torch for the CPU has 0.75 GB."""


class InstallationError(UserError):
    """An installation that cannot be done or did not succeed.

    Args:
        restart: whether it goes on after a restart of Slicer.
    """

    def __init__(self, message: str, hint: str, restart: bool = False) -> None:
        super().__init__(message, hint)
        self.restart = restart


def wanting() -> list[Library]:
    """What must be installed before a run: nothing where another computer does the work."""
    if remembered.other_computer():
        return []
    return [each for each in libraries() if each.problem]


def missing() -> list[str]:
    """The names of what must be installed before a run."""
    return [each.name for each in wanting()]


def requirements_file() -> Path:
    """The list of required versions: beside the library in a source tree, inside it where installed."""
    library = Path(MRDiffusionLib.__file__).parent
    places = [library / "requirements.txt", library.parent / "requirements.txt"]
    return next(place for place in places if place.is_file())


def explanation(wanted: list[Library], wheels: str = "") -> str:
    """What will happen.

    Args:
        wheels: a folder of wheels to install from, instead of the Internet.
    """
    lines = [_("This will be installed into Slicer's Python:"), ""]
    lines += [_line(each, wheels) for each in wanted]
    total = sum(_download_mb(each) for each in wanted)
    folder = _("It goes to {folder}.").format(folder=site_packages())
    lines += ["", _("Together about {size}. {folder}").format(size=_size(total), folder=folder)]
    lines.append(_("Slicer's own packages (numpy, scipy, SimpleITK, pydicom) keep their versions."))
    lines.append(_("Slicer does not react until it is done, and may then have to be restarted."))
    if not wheels:
        lines.append(_("Without Internet: cancel, and choose a wheel folder in the section Installation."))
    return "\n".join(lines)


def _line(library: Library, wheels: str) -> str:
    states = {
        "missing": _("is missing"),
        "half installed": _("is half installed"),
        "wrong version": _("{found} is there").format(found=library.found),
    }
    if wheels:
        origin = _("from {folder}").format(folder=wheels)
    elif library.name == "torch":
        origin = _("from download.pytorch.org, in the build that Slicer's PyTorch extension finds right")
    else:
        origin = _("from pypi.org")
    return _("- {name} {needed} ({state}): about {size}, {origin}").format(
        name=library.name,
        needed=library.needed,
        state=states[library.problem],
        size=_size(_download_mb(library)),
        origin=origin,
    )


def check_obstacles(wanted: list[Library], wheels: str = "") -> None:
    """What can be known before anything is changed. Raises InstallationError."""
    if any(each.name == "SimpleITK" for each in wanted):
        raise InstallationError(_("Slicer's own SimpleITK is missing or too old"), _("Use Slicer 5.10 or later"))
    if not wheels and (platform.system(), platform.machine()) == ("Darwin", "x86_64"):
        raise InstallationError(
            _("PyTorch {needed} does not exist for Slicer on a Mac").format(needed=NEEDED["torch"]),
            _("Let another computer do the work: section Installation, Computer"),
        )
    folder = site_packages()
    if not os.access(folder, os.W_OK):
        raise InstallationError(
            _("{folder} cannot be written").format(folder=folder),
            _("Install Slicer into a folder of your own, or start it once as administrator"),
        )
    needed, free = sum(_download_mb(each) for each in wanted) * INSTALLED, shutil.disk_usage(folder).free // 10**6
    if free < needed:
        raise InstallationError(
            _("{folder} has {free} left, about {needed} are needed").format(
                folder=folder, free=_size(free), needed=_size(needed)
            ),
            _("Free some space"),
        )
    if wheels:
        _check_wheels(wanted, Path(wheels))


def _check_wheels(wanted: list[Library], folder: Path) -> None:
    files = [path.name.lower() for path in folder.glob("*.whl")] if folder.is_dir() else []
    lacking = [each.name for each in wanted if not any(file.startswith(f"{each.name.lower()}-") for file in files)]
    if lacking:
        raise InstallationError(
            _("{folder} has no wheel of {names}").format(folder=folder, names=", ".join(lacking)),
            _("docs/installation.md tells how such a folder is made; or choose none, to install from the Internet"),
        )


def site_packages() -> str:
    """Where pip puts packages."""
    return sysconfig.get_paths()["purelib"]


def _download_mb(library: Library) -> int:
    if library.name == "torch" and shutil.which("nvidia-smi"):
        return TORCH_GPU_MB
    return DOWNLOAD_MB[library.name]


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 100 else f"{megabytes:.0f} MB"
