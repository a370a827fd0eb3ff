"""What the tests say when there is nothing to find: shares of independent series that they call causal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.papers.chaos_causality_pruning.decisions import decide, granger_tests, judge
from repro.papers.chaos_causality_pruning.processes import autoregression

__all__ = ["SHAPES", "null_shares", "shared_trends"]

SHAPES = ((25, 7), (48, 14), (53, 14), (82, 14), (166, 20))
"""Numbers of windows and largest lags that occur in the paper's runs."""


def null_shares(
    n_series: int, n_effects: int = 10, shapes: Sequence[tuple[int, int]] = SHAPES, seed: int = 0
) -> pd.DataFrame:
    r"""Test independent series against independent effects under several rules.

    Either both are white noise, or the causes are autoregressions with coefficient 0.5 and the effects with 0.9.

    Args:
        n_series: causes an effect.
        n_effects: effect series, drawn anew each.
        shapes: pairs of T windows and the largest lag L.
        seed: of the draws.

    Returns:
        One row a (windows, max_lag, process, rule, effect): the share of series called non-causal. A valid test at
        the level 0.05 has 0.95.
    """
    if n_series < 1 or n_effects < 1:
        raise ValueError(f"n_series and n_effects must be at least 1; got {n_series} and {n_effects}")
    rng = np.random.default_rng(seed)
    rows = []
    for windows, max_lag in shapes:
        for process, of_cause, of_effect in (("white noise", 0.0, 0.0), ("autoregressions", 0.5, 0.9)):
            for effect in range(n_effects):
                y = autoregression(1, windows, rng, of_effect)[0]
                x = autoregression(n_series, windows, rng, of_cause)
                tests = granger_tests(y, x, max_lag=max_lag)
                for rule in ("paper", "f_test", "single_lag", "honest"):
                    share = judge(tests, rule).non_causal_share
                    rows.append(
                        {"windows": windows, "max_lag": max_lag, "process": process, "rule": rule}
                        | {"effect": effect, "non_causal": share}
                    )
    return pd.DataFrame(rows)


def shared_trends(n_series: int, n_effects: int = 10, windows: int = 100, seed: int = 0) -> pd.DataFrame:
    r"""Test pairs that share a falling trend and nothing else, with the F-test at lag 1.

    Effect and cause are $e^{-3t/T}$ plus white noise of standard deviation 0.2 of its own each: a weight that calms
    down while the error falls. The trend is removed by differencing both.

    Returns:
        One row a (difference, effect): the share of pairs with p below 0.05.
    """
    if n_series < 1 or n_effects < 1:
        raise ValueError(f"n_series and n_effects must be at least 1; got {n_series} and {n_effects}")
    rng = np.random.default_rng(seed)
    trend = np.exp(-3 * np.arange(windows) / windows)
    rows = []
    for effect in range(n_effects):
        y = trend + 0.2 * rng.standard_normal(windows)
        x = trend + 0.2 * rng.standard_normal((n_series, windows))
        for difference in (0, 1):
            decision = decide(y, x, rule="single_lag", max_lag=1, difference=difference)
            rows.append({"difference": difference, "effect": effect, "causal": decision.causal.mean()})
    return pd.DataFrame(rows)
