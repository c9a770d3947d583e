"""The time, for whoever measures how long a device takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def now(device: torch.device) -> float:
    """The time in seconds, when the device has finished what it was given.

    Kernels run asynchronously: without waiting, the next would be charged for the last.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
