"""How much memory something takes at most, seen from a process that does nothing else."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PRIVATE = re.compile(r"^Private_\w+:\s+(\d+) kB", re.MULTILINE)

Work = Callable[..., AbstractContextManager[Iterable[int]]]


def peak_memory(start_method: str, device: str, work: Work, *arguments: Any) -> float | None:
    """Runs something in a new process and says what it took there.

    Args:
        start_method: How to start the process; see `multiprocessing.get_context`.
        device: On ``"cuda"`` its memory is counted, else that of the machine.
        work: A function of a module, which does the work on entering its context and gives the
            numbers of the processes that it has started and that still run.
        *arguments: For it.

    Returns:
        MiB, without what the process took before; of its processes what is theirs alone at the
        end. None where the system does not say, or if the work failed.
    """
    context = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    process: Any = context.Process(  # type: ignore[attr-defined]  # all contexts have it
        target=_report, args=(sender, device, work, arguments)
    )
    process.start()
    sender.close()
    found: float | None = None
    with suppress(EOFError):
        found = receiver.recv()
    process.join()
    return found


def private_memory(process: int) -> int | None:
    """Bytes of memory that a process shares with no other; None where the system does not say."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8")
    except OSError:
        return None
    return sum(int(found) for found in _PRIVATE.findall(text)) << 10


def _report(sender: Any, device: str, work: Work, arguments: tuple[Any, ...]) -> None:
    before = _peak(device)
    with work(*arguments) as processes:
        own, others = _peak(device), [private_memory(process) for process in processes]
    known = [size for size in (before, own, *others) if size is not None]
    if len(known) < 2 + len(others) or (others and device != "cpu"):
        sender.send(None)  # Nobody can tell what processes have on a GPU.
    else:
        sender.send((sum(known) - 2 * known[0]) / MIB)


def _peak(device: str) -> int | None:
    """Most bytes that this process has had so far."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
