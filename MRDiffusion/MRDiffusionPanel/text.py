"""Translation of what a person reads; outside the application the text stays as it is."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
except ImportError:  # slicer-core alone

    def _(text: str) -> str:
        return text


__all__ = ["_"]
