"""The binding of Qt behind `qt`: PySide6, or PySide2 with the Qt 5.15 of the real application."""
# ruff: noqa: F403

from __future__ import annotations

import contextlib
import io
import os
from importlib.util import find_spec

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x02")  # as in PythonQt, an enum is a number

NAME = "PySide6" if find_spec("PySide6") else "PySide2"

if NAME == "PySide6":
    from PySide6.QtCore import *
    from PySide6.QtGui import *
    from PySide6.QtUiTools import *
    from PySide6.QtWidgets import *
else:
    with contextlib.redirect_stderr(io.StringIO()):  # it was built for NumPy 1, whose arrays it is never given
        import shiboken2  # noqa: F401
    from PySide2.QtCore import *
    from PySide2.QtGui import *
    from PySide2.QtUiTools import *
    from PySide2.QtWidgets import *
