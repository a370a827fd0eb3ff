"""Whether flatter pruned networks are more accurate: rank correlations, raw and with confounders held fixed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from repro.base import Interval

__all__ = ["MEASURES", "against_dense", "flatness_accuracy", "partial_rank_correlation", "per_seed"]

MEASURES = ("largest", "trace", "noise_absolute", "noise_relative")
"""Columns of ``flatness.flatness_runs`` that grow with curvature: flatter is smaller in all of them."""

_KEYS = ["seed", "stopping", "hessian"]
_VARIABLES = ["flatness", "accuracy", "sparsity", "train_loss"]
_FEWEST = 5  # networks a seed: with two variables held fixed, 5 leave one degree of freedom to a correlation


def partial_rank_correlation(
    x: NDArray[np.float64], y: NDArray[np.float64], given: NDArray[np.float64]
) -> float:
    r"""Return the correlation of the ranks of x and y after a linear fit of the ranks of ``given``.

    $\operatorname{corr}(r_x - \hat r_x, r_y - \hat r_y)$ with $\hat r = $ least squares on 1 and the ranks of
    ``given``. Equal values share their mean rank. Without anything given it is Spearman's correlation.

    Args:
        x, y: values ``(n,)``.
        given: values ``(k, n)``; k may be 0.

    Returns:
        In [-1, 1]; NaN where x or y is constant or determined by what is given, or n < k + 3.
    """
    if len(x) < len(given) + 3:
        return float("nan")
    ranks = rankdata(np.stack([x, y, *given]), axis=-1)
    centered = ranks - ranks.mean(axis=-1, keepdims=True)
    pair, controls = centered[:2], centered[2:]
    if len(controls):
        pair = pair - np.linalg.lstsq(controls.T, pair.T, rcond=1e-9)[0].T @ controls
    size = np.linalg.norm(pair, axis=-1)
    if (size < 1e-9 * len(x) ** 1.5).any():
        return float("nan")
    return float(np.clip(pair[0] @ pair[1] / size.prod(), -1, 1))


def against_dense(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Compare each pruned network with the dense one of its seed and protocol.

    The change of flatness is $\log_{10}(c / c_\text{dense})$ of a measure c of ``MEASURES``, negative where
    the pruned network is flatter; the change of accuracy is in percentage points.

    Args:
        frame: rows of ``flatness.flatness_runs``, the dense networks among them.

    Returns:
        One row a (seed, arm, sparsity, stopping, hessian, measure): flatness, accuracy, train_loss, reached.
        Rows with a measure that is not positive (a collapsed network, a rise lost in noise) have NaN there.

    Raises:
        ValueError: a missing column, or a seed without its dense network or with two.
    """
    needed = [*_KEYS, "arm", "sparsity", "reached", "train_loss", "test_accuracy", *MEASURES]
    if missing := [name for name in needed if name not in frame]:
        raise ValueError(f"the frame lacks the columns {missing}; give it as flatness_runs made it")
    dense = frame[frame["arm"] == "dense"].set_index(_KEYS)
    pruned = frame[frame["arm"] != "dense"]
    places = pd.MultiIndex.from_frame(pruned[_KEYS])
    if len(twice := dense.index[dense.index.duplicated()]):
        raise ValueError(
            f"more than one dense network for {dict(zip(_KEYS, twice.tolist()[0], strict=True))}"
        )
    if len(alone := places[~places.isin(dense.index)]):
        raise ValueError(
            f"no dense network to compare with for {dict(zip(_KEYS, alone.tolist()[0], strict=True))}"
        )
    beside = dense.loc[places].reset_index()
    pruned = pruned.reset_index(drop=True)
    parts = []
    for measure in MEASURES:
        both = pd.concat([pruned[measure], beside[measure]], axis=1).to_numpy(dtype=np.float64)
        logs = np.log10(np.where(both > 0, both, np.nan))
        parts.append(
            pruned[["seed", "arm", "sparsity", "stopping", "hessian"]].assign(
                measure=measure,
                flatness=logs[:, 0] - logs[:, 1],
                accuracy=100 * (pruned["test_accuracy"] - beside["test_accuracy"]),
                train_loss=pruned["train_loss"],
                reached=pruned["reached"],
            )
        )
    return pd.concat(parts, ignore_index=True)


def flatness_accuracy(
    frame: pd.DataFrame, *, level: float = 0.95, n_resamples: int = 1999, seed: int = 0
) -> pd.DataFrame:
    r"""Correlate, over all pruned networks, the change of flatness with the change of test accuracy (claim G9).

    Spearman's correlation as it is (``raw``), and with the ranks of sparsity and of training loss held fixed
    (``partial``). The interval is of the partial correlation, from a percentile bootstrap that draws seeds
    with all their networks, because networks of one seed share data and initial weights. With few seeds it
    is too narrow: of unrelated values it holds 0 in about 86 of 100 cases over 5 seeds, in 92 over 10 to 20.

    An association of two outcomes of one intervention: not to be confused with the effect of flatness on
    accuracy.

    Args:
        frame: rows of ``flatness.flatness_runs``.
        level: of the interval.
        n_resamples: draws of the bootstrap; those in which the correlation is not defined are left out.
        seed: of the draws.

    Returns:
        One row a (measure, protocol): raw, partial, low, high, n_networks. ``protocol`` is stopping and
        Hessian, such as ``"epochs-kept"``. Networks without a defined change of flatness are not counted.

    Raises:
        ValueError: as ``against_dense``; fewer than two seeds; fewer than 5 networks of a seed; a bad level.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, int) or n_resamples < 1:
        raise ValueError(f"n_resamples must be a whole number, 1 or above; got {n_resamples!r}")
    if (n_seeds := frame["seed"].nunique() if "seed" in frame else 2) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {n_seeds}")
    rows = []
    for names, clusters in _clusters(frame):
        pooled = np.concatenate(list(clusters.values()), axis=1)
        interval = _over_seeds(list(clusters.values()), level, n_resamples, seed)
        rows.append(
            names
            | {"raw": _raw(pooled), "partial": interval.estimate, "low": interval.low, "high": interval.high}
            | {"n_networks": pooled.shape[1]}
        )
    return pd.DataFrame(rows)


def per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations of ``flatness_accuracy`` within each seed, for intervals over seeds.

    Args:
        frame: rows of ``flatness.flatness_runs``; one seed is enough.

    Returns:
        One row a (measure, protocol, seed): raw, partial, n_networks.

    Raises:
        ValueError: as ``against_dense``, or fewer than 5 networks of a seed.
    """
    return pd.DataFrame(
        [
            names | {"seed": seed, "raw": _raw(v), "partial": _partial(v), "n_networks": v.shape[1]}
            for names, clusters in _clusters(frame)
            for seed, v in clusters.items()
        ]
    )


def _clusters(frame: pd.DataFrame) -> Iterator[tuple[dict[str, object], dict[object, NDArray[np.float64]]]]:
    """Yield for each measure and protocol the values ``(4, n)`` of ``_VARIABLES`` by seed."""
    changes = against_dense(frame)
    for (measure, stopping, hessian), some in changes.groupby(["measure", "stopping", "hessian"], sort=False):
        clusters: dict[object, NDArray[np.float64]] = {}
        for seed, rows in some.groupby("seed"):
            if len(rows) < _FEWEST:
                raise ValueError(
                    f"a partial correlation needs at least {_FEWEST} pruned networks of each seed; seed {seed} "
                    f"has {len(rows)} in {stopping}-{hessian}"
                )
            values = rows[_VARIABLES].to_numpy(dtype=np.float64).T
            clusters[seed] = values[:, np.isfinite(values).all(axis=0)]
        yield {"measure": measure, "protocol": f"{stopping}-{hessian}"}, clusters


def _raw(values: NDArray[np.float64]) -> float:
    return partial_rank_correlation(values[0], values[1], values[:0])


def _partial(values: NDArray[np.float64]) -> float:
    return partial_rank_correlation(values[0], values[1], values[2:])


def _over_seeds(clusters: list[NDArray[np.float64]], level: float, n_resamples: int, seed: int) -> Interval:
    """Bootstrap interval of the pooled partial correlation; which seeds are drawn matters, their order not."""
    n = len(clusters)
    drawn = np.sort(np.random.default_rng(seed).integers(n, size=(n_resamples, n)), axis=1)
    distinct, counts = np.unique(drawn, axis=0, return_counts=True)
    values = [_partial(np.concatenate([clusters[i] for i in some], axis=1)) for some in distinct]
    draws = np.repeat(values, counts)
    defined = draws[np.isfinite(draws)]
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(defined, tails) if len(defined) else (np.nan, np.nan)
    estimate = _partial(np.concatenate(clusters, axis=1))
    return Interval(estimate, float(low), float(high), "cluster bootstrap", level)
