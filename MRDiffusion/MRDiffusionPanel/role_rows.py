"""The rows of a synthesis: for each sequence that can be given its volume and how strongly it guides."""

from __future__ import annotations

from typing import Any

import ctk
import qt

from MRDiffusionLib.settings import Info

from . import roles
from .form import selector, tip_of
from .text import _


class RoleRows:
    """Rows that are made once and used again for other sequences.

    Args:
        scales: range and tip of the guidance scale.
    """

    def __init__(self, scales: Info) -> None:
        self.widget, self._scales = qt.QWidget(), scales
        self._layout = qt.QGridLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setColumnStretch(1, 1)
        self._layout.setColumnStretch(2, 1)
        heads = ("", _("Given volume"), _("How strongly to follow it"))
        self._heads = [qt.QLabel(text) for text in heads]
        for column, label in enumerate(self._heads):
            self._layout.addWidget(label, 0, column)
        self._heads[2].toolTip = tip_of(scales)
        self.rows: list[RoleRow] = []

    def show(self, node: Any, shown: list[str]) -> bool:
        """Show these sequences with what the parameter node holds for them; gives whether rows have been made."""
        before = len(self.rows)
        while len(self.rows) < len(shown):
            self.rows.append(RoleRow(self._layout, len(self.rows) + 1, self._scales))
        for row, role in zip(self.rows, [*shown, *[""] * len(self.rows)]):
            row.show(node, role)
        for label in self._heads:
            label.visible = bool(shown)
        return len(self.rows) > before

    def remove(self) -> None:
        """Let go of the scene."""
        for row in self.rows:
            row.selector.setMRMLScene(None)


class RoleRow:
    """One sequence. `role` is empty where the row is not needed."""

    def __init__(self, layout: Any, place: int, scales: Info) -> None:
        self.role, self._node, self._showing = "", None, False
        self.label, self.selector, self.scale = qt.QLabel(), selector(_("not given")), ctk.ctkSliderWidget()
        self.scale.minimum, self.scale.maximum, self.scale.singleStep = scales.minimum, scales.maximum, scales.step
        self.scale.toolTip = tip_of(scales)
        for column, widget in enumerate((self.label, self.selector, self.scale)):
            layout.addWidget(widget, place, column)
        self.selector.currentNodeChanged.connect(self._on_volume)
        self.scale.valueChanged.connect(self._on_scale)

    def show(self, node: Any, role: str) -> None:
        self._showing, self._node, self.role = True, node, role
        for widget in (self.label, self.selector, self.scale):
            widget.visible = bool(role)
        if role:
            self.label.text = role
            self.selector.toolTip = _("The {role} volume; may be left empty").format(role=role)
            self.selector.setCurrentNode(roles.volume_of(node, role))
            self.scale.value = roles.scale_of(node, role)
            self.scale.enabled = roles.volume_of(node, role) is not None
        self._showing = False

    def _on_volume(self, *_arguments: Any) -> None:
        if self.role and not self._showing:
            roles.set_volume(self._node, self.role, self.selector.currentNode())

    def _on_scale(self, *_arguments: Any) -> None:
        if self.role and not self._showing:
            roles.set_scale(self._node, self.role, self.scale.value)
