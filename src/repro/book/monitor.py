"""Memory of a process tree, sampled while it lives, and the end of it when it must end."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["ProcessTree"]

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_BEGINS = 1.0
"""Seconds in which a process that was just forked has got a program of its own."""


def _own_peak(pid: int) -> int:
    """The most memory that one process ever held, in bytes, where the kernel counts it (Linux); else 0."""
    with suppress(OSError):
        if match := _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1]) * 1024
    return 0


class ProcessTree:
    """What a worker process started: the kernel and the kernel's children, the worker itself left out.

    ``peak_mb`` (MB of 10^6 bytes) is the largest sum of resident memory seen in any sample, or the largest
    high-water mark of a single process, whichever is more: a spike between two samples still shows. ``held_by``
    names the processes of that moment, the largest first. Memory that lasting processes share is counted once for
    each; a process that has just begun is not in the sum, as until it runs a program of its own it shows the memory
    of the one that started it.
    """

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self._seen: dict[int, tuple[psutil.Process, float]] = {}
        self.peak_mb = 0.0
        self.held_by = ""

    def _look(self) -> None:
        with suppress(psutil.Error):
            for child in self._worker.children(recursive=True):
                self._seen.setdefault(child.pid, (child, time.monotonic()))

    def sample(self) -> float:
        """Look once; returns the peak so far in MB."""
        self._look()
        lasting = []
        for pid, (process, since) in list(self._seen.items()):
            try:
                name, size = process.name(), process.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                del self._seen[pid]
                continue
            except psutil.Error:
                continue
            self._note([(_own_peak(pid) / 1e6, name)])
            if time.monotonic() - since >= _BEGINS:
                lasting.append((size, name))
        self._note(lasting)
        return self.peak_mb

    def _note(self, held: list[tuple[float, str]]) -> None:
        total = sum(size for size, _ in held)
        if total > self.peak_mb:
            self.peak_mb = total
            self.held_by = ", ".join(f"{name} {size:.0f} MB" for size, name in sorted(held, reverse=True)[:4])

    def kill(self) -> None:
        """End the worker and everything it started, and wait until they are gone."""
        self._look()
        processes = [self._worker, *(process for process, _ in self._seen.values())]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5)
