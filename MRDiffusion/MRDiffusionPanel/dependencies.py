"""The libraries that the computation needs and this Python may lack. Nothing is installed unasked."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import slicer.util

import MRDiffusionLib
from MRDiffusionLib.worker.backend import LIBRARIES

from .text import _

TORCH = ">=2.8"
BUNDLED = ("numpy", "scipy", "SimpleITK", "pydicom")
"""Slicer's own: pip must not replace them, or Slicer breaks."""


def missing() -> list[str]:
    """Names of the libraries that are not installed; they are looked up, not imported."""
    importlib.invalidate_caches()
    return [name for name in LIBRARIES if find_spec(name) is None]


def requirements_file() -> Path:
    """The list of required versions: beside the library in a source tree, inside it where installed."""
    library = Path(MRDiffusionLib.__file__).parent
    places = [library / "requirements.txt", library.parent / "requirements.txt"]
    return next(place for place in places if place.is_file())


def explanation(names: list[str]) -> str:
    """What will happen, before a person agrees to it."""
    return _(
        "{names} will be downloaded from the Internet and installed into Slicer's Python. PyTorch takes up to 3 GB. "
        "Slicer does not react until it is done. Without Internet: pip install --no-index --find-links FOLDER with a "
        "folder of wheels."
    ).format(names=", ".join(names))


def install(names: list[str]) -> None:
    """Install what is missing. Raises RuntimeError or CalledProcessError where that fails."""
    if "torch" in names:
        _install_torch()
    others = [line for line in _requirements() if _name(line) in names]
    if others:
        slicer.util.pip_install([*others, *_constraints()])


def _install_torch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise RuntimeError(
            _("PyTorch comes from Slicer's PyTorch extension: install it in the Extension Manager and restart Slicer")
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH) is None:
        raise RuntimeError(_("PyTorch could not be installed; the application log says why"))


def _requirements() -> list[str]:
    lines = requirements_file().read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _constraints() -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in BUNDLED:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found
