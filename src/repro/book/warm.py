"""A process with the heavy imports done, which forks a worker and its kernel for each run.

``with warm.parent():`` starts it; runs of the runner are then forked from it, which saves them the seconds that
starting Python and importing PyTorch, pandas and matplotlib takes. It never computes anything itself, so what a run
inherits is imported modules and nothing else; memory is shared until it is written to, and then it is the run's own.

Not to be confused with a kernel that is used twice: a forked kernel serves one notebook, and ends with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

__all__ = ["Worker", "main", "parent", "start"]

_IMPORTS = (
    *("numpy", "torch", "pandas", "matplotlib.pyplot", "scipy.stats", "statsmodels.stats.multitest"),
    *("sklearn.linear_model", "pydantic", "ipykernel.kernelapp", "IPython.core.completer", "papermill"),
    *("repro.book.output_limit", "repro.book.kernel", "repro.book.worker"),
)
_QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "PYTHONHASHSEED": "0"}
"""Nothing but one thread may be at work in a process that forks."""
_SIZE = 8


@dataclass(frozen=True)
class Worker:
    """A forked ``repro.book.worker``, seen from the runner."""

    pid: int
    stdin: TextIO
    stdout: TextIO


class _Parent:
    """The forking process, seen from those who want a worker; several threads may ask."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "repro.book.warm"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | threads | backend | _QUIET,
            )

    def start(self, folder: Path, environment: Mapping[str, str]) -> Worker:
        """A worker in this folder; raises ``OSError`` when the forking process is gone."""
        request = json.dumps({"folder": str(folder), "environment": dict(environment)}).encode()
        its_input, our_output = os.pipe()
        our_input, its_output = os.pipe()
        stdin, stdout = open(our_output, "w"), open(our_input)  # noqa: SIM115
        try:
            with self._lock:
                size = len(request).to_bytes(_SIZE)
                socket.send_fds(self._ours, [size], [its_input, its_output])
                self._ours.sendall(request)
                pid = int.from_bytes(_exactly(self._ours, _SIZE))
        except OSError:
            stdin.close()
            stdout.close()
            raise
        finally:
            os.close(its_input)
            os.close(its_output)
        return Worker(pid, stdin, stdout)

    def end(self) -> None:
        self._ours.close()
        self.process.kill()
        self.process.wait()


_parent: _Parent | None = None


@contextmanager
def parent() -> Iterator[None]:
    """Runs of this process are forked while the block lasts."""
    global _parent
    _parent = _Parent()
    try:
        yield
    finally:
        ended, _parent = _parent, None
        ended.end()


def start(folder: Path, environment: Mapping[str, str]) -> Worker | None:
    """A forked worker; None when there is nothing to fork it from, or no longer."""
    if _parent is not None:
        with suppress(OSError):
            return _parent.start(folder, environment)
    return None


def _exactly(connection: socket.socket, n_bytes: int) -> bytes:
    content = b""
    while len(content) < n_bytes:
        if not (more := connection.recv(n_bytes - len(content))):
            raise ConnectionError("the other side is gone")
        content += more
    return content


# --- in the forking process and below it ---------------------------------------------------------------------------


def main() -> None:
    """Import, then fork a worker for every request that comes over standard input, until its end."""
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which ends us
    sys.path.remove(os.getcwd())
    for name in _IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    while True:
        size, files, _, _ = socket.recv_fds(connection, _SIZE, 2)
        if not size:
            return
        size += _exactly(connection, _SIZE - len(size))
        request = json.loads(_exactly(connection, int.from_bytes(size)))
        pid = os.fork()
        if not pid:
            connection.close()
            _work(request, *files)
        for file in files:
            os.close(file)
        connection.sendall(pid.to_bytes(_SIZE))


def _work(request: Mapping[str, Any], its_input: int, its_output: int) -> NoReturn:
    """Become a worker, with a kernel that waits for its orders; forked before there are threads."""
    from jupyter_client.provisioning import local_provisioner

    from repro.book import worker

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    orders, to_kernel = os.pipe()
    pid = os.fork()
    if not pid:
        for file in (its_input, its_output, to_kernel):
            os.close(file)
        _serve(orders)
    os.setpgid(pid, pid)  # now: jupyter_client signals the kernel's whole group
    os.close(orders)
    os.dup2(its_input, 0)
    os.dup2(its_output, 1)
    os.close(its_input)
    os.close(its_output)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115

    def launch(command: list[str], **options: Any) -> _Forked:
        environment = {**(options.get("env") or os.environ), "JPY_PARENT_PID": str(os.getpid())}
        with open(to_kernel, "w") as file:
            json.dump({"command": command, "environment": environment}, file)
        return _Forked(pid)

    local_provisioner.launch_kernel = launch  # type: ignore[assignment]
    code = worker.main()
    os._exit(code)


def _serve(orders: int) -> NoReturn:
    """Become the kernel of one notebook."""
    with open(orders) as file:
        text = file.read()
    if text:  # none when the worker ended before it wanted a kernel
        order = json.loads(text)
        os.environ.clear()
        os.environ.update(order["environment"])
        from ipykernel.kernelapp import IPKernelApp

        _draw_afresh()
        arguments = order["command"][order["command"].index("ipykernel_launcher") + 1 :]
        # ipykernel reads this from the environment when it is imported, which it was long ago
        arguments.append(f"--IPKernelApp.parent_handle={os.getppid()}")
        IPKernelApp.launch_instance(argv=arguments)
    os._exit(0)


def _draw_afresh() -> None:
    """Random numbers that nobody seeded differ from run to run; Python's own generator sees to that itself."""
    import numpy as np
    import torch

    np.random.seed()
    torch.default_generator.seed()


class _Forked:
    """As much of ``subprocess.Popen`` as jupyter_client wants, for a process that is there already."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        deadline = time.monotonic() + (3600.0 if timeout is None else timeout)
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
