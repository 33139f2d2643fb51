"""Translation of what a person reads; outside the application the text stays as it is."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
    from slicer.i18n import translate
except ImportError:  # slicer-core alone

    def _(text: str) -> str:
        return text

    def translate(context: str, text: str) -> str:
        return text


def of_setting(text: str) -> str:
    """A name, tip, choice or unit of `MRDiffusionLib.settings`: Slicer looks a text up by the file that it is in."""
    return str(translate("MRDiffusionLib.settings", text)) if text else ""


def of_domain(text: str) -> str:
    """A sentence of `MRDiffusionLib.packs.domain`."""
    return str(translate("packs.domain", text))


__all__ = ["_", "of_domain", "of_setting"]
