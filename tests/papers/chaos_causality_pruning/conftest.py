"""One small observed run that several tests look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.papers.chaos_causality_pruning.observation import Observed, observe
from repro.papers.chaos_causality_pruning.settings import setting


@pytest.fixture(scope="session")
def observed_wine() -> Observed:
    """Wine, four seeds, trained long enough for FT, with windows so short that tests take seconds."""
    short = replace(setting("wine"), epochs=40, early_epochs=12, window=60, early_window=30, max_lag=5)
    return observe(short, [0, 1, 2, 3])
