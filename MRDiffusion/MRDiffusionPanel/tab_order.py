"""The way of the Tab key through the panel: as one reads it, also where rows were made later than those below them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import qt


def follow_reading(widget: Any) -> None:
    """Let Tab go through all of a widget in the order of its layouts."""
    before = None
    for each in in_reading_order(widget):
        if before is not None:
            qt.QWidget.setTabOrder(before, each)
        before = each


def in_reading_order(widget: Any) -> Iterator[Any]:
    """What the Tab key reaches in a widget, in the order of its layouts; of a list or a field nothing inside of it."""
    if int(widget.focusPolicy) & int(qt.Qt.TabFocus):
        yield widget
    if widget.layout() is not None:
        yield from _of_layout(widget.layout())
    elif hasattr(widget, "widget") and widget.widget() is not None:  # a scroll area
        yield from in_reading_order(widget.widget())


def _of_layout(layout: Any) -> Iterator[Any]:
    for number in range(layout.count()):
        item = layout.itemAt(number)
        if item.widget() is not None:
            yield from in_reading_order(item.widget())
        elif item.layout() is not None:
            yield from _of_layout(item.layout())
