r"""Granger causality of N pairs of series at once: do the past values of one help to predict the other?

The tests are statsmodels' (``grangercausalitytests``), with the same samples and the same refusals, but a pair
that cannot be tested is labelled and the others go on.

The design of lag L has the columns $1, y_{t-1},\dots,y_{t-L}, x_{t-1},\dots,x_{t-L}, y_t$ and the rows
$t=L,\dots,T-1$. In its triangular factor R the last column holds what each column adds to the fit of $y_t$:
squares of its entries are sums of squares, and none of them is a difference of two others. R is found by Cholesky's
method from the columns' products, which are sums that move along the diagonals, and move on from one lag to the next.

Products lose digits where a column is nearly a combination of those before it: if it keeps a share s of its sum of
squares, what is left has 1/s times the rounding of the products, some parts in 10^14. F then moves by less than
2·10^-12 (F + 1)/s (a test looks at walks and at smooth, offset and collinear series). A pair with an s below 10^-4 is
done again by Householder's QR of the design itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor

from repro.base import whole
from repro.series._inputs import Array, compiled, copy, over_chunks, series_rows

#: A column of the design, less its mean, is collinear with those before it if they leave less of its length.
_COLLINEAR_BELOW = 1e-11
#: Products are trusted where every column keeps more than this of its sum of squares.
_PRODUCTS_ABOVE = 1e-4
#: Sums of squares below this have lost digits.
_SMALLEST = 1e-200
#: Pairs that the compiled loops work on side by side, and those that a thread takes at a time.
_LANES, _PAIRS_A_CHUNK = 32, 2**11


class Status(IntEnum):
    """Why a pair has no test statistic at a lag; the first that applies."""

    OK = 0
    NOT_FINITE = 1  #: NaN or infinity in either series, or differences beyond the largest float
    TOO_SHORT = 2  #: fewer than 3 lag + 2 points in time
    CONSTANT_EFFECT = 3  #: the effect, or one of its lagged columns, is constant
    CONSTANT_CAUSE = 4  #: a lagged column of the cause is constant
    COLLINEAR = 5  #: a lagged column is a combination of the others: they leave less than 1e-11 of its length
    PERFECT_FIT = 6  #: residuals below the rounding of float64: SSR/TSS < 2.2e-16


@dataclass(frozen=True)
class GrangerResult:
    """What ``granger_test`` found: arrays of shape ``(N,)`` for one lag, ``(N, n_lags)`` for several.

    The statistics and p-values are NaN where ``status`` is not ``Status.OK``. ``df_den``, of F, and ``n_obs`` depend
    on the lag alone, have the shape ``()`` or ``(n_lags,)``, and are 0 where T is too short.
    """

    lags: tuple[int, ...]
    f: Array
    p_value: Array
    chi2: Array
    chi2_p_value: Array
    lr: Array
    df_den: NDArray[np.int64]
    n_obs: NDArray[np.int64]
    status: NDArray[np.int8]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Where there is a test statistic."""
        return self.status == Status.OK


def granger_test(
    effect: ArrayLike | Tensor, cause: ArrayLike | Tensor, lag: int | Sequence[int], *, difference: int = 0
) -> GrangerResult:
    r"""Test whether each cause helps to predict its effect beyond the effect's own past.

    $$F=\frac{(\mathrm{SSR}_r-\mathrm{SSR}_u)/L}{\mathrm{SSR}_u/(n-2L-1)},\qquad
    \chi^2=n\frac{\mathrm{SSR}_r-\mathrm{SSR}_u}{\mathrm{SSR}_u},\qquad
    \mathrm{LR}=n\ln\frac{\mathrm{SSR}_r}{\mathrm{SSR}_u},\qquad n=T-L,$$

    least squares with a constant, $y_t=c+\sum_{l\le L} a_ly_{t-l}\;[+\sum_{l\le L} b_lx_{t-l}]$. The
    second is compared with $\chi^2_L$. Each lag uses all the rows it can, as in statsmodels.

    $\mathrm{SSR}_r-\mathrm{SSR}_u$ is a sum of squares of its own, so that tiny F keep their digits. Scale and offset
    of a series do not matter, only what an offset has rounded off in the input is gone. Smooth series cost digits:
    if every column, and $y_t$, keeps a share s of its sum of squares after the columns before it, F is good to about
    $2\cdot10^{-12}/s$ of F + 1 for s above $10^{-4}$, and to about $10^{-14}/\sqrt s$ below.

    The first call compiles for some seconds; see :func:`lyapunov_rosenstein` for what is kept where.

    It is a test of prediction: two series that share a trend or a common driver pass it without any causation.

    Args:
        effect: ``(T,)``, the same for all pairs, or ``(N, T)``. Arrays and tensors, floating point or integer (below
            2**53), any memory layout; what is masked counts as NaN; computed in float64, on the processor.
        cause: ``(N, T)``, or ``(T,)`` for one pair.
        lag: a number of points in time, or several numbers, such as ``range(1, 15)``, in one call.
        difference: how often to difference both series first.

    Returns:
        NumPy arrays whatever the input was; see :class:`GrangerResult`. Pairs that cannot be tested have a
        ``status`` and NaN. The numbers do not depend on how many threads there were.

    Raises:
        ValueError: shapes that do not match, a lag that is no whole number of at least 1 or is named twice.
        TypeError: values that are not real numbers, or a table with labels.

    Source: Granger, Econometrica 37 (1969) 424; statsmodels ``tsa.stattools.grangercausalitytests``.
    """
    effects, causes = _paired_rows(effect, cause)
    lags = _checked_lags(lag)
    difference = whole("difference", difference, 0)
    n_pairs, n_times = len(causes), max(causes.shape[1] - difference, 0)
    ratio = np.full((n_pairs, len(lags)), np.nan)
    status = np.full((n_pairs, len(lags)), Status.TOO_SHORT, dtype=np.int8)
    fits = np.array([n_times >= 3 * each + 2 for each in lags])
    possible = [each for each, fit in zip(lags, fits, strict=True) if fit]
    largest = max(possible, default=0)
    by_products = _compiled()

    def work(start: int, stop: int) -> None:
        chosen = (effects[None] if effects.ndim == 1 else effects[start:stop]), causes[start:stop]
        with np.errstate(all="ignore"):  # what is not finite is labelled
            y, x = (np.diff(np.require(each, np.float64, "C"), difference) for each in chosen)
            explained, residual, independent = sums = np.empty((3, largest, len(x)))
            by_products(y, x, min(possible), largest, sums)
            found = explained / residual
        for column, each in enumerate(lags):
            if each not in possible:
                continue
            unsure = np.flatnonzero(~(independent[each - 1] > _PRODUCTS_ABOVE))
            status[start:stop, column], ratio[start:stop, column] = Status.OK, found[each - 1]
            if len(unsure):
                rows = np.broadcast_to(y, x.shape)[unsure], x[unsure]
                status[start + unsure, column], ratio[start + unsure, column] = _with_care(*rows, each)

    if possible:
        over_chunks(lambda: work, n_pairs, _PAIRS_A_CHUNK)
    counts = np.array(lags)
    table: dict[str, Any] = {
        **_statistics(ratio, lags, n_times),
        "df_den": (n_times - 3 * counts - 1) * fits,
        "n_obs": (n_times - counts) * fits,
        "status": status,
    }
    several = np.ndim(lag) > 0
    return GrangerResult(lags, **{name: a if several else a[..., 0] for name, a in table.items()})


def _checked_lags(lag: int | Sequence[int]) -> tuple[int, ...]:
    """The lags in the order asked for: at least one, each at least 1, none twice."""
    if isinstance(lag, str | bytes) or np.ndim(lag) == 0:
        return (whole("lag", lag[()] if isinstance(lag, np.ndarray) else lag),)
    lags = tuple(whole("each lag", each) for each in lag)  # type: ignore[union-attr]
    if not lags or len(set(lags)) < len(lags):
        raise ValueError(f"lag must be a whole number or several different ones, got {lags}")
    return lags


def _paired_rows(effect: ArrayLike | Tensor, cause: ArrayLike | Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """The effects, ``(T,)`` if all pairs share one, and the causes ``(N, T)``."""
    effects, causes = series_rows(effect, "effect"), series_rows(cause, "cause")
    rows = np.atleast_2d(causes)
    if effects.shape[-1] != rows.shape[1] or (effects.ndim == 2 and len(effects) != len(rows)):
        both = f"effect {effects.shape} and cause {causes.shape}"
        raise ValueError(f"effect must have the shape (T,) or that of cause, (N, T): got {both}")
    return effects, rows


@cache
def _compiled() -> Callable[..., None]:
    lanes = copy, _set_sum, _add_product, _take_product, _divide, _root_and_share
    return compiled(_from_products, _column, _gram_matrix, _set_products, _add_row, _triangular, *lanes)


def _from_products(effects: Array, causes: Array, smallest: int, largest: int, sums: Array) -> None:
    """Write the sums of squares of pairs at all lags between two, by Gram matrices and Cholesky's method.

    Compiled. Pairs are worked on ``_LANES`` at a time, side by side: the innermost loops run over them.

    Args:
        effects: ``(N, T)``, or ``(1, T)`` for all.
        causes: ``(N, T)``.
        smallest: lag.
        largest: lag L.
        sums: ``(3, L, N)``, what the past of the cause explains, what it leaves, and the least share of a column's
            sum of squares that the columns before it leave; NaN or 0 where nothing can be said.
    """
    explained, residual, independent = sums[0], sums[1], sums[2]
    n_pairs, n_times = causes.shape
    y, x = np.zeros((n_times, _LANES)), np.zeros((n_times, _LANES))
    rows = np.zeros((2 * largest + 2, _LANES))
    gram, factor = np.zeros((len(rows), *rows.shape)), np.zeros((len(rows), *rows.shape))
    for first in range(0, n_pairs, _LANES):
        n_lanes = min(_LANES, n_pairs - first)
        for lane in range(n_lanes):
            # An offset comes off before anything is summed: exactly so where it is the larger part. The middle
            # value stands for it, because first values are often far from the rest.
            effect, cause = effects[(first + lane) % len(effects)], causes[first + lane]
            for t in range(n_times):
                x[t, lane] = cause[t] - cause[n_times // 2]
            if first == 0 or len(effects) > 1:
                for t in range(n_times):
                    y[t, lane] = effect[t] - effect[n_times // 2]
        _gram_matrix(y, x, largest, gram)
        for lag in range(largest, smallest - 1, -1):
            if lag < largest:
                _add_row(y, x, lag, largest, rows, gram)
            _triangular(gram, lag, largest, factor, rows[0])
            for lane in range(n_lanes):
                total = 0.0
                for column in range(lag + 1, 2 * lag + 1):
                    total += factor[2 * lag + 1, column, lane] ** 2
                explained[lag - 1, first + lane] = total
                residual[lag - 1, first + lane] = factor[2 * lag + 1, 2 * lag + 1, lane] ** 2
                independent[lag - 1, first + lane] = rows[0, lane]


def _column(c: int, lag: int, largest: int) -> int:
    """The place, among the columns of the largest lag, of column c of a smaller one."""
    if c <= lag:
        return c
    return largest + c - lag if c <= 2 * lag else 2 * largest + 1


def _gram_matrix(y: Array, x: Array, largest: int, gram: Array) -> None:
    r"""Fill in the products of $1$, the pasts of y and x, and $y_t$, over $t\ge L$, at and below the diagonal."""
    n_times, response = len(y), 2 * largest + 1
    gram[0, 0] = n_times - largest
    for k in range(largest + 1):
        _set_sum(y[largest - k : n_times - k], gram[k or response, 0])
        _set_products(y, 0, 0, y, k, 0, largest, gram)
        if k:
            _set_sum(x[largest - k : n_times - k], gram[largest + k, 0])
            _set_products(y, 0, 0, x, k, largest, largest, gram)
            _set_products(x, 1, largest, y, k, 0, largest, gram)
            _set_products(x, 1, largest, x, k, largest, largest, gram)


def _set_products(
    a: Array, i: int, a_at: int, b: Array, j: int, b_at: int, largest: int, gram: Array
) -> None:
    """Products of a, i steps ago, with b, j steps ago; and of both one step older, and so on to the largest lag.

    A step older, a sum gains a product at its start and loses one at its end.
    """
    n_times = len(a)
    total = np.zeros(a.shape[1])
    for t in range(largest, n_times):
        _add_product(total, a[t - i], b[t - j])
    while j <= largest:
        # what is 0 steps ago, y_t, is the last column
        p, q = (a_at + i) or 2 * largest + 1, (b_at + j) or 2 * largest + 1
        copy(total, gram[max(p, q), min(p, q)])
        i, j = i + 1, j + 1
        if j <= largest:
            _add_product(total, a[largest - i], b[largest - j])
            _take_product(total, a[n_times - i], b[n_times - j])


def _add_row(y: Array, x: Array, lag: int, largest: int, rows: Array, gram: Array) -> None:
    """Add the row t = lag, which the design of the next larger lag has not."""
    rows[0] = 1.0
    for k in range(1, lag + 1):
        rows[k], rows[lag + k] = y[lag - k], x[lag - k]
    rows[2 * lag + 1] = y[lag]
    for c in range(2 * lag + 2):
        for d in range(c + 1):
            into = gram[_column(c, lag, largest), _column(d, lag, largest)]
            _add_product(into, rows[c], rows[d])


def _triangular(gram: Array, lag: int, largest: int, factor: Array, least: Array) -> None:
    """Cholesky's factor of a lag's columns, and the least share that a column keeps."""
    size = 2 * lag + 2
    for c in range(size):
        for d in range(c + 1):
            copy(gram[_column(c, lag, largest), _column(d, lag, largest)], factor[c, d])
    least[:] = 1.0
    for c in range(size):
        _root_and_share(factor[c, c], gram[_column(c, lag, largest), _column(c, lag, largest)], least)
        for d in range(c + 1, size):
            _divide(factor[d, c], factor[c, c])
            for e in range(c + 1, d + 1):
                _take_product(factor[d, e], factor[d, c], factor[e, c])


def _set_sum(values: Array, into: Array) -> None:
    into[:] = 0.0
    for t in range(len(values)):
        for lane in range(len(into)):
            into[lane] += values[t, lane]


def _add_product(into: Array, a: Array, b: Array) -> None:
    for lane in range(len(into)):
        into[lane] += a[lane] * b[lane]


def _take_product(into: Array, a: Array, b: Array) -> None:
    for lane in range(len(into)):
        into[lane] -= a[lane] * b[lane]


def _divide(values: Array, by: Array) -> None:
    for lane in range(len(values)):
        values[lane] /= by[lane]


def _root_and_share(pivot: Array, squares: Array, least: Array) -> None:
    for lane in range(len(pivot)):
        # squares that are too small have lost digits
        share = pivot[lane] / squares[lane] if squares[lane] > _SMALLEST else 0.0
        # NaN stays
        least[lane] = least[lane] if least[lane] < share else share
        pivot[lane] = math.sqrt(pivot[lane])


def _from_factors(effect: Array, cause: Array, lag: int) -> tuple[Array, Array, Array, Array]:
    """Sums of squares of pairs ``(N, T)`` at one lag by Householder's QR: slower, and with all digits there are.

    Each ``(N,)``: what the cause explains, residuals with it, total, and the least independent share.
    """
    n_times = cause.shape[1]
    y, x = (series / np.maximum(abs(series).max(1, keepdims=True), 1e-300) for series in (effect, cause))
    past = [series[:, lag - k : n_times - k] for series in (y, x) for k in range(1, lag + 1)]
    design = np.stack([np.ones_like(y[:, lag:]), *past, y[:, lag:]], axis=2)
    # without the row of the constant: what is left are columns less their means
    squares = np.asarray(np.linalg.qr(design, mode="r"))[:, 1:, 1:] ** 2
    length, left = squares.sum(1), np.diagonal(squares, axis1=1, axis2=2)
    share = np.divide(left, length, out=np.zeros_like(length), where=length > 0)[:, :-1]
    response = squares[:, :, -1]
    return response[:, lag:-1].sum(1), response[:, -1], response.sum(1), share.min(1)


def _with_care(effect: Array, cause: Array, lag: int) -> tuple[NDArray[np.int8], Array]:
    r"""The status of pairs ``(N, T)`` that need a closer look, and $(\mathrm{SSR}_r-\mathrm{SSR}_u)/\mathrm{SSR}_u$."""
    with np.errstate(all="ignore"):  # what is not finite is labelled
        y, x = (each - each[:, each.shape[1] // 2, None] for each in (effect, cause))
        finite = np.isfinite(y).all(1) & np.isfinite(x).all(1)
        y[~finite], x[~finite] = 0.0, 0.0
        explained, residual, total, independent = _from_factors(y, x, lag)
        status = np.full(len(y), Status.OK, dtype=np.int8)
        for found, label in (
            (residual <= np.finfo(np.float64).eps * total, Status.PERFECT_FIT),
            (independent < _COLLINEAR_BELOW**2, Status.COLLINEAR),
            (_any_constant(cause[:, :-1], lag), Status.CONSTANT_CAUSE),
            (_any_constant(effect, lag + 1), Status.CONSTANT_EFFECT),
            (~finite, Status.NOT_FINITE),
        ):
            status[found] = label
        return status, np.where(status == Status.OK, explained / residual, np.nan)


def _any_constant(rows: Array, n_windows: int) -> NDArray[np.bool_]:
    """Where one of so many windows, each a step later than the one before, is constant, ``(N,)``."""
    n = rows.shape[1] - n_windows + 1
    return np.any([np.ptp(rows[:, start : start + n], axis=1) == 0 for start in range(n_windows)], axis=0)


def _statistics(ratio: Array, lags: tuple[int, ...], n_times: int) -> dict[str, Array]:
    """The three statistics, and p-values of the first two, ``(N, n_lags)`` each."""
    results = {name: np.empty_like(ratio) for name in ("f", "p_value", "chi2", "chi2_p_value", "lr")}

    def fill(start: int, stop: int) -> None:
        for k, lag in enumerate(lags):
            part, n_obs, df_den = ratio[start:stop, k], n_times - lag, n_times - 3 * lag - 1
            f, chi2 = part * df_den / lag, n_obs * part
            # with one degree of freedom through the normal's tail, which is faster
            chi2_p = special.erfc(np.sqrt(chi2 / 2)) if lag == 1 else special.chdtrc(lag, chi2)
            columns = f, special.fdtrc(lag, df_den, f), chi2, chi2_p, n_obs * np.log1p(part)
            for result, column in zip(results.values(), columns, strict=True):
                result[start:stop, k] = column

    # NumPy holds the other threads up in operations on fewer than 500 numbers.
    over_chunks(lambda: fill, len(ratio), 2048)
    return results
