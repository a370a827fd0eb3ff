"""What all tests share: one thread, a fixed seed, no data folder of the user's, Ctrl-C, reproducible hypothesis."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and PyTorch read it

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# a shell that runs us in the background has us, and all that we start, ignore the Ctrl-C that tests send
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("repro", deadline=None, derandomize=True)
settings.load_profile("repro")
sys.path.insert(0, str(Path(__file__).parent))  # zoo.py serves the folders below


@pytest.fixture(autouse=True)
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts from the same global seed and without the settings of the user's shell."""
    torch.manual_seed(0)
    for name in ("REPRO_DATA", "REPRO_PROGRESS", "REPRO_BOOK"):
        monkeypatch.delenv(name, raising=False)
