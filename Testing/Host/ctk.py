"""Slicer's `ctk` module: stand-ins for the two CTK widgets of the panel, with the properties that it uses."""

from __future__ import annotations

import qt

TITLE_HEIGHT = 22
LARGEST_HEIGHT = 16777215  # QWIDGETSIZE_MAX


class ctkCollapsibleButton(qt.QWidget):
    """A titled section that folds."""

    contentsCollapsed = qt.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._text, self._collapsed, self._folded = "", False, []
        self.setSizePolicy(qt.QSizePolicy.Minimum, qt.QSizePolicy.Preferred)  # not narrower than it would like to be
        self.setContentsMargins(0, TITLE_HEIGHT, 0, 0)

    def _set_text(self, text):
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed):
        changed, self._collapsed = collapsed != self._collapsed, collapsed
        self._fold()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    text = qt.Property(str, lambda self: self._text, _set_text)
    collapsed = qt.Property(bool, lambda self: self._collapsed, _set_collapsed)

    def showEvent(self, event):
        self._fold()  # the .ui file sets `collapsed` before the contents are there
        super().showEvent(event)

    def _fold(self):
        if self._collapsed:
            children = [child for child in self.children() if child.isWidgetType() and not child.isHidden()]
            self._folded += children
        else:
            children, self._folded = self._folded, []
        for child in children:
            child.setVisible(not self._collapsed)
        self.setMaximumHeight(TITLE_HEIGHT if self._collapsed else LARGEST_HEIGHT)

    def mousePressEvent(self, event):
        if event.pos().y() <= TITLE_HEIGHT:  # Qt 5 has no `position`
            self.collapsed = not self._collapsed

    def paintEvent(self, _event):
        painter = qt.QPainter(self)
        option = qt.QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(TITLE_HEIGHT)
        self.style().drawControl(qt.QStyle.CE_PushButtonBevel, option, painter, self)
        painter.drawText(8, 16, ("\u25b8 " if self._collapsed else "\u25be ") + self._text)
        painter.end()


def _of_box(kind, name):
    return qt.Property(kind, lambda self: getattr(self._box, name), lambda self, value: self._put(name, value))


class ctkSliderWidget(qt.QWidget):
    """A slider with a box for its number."""

    valueChanged = qt.Signal(float)
    value = _of_box(float, "value")
    minimum = _of_box(float, "minimum")
    maximum = _of_box(float, "maximum")
    singleStep = _of_box(float, "singleStep")
    decimals = _of_box(int, "decimals")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._box = qt.QSlider(qt.Qt.Horizontal), qt.QDoubleSpinBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.setRange(0.0, 100.0)
        self._fit()
        self._slider.valueChanged.connect(self._on_slider)
        self._box.valueChanged.connect(self._on_box)

    def _put(self, name, value):
        setattr(self._box, name, value)
        if name != "value":
            self._fit()

    def _fit(self):
        """One slider position for each step of the box."""
        self._slider.setRange(0, round((self._box.maximum - self._box.minimum) / self._box.singleStep))
        self._follow(self._box.value)

    def _follow(self, value):
        self._slider.blockSignals(True)
        self._slider.setValue(round((value - self._box.minimum) / self._box.singleStep))
        self._slider.blockSignals(False)

    def _on_slider(self, position):
        self._box.setValue(self._box.minimum + position * self._box.singleStep)

    def _on_box(self, value):
        self._follow(value)
        self.valueChanged.emit(value)


qt.QUiLoader.custom.update(ctkCollapsibleButton=ctkCollapsibleButton, ctkSliderWidget=ctkSliderWidget)
