"""What the scene keeps for each sequence of a synthesis, by the sequence's name: its volume and its guidance scale.

Slicer's parameter node wrapper knows only names that are written down in a class, and sequences are the pack's.
"""

from __future__ import annotations

import re
from typing import Any

from MRDiffusionLib.settings import DEFAULT_SCALE


def volume_of(node: Any, role: str) -> Any:
    """The volume node that is given for a sequence, or None."""
    return node.GetNodeReference(f"volume_{_key(role)}")


def set_volume(node: Any, role: str, volume: Any) -> None:
    if volume is not volume_of(node, role):
        node.SetNodeReferenceID(f"volume_{_key(role)}", None if volume is None else volume.GetID())


def scale_of(node: Any, role: str) -> float:
    """The guidance scale of a sequence."""
    try:
        return float(node.GetParameter(f"scale_{_key(role)}"))
    except ValueError:  # never set
        return DEFAULT_SCALE


def set_scale(node: Any, role: str, scale: float) -> None:
    node.SetParameter(f"scale_{_key(role)}", repr(float(scale)))


def _key(role: str) -> str:
    """A name that a scene file can hold: what separates entries there is spelt as a number."""
    return re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", role)
