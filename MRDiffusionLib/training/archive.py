"""NumPy archives of training data: read strictly, written whole or not at all."""

from __future__ import annotations

import contextlib
import secrets
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, StorageError


def read_archive(path: str | Path, names: Sequence[str], hint: str) -> dict[str, NDArray[Any]]:
    """The named arrays of an `.npz` archive. Raises InputError, with `hint`, for a file that is missing or none."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is not an .npz archive", hint)
        with archive:
            missing = set(names) - set(archive.files)
            if missing:
                raise InputError(f"{path} has no array {' or '.join(sorted(missing))}", hint)
            return {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", hint) from error
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error})", hint) from error


def write_archive(path: str | Path, **arrays: NDArray[Any]) -> None:
    """Write an archive (`.npz`): beside its place, then moved there when it is complete. Raises StorageError."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "Choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
