"""One notebook in a process of its own: started, watched for time and memory, ended, and its failure in one line.

The worker process (``repro.book._worker``) starts a kernel over private sockets; this side reads its events.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import zmq

from repro.book._environment import machine, sealed
from repro.book._notebooks import code_cells, heading_of, read_notebook
from repro.book.errors import BookError, BudgetExceeded, DiskFull, RunFailed, RunLost
from repro.book.layout import Book

Progress = Callable[[int, int], None]
_TICK = 0.1
_GRACE = 60.0
"""Seconds for the worker and the kernel to start, on top of the budget."""
_BEGINS = 1.0
"""Seconds in which a process that was just forked has got a program of its own."""
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included
_LONGEST_PATH = 103


@dataclass(frozen=True)
class Failure:
    """Why a run ended early; ``index`` is the cell at work."""

    message: str
    index: int | None = None
    error: type[RunFailed] = RunFailed


def can_use_sockets(folder: Path) -> bool:
    """Whether UNIX sockets exist here and a kernel's paths in this folder are short enough for them."""
    fits = len(os.fsencode(folder / "k-65535")) <= _LONGEST_PATH
    return fits and os.name == "posix" and bool(zmq.has("ipc"))


def _private_folder() -> Path:
    """A new temporary folder for one run, with a path short enough for sockets if any such place is writable."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        if can_use_sockets(Path(parent, "rp-12345678")) and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="rp-", dir=parent))
    return Path(tempfile.mkdtemp(prefix="rp-"))


def execute(
    book: Book,
    path: Path,
    source: dict[str, Any],
    values: Mapping[str, object],
    limits: tuple[float, float],
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, Any], Failure | None]:
    """Run a notebook: it as far as it ran, what it cost, and why it failed, if it did.

    ``source`` is the notebook at ``path``, ``values`` are its parameters, checked, ``limits`` the seconds and megabytes
    that it may take. ``progress`` is called with the number of code cells begun and their total. Raises ``DiskFull``.
    """
    folder = _private_folder()
    out = folder / "out.ipynb"
    request = {"notebook": source, "parameters": values, "output": str(out), "folder": str(folder)}
    started, begun = datetime.now(UTC), time.monotonic()
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "repro.book._worker"],  # -P: no module of that name in the folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=path.parent,
            env=sealed(book, folder),
        ) as worker:
            tree = ProcessTree(worker.pid)
            try:
                failure = _watch(worker, tree, request, limits, progress)
            finally:
                tree.kill()
        cost = {
            "seconds": round(time.monotonic() - begun, 1),
            "peak_memory_mb": round(tree.peak_mb),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        try:
            return read_notebook(out), cost, failure
        except (OSError, BookError):
            return deepcopy(source), cost, failure or Failure("the run left no notebook")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(
    worker: subprocess.Popen[str],
    tree: ProcessTree,
    request: Mapping[str, Any],
    limits: tuple[float, float],
    progress: Progress | None,
) -> Failure | None:
    """Follow the worker's events until it is done, fails, or goes over its budget."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    lines, events = worker.stdout, queue.Queue[str]()

    def read() -> None:
        for line in lines:
            events.put(line)
        events.put('{"event": "died"}')

    threading.Thread(target=read, daemon=True).start()
    with suppress(BrokenPipeError):  # a worker that could not even start: its end is read below
        os.write(worker.stdin.fileno(), f"{json.dumps(request)}\n".encode())
    source, (seconds, megabytes) = request["notebook"], limits
    total = len(list(code_cells(source)))
    index, where, n_begun = None, "", 0
    deadline = time.monotonic() + _GRACE + seconds
    while True:
        with suppress(queue.Empty):
            event = json.loads(events.get(timeout=_TICK))
            if event["event"] == "done":
                return None
            if event["event"] == "died":
                return Failure("the process that ran the notebook died", index, RunLost)
            if event["event"] == "failed":
                tree.sample()
                if event["full"]:
                    raise DiskFull(
                        "the disk is full: the run could not be written; what was there before is unchanged"
                    )
                # what goes wrong before the first cell is not the notebook's fault
                lost = event["lost"] or index is None
                return Failure(event["message"] + where, index, RunLost if lost else RunFailed)
            index, n_begun = int(event["index"]), n_begun + 1
            heading = heading_of(source, index)
            where = f" (at {heading!r})" if heading else ""
            if n_begun == 1:
                deadline = time.monotonic() + seconds
            if progress is not None:
                progress(min(n_begun, total), total)
        over = ""
        if tree.sample() > megabytes:
            over = f"took {tree.peak_mb:.0f} MB of memory, more than the {megabytes:.0f} MB of its budget"
        elif time.monotonic() > deadline:
            over = f"took more than the {seconds:.0f} seconds of its budget"
        if over:
            return Failure(over + where, index, BudgetExceeded)


class ProcessTree:
    """What a worker process started: the kernel and the kernel's children, the worker itself left out.

    ``peak_mb`` (MB of 10^6 bytes) is the largest sum of resident memory seen in any sample, or the largest
    high-water mark of a single process, whichever is more: a spike between two samples still shows. Memory that
    lasting processes share is counted once for each; a process that has just begun is not in the sum, as until it runs
    a program of its own it shows the memory of the one that started it.
    """

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self._seen: dict[psutil.Process, float] = {}
        self.peak_mb = 0.0

    def _look(self) -> None:
        with suppress(psutil.Error):
            for child in self._worker.children(recursive=True):
                self._seen.setdefault(child, time.monotonic())

    def sample(self) -> float:
        """Look once; returns the peak so far in MB."""
        self._look()
        held = 0.0
        for process, since in list(self._seen.items()):
            try:
                size = process.memory_info().rss / 1e6
            except psutil.Error:
                del self._seen[process]
                continue
            held += size if time.monotonic() - since >= _BEGINS else 0.0
            self.peak_mb = max(self.peak_mb, _own_peak(process.pid))
        self.peak_mb = max(self.peak_mb, held)
        return self.peak_mb

    def kill(self) -> None:
        """End the worker and everything it started, and wait until they are gone."""
        self._look()
        processes = [self._worker, *self._seen]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5)


def _own_peak(pid: int) -> float:
    """The most memory that one process ever held, in MB, where the kernel counts it (Linux); else 0."""
    with suppress(OSError):
        if match := _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1]) * 1024 / 1e6
    return 0.0
