"""Errors that a person can put right. They name the thing, the value and the way out."""

from __future__ import annotations


class UserError(ValueError):
    """Base of all errors shown to a person: exit code 2 on the command line, a message in the panel.

    Args:
        message: what is wrong, with the name of the thing and its value.
        hint: what to do about it.
    """

    kind = "input"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InputError(UserError):
    """A volume or file that the task cannot take."""

    kind = "input"


class SettingError(UserError):
    """An unknown setting, or a value outside its range."""

    kind = "setting"


class PackError(UserError):
    """A pack that is missing, damaged, hostile or for another task."""

    kind = "pack"


class DeviceError(UserError):
    """A device that is not there or too small."""

    kind = "device"


class StorageError(UserError):
    """No room or no right to write."""

    kind = "storage"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of the machine or of the GPU is full.

    torch raises a plain RuntimeError on the CPU, so the text has to tell: oneDNN gives the fourth, ITK the last.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = (
        "DefaultCPUAllocator",
        "not enough memory",
        "out of memory",
        "could not create a primitive",
        "Failed to allocate memory",
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
