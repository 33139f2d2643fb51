"""A temporary folder of one process, removed when it ends, or by the next one if it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from ..errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: a file that is open cannot be removed there, which tells the same
    fcntl = None  # type: ignore[assignment]

PREFIX = "MRDiffusion-worker-"
_LOCK = "lock"


class PrivateFolder:
    """A folder that only this user can enter. Its lock lives as long as the process, whatever ends it.

    Args:
        parent: where to make it; by default the system's temporary folder. Folders of dead workers there are removed.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, parent: str | Path | None = None) -> None:
        try:
            self.parent = Path(parent or tempfile.gettempdir())
            remove_stale(self.parent)
            # It gets its name when it is locked, so that no other worker takes it for stale in between.
            unnamed = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}", dir=self.parent))
            self._lock = os.open(unnamed / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                self.path = self.parent / unnamed.name.removeprefix("new-")
                unnamed.rename(self.path)
            else:
                self.path = unnamed
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be made ({error})", "Free some space, or set TMPDIR to a folder with room"
            ) from error

    def close(self) -> None:
        """Remove the folder; may be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_stale(parent: Path) -> None:
    """Remove the folders of workers that were killed before they could do it themselves."""
    for folder in [*parent.glob(f"{PREFIX}*"), *(parent.glob(f"new-{PREFIX}*") if fcntl is None else [])]:
        with contextlib.suppress(OSError):
            if _is_mine(folder) and not _is_alive(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_mine(folder: Path) -> bool:
    # Others share the temporary folder and could plant a link there.
    return not folder.is_symlink() and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid())


def _is_alive(folder: Path) -> bool:
    if fcntl is None:
        try:
            (folder / _LOCK).unlink(missing_ok=True)
        except OSError:
            return True
        return False
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
