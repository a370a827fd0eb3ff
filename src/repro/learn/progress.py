"""A progress bar, but only when a person is watching."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm


def bar(n_steps: int) -> Any:
    """Return a tqdm bar over steps, silent if nobody watches.

    Somebody does where standard error is a terminal, or the code runs in a notebook that a person has open: a Jupyter
    server tells the kernels it starts the name of their notebook; kernels started by papermill or nbclient from a shell
    have none. ``REPRO_PROGRESS=0`` or ``1`` decides otherwise.
    """
    watched = "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()
    wanted = os.environ.get("REPRO_PROGRESS", str(int(watched)))
    return tqdm(total=n_steps, disable=wanted in ("", "0"), leave=False, unit="step")
