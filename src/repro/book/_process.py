"""One notebook in a kernel of its own: started, watched for time and memory, ended, and its failure in one line.

A thread talks to the kernel (nbclient); the caller's thread watches. A kernel ends by itself when this process is
killed, as ipykernel looks after its parent.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import nbformat
import psutil
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.translators import PythonTranslator

from repro.book._environment import machine, sealed
from repro.book._files import NO_ROOM
from repro.book._notebooks import code_cells, heading_of
from repro.book.claims import ChapterClaims
from repro.book.errors import DiskFull
from repro.book.layout import Book

Progress = Callable[[int, int], None]
KERNEL = "ipykernel_launcher"
"""What stands in the command of a kernel's process."""
LIMIT = 8_000_000
"""What is kept of one cell, in characters: printed text, and everything that it displays."""
_OVERHEAD = 100
"""What an output costs besides its content: a flood of empty lines is a flood too."""
_TICK = 0.1
_GRACE = 60.0
"""Seconds for the kernel to start, on top of the budget."""
_BEGINS = 1.0
"""Seconds in which a process that was just forked has got a program of its own."""
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included
_LONGEST_PATH = 103


@dataclass(frozen=True)
class Job:
    """A notebook to run, with its parameters, checked, what it may take (seconds, megabytes), and where it goes.

    ``depends`` is what it depends on, from ``key_parts``; ``about`` is the chapter and the profile, or the page,
    for the notebook's metadata; a page has no ``claims_of``, as it shows no ledger.
    """

    book: Book
    path: Path
    source: dict[str, Any]
    values: Mapping[str, object]
    limits: tuple[float, float]
    target: Path
    depends: dict[str, Any]
    about: dict[str, str]
    claims_of: ChapterClaims | None = None


@dataclass(frozen=True)
class Failure:
    """Why a run ended early; ``index`` is the cell at work, ``lost`` whether it was ended from outside."""

    message: str
    index: int | None = None
    lost: bool = False


def _can_use_sockets(folder: Path) -> bool:
    """Whether UNIX sockets exist here and a kernel's paths in this folder are short enough for them."""
    fits = len(os.fsencode(folder / "k-65535")) <= _LONGEST_PATH
    return fits and os.name == "posix"


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """A new temporary folder for one run, with a path short enough for sockets if any such place is writable."""
    places = (Path(tempfile.gettempdir()), Path("/tmp"))
    short = (p for p in places if _can_use_sockets(p / "rp-12345678") and os.access(p, os.W_OK))
    return tempfile.TemporaryDirectory(prefix="rp-", dir=next(short, None), ignore_cleanup_errors=True)


class _Kernel(AsyncKernelManager):
    """This interpreter's own ipykernel, whatever kernels are installed under the name python3.

    It talks over private UNIX sockets, where it can: over TCP, parallel kernels collide on ports now and then, and
    over sockets with jupyter_client's own names nearly always. ``exit_code`` is that of a kernel that died (negative:
    the signal that killed it), None as long as it did not.
    """

    exit_code: int | None = None

    def __init__(self, folder: Path) -> None:
        super().__init__()
        command = make_ipkernel_cmd(executable=sys.executable)
        self._kernel_spec = KernelSpec(argv=command, display_name="Python 3", language="python")
        self.connection_file = str(folder / "connection.json")
        if _can_use_sockets(folder):
            self.transport, self.ip = "ipc", str(folder / "k")

    async def is_alive(self) -> bool:  # type: ignore[override]
        alive = bool(await super().is_alive())
        if not alive and self.provisioner is not None:
            self.exit_code = await self.provisioner.poll()
        return alive


class _Client(NotebookClient):
    """Drops the outputs of a cell beyond the limit, and says so once in the cell's standard error.

    So a notebook that prints without end fills neither memory nor disk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: Counter[int] = Counter()
        self.owns_km = True  # and ends the kernel

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
        content, before = msg["content"], self._kept[cell_index]
        size = sum(len(str(value)) for value in content.get("data", content).values())
        if msg["msg_type"] == "error" or before + size <= LIMIT:
            self._kept[cell_index] += size + _OVERHEAD
            return super().output(outs, msg, display_id, cell_index)
        self._kept[cell_index] = 2 * LIMIT
        if before >= 2 * LIMIT:
            return None
        if msg["msg_type"] == "stream":
            cut = content | {"text": content["text"][: max(0, LIMIT - before)]}
            super().output(outs, msg | {"content": cut}, display_id, cell_index)
        note = f"\n[cut: what this cell shows went over {LIMIT // 1_000_000} MB, and the rest is not kept]\n"
        printed = {"header": msg["header"] | {"msg_type": "stream"}, "msg_type": "stream"}
        told = msg | printed | {"content": {"name": "stderr", "text": note}}
        return super().output(outs, told, None, cell_index)

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        del self._kept[cell_index]
        super().clear_output(outs, msg, cell_index)


class _Run(threading.Thread):
    """A notebook on its way: the cells that have begun, and at the end what went wrong."""

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(daemon=True)
        self.notebook, self.kernel = _injected(job), _Kernel(folder)
        self.place: dict[str, Any] = {"cwd": str(job.path.parent), "env": sealed(job.book, folder)}
        self.tree, self.begun = ProcessTree(), list[int]()
        self.error: BaseException | None = None

    def run(self) -> None:
        client = _Client(self.notebook, km=self.kernel, record_timing=False)
        client.startup_timeout = 600  # a busy machine's: there is a budget
        client.on_cell_execute = lambda cell, cell_index: self.begun.append(cell_index)
        try:
            asyncio.run(client.async_execute(stdout=DEVNULL, stderr=DEVNULL, **self.place))
        except BaseException as error:
            self.error = error
        finally:  # of a kernel that never was, there is nothing to clean up when Python ends
            atexit.unregister(client._cleanup_kernel)

    @property
    def pid(self) -> int | None:
        """The kernel's, once there is one."""
        return getattr(self.kernel.provisioner, "pid", None)

    def watch(self, seconds: float, megabytes: float, progress: Progress | None) -> Failure | None:
        """Follow the run until it is done, fails, or goes over its budget."""
        total, told, where = len(list(code_cells(self.notebook))), 0, ""
        deadline = time.monotonic() + _GRACE + seconds
        while self.is_alive():
            self.join(_TICK)
            held = self.tree.sample(self.pid)
            if len(self.begun) > told:
                deadline = deadline if told else time.monotonic() + seconds
                told = len(self.begun)
                heading = heading_of(self.notebook, self.begun[-1])
                where = f" (at {heading!r})" if heading else ""
                if progress is not None:
                    progress(told, total)
            over = ""
            if held > megabytes:
                over = f"took {held:.0f} MB of memory, more than the {megabytes:.0f} MB of its budget"
            elif time.monotonic() > deadline:
                over = f"took more than the {seconds:.0f} seconds of its budget"
            if over:
                return Failure(over + where, self.begun[-1] if self.begun else None)
        return self._failure(where)

    def _failure(self, where: str) -> Failure | None:
        """The error of the run, which is over, in one line. Raises ``DiskFull``."""
        error, code = self.error, self.kernel.exit_code
        if error is None:
            return None
        if getattr(error, "errno", None) in NO_ROOM:
            raise DiskFull("the disk is full: no room to run a notebook; what was there before is unchanged")
        index = self.begun[-1] if self.begun else None
        message = f"{type(error).__name__}: {error}"
        lost = index is None  # before the first cell it is not the notebook's fault
        if isinstance(error, CellExecutionError):
            message = ": ".join([error.ename, *str(error.evalue).strip().splitlines()[:1]])
        elif isinstance(error, DeadKernelError) or code is not None:
            how = f"killed by signal {signal.Signals(-code).name}" if code and code < 0 else f"exit {code}"
            message, lost = f"the kernel died ({how})", lost or code in (-signal.SIGKILL, -signal.SIGTERM)
        return Failure(message + where, index, lost)


def _injected(job: Job) -> Any:
    """The notebook with a cell that sets the parameters after the one that declares them; pages do not show it."""
    notebook = nbformat.reads(json.dumps(job.source), as_version=4)
    for place, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            metadata = {"tags": ["injected-parameters", "remove-cell"]}
            setting = nbformat.v4.new_code_cell(PythonTranslator.codify(job.values), metadata=metadata)
            notebook.cells.insert(place + 1, setting)
            break
    return notebook


def execute(job: Job, progress: Progress | None) -> tuple[dict[str, Any], dict[str, Any], Failure | None]:
    """Run a notebook: it as far as it ran, what it cost, and why it failed, if it did.

    ``progress`` is called with the number of code cells begun and their total. Raises ``DiskFull``.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    with _private_folder() as folder:
        run = _Run(job, Path(folder))
        run.start()
        try:
            failure = run.watch(*job.limits, progress)
        finally:
            while run.is_alive():  # a kernel may be about to start
                run.tree.kill(run.pid)
                run.join(_TICK)
            run.tree.kill(run.pid)
    cost = {
        "seconds": round(time.monotonic() - begun, 1),
        "peak_memory_mb": round(run.tree.peak_mb),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    return json.loads(nbformat.writes(run.notebook)), cost, failure


class ProcessTree:
    """A kernel and everything that it started.

    ``peak_mb`` (MB of 10^6 bytes) is the largest sum of resident memory seen in any sample, or the largest
    high-water mark of a single process, whichever is more: a spike between two samples still shows. Memory that
    lasting processes share is counted once for each; a process that has just begun is not in the sum, as until it runs
    a program of its own it shows the memory of the one that started it.
    """

    def __init__(self) -> None:
        self._root: psutil.Process | None = None
        self._seen: dict[psutil.Process, float] = {}
        self.peak_mb = 0.0

    def _look(self, pid: int | None) -> None:
        with suppress(psutil.Error):
            self._root = self._root or (psutil.Process(pid) if pid else None)
            for process in [self._root, *self._root.children(recursive=True)] if self._root else []:
                self._seen.setdefault(process, time.monotonic())

    def sample(self, pid: int | None) -> float:
        """Look once; returns the peak so far in MB."""
        self._look(pid)
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

    def kill(self, pid: int | None) -> None:
        """End the kernel and everything it started, and wait until they are gone."""
        self._look(pid)
        for process in self._seen:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(list(self._seen), timeout=5)


def _own_peak(pid: int) -> float:
    """The most memory that one process ever held, in MB, where the kernel counts it (Linux); else 0."""
    with suppress(OSError):
        if match := _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")):
            return int(match[1]) * 1024 / 1e6
    return 0.0
