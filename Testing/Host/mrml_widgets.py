"""The node selector of the panel, over a real MRML scene."""

from __future__ import annotations

import qt


class qMRMLNodeComboBox(qt.QWidget):
    """A list of the scene's nodes of some classes.

    As in the real application, bound to a parameter node: it never selects a node by itself, and selects none when its
    node is removed ("None" is enabled, or `setCurrentNode` has been called).
    """

    currentNodeChanged = qt.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._list = qt.QComboBox()
        # As in Slicer: as wide as the longest name, unless it is told otherwise.
        self._list.setSizeAdjustPolicy(qt.QComboBox.AdjustToContents)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list)
        self._list.activated.connect(self._on_activated)
        self._scene, self._tags, self._ids, self._current = None, [], [], None
        self._types, self._options = [], {"showChildNodeTypes": True, "noneEnabled": False, "noneDisplay": "None"}
        self._options.update(addEnabled=True, removeEnabled=True, renameEnabled=False)

    def _option(name, kind=bool):
        return qt.Property(kind, lambda self: self._options[name], lambda self, value: self._set_option(name, value))

    noneEnabled = _option("noneEnabled")
    noneDisplay = _option("noneDisplay", str)
    addEnabled = _option("addEnabled")
    removeEnabled = _option("removeEnabled")
    renameEnabled = _option("renameEnabled")
    showChildNodeTypes = _option("showChildNodeTypes")

    sizeAdjustPolicy = property(
        lambda self: self._list.sizeAdjustPolicy, lambda self, policy: self._list.setSizeAdjustPolicy(policy)
    )

    def _set_types(self, types):
        self._types = list(types)
        self._refresh()

    nodeTypes = qt.Property("QStringList", lambda self: tuple(self._types), _set_types)

    def _set_option(self, name, value):
        self._options[name] = value
        self._refresh()

    def setMRMLScene(self, scene):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent):
                self._tags.append(scene.AddObserver(event, self._refresh))
        self._refresh()

    def nodes(self):
        """The nodes on offer."""
        found = []
        for number in range(self._scene.GetNumberOfNodes() if self._scene else 0):
            node = self._scene.GetNthNode(number)
            children = self._options["showChildNodeTypes"]
            fits = any(node.IsA(k) if children else node.GetClassName() == k for k in self._types)
            if fits and not node.GetHideFromEditors():
                found.append(node)
        return found

    def currentNode(self):
        return self._current

    def setCurrentNode(self, node):
        """Chooses among what the list holds by now: in the middle of reading a scene, or early after it, too little."""
        self._select(node if node is not None and node.GetID() in self._ids else None)

    def _refresh(self, *_):
        if self._scene is not None and self._scene.IsImporting():
            return
        nodes = self.nodes()
        self._list.clear()
        self._ids = [""] + [node.GetID() for node in nodes]
        self._list.addItems([self._options["noneDisplay"], *[node.GetName() for node in nodes]])
        self._select(self._current if self._current in nodes else None)

    def _select(self, node):
        identifier = node.GetID() if node else ""
        self._list.setCurrentIndex(self._ids.index(identifier) if identifier in self._ids else -1)
        if node is not self._current:
            self._current = node
            self.currentNodeChanged.emit(node)

    def _on_activated(self, index):
        self._select(self._scene.GetNodeByID(self._ids[index]) if self._ids[index] else None)


qt.QUiLoader.custom.update(qMRMLNodeComboBox=qMRMLNodeComboBox)
