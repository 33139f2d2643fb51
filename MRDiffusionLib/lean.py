"""MONAI without what it would load beside itself.

Its first import brings whatever optional package is installed. With transformers and matplotlib a start takes 6.0 s of
a core instead of 3.0 s, and 460 MB instead of 330 MB, for parts of MONAI that are not used here.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator

UNUSED = ("transformers", "matplotlib")

own_process = False
"""Set by `__main__`: in a process of somebody else the parts of MONAI that need these may be wanted later."""


def import_monai() -> None:
    """Import MONAI, in a process of our own without the packages of `UNUSED`; these can be imported afterwards."""
    with _hidden() if own_process and "monai" not in sys.modules else contextlib.nullcontext():
        importlib.import_module("monai")


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Python takes a module that is None in `sys.modules` for one that cannot be found."""
    names = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
