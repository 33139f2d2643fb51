"""A run that does not fit into memory is made again with fewer images at a time, and at last on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from ..errors import is_out_of_memory
from ..request import Request, Result
from .device import resolve_device
from .slicewise import default_batch


def frugally(
    request: Request,
    run: Callable[[Request], Result],
    forget: Callable[[], None],
    tell: Callable[[str], None] = lambda text: None,
) -> Result:
    """Run a request, with half the batch each time that memory is short, then on the CPU.

    Args:
        run: computes a request.
        forget: gives back what is kept for later runs.
        tell: called with a sentence for each change, when it is made.

    Returns:
        The result; its warnings begin with these sentences.

    Raises:
        What `run` raises; out of memory only where nothing is left to be changed.
    """
    wanted, told = request, tuple[str, ...]()
    while True:
        try:
            result = run(wanted)
            return replace(result, warnings=(*told, *result.warnings))
        except Exception as error:
            smaller = less(wanted) if is_out_of_memory(error) else None
            if smaller is None:
                raise
        # Here, where no traceback holds the run's arrays any more.
        wanted, sentence = smaller
        told = (*told, sentence)
        tell(sentence)
        forget()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def less(request: Request) -> tuple[Request, str] | None:
    """The same run in less memory, and a sentence that says so; None where it cannot need less."""
    device = resolve_device(request.device)
    batch = request.batch or default_batch(device)
    if batch > 1:
        text = f"Memory was short on {device}: computed {batch // 2} at a time."
        return request.resolved(batch=batch // 2), text
    if device.type != "cpu":
        return request.resolved(device="cpu", batch=0), f"Memory was short on {device}: computed on the CPU instead."
    return None
