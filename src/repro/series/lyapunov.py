r"""Largest Lyapunov exponents of N series at once: how fast do neighbouring states drift apart?

Rosenstein's method as in nolds (``lyap_r``, ``fit="poly"``) and as in TISEAN (``lyap_r``, the slope of the first
step), from the same distances; a series that has no exponent is labelled and the others go on.

The search for neighbours is exact, and compiled by numba at the first call, which takes some seconds once and is kept
beside this file where that can be written. It is plain arithmetic in a fixed order: threads and processors do not
change which neighbours are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from repro.base import whole
from repro.series._inputs import Array, compiled, copy, over_chunks, series_rows

#: Delay vectors that a thread works on at a time: what is measured of them stays in the processor's cache.
_VECTORS_A_CHUNK = 2**14
#: Of the authors' files, which TISEAN reads as text: digits after the point, and the range below which a weight rests.
_DECIMALS, _STATIC_RANGE = 6, 1e-5


class LyapunovStatus(IntEnum):
    """Why a series has no exponent, or none that was estimated; the first that applies."""

    OK = 0
    TOO_SHORT = 1  #: too few delay vectors for each to have a neighbour and to be followed to the end
    NOT_FINITE = 2  #: NaN or infinity, or squared distances beyond the largest float
    CONSTANT = 3  #: all values are the same
    STATIC = 4  #: in ``lyapunov_tisean``, values that differ by less than 1e-5: exponent 0 by definition
    NO_NEIGHBORS = 5  #: no delay vector has a neighbour that TISEAN would take
    NO_LINE = 6  #: fewer than two finite mean log distances: neighbours that coincide all the time


@dataclass(frozen=True)
class LyapunovResult:
    """What the largest exponents are, and what they were read from.

    Attributes:
        exponent: ``(N,)``, nats a step; NaN where ``status`` says that there is none.
        divergence: ``(N, K)``, mean log distances $S(0), S(1), \\dots$ of neighbours after k steps; minus infinity
            where all pairs coincide, NaN where none were looked for.
        status: ``(N,)`` int8, see :class:`LyapunovStatus`.
    """

    exponent: Array
    divergence: Array
    status: NDArray[np.int8]


def lyapunov_rosenstein(
    series: ArrayLike | torch.Tensor, *, emb_dim: int, lag: int = 1, min_tsep: int = 0, trajectory_len: int
) -> LyapunovResult:
    r"""Estimate largest Lyapunov exponents by Rosenstein's method, as nolds' ``lyap_r(..., fit="poly")`` does.

    $$S(k)=\operatorname{mean}_n\ln\lVert X_{n+k}-X_{\nu(n)+k}\rVert,\qquad
    X_n=(x_n,x_{n+l},\dots,x_{n+(d-1)l}),\qquad \lambda=\text{slope of }S,$$

    where $\nu(n)$ is the nearest vector (Euclidean; of equally near ones the earliest) at least ``min_tsep`` + 1
    steps away in time, and the slope is that of the least-squares line through $S(0),\dots,S(K-1)$. Only vectors
    that can be followed for K - 1 steps are compared. Pairs at distance zero are left out of the mean; a k at which
    all pairs are at distance zero is left out of the line.

    The line is fitted whether $S$ is straight or not; only where it is straight over several k does its slope
    estimate an exponent. Where it bends at first, fit a line to the rest of ``divergence``.

    Args:
        series: ``(N, T)``, or ``(T,)`` for one. Arrays and tensors, floating point or integer (below 2**53), any
            memory layout; what is masked counts as NaN; computed in float64, on the processor.
        emb_dim: d, number of coordinates of a delay vector.
        lag: l, steps from one coordinate to the next.
        min_tsep: neighbours are more than this many steps apart in time.
        trajectory_len: K, number of points of S.

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
    steps = whole("trajectory_len", trajectory_len, 2) - 1
    rules = _Rules(whole("emb_dim", emb_dim), whole("lag", lag), whole("min_tsep", min_tsep, 0), steps)

    def prepare(values: Array) -> tuple[Array, NDArray[np.int8]]:
        extent = np.ptp(values, axis=1)
        labels = np.where(extent == 0, np.int8(LyapunovStatus.CONSTANT), np.int8(0))
        labels[~np.isfinite(rules.emb_dim * extent**2)] = LyapunovStatus.NOT_FINITE
        return values, labels

    divergence, status = _diverge(series, rules, prepare)
    return _labelled(_slopes(divergence), divergence, status)


def lyapunov_tisean(series: ArrayLike | torch.Tensor, *, forward_steps: int) -> LyapunovResult:
    r"""Estimate one-step exponents from TISEAN's ``lyap_r``: the mean log growth of small distances in one step.

    $$\lambda=S(1)-S(0),\qquad S(k)=\operatorname{mean}_n\ln\lVert X_{n+k}-X_{\nu(n)+k}\rVert$$

    for delay vectors $X_n=(x_n,x_{n+1})$ of the series rescaled to [0, 1]. As in TISEAN, $\nu(n)$ is the nearest vector
    that is not identical with $X_n$ and closer than 1 (of equally near ones the latest); neighbours in time are
    allowed, and vectors that have no such neighbour are left out. The last ``forward_steps`` vectors are neither
    references nor candidates. Pairs at distance zero after k steps are left out of the mean.

    As in the chaos-causality paper, values are first rounded to six digits after the point, and a series whose
    values then differ by less than 1e-5 has the exponent 0: bring a series of another unit to the scale of weights.

    A number of this kind exists for every series that moves, chaotic or not: for independent noise it is large,
    because the nearest neighbour is near by selection and its successor is not.

    Args:
        series: as for :func:`lyapunov_rosenstein`.
        forward_steps: s, at least 1.

    Returns:
        NumPy arrays, see :class:`LyapunovResult`; ``divergence`` is S(0) and S(1), in units of the rescaled series.

    Raises:
        ValueError: parameters out of range, or another shape.
        TypeError: values that are not real numbers, or a table with labels.

    Not to be confused with :func:`lyapunov_rosenstein`, which fits a line through several steps.

    Source: Hegger, Kantz and Schreiber, Chaos 9 (1999) 413 (TISEAN); the chaos-causality paper, section 3.6.
    """
    rules = _Rules(2, 1, 0, whole("forward_steps", forward_steps), like_tisean=True)

    def prepare(values: Array) -> tuple[Array, NDArray[np.int8]]:
        values = values.round(_DECIMALS)
        low = values.min(axis=1, keepdims=True)
        extent = values.max(axis=1, keepdims=True) - low
        labels = np.where(extent[:, 0] < _STATIC_RANGE, np.int8(LyapunovStatus.STATIC), np.int8(0))
        labels[~np.isfinite(extent[:, 0])] = LyapunovStatus.NOT_FINITE
        return (values - low) / extent, labels

    divergence, status = _diverge(series, rules, prepare)
    with np.errstate(invalid="ignore"):
        exponent = divergence[:, 1] - divergence[:, 0]
    exponent[status == LyapunovStatus.STATIC] = 0.0
    return _labelled(exponent, divergence, status)


@dataclass(frozen=True)
class _Rules:
    """Which delay vectors are compared, and how far they are followed.

    nolds takes the least distance, of equal ones the earliest. TISEAN passes over identical vectors and those at
    a distance of 1 or more, compares squared distances, and of equal ones takes the latest.
    """

    emb_dim: int
    lag: int
    min_tsep: int
    steps: int
    like_tisean: bool = False


def _diverge(
    series: ArrayLike | torch.Tensor,
    rules: _Rules,
    prepare: Callable[[Array], tuple[Array, NDArray[np.int8]]],
) -> tuple[Array, NDArray[np.int8]]:
    """S(k) of every row ``(N, K)``, and what is known of it so far ``(N,)``."""
    rows = np.atleast_2d(series_rows(series, "series"))
    n_series, n_times = rows.shape
    n_points = 2 if rules.like_tisean else rules.steps + 1  # of TISEAN's S the first two
    divergence = np.full((n_series, n_points), np.nan)
    status = np.full(n_series, LyapunovStatus.TOO_SHORT, dtype=np.int8)
    # those that can be followed to the end: the references, and the candidates
    n_vectors = n_times - (rules.emb_dim - 1) * rules.lag - rules.steps
    if n_vectors < 2 * rules.min_tsep + 2:
        return divergence, status
    follow = _compiled()

    def work(start: int, stop: int) -> None:
        with np.errstate(all="ignore"):  # what is not finite is labelled
            values, labels = prepare(np.require(rows[start:stop], np.float64, ["C"]))
        live = labels == LyapunovStatus.OK
        squares = np.empty((int(live.sum()), n_points, n_vectors))
        order = np.argsort(values[live][:, :n_vectors] if rules.like_tisean else np.empty((0, 0)), axis=1)
        follow(values[live], order, rules.emb_dim, rules.lag, rules.min_tsep, squares)
        divergence[start:stop][live] = _mean_logs(squares)
        labels[live & np.isnan(divergence[start:stop, 0])] = LyapunovStatus.NO_NEIGHBORS
        status[start:stop] = labels

    over_chunks(lambda: work, n_series, max(1, _VECTORS_A_CHUNK // n_vectors))
    return divergence, status


@cache
def _compiled() -> Callable[..., None]:
    of_nolds = _earliest, _place_of_earliest, _set_eights, _set_squares, copy, _add, _lower, _mark
    return compiled(_follow, _latest_along, *of_nolds)


def _follow(
    series: Array, order: NDArray[np.int64], emb_dim: int, lag: int, min_tsep: int, squares: Array
) -> None:
    """Find each delay vector's neighbour in series ``(N, T)``, and write their squared distances, ``(N, K, n)``.

    ``_Rules`` says which neighbour, TISEAN's if there is an order of the first coordinates ``(N, n)``; a vector
    without one has NaN.
    """
    n_series, n_steps, n = squares.shape
    like_tisean = len(order) == n_series
    neighbors, distances = np.empty(n, np.int64), np.empty((1, 1) if like_tisean else (n, n))
    for s in range(n_series):
        x = series[s]
        if like_tisean:
            for place in range(n):
                neighbors[order[s, place]] = _latest_along(order[s], place, x)
        else:
            _earliest(x, emb_dim, lag, min_tsep, distances, neighbors)
        for i in range(n):
            j = neighbors[i]
            for k in range(n_steps):
                total = 0.0 if j >= 0 else np.nan
                for c in range(k, k + emb_dim * lag, lag):
                    difference = x[i + c] - x[j + c]
                    total += difference * difference
                squares[s, k, i] = total


def _latest_along(order: NDArray[np.int64], place: int, x: Array) -> int:
    """TISEAN's neighbour of the vector at a place, looking along the order of the first coordinates; -1 if none.

    It goes no further than where their squared difference alone is above the least distance so far: of the vectors
    of a path that moves, it meets a few.
    """
    i, least, nearest = order[place], 1.0, -1
    for step in (-1, 1):
        at = place + step
        while 0 <= at < len(order):
            j = order[at]
            difference = x[j] - x[i]
            total = difference * difference
            if total > least:
                break
            difference = x[j + 1] - x[i + 1]
            total += difference * difference
            if 0.0 < total < least or (total == least and j > nearest >= 0):
                least, nearest = total, j
            at += step
    return nearest


def _earliest(
    x: Array, emb_dim: int, lag: int, min_tsep: int, distances: Array, neighbors: NDArray[np.int64]
) -> None:
    """nolds' neighbour of each delay vector, from all pairs, those d steps apart side by side.

    A first pass finds the least squares, a second where they are; ``distances`` is memory for it, ``(n, n)``.
    """
    n = len(neighbors)
    earlier, later = np.full(n, np.inf), np.full(n, np.inf)
    squares, sums = np.empty(len(x)), np.empty((8, n))
    for d in range(min_tsep + 1, n):
        row = distances[d, : n - d]
        _set_squares(squares[: len(x) - d], x[d:], x[: len(x) - d])
        if emb_dim < 8:
            copy(squares[: n - d], row)
        else:
            _set_eights(row, squares, emb_dim // 8, lag, sums)
        for c in range(emb_dim - emb_dim % 8 or 1, emb_dim):
            _add(row, squares[c * lag : c * lag + n - d])
        _lower(later[: n - d], earlier[d:], row)
    # squares that differ in the last places have the same root, and nolds compares roots
    least = np.minimum(earlier, later)
    most = least * (1 + 1e-15)
    before, after = np.zeros(n), np.zeros(n)
    for d in range(n - 1, min_tsep, -1):
        row = distances[d, : n - d]
        _mark(after[: n - d], before[d:], row, most[: n - d], most[d:], d)
    for i in range(n):
        j = i - int(before[i]) if before[i] else i + int(after[i])
        if math.sqrt(distances[abs(i - j), min(i, j)]) > math.sqrt(least[i]):
            j = _place_of_earliest(distances, i, min_tsep, math.sqrt(least[i]))
        neighbors[i] = j


def _place_of_earliest(distances: Array, i: int, min_tsep: int, root: float) -> int:
    j = 0
    while abs(i - j) <= min_tsep or math.sqrt(distances[abs(i - j), min(i, j)]) > root:
        j += 1
    return j


def _set_eights(into: Array, squares: Array, n_eights: int, lag: int, sums: Array) -> None:
    """Sums over the first coordinates of vectors that have eight or more, added up as NumPy does.

    On the order of additions hangs which of two is the smaller.
    """
    n = len(into)
    for c in range(8 * n_eights):
        if c < 8:
            copy(squares[c * lag : c * lag + n], sums[c, :n])
        else:
            _add(sums[c % 8, :n], squares[c * lag : c * lag + n])
    for step in (1, 2, 4):
        for c in range(0, 8, 2 * step):
            _add(sums[c, :n], sums[c + step, :n])
    copy(sums[0, :n], into)


def _set_squares(into: Array, a: Array, b: Array) -> None:
    for t in range(len(into)):
        difference = a[t] - b[t]
        into[t] = difference * difference


def _add(into: Array, values: Array) -> None:
    for t in range(len(into)):
        into[t] += values[t]


def _lower(a: Array, b: Array, values: Array) -> None:
    for t in range(len(values)):
        a[t] = min(a[t], values[t])
        b[t] = min(b[t], values[t])


def _mark(last: Array, first: Array, values: Array, a: Array, b: Array, mark: float) -> None:
    for t in range(len(values)):
        last[t] = mark if values[t] <= a[t] else last[t]
        first[t] = mark if values[t] <= b[t] and first[t] == 0.0 else first[t]


def _mean_logs(squares: Array) -> Array:
    """S(k) ``(N, K)`` from ``(N, K, n)``: means without pairs that coincide, or without a neighbour (NaN)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(squares, out=squares)
        used = np.isfinite(logs)
        means = 0.5 * np.where(used, logs, 0.0).sum(axis=2) / used.sum(axis=2)
    return np.where(np.isneginf(logs).any(axis=2) & ~used.any(axis=2), -np.inf, means)


def _labelled(exponent: Array, divergence: Array, status: NDArray[np.int8]) -> LyapunovResult:
    """The result, with NO_LINE and NaN where two finite points were needed and not there."""
    no_line = (status == LyapunovStatus.OK) & ~np.isfinite(exponent)
    status[no_line] = LyapunovStatus.NO_LINE
    exponent[no_line] = np.nan
    return LyapunovResult(exponent, divergence, status)


def _slopes(divergence: Array) -> Array:
    """Slope of the line through the finite points of each row."""
    used = np.isfinite(divergence)
    n_used = np.maximum(used.sum(1, keepdims=True), 1)
    values = np.where(used, divergence, 0.0)
    steps = np.where(used, np.arange(divergence.shape[1], dtype=np.float64), 0.0)
    across = np.where(used, steps - steps.sum(1, keepdims=True) / n_used, 0.0)
    up = np.where(used, values - values.sum(1, keepdims=True) / n_used, 0.0)
    with np.errstate(invalid="ignore"):
        return (across * up).sum(1) / np.square(across).sum(1)
