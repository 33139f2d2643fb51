"""What the panel asks of a task. No Qt here: the widgets are made by the form that the panel hands in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.settings import info_of

from ..parameters import Parameters

if TYPE_CHECKING:
    from ..form import Form


@dataclass(frozen=True)
class Stored:
    """A value that the scene keeps.

    Attributes:
        kind: str, int, float or bool; None for a scalar volume node.
        default: where the scene has none.
        minimum, maximum: inclusive range of a number, or None.
        choices: of a str; empty for any.
    """

    kind: type | None
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class Section(ABC):
    """A task in the panel.

    Attributes:
        task: its name in a `Request`.
        settings: its settings.
        captures: what `captured` gives.
        prefix: of its parameters in the scene, where several tasks have a setting of the same name.
        plain: the settings that are parameters of the scene as they are.
        sample: files of its sample data; the first ones are inputs.
    """

    task: ClassVar[str]
    settings: ClassVar[type]
    captures: ClassVar[type[Parameters]]
    prefix: ClassVar[str] = ""
    plain: ClassVar[tuple[str, ...]]
    sample: ClassVar[tuple[str, ...]]

    @classmethod
    def parameter(cls, name: str) -> str:
        """Name of a setting's parameter in the scene."""
        return cls.prefix + name[0].upper() + name[1:] if cls.prefix else name

    @classmethod
    def stored(cls) -> dict[str, Stored]:
        """What the scene keeps of this task, by parameter."""
        plain = {cls.parameter(name): _of_setting(cls.settings, name) for name in cls.plain}
        return {cls.parameter("pack"): Stored(str, ""), **plain}

    @property
    @abstractmethod
    def title(self) -> str:
        """Of its button."""

    @property
    @abstractmethod
    def tip(self) -> str:
        """Of its button."""

    @abstractmethod
    def build(self, inputs: Form, sampling: Form, current: Callable[[], Any]) -> None:
        """Make the rows, once. `current`: gives the typed parameter node of the scene as it is then."""

    @abstractmethod
    def captured(self, parameters: Any, common: dict[str, Any]) -> Parameters:
        """The choices as they are now. Raises SettingError.

        Args:
            parameters: the typed parameter node.
            common: pack, pack_name, seed and device.
        """

    @abstractmethod
    def load_sample(self, parameters: Any, folder: Path, packs: list[PackInfo]) -> Any:
        """Load the sample data, choose them as inputs, and a pack that suits them; gives the volume to look at."""

    # A task overrides what it needs of the following.

    def for_cases(self, parameters: Any, chosen: Parameters) -> Parameters:
        """The choices where nobody knows yet which images a case has."""
        return chosen

    def on_pack(self, parameters: Any, pack: PackInfo) -> None:  # noqa: B027
        """A person has chosen a pack."""

    def offer(self, packs: list[PackInfo]) -> None:  # noqa: B027
        """The packs of this task that are installed."""

    def preferred(self, packs: list[PackInfo]) -> PackInfo:
        """The pack, of one or more, that is chosen where nobody has chosen any."""
        return packs[0]

    def suggest(self, parameters: Any, scene: Any) -> None:  # noqa: B027
        """A person comes to this task: choose what is obvious."""

    def show(self, parameters: Any, pack: PackInfo | None) -> bool:
        """Bring the widgets that are not bound to a parameter up to date; gives whether more have been made."""
        return False

    def remove(self) -> None:  # noqa: B027
        """Let go of the scene."""

    def _values(self, parameters: Any) -> dict[str, Any]:
        return {name: getattr(parameters, self.parameter(name)) for name in self.plain}


def _of_setting(settings: type, name: str) -> Stored:
    info = info_of(settings, name)
    default: Any = next(f.default for f in fields(settings) if f.name == name)
    choices = tuple(choice for choice, _meaning in info.choices)
    return Stored(type(default), default, info.minimum, info.maximum, choices)
