r"""Granger causality of N pairs of series at once: do the past values of one help to predict the other?

The tests are statsmodels' (``grangercausalitytests``), with the same samples and the same refusals, but a pair
that cannot be tested is labelled and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special

from repro.series._chunks import over_chunks
from repro.series._granger_algebra import SumsOfSquares
from repro.series._granger_factors import PairFactors
from repro.series._granger_shared import SharedFactors
from repro.series._inputs import Prepared, Rows, checked_lags, checked_whole, paired_rows

__all__ = ["COLLINEAR_BELOW", "GrangerResult", "Status", "granger_test"]

Array = NDArray[np.float64]

#: A column of the design, less its mean, is collinear with those before it if they leave less of its length.
COLLINEAR_BELOW = 1e-11
#: Series-long arrays that a pair needs besides its design.
WORKING_COPIES = 8


class Status(IntEnum):
    """Why a pair has no test statistic at a lag; the first that applies."""

    OK = 0
    NOT_FINITE = 1  #: NaN or infinity in either series, or differences beyond the largest float
    TOO_SHORT = 2  #: fewer than 3 lag + 2 points in time
    CONSTANT_EFFECT = 3  #: the effect, or one of its lagged columns, is constant
    CONSTANT_CAUSE = 4  #: a lagged column of the cause is constant
    COLLINEAR = 5  #: a lagged column is a combination of the others, see ``COLLINEAR_BELOW``
    PERFECT_FIT = 6  #: residuals below the rounding of float64: SSR/TSS < 2.2e-16


@dataclass(frozen=True)
class GrangerResult:
    """What ``granger_test`` found: arrays of shape ``(N,)`` for one lag, ``(N, n_lags)`` for several.

    The statistics and p-values are NaN where ``status`` is not ``Status.OK``. ``df_num``, ``df_den`` and
    ``n_obs`` depend on the lag alone, have the shape ``()`` or ``(n_lags,)``, and are 0 where T is too short.
    """

    lags: tuple[int, ...]
    f: Array
    p_value: Array
    chi2: Array
    chi2_p_value: Array
    lr: Array
    lr_p_value: Array
    df_num: NDArray[np.int64]
    df_den: NDArray[np.int64]
    n_obs: NDArray[np.int64]
    status: NDArray[np.int8]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Where there is a test statistic."""
        return self.status == Status.OK


def granger_test(
    effect: ArrayLike | torch.Tensor,
    cause: ArrayLike | torch.Tensor,
    lag: int | Sequence[int],
    *,
    difference: int = 0,
    max_bytes: int = 2**24,
) -> GrangerResult:
    r"""Test whether each cause helps to predict its effect beyond the effect's own past.

    $$F=\frac{(\mathrm{SSR}_r-\mathrm{SSR}_u)/L}{\mathrm{SSR}_u/(n-2L-1)},\qquad
    \chi^2=n\frac{\mathrm{SSR}_r-\mathrm{SSR}_u}{\mathrm{SSR}_u},\qquad
    \mathrm{LR}=n\ln\frac{\mathrm{SSR}_r}{\mathrm{SSR}_u},\qquad n=T-L,$$

    least squares with a constant, $y_t=c+\sum_{l\le L} a_ly_{t-l}\;[+\sum_{l\le L} b_lx_{t-l}]$. The last two
    are compared with $\chi^2_L$. Each lag uses all the rows it can, as in statsmodels.

    The sums of squares come from one Householder QR a pair at the largest lag; Givens rotations take it down to
    the smaller ones. $\mathrm{SSR}_r-\mathrm{SSR}_u$ is a sum of squares of its own, so that tiny F keep their
    digits. Scale and offset of a series do not matter, only what an offset has rounded off in the input is gone.
    Smooth series cost digits: if a share s of the length of a column, or of $y_t$, is left after the columns
    before it, F is good to about $10^{-15}/s$ to $10^{-14}/s$.

    It is a test of prediction: two series that share a trend or a common driver pass it without any causation.

    Args:
        effect: ``(T,)``, the same for all pairs, or ``(N, T)``. Arrays and tensors, floating point or integer (below
            2**53), any memory layout; what is masked counts as NaN; computed in float64, on the device of a tensor.
        cause: ``(N, T)``, or ``(T,)`` for one pair.
        lag: a number of points in time, or several numbers, such as ``range(1, 15)``, in one call.
        difference: how often to difference both series first.
        max_bytes: working memory of one thread, in bytes, for at least one pair; on a processor, more than what its
            caches hold gains nothing.

    Returns:
        NumPy arrays whatever the input was; see :class:`GrangerResult`. Pairs that cannot be tested have a
        ``status`` and NaN. The numbers do not depend on how many threads there were.

    Raises:
        ValueError: shapes that do not match, a lag that is no whole number of at least 1 or is named twice.
        TypeError: values that are not real numbers, or a table with labels.

    Source: Granger, Econometrica 37 (1969) 424; statsmodels ``tsa.stattools.grangercausalitytests``.
    """
    effects, causes, device = paired_rows(effect, cause)
    lags = checked_lags(lag)
    difference = checked_whole(difference, "difference", 0)
    max_bytes = checked_whole(max_bytes, "max_bytes", 1)

    n_pairs, n_times = len(causes), max(causes.shape[-1] - difference, 0)
    ratio = np.full((n_pairs, len(lags)), np.nan)
    status = np.full((n_pairs, len(lags)), Status.TOO_SHORT, dtype=np.int8)
    possible = [each for each in lags if n_times >= 3 * each + 2]
    largest, smallest = max(possible, default=0), min(possible, default=0)
    is_shared = len(effects.shape) == 1
    bytes_a_pair = (SharedFactors if is_shared else PairFactors).bytes_a_pair(n_times, largest)
    bytes_a_pair += 8 * WORKING_COPIES * max(n_times, 1)
    rows_a_chunk = max(1, min(n_pairs, max_bytes // bytes_a_pair))

    def prepared(rows: Rows, start: int, stop: int) -> Prepared:
        return Prepared(rows, start, stop, difference, largest, device)

    shared = prepared(effects, 0, 1) if is_shared else None

    def make_worker() -> Callable[[int, int], None]:
        walk = _walk(shared, rows_a_chunk, n_times, largest, smallest, device)

        def worker(start: int, stop: int) -> None:
            y, x = shared or prepared(effects, start, stop), prepared(causes, start, stop)
            status[start:stop][~(y.finite & x.finite).cpu().numpy()] = Status.NOT_FINITE
            for each, sums in walk(y.values, x.values):
                if each in possible:
                    column = lags.index(each)
                    status[start:stop, column], ratio[start:stop, column] = _test_lag(y, x, sums, each)

        return worker

    over_chunks(make_worker, n_pairs, rows_a_chunk)

    fits = [each in possible for each in lags]
    n_obs, df_num, df_den = (
        np.array([count if fit else 0 for count, fit in zip(counts, fits, strict=True)], dtype=np.int64)
        for counts in (
            [n_times - each for each in lags],
            lags,
            [n_times - 3 * each - 1 for each in lags],
        )
    )
    results = _statistics(ratio, lags, n_obs, df_den)
    table: dict[str, Any] = {**results, "df_num": df_num, "df_den": df_den, "n_obs": n_obs, "status": status}
    several = np.ndim(lag) > 0
    return GrangerResult(lags, **{name: a if several else a[..., 0] for name, a in table.items()})


def _walk(
    shared: Prepared | None, n_pairs: int, n_times: int, largest: int, smallest: int, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], Iterator[tuple[int, SumsOfSquares]]]:
    """From the series of a chunk to the sums of squares of each lag, with memory of its own."""
    if largest == 0:
        return lambda effect, cause: iter(())
    if shared is None:
        return PairFactors(n_pairs, n_times, largest, smallest, device).walk_down
    causes = SharedFactors(n_pairs, shared.values, largest, smallest)
    return lambda effect, cause: causes.walk_down(cause)


def _test_lag(
    effect: Prepared, cause: Prepared, sums: SumsOfSquares, lag: int
) -> tuple[NDArray[np.int8], Array]:
    r"""The status of a chunk of pairs at one lag, and $(\mathrm{SSR}_r-\mathrm{SSR}_u)/\mathrm{SSR}_u$."""
    n_times = cause.values.shape[1]
    n_obs = n_times - lag
    explained, ssr, tss, independent = (each.cpu().numpy() for each in sums)
    status = np.full(len(ssr), Status.OK, dtype=np.int8)
    for found, label in (
        ((ssr < np.finfo(np.float64).eps * tss) | (ssr == 0), Status.PERFECT_FIT),
        (independent < COLLINEAR_BELOW**2, Status.COLLINEAR),
        (cause.constant(n_obs, lag), Status.CONSTANT_CAUSE),
        (effect.constant(n_obs, lag + 1), Status.CONSTANT_EFFECT),
        (~(effect.finite & cause.finite).cpu().numpy(), Status.NOT_FINITE),
    ):
        if found.any():
            status[np.broadcast_to(found, status.shape)] = label

    ratio = np.full(len(ssr), np.nan)
    np.divide(explained, ssr, out=ratio, where=status == Status.OK)
    return status, ratio


def _statistics(
    ratio: Array, lags: tuple[int, ...], n_obs: NDArray[np.int64], df_den: NDArray[np.int64]
) -> dict[str, Array]:
    """The three statistics and their p-values, ``(N, n_lags)`` each."""
    names = ("f", "p_value", "chi2", "chi2_p_value", "lr", "lr_p_value")
    results = {name: np.empty_like(ratio) for name in names}

    def fill(start: int, stop: int) -> None:
        for k, lag in enumerate(lags):
            part = ratio[start:stop, k]
            f, chi2, lr = part * df_den[k] / lag, n_obs[k] * part, n_obs[k] * np.log1p(part)
            p_values = special.fdtrc(lag, df_den[k], f), _chi2_above(lag, chi2), _chi2_above(lag, lr)
            columns = (f, p_values[0], chi2, p_values[1], lr, p_values[2])
            for name, column in zip(names, columns, strict=True):
                results[name][start:stop, k] = column

    # NumPy holds the other threads up in operations on fewer than 500 numbers.
    over_chunks(lambda: fill, len(ratio), 2048)
    return results


def _chi2_above(df: int, values: Array) -> Array:
    """P(chi-squared with df degrees of freedom > values); for one, the fast way through the normal's tail."""
    return special.erfc(np.sqrt(values / 2)) if df == 1 else special.chdtrc(df, values)
