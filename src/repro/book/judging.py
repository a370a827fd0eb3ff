r"""From the values of a test to yes, no or open: pure functions, computed anew on every run.

A deciding test says of a statistic $\theta$ of one value a seed that it lies above a threshold $T$, below it, or
between two bounds, and names the margin $m$, the smallest effect that would matter. It asks two questions, each
with a one-sided p-value (for *above*; *below* is the mirror image):

* *Is it beyond T?* answers yes by rejecting $\theta \le T$.
* *Is it short of T + m?* answers no by rejecting $\theta \ge T + m$.

The two null hypotheses exclude each other, and both can be wrong: an effect between nothing and the margin is a
*yes*, "though less than would matter", once there are enough seeds to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from repro.base import Interval, t_interval

_Statistic = Literal["mean", "median", "share", "worst"]
_Answer = Literal["yes", "no", "open"]
_P = Any  # a p-value, or an array of them

_ALPHA = 0.05


@dataclass(frozen=True)
class Criterion:
    """What a deciding test says: of which statistic, on which side of T, or between a and b, with which margin.

    ``bounds`` holds T, or a and b. Only tests with a threshold have a margin: the bounds of *between* are its own,
    and the worst case needs none.
    """

    side: Literal["above", "below", "between"]
    bounds: tuple[float, ...]
    margin: float | None = None
    statistic: _Statistic = "mean"

    @property
    def sign(self) -> int:
        """+1 for above and -1 for below: the direction of an effect that the claim asserts."""
        return -1 if self.side == "below" else 1

    @property
    def matters(self) -> float:
        """T + m (below: T - m): where an effect begins to matter."""
        assert self.margin is not None
        return self.bounds[0] + self.sign * self.margin

    @property
    def no_harm(self) -> bool:
        """Whether it is a claim of no harm: *above -δ* with the margin δ, or its mirror image."""
        return self.margin is not None and self.bounds[0] == -self.sign * self.margin

    def worst(self, values: Sequence[float]) -> tuple[float, _Answer]:
        """The value that speaks most against the claim, and yes if it, and with it every value, lies where it says."""
        if self.side == "between":
            centre = sum(self.bounds) / 2
            value = max(values, key=lambda value: abs(value - centre))
            return value, "yes" if self.bounds[0] < value < self.bounds[1] else "no"
        value = min(values, key=lambda value: self.sign * value)
        return value, "yes" if self.sign * (value - self.bounds[0]) > 0 else "no"

    def questions(self, one_sided: Callable[[float], tuple[_P, _P]]) -> tuple[_P, _P]:
        """The p-values of the two questions of a test, for yes and for no.

        ``one_sided`` gives those for "above" and "below" a number. *Between* is inside when both bounds hold (the
        larger p-value counts), and outside when either fails (twice the smaller).
        """
        if self.side == "between":
            (above_a, below_a), (above_b, below_b) = (one_sided(bound) for bound in self.bounds)
            return np.maximum(above_a, below_b), np.minimum(1.0, 2 * np.minimum(below_a, above_b))
        at_t, where_it_matters = one_sided(self.bounds[0]), one_sided(self.matters)
        above = self.side == "above"
        return (at_t[0], where_it_matters[1]) if above else (at_t[1], where_it_matters[0])

    def questions_of_a_share(self, hits: Any, n: int) -> tuple[_P, _P]:
        """The same for a share, of which ``hits`` of ``n`` are all that need be known."""
        return self.questions(partial(_share_one_sided, hits, n))

    def answer(self, found: Interval, p_yes: float, p_no: float) -> _Answer:
        """Yes or no where the corrected p-value and the interval agree, else open; yes goes before no.

        =======================================  ======
        where the interval [low, high] lies      answer
        =======================================  ======
        low > T                                  yes
        high < T + m                             no
        inside (a, b)                            yes
        outside [a, b]                           no
        =======================================  ======
        """
        a, b = self.bounds[0], self.bounds[-1]
        if self.side == "between":
            beyond, short = a < found.low and found.high < b, found.high < a or b < found.low
        elif self.side == "above":
            beyond, short = found.low > a, found.high < self.matters
        else:
            beyond, short = found.high < a, found.low > self.matters
        if beyond and p_yes <= _ALPHA:
            return "yes"
        return "no" if short and p_no <= _ALPHA else "open"


# --- values ---------------------------------------------------------------------------------------------------


def significant_digits(value: float, digits: int = 6) -> float:
    """``value`` with so many significant digits: what the results keep, and what is judged."""
    return float(f"{value:.{digits - 1}e}") if isfinite(value) else value


# --- statistics -----------------------------------------------------------------------------------------------


def interval(values: Sequence[float], statistic: _Statistic) -> Interval:
    r"""The 95 % interval of a mean (Student), a share (Wilson) or a median.

    That of a median runs from the k-th smallest to the k-th largest of n values, $k$ the largest number with
    $P(\mathrm{Bin}(n, 1/2) < k) \le 2.5 \%$: exact for every distribution, and the whole line below six values.
    """
    if statistic == "share":
        from scipy.stats import binomtest

        ends = binomtest(int(np.sum(values)), len(values)).proportion_ci(method="wilson")
        return Interval(float(np.mean(values)), max(ends.low, 0.0), min(ends.high, 1.0), "share")
    array = np.sort(np.asarray(values, dtype=np.float64))
    if statistic == "median":
        from scipy.stats import binom

        k = int(binom.ppf(0.025, array.size, 0.5))
        low, high = (array[k - 1], array[-k]) if k else (-inf, inf)
        return Interval(float(np.median(array)), float(low), float(high), "median")
    if array.size > 1 and array[0] == array[-1]:  # the rounding of a mean must not give equal values a width
        return Interval(float(array[0]), float(array[0]), float(array[0]), "mean")
    return t_interval(array)


def one_sided(values: ArrayLike, at: float, statistic: _Statistic) -> tuple[_P, _P]:
    r"""p-values for "the truth lies above ``at``" and "the truth lies below it"; samples along the last axis.

    * mean: Student's test, made careful where values are skewed or discrete (``_of_a_mean``).
    * median: the sign test, $P(\mathrm{Bin}(n, 1/2) \ge \#\{x_i > T\})$, exact with ties as well.
    * share: the exact binomial test of n zeros and ones.
    """
    array = np.asarray(values, dtype=np.float64)
    n = array.shape[-1]
    if statistic == "share":
        return _share_one_sided(array.sum(axis=-1), n, at)
    if statistic == "median":
        over, under = (array > at).sum(axis=-1), (array < at).sum(axis=-1)
        return _share_one_sided(over, n, 0.5)[0], _share_one_sided(under, n, 0.5)[0]
    return _of_a_mean(array, at)


def _of_a_mean(array: NDArray[np.float64], at: float) -> tuple[_P, _P]:
    r"""The largest p-value of those that apply, so that no kind of value is called sure too soon.

    With $t = \sqrt n (\bar x - T) / s$ and the skewness $\gamma$ of the values:

    * Student's test of t;
    * the same of $t + \gamma (t^2/3 + 1/6) / \sqrt n + \gamma^2 t^3 / (27 n)$, without the error that skewness makes
      in the first (P. Hall, On the removal of skewness by transformation, J. R. Stat. Soc. B 54, 1992);
    * for values of which some are equal, $2^{-n}$, the least that a test of n values by their signs can give;
    * for zeros and ones, the exact test of a share.

    So equal values decide by their number, not with certainty, and one value decides nothing.
    """
    n = array.shape[-1]
    if n == 1:
        return np.ones(array.shape[:-1]), np.ones(array.shape[:-1])
    ordered = np.sort(array, axis=-1)
    equal = ordered[..., 0] == ordered[..., -1]
    mean = np.where(equal, ordered[..., 0], array.mean(axis=-1))  # which rounding must not move
    sd = np.where(equal, 0.0, array.std(axis=-1, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # not a number for equal values on the threshold: they speak for no side
        t = np.sqrt(n) * (mean - at) / sd
        z = (array - mean[..., None]) / sd[..., None]
        skewness = (z * z * z).mean(axis=-1)
        hall = t + skewness * (t**2 / 3 + 1 / 6) / np.sqrt(n) + skewness**2 * t**3 / (27 * n)
    hall = np.where(np.isfinite(hall), hall, t)
    ties = np.where((np.diff(ordered, axis=-1) == 0).any(axis=-1), 0.5**n, 0.0)
    exact = _share_one_sided(array.sum(axis=-1), n, at) if 0 < at < 1 else (0.0, 0.0)
    binary = np.isin(array, (0.0, 1.0)).all(axis=-1)

    def largest(sign: int, of_a_share: _P) -> _P:
        student = np.nan_to_num(special.stdtr(n - 1, -sign * np.stack([t, hall])), nan=1.0).max(axis=0)
        return np.maximum(np.maximum(student, ties), np.where(binary, of_a_share, 0.0))

    return largest(1, exact[0]), largest(-1, exact[1])


def _share_one_sided(hits: Any, n: int, at: float) -> tuple[_P, _P]:
    """The exact p-values of ``hits`` of n for "the share is above ``at``" and "it is below"."""
    from scipy.stats import binom  # a second of import, and few tests are about shares

    return binom.sf(hits - 1, n, at), binom.cdf(hits, n, at)


# --- many tests -----------------------------------------------------------------------------------------------


def corrected(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's correction over both questions of all K tests, in Shaffer's form; an array (K, 2) in and out.

    Holm multiplies the smallest of 2K p-values by 2K, the next by 2K - 1, and so on: by how many null hypotheses can
    still be true. As the two of one test exclude each other, that is the number of tests of which at least one
    question is still unanswered (J. P. Shaffer, Modified sequentially rejective multiple test procedures, JASA 1986).
    So the strictest level is 5 % / K and not 5 % / 2K, what Holm answers is answered here too, and as with Holm a
    chapter holds a false yes or a false no with a probability of at most 5 %, whatever is true.
    """
    raw = np.asarray(p_values, dtype=np.float64).reshape(-1, 2)
    adjusted, unanswered, least = np.empty_like(raw), np.full(len(raw), 2), 0.0
    for index in np.argsort(raw, axis=None, kind="stable"):
        test, question = divmod(int(index), 2)
        least = max(least, min(1.0, raw[test, question] * np.count_nonzero(unanswered)))
        adjusted[test, question] = least
        unanswered[test] -= 1
    return adjusted


def strictest_level(k: int) -> float:
    """The one-sided level at which a question is answered even if no other of ``k`` tests is: 5 % / k.

    At most 2.5 %, because the 95 % interval must agree. Tests outside the correction have ``k`` = 1.
    """
    return _ALPHA / max(k, 2)


def more_seeds(p_yes: float, p_no: float, n: int, k: int) -> int | None:
    r"""How many more seeds would decide, if they are like the n at hand; None where nothing can be said.

    With the same mean and spread the z of a p-value grows like $\sqrt n$, so $n (z_{level} / z_p)^2$ seeds bring the
    smaller of the two p-values to the strictest level of a family of ``k`` tests.
    """
    z = -float(special.ndtri(min(p_yes, p_no)))
    if z <= 0 or not isfinite(z):
        return None
    return max(1, ceil(n * (float(special.ndtri(strictest_level(k))) / z) ** 2) - n)
