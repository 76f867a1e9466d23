"""How long a call takes, how much memory it adds, and where it may leave its files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes, or what it says itself."""
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result if isinstance(result, float) else time.perf_counter() - start


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a call in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def memory() -> dict[str, float]:
    """Peak, current and mapped memory of this process in MB; outside Linux the peak throughout."""
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"peak": peak, "now": peak, "mapped": 0.0}
    pairs = (line.split(":") for line in status.read_text().splitlines())
    kilobytes = {name: float(value.split()[0]) for name, value in pairs if value.endswith("kB")}
    return {
        "peak": kilobytes["VmHWM"] / 1024,
        "now": kilobytes["VmRSS"] / 1024,
        "mapped": (kilobytes["RssFile"] + kilobytes["RssShmem"]) / 1024,
    }


def added_memory(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call, and the peak in MB of the memory that it added.

    Pages of files do not count: the system takes them back when it needs them. The peak that
    `getrusage` knows would not do, since a new process starts with that of its parent.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the current size
    before = memory()
    taken = seconds(function)
    after = memory()
    return taken, after["peak"] - before["now"] - max(after["mapped"] - before["mapped"], 0.0)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty working directory."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
