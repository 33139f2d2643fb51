"""What the application remembers, beside the scene: it is of this computer and this Slicer, not of the images."""

from __future__ import annotations

from typing import Any

import slicer

BEGUN, WHEELS, COMPUTER, PYTHON_THERE = "installationBegun", "wheelFolder", "computer", "pythonThere"

_OF_THIS_SLICER = (BEGUN,)
"""Each revision of Slicer has its own Python packages."""


def recall(name: str) -> str:
    """What was kept under a name, or nothing."""
    return str(_settings(name).value(f"MRDiffusion/{name}") or "")


def keep(name: str, text: str) -> None:
    """Keep a text until it is replaced; nothing removes it."""
    settings = _settings(name)
    if text:
        settings.setValue(f"MRDiffusion/{name}", text)
    else:
        settings.remove(f"MRDiffusion/{name}")
    settings.sync()  # Slicer may be killed in the middle of an installation


def other_computer() -> list[str]:
    """The options of `MRDiffusionLib worker` and `check` for the chosen computer; none for this one."""
    host = recall(COMPUTER)
    if not host:
        return []
    python = recall(PYTHON_THERE)
    return ["--ssh", host, *(["--python", python] if python else [])]


def _settings(name: str) -> Any:
    return slicer.app.revisionUserSettings() if name in _OF_THIS_SLICER else slicer.app.userSettings()
