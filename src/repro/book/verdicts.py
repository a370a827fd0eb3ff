r"""From the values of a test to a verdict: pure functions, recomputed on every run.

A test compares one number per seed with a threshold that was fixed before the run. Its 95 % interval says on
which side of the threshold the number lies, and its p-value, corrected after Holm over all judged tests of
the chapter's empirical claims, says whether so many looks could have produced that by luck.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from math import isfinite, sqrt
from typing import Annotated, Literal, Self, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import stats

from repro.base import bootstrap_median_interval, t_interval, wilson_interval

__all__ = [
    "VERDICTS",
    "Criterion",
    "JudgedClaim",
    "JudgedTest",
    "judge_claim",
    "judge_tests",
    "significant_digits",
]

_Verdict = Literal["reproduced", "partly", "undecided", "not reproduced", "not tested"]
_Kind = Literal["t", "bootstrap-median", "wilson"]

VERDICTS: tuple[_Verdict, ...] = get_args(_Verdict)
_LEVEL = 0.95
_ALPHA = 1 - _LEVEL
_N_RESAMPLES = 9999
# One value has no spread. A median lies outside the range of n values with probability 2 * 2**-n, which is
# more than 5 % up to n = 5: no interval of fewer than six values can have the level.
_FEWEST_SEEDS: dict[_Kind, int] = {"t": 2, "bootstrap-median": 6, "wilson": 1}
_OTHER_SIDE = {"below": "above", "above": "below", "between": "outside"}


class Criterion(BaseModel):
    """What a test demands: the side, the threshold (two numbers for "between"), and of how many seeds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    direction: Literal["below", "above", "between"]
    threshold: FiniteFloat | list[FiniteFloat]
    min_seeds: Annotated[int, Field(ge=1)]
    interval: _Kind = "t"

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold, or the two of "between"."""
        return tuple(self.threshold) if isinstance(self.threshold, list) else (self.threshold,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found, several = self.thresholds, self.direction == "between"
        in_order = len(found) == 2 and found[0] < found[1]
        if isinstance(self.threshold, list) != several or (several and not in_order):
            accepted = "[low, high] with low < high" if several else "one number"
        elif any(significant_digits(value) != value for value in found):
            accepted = "at most six significant digits"
        elif self.interval == "wilson" and not all(0 <= value <= 1 for value in found):
            accepted = "0 to 1, a proportion"
        elif self.min_seeds < (fewest := _FEWEST_SEEDS[self.interval]):
            told = f"{self.interval} gives no 95 % interval below {fewest} seeds"
            raise ValueError(f"min_seeds is {self.min_seeds}; {told}")
        else:
            return self
        raise ValueError(f"threshold is {self.threshold}; accepted for {self.direction}: {accepted}")


_L = TypeVar("_L", bound=Hashable)


class JudgedTest(BaseModel):
    """One test after judging; ``None`` where there was nothing to compute or the number is infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: tuple[FiniteFloat, ...] = ()
    estimate: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    p: FiniteFloat | None = None
    p_holm: FiniteFloat | None = None
    verdict: _Verdict
    reason: str = ""


class JudgedClaim(BaseModel):
    """One claim after judging, with its tests by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: _Verdict
    reason: str = ""
    tests: dict[str, JudgedTest] = {}


def significant_digits(value: float) -> float:
    """``value`` with six significant digits: what the results keep, and what is judged."""
    return float(f"{value:.5e}")


def _interval(values: Sequence[float], kind: _Kind) -> tuple[float, float, float]:
    """Estimate and ends of the 95 % interval: of the mean (t, wilson) or of the median (bootstrap-median)."""
    if kind != "wilson" and len(set(values)) == 1:
        return values[0], values[0], values[0]  # the rounding of a mean must not give equal values a width
    functions = {"t": t_interval, "wilson": wilson_interval, "bootstrap-median": bootstrap_median_interval}
    found = functions[kind](values, _LEVEL)
    # Wilson's ends are exact here; rounding must not put a threshold of 0 or 1 outside the interval
    low = 0.0 if kind == "wilson" and found.estimate == 0 else found.low
    high = 1.0 if kind == "wilson" and found.estimate == 1 else found.high
    return found.estimate, low, high


def _one_sided(values: Sequence[float], threshold: float, kind: _Kind) -> tuple[float, float]:
    r"""p-values for "the truth lies below" and "the truth lies above" the threshold, as ``(below, above)``.

    "t": Student's test of the mean. "wilson": the score test of a proportion,
    $z = (\hat p - p_0) / \sqrt{p_0 (1 - p_0) / n}$. "bootstrap-median": the share of resampled medians on the
    other side, $(1 + \#) / (1 + B)$, but never less than $2^{-n}$: the chance that n values fall on one side
    of their median is a bound that no resampling of those values can beat. Equal values decide with certainty
    (except medians, by the same bound).
    """
    array = np.asarray(values, dtype=np.float64)
    n, estimate = array.size, float(array.mean())
    if kind == "bootstrap-median":
        draws = np.random.default_rng(0).choice(array, size=(_N_RESAMPLES, n), replace=True)
        medians = np.median(draws, axis=1)
        below = (1 + np.count_nonzero(medians >= threshold)) / (1 + _N_RESAMPLES)
        above = (1 + np.count_nonzero(medians <= threshold)) / (1 + _N_RESAMPLES)
        return max(below, 0.5**n), max(above, 0.5**n)
    if kind == "wilson":
        error = sqrt(max(threshold * (1 - threshold), 0.0) / n)
    elif np.ptp(array) == 0:
        error, estimate = 0.0, float(array[0])
    else:
        error = float(array.std(ddof=1)) / sqrt(n)
    if error == 0:
        return float(estimate >= threshold), float(estimate <= threshold)
    z = (estimate - threshold) / error
    if kind == "wilson":
        return float(stats.norm.cdf(z)), float(stats.norm.sf(z))
    return float(stats.t.cdf(z, n - 1)), float(stats.t.sf(z, n - 1))


def _p_value(values: Sequence[float], criterion: Criterion) -> float:
    """The two-sided p-value: how surprising such values would be if the truth sat on the threshold.

    For "between" two one-sided tests must both hold for "inside" (the larger counts), either for "outside"
    (the smaller counts); the smaller of the two answers is doubled, as everywhere.
    """
    sides = [_one_sided(values, threshold, criterion.interval) for threshold in criterion.thresholds]
    (below_lower, above_lower), (below_upper, above_upper) = sides[0], sides[-1]  # the same for one threshold
    inside, outside = max(above_lower, below_upper), min(below_lower, above_upper)
    return min(1.0, 2 * min(inside, outside))


def _side(low: float, high: float, criterion: Criterion) -> _Verdict:
    """Where the whole interval lies; touching a threshold is undecided."""
    lower = criterion.thresholds[0] if criterion.direction != "below" else -np.inf
    upper = criterion.thresholds[-1] if criterion.direction != "above" else np.inf
    if lower < low and high < upper:
        return "reproduced"
    return "not reproduced" if high < lower or upper < low else "undecided"


def _listed(numbers: Iterable[float]) -> str:
    return " and ".join(f"{number:.4g}" for number in numbers)


def _holm(p_values: Mapping[_L, float]) -> dict[_L, float]:
    """Holm's step-down adjustment: the kth smallest of n values times n - k + 1, never below one that is smaller."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    adjusted = [p_values[label] * (len(ordered) - rank) for rank, label in enumerate(ordered)]
    return dict(zip(ordered, np.minimum(np.maximum.accumulate(adjusted), 1.0).tolist(), strict=True))


def judge_tests(
    measured: Mapping[_L, tuple[Criterion, Sequence[float]]], corrected: Collection[_L]
) -> dict[_L, JudgedTest]:
    """Judge all tests of a chapter together, because Holm's correction looks at all of them.

    ``measured`` maps any label of a test to its criterion and its finite values, one a seed; ``corrected`` are
    the labels that take part in the correction. A test with too few values is *not tested*, and takes no part.
    """
    raw = {
        label: _p_value(values, criterion)
        for label, (criterion, values) in measured.items()
        if len(values) >= criterion.min_seeds
    }
    holm = _holm({label: p for label, p in raw.items() if label in corrected})
    judged: dict[_L, JudgedTest] = {}
    for label, (criterion, values) in measured.items():
        if label in raw:
            judged[label] = _judged(criterion, values, raw[label], holm.get(label), len(holm))
        else:
            reason = f"{len(values)} of the {criterion.min_seeds} seeds that it needs"
            judged[label] = JudgedTest(values=tuple(values), verdict="not tested", reason=reason)
    return judged


def _judged(
    criterion: Criterion, values: Sequence[float], p: float, p_holm: float | None, n_family: int
) -> JudgedTest:
    estimate, low, high = _interval(values, criterion.interval)
    verdict = _side(low, high, criterion)
    aim = _listed(criterion.thresholds)
    if verdict == "undecided":
        reason = f"interval straddles {_listed(t for t in criterion.thresholds if low <= t <= high)}"
    elif p_holm is not None and p_holm >= _ALPHA:
        verdict = "undecided"
        corrected = f"p = {p:.2g} becomes {p_holm:.2g} after Holm's correction over {n_family} tests"
        reason = f"interval is clear of {aim}, but {corrected}"
    else:
        where = criterion.direction if verdict == "reproduced" else _OTHER_SIDE[criterion.direction]
        reason = f"interval lies {where} {aim}"
    numbers = {"estimate": estimate, "low": low, "high": high, "p": p, "p_holm": p_holm}
    kept = {n: significant_digits(x) for n, x in numbers.items() if x is not None and isfinite(x)}
    return JudgedTest(values=tuple(values), verdict=verdict, reason=reason, **kept)


def judge_claim(tests: Mapping[str, JudgedTest]) -> JudgedClaim:
    """The claim's verdict with a sentence that names the tests which kept it from "reproduced".

    Tests that all say the same give the claim their word; a test that was not run keeps it from "reproduced".
    """
    seen = {test.verdict for test in tests.values()}
    verdict = seen.pop() if len(seen) == 1 else "partly" if "reproduced" in seen else "undecided"
    reasons: dict[str, list[str]] = {}
    for name, test in tests.items():
        reasons.setdefault(f"{test.verdict}, {test.reason}" * (test.verdict != "reproduced"), []).append(name)
    reproduced = len(reasons.pop("", []))
    n, (first, *_) = len(tests), tests.values()
    if reproduced == n > 1:
        reason = f"all {n} tests are reproduced"
    elif n == 1 or (len(reasons) == 1 and not reproduced):
        reason = first.reason
    else:
        details = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        reason = f"{reproduced} of {n} tests reproduced; {details}"
    return JudgedClaim(verdict=verdict, reason=reason, tests=dict(tests))
