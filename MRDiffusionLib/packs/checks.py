"""Checks of the entries of a pack's description: each takes a value of JSON and gives it back, or raises ValueError.

The error's text goes on a sentence such as "matrix = [0, 1] ...". No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return value

    return check


def real(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError("is not a finite number")
        if not low <= value <= high:
            raise ValueError(f"is outside {low:g} to {high:g}")
        return float(value)

    return check


def inner(key: str, value: Any, check: Callable[[Any], Any]) -> Any:
    """Check one entry of an object; the error names it."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"has {key} = {short(value)}, which {error}") from error


def text(longest: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > longest:
            raise ValueError(f"is not a text of 1 to {longest} characters")
        return value

    return check


def pattern(pattern: str, words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"is not {words}")
        return value

    return check


def choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"is unknown; known are {', '.join(choices)}")
        return value

    return check


def texts(longest: int) -> Callable[[Any], tuple[str, ...]]:
    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > 100:
            raise ValueError("is not a list of up to 100 texts")
        return tuple(text(longest)(entry) for entry in value)

    return check


def pair(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("is not a list of two numbers (rows, columns)")
    return value
