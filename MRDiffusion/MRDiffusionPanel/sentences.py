"""Longer texts of the panel, as rich text."""

from __future__ import annotations

import html

from MRDiffusionLib.packs import PackInfo

from .text import _


def pack_text(pack: PackInfo, noted: list[str]) -> str:
    """What a pack was trained on, its limits but those that are noted elsewhere, and a link to its model card."""
    trained = html.escape(pack.training_data.rstrip(". "))
    card = (pack.folder / "README.md").as_uri()
    return (
        f"<b>{_('Not for diagnosis.')}</b> {_('Trained on')}: {trained}."
        f"{_list([limit for limit in pack.limits if limit not in noted])}<a href='{card}'>{_('Model card')}</a>"
    )


def notes_text(sentences: list[str]) -> str:
    """What a person should know before a run; empty for nothing."""
    return f"<b>{_('Please note')}</b>{_list(sentences)}" if sentences else ""


def _list(sentences: list[str] | tuple[str, ...]) -> str:
    points = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<ul style='margin:0px 0px 0px 16px; -qt-list-indent:0'>{points}</ul>"
