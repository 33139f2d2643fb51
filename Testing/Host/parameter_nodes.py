"""Stand-in for `slicer.parameterNodeWrapper`: typed access to a parameter node, bound to widgets both ways.

Only the types of the panel: bool, int, float, str and nodes; only the annotations WithinRange and Choice (Slicer logs a
warning of its others). As in Slicer, a value out of range raises ValueError, widgets are told apart by their exact
type, and a value is remembered until the node says that it was modified.
"""

from __future__ import annotations

import json
import typing
import weakref
from dataclasses import dataclass
from typing import Annotated, Any

import ctk
import qt
import slicer
import slicer.util
import vtk
from mrml_widgets import qMRMLNodeComboBox


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


@dataclass
class Choice:
    choices: list

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


class _Parameter:
    def __init__(self, name: str, hint: Any, default: Any) -> None:
        annotated = typing.get_origin(hint) is Annotated
        self.name, self.type = name, typing.get_args(hint)[0] if annotated else hint
        self.notes = {type(note): note for note in (typing.get_args(hint)[1:] if annotated else ())}
        self.is_node = issubclass(self.type, slicer.vtkMRMLNode)
        self.default = None if self.is_node else default

    def read(self, node):
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return self.check(self.type(json.loads(text))) if text else self.default

    def write(self, node, value):
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(self.name, json.dumps(self.check(value)))

    def check(self, value):
        if not isinstance(value, self.type) and not (self.type is float and isinstance(value, int)):
            raise TypeError(f"{self.name} = {value!r} is not {self.type.__name__}")
        for note in self.notes.values():
            if hasattr(note, "check"):
                note.check(value)
        return value


class _Value:
    """One parameter of one node, remembered; an observer of its own renews it, as in Slicer's wrapper."""

    def __init__(self, parameter: _Parameter, node: Any, value: Any) -> None:
        self.parameter, self.node, self.value = parameter, node, value
        own = weakref.ref(self)
        self._observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: own()._renew())

    def __del__(self) -> None:
        self.node.RemoveObserver(self._observer)

    def write(self, value):
        with slicer.util.NodeModify(self.node):
            self.parameter.write(self.node, value)
            self._renew()

    def _renew(self) -> None:
        self.value = self.parameter.read(self.node)


class _Connector:
    """One parameter and its widget."""

    def __init__(self, parameter: _Parameter, widget: qt.QWidget) -> None:
        self.parameter, self.widget = parameter, widget
        kind, wanted = type(widget), parameter.type
        if parameter.is_node and kind == qMRMLNodeComboBox:
            widget.nodeTypes = [wanted.__name__]
            self.signal = widget.currentNodeChanged
        elif wanted is str and kind == qt.QComboBox:
            widget.clear()
            widget.addItems(parameter.notes[Choice].choices)
            self.signal = widget.currentIndexChanged
        elif wanted is bool and kind == qt.QCheckBox:
            self.signal = widget.stateChanged
        elif (wanted is int and kind == qt.QSpinBox) or (
            wanted is float and kind in (qt.QDoubleSpinBox, ctk.ctkSliderWidget)
        ):
            self._limit()
            self.signal = widget.valueChanged
        else:
            raise RuntimeError(f"parameter {parameter.name} ({wanted.__name__}) cannot be shown by {kind.__name__}")

    def _limit(self) -> None:
        notes = self.parameter.notes
        self.widget.minimum, self.widget.maximum = notes[WithinRange].minimum, notes[WithinRange].maximum

    def read(self):
        if self.parameter.is_node:
            return self.widget.currentNode()
        if type(self.widget) is qt.QComboBox:
            return self.parameter.notes[Choice].choices[self.widget.currentIndex]
        return self.widget.checked if self.parameter.type is bool else self.widget.value

    def write(self, value) -> None:
        if self.parameter.is_node:
            self.widget.setCurrentNode(value)
        elif type(self.widget) is qt.QComboBox:
            self.widget.currentIndex = self.parameter.notes[Choice].choices.index(value)
        elif self.parameter.type is bool:
            self.widget.checked = value
        else:
            self.widget.value = value


class _Wrapper:
    parameters: dict[str, _Parameter]

    def __init__(self, node) -> None:
        self.parameterNode, self._guis, self._updating = node, {}, False
        for parameter in self.parameters.values():
            if not parameter.is_node and not node.GetParameter(parameter.name):
                parameter.write(node, parameter.default)
        self._values = {n: _Value(p, node, p.read(node)) for n, p in self.parameters.items()}

    def connectParametersToGui(self, mapping):
        connectors = [_Connector(self.parameters[name], widget) for name, widget in mapping.items()]
        slots = []
        for connector in connectors:
            connector.write(self._value(connector).value)
            slots.append(lambda *_, c=connector: self._on_widget(c))
            connector.signal.connect(slots[-1])
        event = vtk.vtkCommand.ModifiedEvent
        observer = self.parameterNode.AddObserver(event, lambda *_: self._on_node(connectors))
        tag = len(self._guis)
        self._guis[tag] = (connectors, slots, observer)
        return tag

    def disconnectGui(self, tag):
        connectors, slots, observer = self._guis.pop(tag)
        self.parameterNode.RemoveObserver(observer)
        for connector, slot in zip(connectors, slots):
            connector.signal.disconnect(slot)

    def _on_widget(self, connector):
        if not self._updating:
            self._value(connector).write(connector.read())

    def _value(self, connector) -> _Value:
        return self._values[connector.parameter.name]

    def _on_node(self, connectors):
        if self._updating:
            return
        self._updating = True
        try:
            for connector in connectors:
                connector.write(self._value(connector).value)
        finally:
            self._updating = False


def parameterNodeWrapper(described):
    """The class decorator."""
    hints = typing.get_type_hints(described, include_extras=True)
    parameters = {n: _Parameter(n, hint, getattr(described, n, None)) for n, hint in hints.items()}
    members: dict[str, Any] = {"parameters": parameters, "__doc__": described.__doc__}
    for parameter in parameters.values():
        members[parameter.name] = property(
            lambda self, name=parameter.name: self._values[name].value,
            lambda self, value, name=parameter.name: self._values[name].write(value),
        )
    return type(described.__name__, (_Wrapper,), members)
