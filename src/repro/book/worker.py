"""The process that runs one notebook: started by the runner, given a request, gone when the run is over.

``python -m repro.book.worker`` reads one JSON line, the request, from standard input; then papermill executes the
notebook, and every event goes to standard output as a JSON line:

* ``{"event": "cell", "index": 7, "kernel": 1234}`` before a code cell;
* ``{"event": "done"}`` at the end, or ``{"event": "failed", "kind": ..., ...}``.

The input stays open as long as the runner lives: its end is the sign to stop, so that nothing keeps computing
after a runner that was killed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ["main"]


def _end_with_the_runner(folder: str) -> None:
    """Wait for the end of the input, then take the kernel and everything it started down, and our folder."""
    import psutil

    sys.stdin.read()
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(
        children, timeout=10
    )  # a kernel that is still starting would write into the folder again
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _execute(request: dict[str, Any], send: Any) -> None:
    import nbformat
    import papermill

    from repro.book import output_limit
    from repro.book.kernel import PrivateKernelManager

    PrivateKernelManager.folder = Path(request["folder"])
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    # a node, not a path: papermill runs str.format over paths, and a folder may well have a brace in its name
    notebook = nbformat.reads(json.dumps(request["notebook"]), as_version=4)
    papermill.execute_notebook(
        notebook,
        request["output"],
        parameters=request["parameters"],
        engine_name=output_limit.ENGINE,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        start_timeout=600,  # on a busy machine; the runner's budget ends what takes too long
        execution_timeout=request["cell_timeout"],
        kernel_manager_class=PrivateKernelManager,
        record_timing=False,
        on_cell_start=lambda cell, cell_index: send(event="cell", index=cell_index),
    )


def _failure(error: BaseException) -> dict[str, Any]:
    """What the runner needs to say one clear line about an error."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from repro.book.kernel import PrivateKernelManager

    if isinstance(error, PapermillExecutionError):
        return {"kind": "cell", "ename": error.ename, "evalue": error.evalue}
    if isinstance(error, DeadKernelError) or PrivateKernelManager.last_exit is not None:
        return {"kind": "dead", "exit": PrivateKernelManager.last_exit}
    if isinstance(error, CellTimeoutError):
        return {"kind": "timeout"}
    if isinstance(error, OSError) and error.errno is not None:
        return {"kind": "system", "errno": error.errno, "file": str(error.filename or "")}
    return {"kind": "other", "ename": type(error).__name__, "evalue": str(error)}


def main() -> int:
    """Run the notebook that the request on standard input names."""
    warnings.simplefilter("ignore")
    # events own the real standard output; whatever a library prints goes to standard error
    events: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_runner, args=(request["folder"],), daemon=True).start()
    try:
        _execute(request, send)
    except BaseException as error:
        send(event="failed", **_failure(error))
        return 1
    send(event="done")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # the thread that watches the input holds its lock, which an orderly exit would wait for
    os._exit(code)
