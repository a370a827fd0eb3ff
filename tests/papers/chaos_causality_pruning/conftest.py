"""One small observed run that several tests look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.papers.chaos_causality_pruning.settings import setting
from repro.papers.chaos_causality_pruning.training import Observed, observe


@pytest.fixture(scope="session")
def observed_wine() -> Observed:
    """Wine, three seeds, trained long enough for FT, with windows so short that tests take seconds."""
    return observe(replace(setting("wine"), epochs=30, early_epochs=12, window=60, max_lag=5), [0, 1, 2])
