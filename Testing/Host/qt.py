"""Slicer's `qt` module, made from PySide (`binding`): the manners of PythonQt that the panel relies on, and no more.

In PythonQt a Qt property is a Python attribute (`button.enabled = False`, `spinBox.value`), and a misspelt attribute
raises AttributeError. PySide's classes are changed in place, because Slicer's parameter node wrapper compares types
(`type(widget) == qt.QSpinBox`) and Qt itself creates widgets from the .ui file.

What this cannot show: PythonQt's conversions and object ownership.
"""

from __future__ import annotations

import inspect
import sys
import xml.etree.ElementTree as ElementTree
from typing import ClassVar

from binding import (
    NAME,
    Property,
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QBuffer,
    QByteArray,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QEvent,
    QFile,
    QFileDialog,
    QFormLayout,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QIcon,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QObject,
    QPainter,
    QPixmap,
    QPlainTextEdit,
    QProcess,
    QProcessEnvironment,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSettings,
    QSize,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionButton,
    Qt,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QTimer,
    QtMsgType,
    QToolButton,
    QVBoxLayout,
    QWidget,
    Signal,
    SignalInstance,
    qInstallMessageHandler,
)
from binding import QUiLoader as _QUiLoader

_PATCHED = (
    QObject,
    QWidget,
    QFrame,
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QAbstractScrollArea,
    QAbstractItemView,
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QProcess,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSlider,
    QSpinBox,
    QTableView,
    QTableWidget,
    QTimer,
    QToolButton,
)
_METHODS = {"singleShot"}  # also the name of a static method that must stay callable
_asked: set[str] = set()


def _attribute(name: str) -> property:
    def get(self):
        if name in _asked:  # by PySide2, which looks for a virtual method of that name in Python to get the value
            return None
        _asked.add(name)
        try:
            return self.property(name)
        finally:
            _asked.discard(name)

    def put(self, value):
        if not self.setProperty(name, value):
            raise AttributeError(f"{type(self).__name__}.{name} does not accept {value!r}")

    return property(get, put)


_OWN = (QObject, SignalInstance)  # PySide itself keeps signals, and widgets from a .ui file, as attributes


def _strict(self, name, value):
    """`__setattr__` that refuses what a class of Qt does not have."""
    known = inspect.getattr_static(type(self), name, None)
    if isinstance(known, Property):
        known.fset(self, value)
    elif isinstance(known, property):
        known.__set__(self, value)
    elif type(self).__module__.startswith(NAME) and not isinstance(value, _OWN):
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r} that can be set")
    else:
        self.__dict__[name] = value


def _patch() -> None:
    for patched in _PATCHED:
        meta = patched.staticMetaObject
        for number in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(number).name()
            if name not in _METHODS:
                setattr(patched, name, _attribute(name))
        patched.__setattr__ = _strict
    QObject.name = property(lambda self: self.objectName, lambda self, value: self.setObjectName(value))


_patch()


class QUiLoader(_QUiLoader):
    """Loads a .ui file; the classes of CTK and qMRML are looked up in `custom`."""

    custom: ClassVar[dict[str, type[QWidget]]] = {}

    def __init__(self, parent=None):
        paths = QApplication.libraryPaths()
        QApplication.setLibraryPaths([])  # PySide2 would load a web browser, which is a plugin for .ui files
        super().__init__(parent)
        QApplication.setLibraryPaths(paths)

    def createWidget(self, className, parent=None, name=""):
        if className not in self.custom:
            return super().createWidget(className, parent, name)
        widget = self.custom[className](parent)
        widget.setObjectName(name)
        return widget

    def load(self, device, parent=None):
        data = bytes(device.readAll().data())
        unknown = _classes(data) - set(self.custom) - set(self.availableWidgets())
        if unknown:
            raise RuntimeError(f"the .ui file uses {', '.join(sorted(unknown))}, which the host does not have")
        buffer = QBuffer()
        buffer.setData(QByteArray(data))
        buffer.open(QBuffer.ReadOnly)
        return super().load(buffer, parent)


def _classes(data: bytes) -> set[str]:
    return {widget.get("class", "") for widget in ElementTree.fromstring(data).iter("widget")}


warnings: list[str] = []
"""What Qt complained about. A test that leaves something here fails: real Slicer only prints it."""


def _on_message(kind, _context, text):
    harmless = kind in (QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg) or "propagateSizeHints" in text  # of "offscreen"
    if not harmless:
        warnings.append(text)
    if kind == QtMsgType.QtFatalMsg:
        print(text, file=sys.stderr)


qInstallMessageHandler(_on_message)

__all__ = [
    "Property",
    "QAbstractItemView",
    "QApplication",
    "QBuffer",
    "QByteArray",
    "QCheckBox",
    "QComboBox",
    "QDoubleSpinBox",
    "QEvent",
    "QFile",
    "QFileDialog",
    "QFormLayout",
    "QGridLayout",
    "QHBoxLayout",
    "QIcon",
    "QLabel",
    "QLineEdit",
    "QListWidget",
    "QListWidgetItem",
    "QObject",
    "QPainter",
    "QPixmap",
    "QPlainTextEdit",
    "QProcess",
    "QProcessEnvironment",
    "QProgressBar",
    "QPushButton",
    "QScrollArea",
    "QSettings",
    "QSize",
    "QSizePolicy",
    "QSlider",
    "QSpinBox",
    "QStyle",
    "QStyleOptionButton",
    "QTableWidget",
    "QTableWidgetItem",
    "QTimer",
    "QToolButton",
    "QUiLoader",
    "QVBoxLayout",
    "QWidget",
    "Qt",
    "Signal",
    "qInstallMessageHandler",
    "warnings",
]
