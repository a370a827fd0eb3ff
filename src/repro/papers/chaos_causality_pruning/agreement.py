"""Our batched statistics beside the reference implementations, on a chapter's own series (control K5)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.stattools import grangercausalitytests

from repro.papers.chaos_causality_pruning.observation import Observed
from repro.papers.chaos_causality_pruning.windows import largest_lag
from repro.series.granger import granger_test
from repro.series.lyapunov import lyapunov_rosenstein

__all__ = ["granger_differences", "lyapunov_differences", "of_observed"]


def granger_differences(
    effects: NDArray[np.float64], causes: NDArray[np.float64], lags: Sequence[int]
) -> NDArray[np.float64]:
    """Return the largest relative difference from statsmodels over its four statistics and the lags, one a pair.

    Pairs that either refuses are not compared (NaN).

    Args:
        effects, causes: ``(n, T)``.
        lags: to test.
    """
    ours = granger_test(effects, causes, list(lags))
    differences = np.full(len(effects), np.nan)
    for i, (y, x) in enumerate(zip(effects, causes, strict=True)):
        if (ours.status[i] != 0).any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = grangercausalitytests(np.column_stack([y, x]), list(lags))
        worst = 0.0
        for j, lag in enumerate(lags):
            tests = reference[lag][0]
            pairs = [
                (ours.f[i, j], tests["ssr_ftest"][0]),
                (ours.f[i, j], tests["params_ftest"][0]),
                (ours.chi2[i, j], tests["ssr_chi2test"][0]),
                (ours.lr[i, j], tests["lrtest"][0]),
            ]
            worst = max(worst, *(abs(a - b) / abs(b) for a, b in pairs))
        differences[i] = worst
    return differences


def lyapunov_differences(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences from ``nolds.lyap_r`` with the paper's embedding, one a window ``(n, N)``.

    Windows to which either gives no finite exponent are not compared (NaN).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nolds warns of its own imports and of windows at rest
        import nolds

        reference = np.array(
            [
                nolds.lyap_r(w, emb_dim=2, lag=1, min_tsep=0, tau=1, trajectory_len=2, fit="poly")
                for w in windows
            ]
        )
    ours = lyapunov_rosenstein(windows, emb_dim=2, lag=1, min_tsep=0, trajectory_len=2).exponent
    both = np.isfinite(reference) & np.isfinite(ours)
    return np.where(both, np.abs(ours - np.where(both, reference, 0)), np.nan)


def of_observed(
    observed: Observed, windows: NDArray[np.float64], *, n_pairs: int = 10, lags: Sequence[int] = (1, 5, 14)
) -> tuple[list[float], list[float]]:
    """Compare on a chapter's own series: the largest differences from statsmodels and from nolds, one a seed.

    Args:
        observed: dense training; the FT exponents and errors of its first seeds are tested.
        windows: stretches of weights, ``(seeds, n, N)``.
        n_pairs: pairs a seed.
        lags: to test, those of them that the number of windows allows.
    """
    granger, lyapunov = [], []
    n_windows = observed.errors("ft").shape[1]
    lags = [lag for lag in lags if largest_lag(n_windows, lag) == lag]
    for y, x, w in zip(observed.errors("ft"), observed.series("ft"), windows, strict=False):
        causes = x[:n_pairs]
        granger.append(float(np.nanmax(granger_differences(np.broadcast_to(y, causes.shape), causes, lags))))
        lyapunov.append(float(np.nanmax(lyapunov_differences(w))))
    return granger, lyapunov
