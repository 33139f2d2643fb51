"""What a person reads can be translated: it goes through `_()`, in the form that Slicer's collector of texts finds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from MRDiffusionLib.packs.domain import plane_warnings
from MRDiffusionLib.settings import TASKS, SuperResolutionSettings, info_of

pytest_plugins = ["panel_fixtures"]

ROOT = Path(__file__).resolve().parents[2]
PANEL = sorted((ROOT / "MRDiffusion").rglob("*.py"))
LIBRARY = [ROOT / "MRDiffusionLib" / name for name in ("settings.py", "packs/domain.py")]
SHOWN = {"text", "toolTip", "title", "windowTitle", "placeholderText", "specialValueText", "helpText"}
"""Properties that a person reads."""
SHOW = {
    **dict.fromkeys(("QLabel", "QPushButton", "QCheckBox", "QListWidgetItem", "QTableWidgetItem", "setText"), 1),
    **dict.fromkeys(("setToolTip", "addItem", "addItems", "setHorizontalHeaderLabels", "setTitle"), 1),
    **dict.fromkeys(("SetTitle", "SetXAxisTitle", "SetYAxisTitle", "SetIndexName", "selector", "_become"), 1),
    **dict.fromkeys(("row", "volume", "UserError", "InputError", "SettingError", "StorageError", "getSaveFileName"), 2),
    **{"check": 3, "getExistingDirectory": 2},
}
"""Calls, and how many of their first arguments a person reads."""
DATA = ("SYNTHETIC", "cardiac-", "brain-")
"""How names of nodes begin: they are kept in files, and the same in every language."""
NAMES = (" contact sheet", " preview of slice ", "Typed access to the scene's parameter node.")
OF_PIP = ("Access is denied", "Permission denied", "No space left")
"""What pip says, which is looked for."""
WORD = re.compile(r"[A-Za-z]{2}")


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def bare(node: ast.expr) -> Iterator[ast.expr]:
    """Texts with words that are shown as they stand: literals that no `_()` is around."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and WORD.search(node.value):
            yield node
    elif isinstance(node, ast.JoinedStr):
        yield from (part for value in node.values for part in bare(value))
    elif isinstance(node, ast.IfExp):
        yield from (part for each in (node.body, node.orelse) for part in bare(each))
    elif isinstance(node, (ast.List, ast.Tuple)):
        yield from (part for each in node.elts for part in bare(each))
    elif isinstance(node, ast.BinOp):
        yield from (part for each in (node.left, node.right) for part in bare(each))
    elif isinstance(node, ast.BoolOp):
        yield from (part for each in node.values for part in bare(each))
    elif isinstance(node, ast.Call) and name_of(node) == "format" and isinstance(node.func, ast.Attribute):
        yield from bare(node.func.value)


def shown_bare(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for target in node.targets:
                targets = target.elts if isinstance(target, ast.Tuple) else [target]
                for each, value in zip(targets, values):
                    if isinstance(each, ast.Attribute) and each.attr in SHOWN:
                        yield from bare(value)
        elif isinstance(node, ast.Call) and name_of(node) in SHOW:
            for argument in node.args[: SHOW[name_of(node)]]:
                yield from bare(argument)


@pytest.mark.parametrize("path", PANEL, ids=lambda path: path.name)
def test_what_is_shown_is_translated(path: Path) -> None:
    found = [f"line {node.lineno}: {ast.unparse(node)}" for node in shown_bare(ast.parse(path.read_text("utf-8")))]
    assert found == []


@pytest.mark.parametrize("path", [*PANEL, *LIBRARY], ids=lambda path: path.name)
def test_texts_are_collected(path: Path) -> None:
    """A collector reads the files: what it finds between the brackets must be a text, and no name or f-string."""
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    odd = [ast.unparse(call) for call in calls if name_of(call) == "_" and not isinstance(call.args[0], ast.Constant)]
    assert odd == []


SENTENCE = re.compile(r"[A-Za-z]{2,} [a-z(]+ [a-z]+")
TOLD_TO_DEVELOPERS = ("self_test.py",)


@pytest.mark.parametrize(
    "path", [path for path in PANEL if path.name not in TOLD_TO_DEVELOPERS], ids=lambda path: path.name
)
def test_no_sentence_stands_alone(path: Path) -> None:
    """Wherever it goes from there: what has three words is for people."""
    tree = ast.parse(path.read_text("utf-8"))
    expressions = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    known = {id(value) for value in expressions if isinstance(value, ast.Constant)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) == "_":
            known |= {id(each) for each in ast.walk(node)}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in known)
    found = [node.value for node in texts if isinstance(node.value, str) and SENTENCE.search(node.value)]
    assert [text for text in found if not text.startswith(DATA) and text not in (*NAMES, *OF_PIP)] == []


def test_settings_are_looked_up_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer keeps the texts of each file under its name, and finds none under another one."""
    asked = []
    from MRDiffusionPanel import form, text

    monkeypatch.setattr(text, "translate", lambda context, words: asked.append(context) or words.upper())
    info = info_of(SuperResolutionSettings, "matrix")
    assert "ROWS AND COLUMNS" in form.tip_of(info) and "PIXELS" in form.tip_of(info)
    assert set(asked) == {"MRDiffusionLib.settings"}


def test_warnings_of_a_pack_are_translated_before_their_numbers_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from MRDiffusionPanel import text
    from panel_support import pack_info

    german = "Die Schichten sind um {angle:.0f} Grad gedreht ({plane}, {pack})."
    monkeypatch.setattr(text, "translate", lambda context, words: german if context == "packs.domain" else words)
    info = pack_info("brains", domain={"plane": "axial", "median": {}})
    assert plane_warnings((0.0, 1.0, 0.0), info, text.of_domain) == [
        "Die Schichten sind um 90 Grad gedreht (axial, brains)."
    ]
    assert plane_warnings((0.0, 1.0, 0.0), info) == [
        "The slices are turned by 90 degrees against the axial ones that pack brains has seen."
    ]


def test_all_texts_of_settings_are_marked() -> None:
    """What a setting says is between the brackets that a collector looks for."""
    tree = ast.parse((ROOT / "MRDiffusionLib" / "settings.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    marked = {ast.literal_eval(call.args[0]) for call in calls if name_of(call) == "_"}
    for kind in TASKS.values():
        for field in fields(kind):
            info = info_of(kind, field.name)
            meanings = [meaning for _choice, meaning in info.choices]
            assert {info.label, info.tip, *meanings, *([info.unit] if info.unit else [])} <= marked


def test_tips_tell_range_and_unit() -> None:
    from MRDiffusionPanel.form import tip_of

    tips = {
        (task, field.name): tip_of(info_of(kind, field.name)) for task, kind in TASKS.items() for field in fields(kind)
    }
    for (task, name), tip in tips.items():
        info = info_of(TASKS[task], name)
        numbers = [limit for limit in (info.minimum, info.maximum) if limit is not None]
        assert all(f"{limit:g}" in tip.splitlines()[-1] for limit in numbers) and info.unit in tip
    assert tips["superresolution", "matrix"].endswith("Range: 8 to 1024 pixels")
    assert tips["superresolution", "noise"].endswith("Range: 0 or more, intensity")
    for name, symbol in (("weight", "lambda"), ("eta", "eta"), ("strength", "t0"), ("noise", "s")):
        assert f"Symbol: {symbol}." in tips["superresolution", name]
    assert "Symbol: c_I." in tips["synthesis", "scales"]
