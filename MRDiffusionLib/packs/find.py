"""Where packs are looked for: those shipped with the program, then the user's own. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import PackError
from .info import INFO_FILE, PackInfo, read_info


def shipped_folder() -> Path:
    """The folder of the packs that come with the program."""
    return Path(__file__).parent / "shipped"


def user_folder() -> Path:
    """The folder of the user's packs: $MRDIFFUSION_PACKS, or ~/.local/share/MRDiffusion/packs."""
    chosen = os.environ.get("MRDIFFUSION_PACKS", "")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "MRDiffusion" / "packs"


def scan_packs() -> tuple[list[PackInfo], list[PackError]]:
    """All packs, shipped ones first and each group by name, and what is wrong with those that cannot be read."""
    found: dict[str, PackInfo] = {}
    errors: list[PackError] = []
    for folder in [*_folders(shipped_folder()), *_folders(user_folder())]:
        try:
            info = read_info(folder)
            if info.name in found:
                raise PackError(
                    f"pack {folder}: the name {info.name} belongs to {found[info.name].folder}",
                    "Give it another name, or use it by its folder",
                )
        except PackError as error:
            errors.append(error)
        else:
            found[info.name] = info
    return list(found.values()), errors


def list_packs() -> list[PackInfo]:
    """The packs whose description is in order, shipped ones first; `scan_packs` also tells what ails the others."""
    return scan_packs()[0]


def find_pack(name_or_folder: str | Path) -> PackInfo:
    """A pack by its name, or by its folder.

    Raises:
        PackError: no pack of that name, no such folder, or a description that is not in order.
    """
    text = str(name_or_folder)
    is_name = isinstance(name_or_folder, str) and text == Path(text).name
    if not is_name:
        return read_info(Path(text).expanduser())
    packs, errors = scan_packs()
    for info in packs:
        if info.name == text:
            return info
    if text and Path(text).exists():
        return read_info(text)
    for error in errors:
        if text in error.message:
            raise error
    known = ", ".join(info.name for info in packs) or "none"
    raise PackError(f"pack {text!r} is unknown", f"Known packs: {known}; or give the folder of one")


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(folder for folder in parent.iterdir() if (folder / INFO_FILE).is_file())
    except OSError:
        return []
