"""Memory of a process tree, sampled while it lives, and the end of it when it must end."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["ProcessTree"]

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def _own_peak(pid: int) -> int:
    """The most memory that one process ever held, in bytes, where the kernel counts it (Linux); else 0."""
    with suppress(OSError):
        if match := _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1]) * 1024
    return 0


class ProcessTree:
    """What a worker process started: the kernel and the kernel's children, the worker itself left out.

    ``peak_mb`` (MB of 10^6 bytes) is the largest sum of resident memory seen in any sample, or the largest
    high-water mark of a single process, whichever is more: a spike between two samples still shows. Memory that
    processes share is counted once for each.
    """

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self._seen: dict[int, psutil.Process] = {}
        self.peak_mb = 0.0

    def sample(self) -> float:
        """Look once; returns the peak so far in MB."""
        with suppress(psutil.Error):
            for child in self._worker.children(recursive=True):
                self._seen.setdefault(child.pid, child)
        total = 0
        for pid, process in list(self._seen.items()):
            try:
                total += process.memory_info().rss
                self.peak_mb = max(self.peak_mb, _own_peak(pid) / 1e6)
            except psutil.NoSuchProcess:
                del self._seen[pid]
            except psutil.Error:
                continue
        self.peak_mb = max(self.peak_mb, total / 1e6)
        return self.peak_mb

    def kill(self) -> None:
        """End the worker and everything it started, and wait until they are gone."""
        with suppress(psutil.Error):
            for child in self._worker.children(recursive=True):
                self._seen.setdefault(child.pid, child)
        processes = [self._worker, *self._seen.values()]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5)
