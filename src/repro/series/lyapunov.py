r"""Largest Lyapunov exponents of N series at once: how fast do neighbouring states drift apart?

Rosenstein's method as in nolds (``lyap_r``, ``fit="poly"``) and as in TISEAN (``lyap_r``, the slope of the first
step), from the same distances; a series that has no exponent is labelled and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from repro.series._chunks import over_chunks
from repro.series._inputs import Rows, checked_whole
from repro.series._lyapunov_divergence import mean_log_distances
from repro.series._lyapunov_neighbors import NeighborSearch, Rules

__all__ = ["LyapunovResult", "LyapunovStatus", "lyapunov_rosenstein", "lyapunov_tisean"]

Array = NDArray[np.float64]

#: Neighbours are followed for about so many vectors at a time, to stay in the processor's cache.
VECTORS_A_CHUNK = 2**14


class LyapunovStatus(IntEnum):
    """Why a series has no exponent, or none that was estimated; the first that applies."""

    OK = 0
    TOO_SHORT = 1  #: too few delay vectors for each to have a neighbour and to be followed to the end
    NOT_FINITE = 2  #: NaN or infinity, or squared distances beyond the largest float
    CONSTANT = 3  #: all values are the same
    STATIC = 4  #: the values differ by less than ``static_range``: the exponent is 0 by definition
    NO_NEIGHBORS = 5  #: no delay vector has a neighbour that TISEAN would take
    NO_LINE = 6  #: fewer than two finite mean log distances: neighbours that coincide all the time


@dataclass(frozen=True)
class LyapunovResult:
    """What the largest exponents are, and what they were read from.

    Attributes:
        exponent: ``(N,)``, nats a step (a unit of time with ``tau``); NaN where ``status`` says that there is none.
        divergence: ``(N, K)``, mean log distances $S(0), S(1), \\dots$ of neighbours after k steps; minus infinity
            where all pairs coincide, NaN where none were looked for.
        status: ``(N,)`` int8, see :class:`LyapunovStatus`.
    """

    exponent: Array
    divergence: Array
    status: NDArray[np.int8]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Where an exponent was estimated."""
        return self.status == LyapunovStatus.OK


def lyapunov_rosenstein(
    series: ArrayLike | torch.Tensor,
    *,
    emb_dim: int,
    lag: int = 1,
    min_tsep: int = 0,
    trajectory_len: int,
    tau: float = 1.0,
    fit_offset: int = 0,
    max_bytes: int = 2**26,
) -> LyapunovResult:
    r"""Estimate largest Lyapunov exponents by Rosenstein's method, as nolds' ``lyap_r(..., fit="poly")`` does.

    $$S(k)=\operatorname{mean}_n\ln\lVert X_{n+k}-X_{\nu(n)+k}\rVert,\qquad
    X_n=(x_n,x_{n+l},\dots,x_{n+(d-1)l}),\qquad \lambda=\frac{1}{\tau}\cdot\text{slope of }S,$$

    where $\nu(n)$ is the nearest vector (Euclidean; of equally near ones the earliest) at least ``min_tsep`` + 1
    steps away in time, and the slope is that of the least-squares line through $S(0),\dots,S(K-1)$. Only vectors
    that can be followed for K - 1 steps are compared. Pairs at distance zero are left out of the mean; a k at which
    all pairs are at distance zero is left out of the line.

    The line is fitted whether $S$ is straight or not; only where it is straight over several k does its slope
    estimate an exponent.

    Args:
        series: ``(N, T)``, or ``(T,)`` for one. Arrays and tensors, floating point or integer (below 2**53), any
            memory layout; what is masked counts as NaN; computed in float64, on the device of a tensor.
        emb_dim: d, number of coordinates of a delay vector.
        lag: l, steps from one coordinate to the next.
        min_tsep: neighbours are more than this many steps apart in time.
        trajectory_len: K, number of points of S.
        tau: time a step takes; the exponent is in nats a unit of this time.
        fit_offset: how many of the first points of S the line leaves out.
        max_bytes: working memory of one thread, in bytes; at least one series is always worked on.

    Returns:
        NumPy arrays whatever the input was, see :class:`LyapunovResult`, with K columns of ``divergence``. A T too
        short for the parameters is a status too. Where nolds returns $-\infty$ or fits a line to a single point, the
        status is CONSTANT or NO_LINE and the exponent NaN. The numbers do not depend on how many threads there were.

    Raises:
        ValueError: parameters out of range, or another shape.
        TypeError: values that are not real numbers, or a table with labels.

    Not to be confused with :func:`lyapunov_tisean`, which reads off the first step alone.

    Source: Rosenstein, Collins and De Luca, Physica D 65 (1993) 117; nolds ``measures.lyap_r``.
    """
    rows = Rows(series, "series")
    rules = Rules(
        emb_dim=checked_whole(emb_dim, "emb_dim", 1),
        lag=checked_whole(lag, "lag", 1),
        min_tsep=checked_whole(min_tsep, "min_tsep", 0),
        n_steps=checked_whole(trajectory_len, "trajectory_len", 2),
    )
    tau = _checked_positive(tau, "tau")
    fit_offset = checked_whole(fit_offset, "fit_offset", 0)
    if fit_offset > rules.n_steps - 2:
        raise ValueError(
            f"fit_offset must leave two points of trajectory_len = {rules.n_steps} for a line, got {fit_offset}"
        )

    def prepare(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        extent = values.amax(1) - values.amin(1)
        labels = torch.zeros(len(values), dtype=torch.int8, device=values.device)
        labels[extent == 0] = LyapunovStatus.CONSTANT
        labels[~(rules.emb_dim * extent.square()).isfinite()] = LyapunovStatus.NOT_FINITE
        return values, labels

    divergence, status = _diverge(rows, rules, prepare, max_bytes)
    exponent = _slopes(divergence, fit_offset) / tau
    return _labelled(exponent, divergence, status)


def lyapunov_tisean(
    series: ArrayLike | torch.Tensor,
    *,
    forward_steps: int,
    emb_dim: int = 2,
    lag: int = 1,
    decimals: int | None = 6,
    static_range: float | None = 1e-5,
    max_bytes: int = 2**26,
) -> LyapunovResult:
    r"""Estimate one-step exponents from TISEAN's ``lyap_r``: the mean log growth of small distances in one step.

    $$\lambda=S(1)-S(0),\qquad S(k)=\operatorname{mean}_n\ln\lVert X_{n+k}-X_{\nu(n)+k}\rVert$$

    for delay vectors of the series rescaled to [0, 1]. As in TISEAN, $\nu(n)$ is the nearest vector that is not
    identical with $X_n$ and closer than 1 (of equally near ones the latest); neighbours in time are allowed, and
    vectors that have no such neighbour are left out. The last ``forward_steps`` vectors are neither references nor
    candidates. Pairs at distance zero after k steps are left out of the mean.

    A number of this kind exists for every series that moves, chaotic or not: for independent noise it is large,
    because the nearest neighbour is near by selection and its successor is not.

    Args:
        series: ``(N, T)``, or ``(T,)`` for one. Arrays and tensors, floating point or integer (below 2**53), any
            memory layout; what is masked counts as NaN; computed in float64, on the device of a tensor.
        forward_steps: s, at least 1; S is returned for k = 0, ..., s.
        emb_dim: number of coordinates of a delay vector.
        lag: steps from one coordinate to the next.
        decimals: digits after the point the series is rounded to first, as in the text file TISEAN reads; None
            for no rounding.
        static_range: series whose (rounded) values differ by less have the exponent 0; None for no such rule.
        max_bytes: working memory of one thread, in bytes; at least one series is always worked on.

    Returns:
        NumPy arrays, see :class:`LyapunovResult`; ``divergence`` has s + 1 columns, in units of the rescaled series.

    Raises:
        ValueError: parameters out of range, or another shape.
        TypeError: values that are not real numbers, or a table with labels.

    Not to be confused with :func:`lyapunov_rosenstein`, which fits a line through several steps.

    Source: Hegger, Kantz and Schreiber, Chaos 9 (1999) 413 (TISEAN); the chaos-causality paper, section 3.6.
    """
    rows = Rows(series, "series")
    rules = Rules(
        emb_dim=checked_whole(emb_dim, "emb_dim", 1),
        lag=checked_whole(lag, "lag", 1),
        min_tsep=0,
        n_steps=checked_whole(forward_steps, "forward_steps", 1) + 1,
        like_tisean=True,
    )
    decimals = None if decimals is None else checked_whole(decimals, "decimals", 0)
    static_range = None if static_range is None else _checked_positive(static_range, "static_range")

    def prepare(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if decimals is not None:
            values = values.round(decimals=decimals)
        low = values.amin(1, keepdim=True)
        extent = values.amax(1, keepdim=True) - low
        labels = torch.zeros(len(values), dtype=torch.int8, device=values.device)
        if static_range is not None:
            labels[extent[:, 0] < static_range] = LyapunovStatus.STATIC
        else:
            labels[extent[:, 0] == 0] = LyapunovStatus.CONSTANT
        labels[~extent[:, 0].isfinite()] = LyapunovStatus.NOT_FINITE
        return (values - low) / extent, labels

    divergence, status = _diverge(rows, rules, prepare, max_bytes)
    with np.errstate(invalid="ignore"):
        exponent = divergence[:, 1] - divergence[:, 0]
    exponent[status == LyapunovStatus.STATIC] = 0.0
    return _labelled(exponent, divergence, status)


def _diverge(
    rows: Rows,
    rules: Rules,
    prepare: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    max_bytes: int,
) -> tuple[Array, NDArray[np.int8]]:
    """S(k) of every row ``(N, K)``, and what is known of it so far ``(N,)``."""
    max_bytes = checked_whole(max_bytes, "max_bytes", 1)
    n_series, n_times = len(rows), rows.shape[-1]
    divergence = np.full((n_series, rules.n_steps), np.nan)
    status = np.full(n_series, LyapunovStatus.TOO_SHORT, dtype=np.int8)
    if rules.n_vectors(n_times) < 2 * rules.min_tsep + 2:
        return divergence, status
    device = rows.device or torch.device("cpu")

    rows_a_chunk = max(
        rules.series_at_once(n_times, device, max_bytes), VECTORS_A_CHUNK // rules.n_vectors(n_times)
    )

    def make_worker() -> Callable[[int, int], None]:
        search = NeighborSearch(rules, n_times, device, max_bytes)

        def work(start: int, stop: int) -> None:
            values, labels = prepare(rows.part(start, stop, device))
            live = labels == LyapunovStatus.OK
            if not live.all():
                values = values[live]
            if len(values):
                neighbours, found = search(values)
                means = mean_log_distances(values, neighbours, found, rules)
                divergence[start:stop][live.cpu().numpy()] = means.cpu().numpy()
                none = live.clone()
                none[live] = ~found.any(1)
                labels[none] = LyapunovStatus.NO_NEIGHBORS
            status[start:stop] = labels.cpu().numpy()

        return work

    over_chunks(make_worker, n_series, rows_a_chunk)
    return divergence, status


def _labelled(exponent: Array, divergence: Array, status: NDArray[np.int8]) -> LyapunovResult:
    """The result, with NO_LINE and NaN where two finite points were needed and not there."""
    no_line = (status == LyapunovStatus.OK) & ~np.isfinite(exponent)
    status[no_line] = LyapunovStatus.NO_LINE
    exponent[no_line] = np.nan
    return LyapunovResult(exponent, divergence, status)


def _slopes(divergence: Array, fit_offset: int) -> Array:
    """Slope of the line through the finite points of each row but the first ``fit_offset`` of them."""
    used = np.isfinite(divergence)
    used &= used.cumsum(1) > fit_offset
    n_used = np.maximum(used.sum(1, keepdims=True), 1)
    values = np.where(used, divergence, 0.0)
    steps = np.where(used, np.arange(divergence.shape[1], dtype=np.float64), 0.0)
    across = np.where(used, steps - steps.sum(1, keepdims=True) / n_used, 0.0)
    up = np.where(used, values - values.sum(1, keepdims=True) / n_used, 0.0)
    with np.errstate(invalid="ignore"):
        return (across * up).sum(1) / np.square(across).sum(1)


def _checked_positive(value: Any, name: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number above 0, got {value!r}")
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")
    return number
