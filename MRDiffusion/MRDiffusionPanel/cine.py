"""Sequences of volumes (cine): the same run for every frame, and the results as sequences that play along."""

from __future__ import annotations

from typing import Any

from MRDiffusionLib.errors import InputError

from . import nodes, sequences
from .parameters import Parameters
from .sequences import browser_of
from .text import _


class Cine:
    """The frames of a run's inputs. Inputs that are no sequence are the same for all frames.

    Args:
        chosen: a run of which one input at least is shown by a browser.

    Attributes:
        count: of frames.
        sequences: role to the sequence of its results.

    Raises:
        InputError: no input is a sequence, one is empty, or two are with different numbers of frames.
    """

    def __init__(self, chosen: Parameters) -> None:
        found = [(volume, browser_of(volume)) for volume in chosen.inputs.values()]
        moving = [(volume, browser) for volume, browser in found if browser is not None]
        if not moving:
            raise InputError(_("{name} is no sequence").format(name=chosen.first.GetName()))
        counts = {volume.GetName(): browser.GetNumberOfItems() for volume, browser in moving}
        if len(set(counts.values())) > 1:
            told = ", ".join(_("{name} has {count} frames").format(name=name, count=n) for name, n in counts.items())
            raise InputError(told, _("Choose sequences with as many frames, or a single volume"))
        self.count = next(iter(counts.values()))
        if self.count == 0:
            raise InputError(_("the sequence of {name} has no frames").format(name=moving[0][0].GetName()))
        self.sequences: dict[str, Any] = {}
        self._run = nodes.new_run()  # all frames are one result, with one standard deviation
        self._chosen = chosen
        self._source, self._browser = moving[0]
        self._master = self._browser.GetMasterSequenceNode()
        self._browsers = list(dict.fromkeys(browser for _volume, browser in moving))
        self._before = [browser.GetSelectedItemNumber() for browser in self._browsers]

    def show(self, number: int) -> None:
        """Turn all browsers to a frame, counted from 0: its voxels are then those of the inputs."""
        for browser in self._browsers:
            browser.SetSelectedItemNumber(number)

    def add(self, number: int, made: dict[str, Any]) -> None:
        """Take the results of a frame out of the scene and into the sequences."""
        value = self._master.GetNthIndexValue(number)
        for role, node in made.items():
            if role not in self.sequences:
                self.sequences[role] = self._new_sequence(node.GetName())
            node.SetAttribute(nodes.RUN, self._run)
            sequences.add(self.sequences[role], node, value, {_("frame"): number + 1})
            nodes.remove(node)

    def gone(self) -> bool:
        """Whether the scene has lost what the frames come from or go to."""
        return any(node.GetScene() is None for node in (self._browser, self._master, *self.sequences.values()))

    def finish(self) -> dict[str, Any]:
        """Let the results play with the input; gives role to the volume that shows them."""
        shown = {}
        for role, sequence in self.sequences.items():
            self._browser.AddSynchronizedSequenceNode(sequence)
            shown[role] = proxy = self._browser.GetProxyNode(sequence)
            nodes.give_display(proxy, role, self._source if self._chosen.keeps_contrast else None)
            proxy.SetAndObserveTransformNodeID(self._source.GetTransformNodeID())
            for volume in self._chosen.inputs.values():
                proxy.AddNodeReferenceID(nodes.INPUT_REFERENCE, volume.GetID())
            nodes.file_in_folder(proxy.GetScene(), proxy, self._source)
        return shown

    def show_as_before(self) -> None:
        """Turn all browsers back to the frame that they showed before the first `show`."""
        for browser, number in zip(self._browsers, self._before):
            browser.SetSelectedItemNumber(number)

    @property
    def source(self) -> Any:
        """The first input that is a sequence."""
        return self._source

    def _new_sequence(self, name: str) -> Any:
        sequence = sequences.new(self._browser.GetScene(), name, nodes.FRAME, self._chosen.inputs.values())
        sequence.SetIndexName(self._master.GetIndexName())
        sequence.SetIndexUnit(self._master.GetIndexUnit())
        sequence.SetIndexType(self._master.GetIndexType())
        return sequence
