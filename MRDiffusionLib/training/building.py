"""What is wrong with a network that a configuration describes, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import SettingError


@contextlib.contextmanager
def building(what: str) -> Iterator[None]:
    """Around the making of `what`. Raises SettingError for settings that it does not take."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise SettingError(f"{what} cannot be built: {error}", "Correct it") from error
