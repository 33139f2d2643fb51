"""The libraries that a computation imports: which versions it needs and which are there. None of them is loaded."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

NEEDED = {
    "torch": ">=2.8",
    "monai": ">=1.6,<2",
    "einops": ">=0.8",
    "SimpleITK": ">=2.5",
    "safetensors": ">=0.4.3",
}
"""By import name, which is also the package's; the versions are those of pyproject.toml."""


@dataclass(frozen=True)
class Library:
    """A library as it was found.

    Attributes:
        name: to import and to install.
        needed: the versions that will do, as pip writes them.
        found: the version, empty where pip knows of none.
        there: whether it can be found to import.
    """

    name: str
    needed: str
    found: str
    there: bool

    @property
    def problem(self) -> str:
        """What is wrong with it: 'missing', 'half installed', 'wrong version', or nothing."""
        if not self.there:
            return "half installed" if self.found else "missing"
        # 3D Slicer builds its SimpleITK itself, and need not tell pip of it.
        if not self.found:
            return "" if self.name == "SimpleITK" else "half installed"
        return "" if fits(self.found, self.needed) else "wrong version"


def libraries() -> list[Library]:
    """All that are needed, as they are found now."""
    importlib.invalidate_caches()
    return [Library(name, needed, _version(name), _is_there(name)) for name, needed in NEEDED.items()]


def fits(found: str, needed: str) -> bool:
    """Whether a version is within limits such as '>=1.6,<2'. Only the numbers count: '2.8.0+cpu' is 2.8."""
    for limit in needed.split(","):
        one, other = _numbers(found), _numbers(limit.lstrip("<>="))
        if not (one >= other if limit.startswith(">=") else one < other):
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else [0]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _version(name: str) -> str:
    try:
        return version(name) or ""
    except (PackageNotFoundError, KeyError):  # KeyError: its description was lost
        return ""


def _is_there(name: str) -> bool:
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        return False
    # What pip leaves of a package is often a folder without code, which Python takes for a namespace.
    return found is not None and found.origin is not None
