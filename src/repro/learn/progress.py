"""A progress bar, but only when a person is watching."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm


def _somebody_watches() -> bool:
    """Return whether standard error is a terminal, or the code runs in a notebook that a person has open.

    ``REPRO_PROGRESS=0`` or ``1`` decides otherwise. A Jupyter server tells the kernels it starts the name of
    their notebook; kernels started by papermill or nbclient from a shell have none.
    """
    wanted = os.environ.get("REPRO_PROGRESS")
    if wanted is not None:
        return wanted not in ("", "0")
    if "ipykernel" in sys.modules and sys.modules["ipykernel"].__dict__.get("kernelapp") is not None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None and hasattr(shell, "kernel"):
            return "JPY_SESSION_NAME" in os.environ and "PAPERMILL_OUTPUT_PATH" not in shell.user_ns
    return sys.stderr.isatty()


def bar(n_steps: int) -> Any:
    """Return a tqdm bar over steps, silent if nobody watches."""
    return tqdm(total=n_steps, disable=not _somebody_watches(), leave=False, unit="step")
