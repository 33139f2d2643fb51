"""The installation, one step after another. It runs on the main thread: pip on another one has crashed Slicer."""

from __future__ import annotations

import importlib
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from MRDiffusionLib.worker.libraries import NEEDED, Library, libraries

from ..text import _
from . import remembered
from .plan import InstallationError, check_obstacles, requirements_file, site_packages

BUNDLED = ("numpy", "scipy", "SimpleITK", "pydicom")
"""Slicer's own: pip must not replace them, or Slicer breaks."""

INDEX = "https://pypi.org/simple/einops/"
"""Asked after a failure, to tell whether it was the network."""


def install(wanted: list[Library], wheels: str = "") -> bool:
    """Install what is wanted, and look whether it is there. What was begun is remembered until the end.

    Args:
        wheels: a folder of wheels to install from, instead of the Internet and PyTorch's extension.

    Returns:
        Whether Slicer must be restarted, because it had loaded an older version before.

    Raises:
        InstallationError: with the way out.
    """
    check_obstacles(wanted, wheels)
    loaded = any(each.name in sys.modules for each in wanted)
    remembered.keep(remembered.BEGUN, "yes")
    try:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{line}\n" for line in _bundled()), encoding="utf-8")
            _install(wanted, wheels, str(constraints))
        _check_done(wanted)
    except InstallationError as error:
        if not error.restart:
            remembered.keep(remembered.BEGUN, "")
        raise
    remembered.keep(remembered.BEGUN, "")
    return loaded


def _install(wanted: list[Library], wheels: str, constraints: str) -> None:
    try:
        torch = next((each for each in wanted if each.name == "torch"), None)
        if torch is not None and not wheels:
            _torch_from_extension(torch)
        others = [each for each in wanted if wheels or each is not torch]
        source = ["--no-index", "--find-links", wheels] if wheels else []
        halves = [each for each in others if each.problem == "half installed"]
        if halves:  # pip takes them for installed
            _pip([*map(_requirement, halves), "--force-reinstall", "--no-deps", *source], constraints)
        if others:
            _with_dependencies(others, source, constraints)
    except InstallationError:
        raise
    except (Exception, SystemExit) as error:
        raise _explained(error, wheels) from error


def _torch_from_extension(torch: Library) -> None:
    try:
        utilities = importlib.import_module("PyTorchUtils")
    except ImportError as error:
        raise InstallationError(
            _("PyTorch comes from Slicer's PyTorch extension, which is not installed"),
            _("Install it in the Extensions Manager and restart Slicer; the installation then goes on"),
            restart=True,
        ) from error
    logic = utilities.PyTorchUtilsLogic()
    if torch.problem == "half installed":
        logic.uninstallTorch(askConfirmation=False)
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=NEEDED["torch"]) is None:
        raise InstallationError(_("PyTorch's extension has not installed it"), _("The application's log says why"))


def _with_dependencies(wanted: list[Library], source: list[str], constraints: str) -> None:
    packaging = _packaging()
    if packaging is None or source:
        _pip([*map(_requirement, wanted), *source], constraints)
        return
    required = packaging.load_requirements(requirements_file())
    # The person has agreed already, and hears of a restart from the panel.
    asked = {"prompt_install": False, "prompt_restart": False}
    packaging.pip_ensure(required, constraints=constraints, requester="MRDiffusion", **asked)


def _pip(arguments: list[str], constraints: str) -> None:
    packaging = _packaging()
    if packaging is None:
        slicer.util.pip_install([*arguments, "--constraint", constraints])
    else:
        packaging.pip_install(arguments, constraints=constraints, requester="MRDiffusion")


def _packaging() -> Any:
    """`slicer.packaging`, or None before Slicer 5.11."""
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return None


def _requirement(library: Library) -> str:
    return f"{library.name}{library.needed}"


def _check_done(wanted: list[Library]) -> None:
    """A pip that ends without an error may still have skipped something, as it does while Slicer tests itself."""
    names = [each.name for each in wanted]
    left = [each for each in libraries() if each.name in names and each.problem]
    if left:
        states = ", ".join(f"{each.name} ({each.problem})" for each in left)
        raise InstallationError(
            _("still not in order after the installation: {states}").format(states=states),
            _("Close Slicer, remove the folders of these names from {folder}, and press Install again").format(
                folder=site_packages()
            ),
        )


def _explained(error: BaseException, wheels: str) -> InstallationError:
    said = "\n".join(str(part) for part in (error, getattr(error, "output", ""), getattr(error, "stderr", "")) if part)
    if any(words in said for words in ("No space left", "Errno 28")):
        return InstallationError(_("the disk is full"), _("Free some space in {}").format(site_packages()))
    refused = ("Permission denied", "Access is denied", "WinError 5")
    if "torch" in sys.modules and any(words in said for words in refused):
        return InstallationError(
            _("PyTorch is in use and cannot be replaced"),
            _("Restart Slicer and open this module; the installation then goes on"),
            restart=True,
        )
    if wheels:
        return InstallationError(
            _("{folder} lacks something, or has it for another Python than {version}").format(
                folder=wheels, version=f"{sys.version_info[0]}.{sys.version_info[1]}"
            ),
            _("The application's log names it; docs/installation.md tells how such a folder is made"),
        )
    problem = _unreachable()
    if problem:
        return InstallationError(*problem)
    if isinstance(error, subprocess.CalledProcessError):
        said = _("pip ended with code {code}").format(code=error.returncode)
    return InstallationError(
        _("the installation failed: {said}").format(said=said.strip()[:300]),
        _("The application's log says more; press Install to try again"),
    )


def _unreachable() -> tuple[str, str] | None:
    """Message and hint where packages cannot be fetched from here."""
    try:
        urllib.request.urlopen(urllib.request.Request(INDEX, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:  # it answers
        return None
    except (OSError, ValueError) as error:
        host = INDEX.split("/")[2]
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            text = _("the certificate of {host} is not accepted; something in between replaces it").format(host=host)
            return text, _("Ask your network's administrator for its certificate, or choose a wheel folder")
        return (
            _("{host} cannot be reached from this computer").format(host=host),
            _("Check the network; behind a proxy, set HTTPS_PROXY before Slicer starts; or choose a wheel folder"),
        )
    return None


def _bundled() -> list[str]:
    found = []
    for name in BUNDLED:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found
