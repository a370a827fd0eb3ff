"""What all tests share: threads, a fixed seed, no data folder of the user's, Ctrl-C, reproducible hypothesis."""

import os
import signal
import sys
from pathlib import Path

# before NumPy and PyTorch read it; who says 2 gets 2
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

# a shell that runs us in the background has us, and all that we start, ignore the Ctrl-C that tests send
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("repro", deadline=None, derandomize=True)
settings.load_profile("repro")
sys.path.insert(0, str(Path(__file__).parent))  # zoo.py serves the folders below


THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def _same_start(monkeypatch):
    """Each test starts from the same global seed and threads, and without the settings of the user's shell."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    for name in ("REPRO_DATA", "REPRO_PROGRESS", "REPRO_BOOK"):
        monkeypatch.delenv(name, raising=False)
