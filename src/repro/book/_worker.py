"""The process that runs one notebook: started by ``repro.book._process``, given a request, gone when the run is over.

``python -m repro.book._worker`` reads one JSON line, the request, from standard input; then papermill executes the
notebook, and every event goes to standard output as a JSON line:

* ``{"event": "cell", "index": 7}`` before a code cell;
* ``{"event": "done"}`` at the end, or ``{"event": "failed", "message": ..., ...}``.

The input stays open as long as the runner lives: its end is the sign to stop, so that nothing keeps computing
after a runner that was killed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TextIO

import nbformat
import papermill
import psutil
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from repro.book._files import NO_ROOM
from repro.book._process import can_use_sockets

LIMIT = 8_000_000
"""What is kept of one cell, in characters: printed text, and everything that it displays."""
_OVERHEAD = 100
"""What an output costs besides its content: a flood of empty lines is a flood too."""
_ENGINE = "repro-limited"


class _Kernel(AsyncKernelManager):
    """This interpreter's own ipykernel, whatever kernels are installed under the name python3.

    It talks over private UNIX sockets, where it can: over TCP, parallel kernels collide on ports now and then, and
    over sockets with jupyter_client's own names nearly always. ``folder`` is set before nbclient makes the instance.
    ``last_exit`` is the exit code of a kernel that died (negative: the signal that killed it), None as long as none
    did.
    """

    folder: ClassVar[Path]
    last_exit: ClassVar[int | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kernel_spec = KernelSpec(
            argv=make_ipkernel_cmd(executable=sys.executable), display_name="Python 3", language="python"
        )
        self.connection_file = str(self.folder / "connection.json")
        if can_use_sockets(self.folder):
            self.transport = "ipc"
            self.ip = str(self.folder / "k")

    async def is_alive(self) -> bool:  # type: ignore[override]
        alive = bool(await super().is_alive())
        if not alive and self.provisioner is not None:
            code = await self.provisioner.poll()
            if code is not None:
                type(self).last_exit = code
        return alive


class _Client(PapermillNotebookClient):
    """Drops the outputs of a cell beyond the limit, and says so once in the cell's standard error.

    So a notebook that prints without end fills neither memory nor disk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: Counter[int] = Counter()

    def execute_cell(self, cell: Any, *args: Any, **kwargs: Any) -> Any:
        """As papermill's, but a magic that is used wrongly, which shows no traceback, shows its reason too."""
        try:
            return super().execute_cell(cell, *args, **kwargs)
        except CellExecutionError as error:
            if not any(output.output_type == "error" for output in cell.outputs):
                cell.outputs.append(nbformat.v4.new_output("error", ename=error.ename, evalue=error.evalue))
            raise

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
        content, before = msg["content"], self._kept[cell_index]
        size = sum(len(str(value)) for value in content.get("data", content).values())
        if msg["msg_type"] == "error" or before + size <= LIMIT:
            self._kept[cell_index] += size + _OVERHEAD
            return super().output(outs, msg, display_id, cell_index)
        self._kept[cell_index] = 2 * LIMIT
        if before >= 2 * LIMIT:
            return None
        note = f"\n[cut: what this cell shows went over {LIMIT // 1_000_000} MB, and the rest is not kept]\n"
        printed = {"header": msg["header"] | {"msg_type": "stream"}, "msg_type": "stream"}
        told = msg | printed | {"content": {"name": "stderr", "text": note}}
        return super().output(outs, told, None, cell_index)

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        del self._kept[cell_index]
        super().clear_output(outs, msg, cell_index)


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, client: dict[str, Any], **_: Any
    ) -> Any:
        """Papermill's own engine, with the client that limits."""
        return _Client(nb_man, kernel_name=kernel_name, kernel_manager_class=_Kernel, **client).execute()


papermill_engines.register(_ENGINE, _Engine)
_ending = threading.Event()


def _end_with_the_runner(folder: str) -> None:
    """Wait for the end of the input, then take the kernel and everything it started down, and our folder."""
    sys.stdin.read()
    _ending.set()
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    # a kernel that is still starting would write into the folder again
    psutil.wait_procs(children, timeout=10)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _failure(error: BaseException) -> dict[str, Any]:
    """An error in one line; whether the run was ended from outside, and whether for want of room on a disk."""
    # Ctrl-C in a terminal reaches this process too
    message, lost = f"{type(error).__name__}: {error}", isinstance(error, KeyboardInterrupt)
    if isinstance(error, PapermillExecutionError):
        message = ": ".join([error.ename, *str(error.evalue).strip().splitlines()[:1]])
    elif isinstance(error, DeadKernelError) or _Kernel.last_exit is not None:
        code = _Kernel.last_exit
        how = f"killed by signal {signal.Signals(-code).name}" if code and code < 0 else f"exit {code}"
        message, lost = f"the kernel died ({how})", code in (-signal.SIGKILL, -signal.SIGTERM)
    elif isinstance(error, OSError) and error.strerror:
        message = error.strerror
    return {"message": message, "lost": lost, "full": getattr(error, "errno", None) in NO_ROOM}


def _main() -> int:
    """Run the notebook that the request on standard input names."""
    warnings.simplefilter("ignore")
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # events own the real standard output; whatever a library prints goes to standard error
    events: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_runner, args=(request["folder"],), daemon=True).start()
    _Kernel.folder = Path(request["folder"])
    try:
        papermill.execute_notebook(
            # a node, not a path: papermill runs str.format over paths, and a folder's name may well hold a brace
            nbformat.reads(json.dumps(request["notebook"]), as_version=4),
            request["output"],
            parameters=request["parameters"],
            engine_name=_ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            client={
                "startup_timeout": 600,  # on a busy machine; the runner's budget ends what takes too long
                "record_timing": False,
                "on_cell_start": lambda cell, cell_index: send(event="cell", index=cell_index),
            },
        )
    except BaseException as error:
        send(event="failed", **_failure(error))
        return 1
    send(event="done")
    return 0


if __name__ == "__main__":
    code = _main()
    sys.stderr.flush()
    if _ending.is_set():
        # the runner is gone, and the thread that saw it is clearing up: it ends this process
        threading.Event().wait(60)
    # the thread that watches the input holds its lock, which an orderly exit would wait for
    os._exit(code)
