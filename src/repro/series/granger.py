r"""Granger causality of N pairs of series at once: do the past values of one help to predict the other?

The tests are statsmodels' (``grangercausalitytests``), with the same samples and the same refusals, but a pair
that cannot be tested is labelled and the others go on.

The design of lag L has the columns $1, y_{t-1},\dots,y_{t-L}, x_{t-1},\dots,x_{t-L}, y_t$ and the rows
$t=L,\dots,T-1$. In its triangular factor R the last column holds what each column adds to the fit of $y_t$:
squares of its entries are sums of squares, and none of them is a difference of two others. The design of lag L - 1
has two columns less and one row more: its R is that of the old R without the two columns and with the row below, a
matrix of 2L + 3 rows whatever T is. So one QR at the largest lag serves all lags.

Matrices are stored with their columns as rows, ``(N, columns, rows)``, which is how LAPACK wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor

from repro.base import whole
from repro.series._inputs import Array, over_chunks, series_rows

#: A column of the design, less its mean, is collinear with those before it if they leave less of its length.
_COLLINEAR_BELOW = 1e-11
#: Working memory of a thread; more than what the caches hold gains nothing.
_BYTES_A_CHUNK = 2**24


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
    effect: ArrayLike | Tensor, cause: ArrayLike | Tensor, lag: int | Sequence[int], *, difference: int = 0
) -> GrangerResult:
    r"""Test whether each cause helps to predict its effect beyond the effect's own past.

    $$F=\frac{(\mathrm{SSR}_r-\mathrm{SSR}_u)/L}{\mathrm{SSR}_u/(n-2L-1)},\qquad
    \chi^2=n\frac{\mathrm{SSR}_r-\mathrm{SSR}_u}{\mathrm{SSR}_u},\qquad
    \mathrm{LR}=n\ln\frac{\mathrm{SSR}_r}{\mathrm{SSR}_u},\qquad n=T-L,$$

    least squares with a constant, $y_t=c+\sum_{l\le L} a_ly_{t-l}\;[+\sum_{l\le L} b_lx_{t-l}]$. The last two
    are compared with $\chi^2_L$. Each lag uses all the rows it can, as in statsmodels.

    The sums of squares come from one Householder QR a pair at the largest lag, which is taken down to the smaller
    ones row by row. $\mathrm{SSR}_r-\mathrm{SSR}_u$ is a sum of squares of its own, so that tiny F keep their
    digits. Scale and offset of a series do not matter, only what an offset has rounded off in the input is gone.
    Smooth series cost digits: if a share s of the length of a column, or of $y_t$, is left after the columns
    before it, F is good to about $10^{-15}/s$ to $10^{-14}/s$.

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
    whole("difference", difference, 0)
    n_pairs, n_times = len(causes), max(causes.shape[1] - difference, 0)
    ratio = np.full((n_pairs, len(lags)), np.nan)
    status = np.full((n_pairs, len(lags)), Status.TOO_SHORT, dtype=np.int8)
    fits = np.array([n_times >= 3 * each + 2 for each in lags])
    possible = [each for each, fit in zip(lags, fits, strict=True) if fit]
    down = range(max(possible, default=0), min(possible, default=1) - 1, -1)
    shared = _Prepared(effects, difference, down.start) if np.ndim(effects) == 1 else None
    size = 2 * down.start + 2
    # designs and factors; series and what is made of them
    floats_a_pair = size * (n_times + 3 * size) + 8 * n_times
    rows_a_chunk = max(1, min(n_pairs, _BYTES_A_CHUNK // (8 * floats_a_pair)))

    def make_worker() -> Callable[[int, int], None]:
        factors = (
            _PairFactors(rows_a_chunk, n_times, down)
            if shared is None
            else _SharedFactors(rows_a_chunk, shared.values, down)
        )

        def worker(start: int, stop: int) -> None:
            y = shared or _Prepared(effects[start:stop], difference, down.start)
            x = _Prepared(causes[start:stop], difference, down.start)
            status[start:stop][~(y.finite & x.finite)] = Status.NOT_FINITE
            for each, sums in factors.walk_down(y.values, x.values):
                if each in possible:
                    column = lags.index(each)
                    status[start:stop, column], ratio[start:stop, column] = _test_lag(y, x, sums, each)

        return worker

    over_chunks(make_worker, n_pairs, rows_a_chunk)
    counts = np.array(lags)
    table: dict[str, Any] = {
        **_statistics(ratio, lags, n_times),
        "df_num": counts * fits,
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
    if not lags:
        raise ValueError("lag must be a whole number or a sequence of at least one, got an empty sequence")
    if len(set(lags)) < len(lags):
        twice = next(each for each in lags if lags.count(each) > 1)
        raise ValueError(f"lag must name each lag once, got {twice} twice in {lags}")
    return lags


def _paired_rows(effect: ArrayLike | Tensor, cause: ArrayLike | Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """The effects, ``(T,)`` if all pairs share one, and the causes ``(N, T)``."""
    effects, causes = series_rows(effect, "effect"), series_rows(cause, "cause")
    rows = np.atleast_2d(causes)
    if effects.shape[-1] != rows.shape[1] or (effects.ndim == 2 and len(effects) != len(rows)):
        raise ValueError(
            "effect must have the shape (T,) or that of cause, (N, T): "
            f"got effect {effects.shape} and cause {causes.shape}"
        )
    return effects, rows


class _Prepared:
    """Some rows, differenced and without their offset, with what the labels need to know of them."""

    def __init__(self, rows: NDArray[Any], difference: int, largest: int) -> None:
        """``largest`` is the largest lag that will be asked for, T at least 3 largest + 2."""
        raw = torch.from_numpy(np.require(np.atleast_2d(rows), np.float64, ["C", "W"]))
        n_times = max(raw.shape[1] - difference, 0)
        if difference:
            raw = raw.diff(n=difference)
        # An offset comes off before anything is summed: exactly so where it is the larger part. The middle value
        # stands for it, because first values are often far from the rest.
        self.values = raw - raw[:, n_times // 2 : n_times // 2 + 1] if n_times else raw
        # Two passes: aminmax over rows is slower than both.
        size = raw.new_zeros(len(raw))
        if n_times:
            size = torch.maximum(self.values.amax(1), -self.values.amin(1))
        finite = size.isfinite()
        self.finite = finite.numpy()
        if not finite.all():
            self.values[~finite] = 0.0
        # Squares must neither overflow nor vanish.
        extreme = ((size < 1e-100) | (size > 1e100)) & (size > 0) & finite
        if extreme.any():
            self.values[extreme] /= size[extreme, None]
        # Each window of each lag contains the core of its series, so that few rows need a look.
        core = raw[:, largest : n_times - largest]
        suspects = (core[:, 0] == core[:, 1]).nonzero()[:, 0] if core.shape[1] > 1 else size.nonzero()[:0, 0]
        suspects = suspects[(core[suspects] == core[suspects, :1]).all(1)]
        self._level, self._level_rows = suspects.numpy(), raw[suspects]

    def constant(self, n_obs: int, n_columns: int) -> NDArray[np.bool_]:
        """Where one of the first ``n_columns`` windows of ``n_obs`` points is constant, ``(N,)``."""
        found = np.zeros(len(self.finite), dtype=bool)
        if len(self._level):
            windows = self._level_rows[:, : n_obs + n_columns - 1].unfold(1, n_obs, 1)
            found[self._level] = (windows.amax(2) == windows.amin(2)).any(1).numpy()
        return found


class _Sums(NamedTuple):
    """Each ``(N,)``: what the cause explains, residuals with it, total, and the least independent share."""

    explained: Tensor
    residual: Tensor
    total: Tensor
    independent: Tensor


def _sums_of_squares(factor: Tensor, lag: int, independent: Tensor) -> _Sums:
    """From the last columns of R, those of the cause and the response, as ``(N, lag + 1, 2 lag + 2)``.

    ``independent`` is the share of the effect's own columns.
    """
    squares = factor[:, :, 1:].square()
    response, causes = squares[:, -1], squares[:, :-1]
    share = _independent_share(causes.sum(2), causes[:, :, lag:].diagonal(dim1=1, dim2=2))
    explained = response[:, lag : 2 * lag].sum(1)
    return _Sums(explained, response[:, -1], response.sum(1), torch.minimum(share, independent))


def _independent_share(lengths: Tensor, left: Tensor) -> Tensor:
    """The least share of a squared length that the columns before leave: ``(N, k)`` twice to ``(N,)``."""
    # 0/0: a constant column, of which nothing is left.
    return (left / lengths).nan_to_num_(0.0).amin(1)


def _triangular(columns: Tensor, scales: Tensor, out: Tensor) -> Tensor:
    """The transpose of R in Householder's QR of ``(N, p, n)``, columns as rows, into ``out``, ``(N, p, p)``.

    ``columns`` is used up; ``scales`` is memory for N p numbers. Signs are arbitrary.
    """
    n_pairs, size, _ = columns.shape
    reflected = columns.mT
    torch.geqrf(reflected, out=(reflected, scales[: n_pairs * size].view(n_pairs, size)))
    return torch.tril(columns[:, :, :size], out=out)


def _view(memory: Tensor, *shape: int) -> Tensor:
    """The first part of a vector as an array ``(a, b, c)``."""
    return memory[: shape[0] * shape[1] * shape[2]].view(shape)


class _PairFactors:
    """Triangular factors for pairs with an effect each: QR of a pair's whole design.

    Memory for up to ``n_pairs`` pairs at a time is used again for one chunk after the other: fresh memory for each
    step would cost as much time as the arithmetic.
    """

    def __init__(self, n_pairs: int, n_times: int, lags: range) -> None:
        size = 2 * lags.start + 2
        widths = (n_times - lags.start, size + 1, size, 1)
        self._design, self._update, self._factor, self._scales = (
            torch.empty(n_pairs * size * max(width, 0), dtype=torch.float64) for width in widths
        )
        self._lags = lags

    def walk_down(self, effect: Tensor, cause: Tensor) -> Iterator[tuple[int, _Sums]]:
        """Each lag from the largest to the smallest with its sums of squares, from ``(N, T)`` twice."""
        factor = None
        for lag in self._lags:
            if factor is None:
                columns = self._lagged_design(effect, cause, lag)
            else:
                columns = self._with_row(factor, effect, cause, lag)
            n_pairs, size, _ = columns.shape
            factor = _triangular(columns, self._scales, _view(self._factor, n_pairs, size, size))
            own = factor[:, 1 : lag + 1, 1 : lag + 1].square()
            share = _independent_share(own.sum(2), own.diagonal(dim1=1, dim2=2))
            yield lag, _sums_of_squares(factor[:, lag + 1 :], lag, share)

    def _lagged_design(self, effect: Tensor, cause: Tensor, lag: int) -> Tensor:
        n_pairs, n_times = cause.shape
        columns = _view(self._design, n_pairs, 2 * lag + 2, n_times - lag)
        columns[:, 0] = 1
        for k in range(1, lag + 1):
            columns[:, k] = effect[:, lag - k : n_times - k]
            columns[:, lag + k] = cause[:, lag - k : n_times - k]
        columns[:, -1] = effect[:, lag:]
        return columns

    def _with_row(self, old: Tensor, effect: Tensor, cause: Tensor, lag: int) -> Tensor:
        """R of lag + 1 without its two oldest columns, above the row that the design of lag gains."""
        n_pairs, size, _ = old.shape
        columns = _view(self._update, n_pairs, size - 2, size + 1)
        columns[:, : lag + 1, :size] = old[:, : lag + 1]
        columns[:, lag + 1 : -1, :size] = old[:, lag + 2 : -2]
        columns[:, -1, :size] = old[:, -1]
        row = columns[:, :, size]
        row[:, 0] = 1
        row[:, 1 : lag + 1] = effect[:, :lag].flip(1)
        row[:, lag + 1 : -1] = cause[:, :lag].flip(1)
        row[:, -1] = effect[:, lag]
        return columns


class _Rotation(NamedTuple):
    r"""Householder's $Q^\top=I-WV^\top$ of the effect's columns, ``(n, k)`` twice, and how independent they are."""

    vectors: Tensor
    weighted: Tensor
    independent: Tensor

    @classmethod
    def of(cls, columns: Tensor) -> tuple[_Rotation, Tensor]:
        """QR of ``(n, k)``, the reflections joined as in LAPACK's larft, and its R, ``(k, k)``."""
        reflected, scales = torch.geqrf(columns)
        k = columns.shape[1]
        vectors = reflected.tril(-1)
        vectors.diagonal().fill_(1.0)
        mixing = torch.diag(scales)
        for j in range(1, k):
            mixing[:j, j] = -scales[j] * (mixing[:j, :j] @ (vectors[:, :j].T @ vectors[:, j]))
        factor = reflected[:k].triu()
        own = factor[None, 1:, 1:].square()
        share = _independent_share(own.sum(1), own.diagonal(dim1=1, dim2=2))
        return cls(vectors, vectors @ mixing.T, share), factor

    def head_and_tail(self, rows: Tensor, out: Tensor) -> Tensor:
        """Rotate ``(N, m, n)``: what falls on the k columns, ``(N, m, k)``; the rest goes to ``out``."""
        n, k = self.vectors.shape
        flat = rows.reshape(-1, n)
        amounts = flat @ self.vectors
        torch.addmm(flat[:, k:], amounts, self.weighted[k:].T, alpha=-1, out=out.view(-1, n - k))
        return torch.addmm(flat[:, :k], amounts, self.weighted[:k].T, alpha=-1).view(*rows.shape[:2], k)


class _SharedFactors:
    r"""Triangular factors for one effect and many causes: the columns of the effect are factored once for all.

    The reflections of the columns $1, y_{t-1},\dots,y_{t-L}$ are the same for every pair. They are found once and
    applied to all causes by matrix products; a QR of each pair's own is left for the L columns of its cause.
    """

    def __init__(self, n_pairs: int, effect: Tensor, lags: range) -> None:
        n_times, largest = effect.shape[1], lags.start
        size = largest + 1
        widths = (n_times - largest, max(n_times - largest - size, size + 3), 2 * size, size, 1)
        self._rows, self._tail, self._factor, self._triangle, self._scales = (
            effect.new_empty(n_pairs * size * width) for width in widths
        )
        self._effect, self._lags, self._rotations = effect, lags, []
        y, factor = effect[0], None
        for lag in lags:
            if factor is None:
                past = [y[lag - k : n_times - k] for k in range(1, lag + 1)]
                columns = torch.stack([torch.ones_like(y[lag:]), *past], 1)
            else:
                row = torch.cat([torch.ones_like(y[:1]), y[:lag].flip(0)])
                columns = torch.cat([factor[: lag + 1, : lag + 1], row[None]])
            rotation, factor = _Rotation.of(columns)
            self._rotations.append(rotation)

    def walk_down(self, _: Tensor, cause: Tensor) -> Iterator[tuple[int, _Sums]]:
        """Each lag from the largest to the smallest with its sums of squares, from ``(N, T)``."""
        n_pairs, n_times = cause.shape
        factor = None
        for lag, rotation in zip(self._lags, self._rotations, strict=True):
            own = lag + 1
            if factor is None:
                rows = _view(self._rows, n_pairs, own, n_times - lag)
                for k in range(1, lag + 1):
                    rows[:, k - 1] = cause[:, lag - k : n_times - k]
                rows[:, -1] = self._effect[:, lag:]
                tail = _view(self._tail, n_pairs, own, n_times - lag - own)
                head = rotation.head_and_tail(rows, tail)
            else:
                # The row that the design gains rotates with those of the effect's columns, and what is left of it
                # joins the rows below: that of the effect's oldest lag, which is free now, and the cause's.
                rows = _view(self._rows, n_pairs, own, own + 1)
                rows[:, :-1, :own], rows[:, -1, :own] = factor[:, :lag, :own], factor[:, -1, :own]
                rows[:, :-1, own], rows[:, -1, own] = cause[:, :lag].flip(1), self._effect[:, lag]
                tail = _view(self._tail, n_pairs, own, lag + 4)
                tail[:, :-1, :-1], tail[:, -1, :-1] = factor[:, :lag, own:], factor[:, -1, own:]
                gained = rows.new_empty(n_pairs, own, 1)
                head = rotation.head_and_tail(rows, gained)
                tail[:, :, -1:] = gained
            factor = _view(self._factor, n_pairs, own, 2 * own)
            factor[:, :, :own] = head
            factor[:, :, own:] = _triangular(tail, self._scales, _view(self._triangle, n_pairs, own, own))
            yield lag, _sums_of_squares(factor, lag, rotation.independent)


def _test_lag(effect: _Prepared, cause: _Prepared, sums: _Sums, lag: int) -> tuple[NDArray[np.int8], Array]:
    r"""The status of a chunk of pairs at one lag, and $(\mathrm{SSR}_r-\mathrm{SSR}_u)/\mathrm{SSR}_u$."""
    n_obs = cause.values.shape[1] - lag
    explained, ssr, tss, independent = (each.numpy() for each in sums)
    status = np.full(len(ssr), Status.OK, dtype=np.int8)
    for found, label in (
        ((ssr < np.finfo(np.float64).eps * tss) | (ssr == 0), Status.PERFECT_FIT),
        (independent < _COLLINEAR_BELOW**2, Status.COLLINEAR),
        (cause.constant(n_obs, lag), Status.CONSTANT_CAUSE),
        (effect.constant(n_obs, lag + 1), Status.CONSTANT_EFFECT),
        (~(effect.finite & cause.finite), Status.NOT_FINITE),
    ):
        if found.any():
            status[np.broadcast_to(found, status.shape)] = label
    ratio = np.full(len(ssr), np.nan)
    np.divide(explained, ssr, out=ratio, where=status == Status.OK)
    return status, ratio


def _statistics(ratio: Array, lags: tuple[int, ...], n_times: int) -> dict[str, Array]:
    """The three statistics and their p-values, ``(N, n_lags)`` each."""
    names = ("f", "p_value", "chi2", "chi2_p_value", "lr", "lr_p_value")
    results = {name: np.empty_like(ratio) for name in names}

    def fill(start: int, stop: int) -> None:
        for k, lag in enumerate(lags):
            part, n_obs, df_den = ratio[start:stop, k], n_times - lag, n_times - 3 * lag - 1
            f, chi2, lr = part * df_den / lag, n_obs * part, n_obs * np.log1p(part)
            p_values = special.fdtrc(lag, df_den, f), _chi2_above(lag, chi2), _chi2_above(lag, lr)
            columns = (f, p_values[0], chi2, p_values[1], lr, p_values[2])
            for name, column in zip(names, columns, strict=True):
                results[name][start:stop, k] = column

    # NumPy holds the other threads up in operations on fewer than 500 numbers.
    over_chunks(lambda: fill, len(ratio), 2048)
    return results


def _chi2_above(df: int, values: Array) -> Array:
    """P(chi-squared with df degrees of freedom > values); for one, the fast way through the normal's tail."""
    return special.erfc(np.sqrt(values / 2)) if df == 1 else special.chdtrc(df, values)
