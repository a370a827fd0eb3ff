r"""From the values of a test to a verdict: pure functions, recomputed on every run.

A test compares one number per seed with a threshold that was fixed before the run. Its 95 % interval says on
which side of the threshold the number lies, and its p-value, corrected after Holm over all judged tests of
the chapter's empirical claims, says whether so many looks could have produced that by luck.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats
from statsmodels.stats.multitest import multipletests

from repro.base import Interval, bootstrap_median_interval, t_interval, wilson_interval

__all__ = [
    "FEWEST_SEEDS",
    "LEVEL",
    "VERDICTS",
    "Criterion",
    "Direction",
    "IntervalKind",
    "JudgedClaim",
    "JudgedTest",
    "Verdict",
    "holm",
    "interval",
    "judge_claim",
    "judge_tests",
    "one_sided",
    "p_value",
    "significant_digits",
    "verdict_of_claim",
]

Verdict = Literal["reproduced", "partly", "undecided", "not reproduced", "not tested"]
Direction = Literal["below", "above", "between"]
IntervalKind = Literal["t", "bootstrap-median", "wilson"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LEVEL = 0.95
ALPHA = 1 - LEVEL
N_RESAMPLES = 9999
# One value has no spread. A median lies outside the range of n values with probability 2 * 2**-n, which is
# more than 5 % up to n = 5: no interval of fewer than six values can have the level.
FEWEST_SEEDS: dict[IntervalKind, int] = {"t": 2, "bootstrap-median": 6, "wilson": 1}
_OTHER_SIDE = {"below": "above", "above": "below", "between": "outside"}


@dataclass(frozen=True)
class Criterion:
    """What a test demands: the side, the threshold (two numbers for "between"), and of how many seeds."""

    direction: Direction
    threshold: tuple[float, ...]
    min_seeds: int
    interval: IntervalKind = "t"
    corrected: bool = True
    """Whether the test takes part in Holm's correction: those of empirical claims do."""

    @property
    def fewest(self) -> int:
        """The least number of seeds that can be judged: ``min_seeds``, or what the kind of interval needs."""
        return max(self.min_seeds, FEWEST_SEEDS[self.interval])


L = TypeVar("L", bound=Hashable)


class JudgedTest(BaseModel):
    """One test after judging; ``None`` where there was nothing to compute or the number is infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: tuple[float, ...] = ()
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict
    reason: str = ""


class JudgedClaim(BaseModel):
    """One claim after judging, with its tests by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: Verdict
    reason: str = ""
    tests: dict[str, JudgedTest] = {}


def significant_digits(value: float, digits: int = 6) -> float:
    """``value`` with so many significant digits: what the results keep, and what is judged."""
    return float(f"{value:.{digits - 1}e}") if isfinite(value) else value


def interval(values: Sequence[float], kind: IntervalKind) -> Interval:
    """The 95 % interval of ``values``, one a seed: of the mean (t, wilson) or median (bootstrap-median)."""
    if kind == "wilson":
        found = wilson_interval(values, LEVEL)
        # The ends are exact here; rounding must not put a threshold of 0 or 1 outside the interval.
        low = 0.0 if found.estimate == 0 else found.low
        high = 1.0 if found.estimate == 1 else found.high
        return Interval(found.estimate, low, high, found.kind, found.level)
    function = t_interval if kind == "t" else bootstrap_median_interval
    found = function(values, LEVEL)
    if len(set(values)) == 1 and len(values) > 1:  # the rounding of a mean must not give equal values a width
        return Interval(values[0], values[0], values[0], found.kind, found.level)
    return found


def one_sided(values: Sequence[float], threshold: float, kind: IntervalKind) -> tuple[float, float]:
    r"""p-values for "the truth lies below" and "the truth lies above" the threshold, as ``(below, above)``.

    "t": Student's test of the mean. "wilson": the score test of a proportion,
    $z = (\hat p - p_0) / \sqrt{p_0 (1 - p_0) / n}$. "bootstrap-median": the share of resampled medians on the
    other side, $(1 + \#) / (1 + B)$, but never less than $2^{-n}$: the chance that n values fall on one side
    of their median is a bound that no resampling of those values can beat. Equal values decide with certainty
    (except medians, by the same bound); one value decides nothing.
    """
    array = np.asarray(values, dtype=np.float64)
    n = array.size
    if kind == "wilson":
        share = float(array.mean())
        spread = sqrt(max(threshold * (1 - threshold), 0.0) / n)
        if spread == 0:
            return _certain(share, threshold)
        z = (share - threshold) / spread
        return float(stats.norm.cdf(z)), float(stats.norm.sf(z))
    if n == 1:
        return 1.0, 1.0
    if kind == "bootstrap-median":
        draws = np.random.default_rng(0).choice(array, size=(N_RESAMPLES, n), replace=True)
        medians = np.median(draws, axis=1)
        below = (1 + np.count_nonzero(medians >= threshold)) / (1 + N_RESAMPLES)
        above = (1 + np.count_nonzero(medians <= threshold)) / (1 + N_RESAMPLES)
        return float(max(below, 0.5**n)), float(max(above, 0.5**n))
    if np.ptp(array) == 0:
        return _certain(float(array[0]), threshold)
    t = (array.mean() - threshold) / (array.std(ddof=1) / sqrt(n))
    return float(stats.t.cdf(t, n - 1)), float(stats.t.sf(t, n - 1))


def _certain(value: float, threshold: float) -> tuple[float, float]:
    return (0.0 if value < threshold else 1.0), (0.0 if value > threshold else 1.0)


def p_value(values: Sequence[float], criterion: Criterion) -> float:
    """The two-sided p-value: how surprising such values would be if the truth sat on the threshold.

    For "between" two one-sided tests must both hold for "inside" (the larger counts), either for "outside"
    (the smaller counts); the smaller of the two answers is doubled, as everywhere.
    """
    if criterion.direction == "between":
        lower, upper = criterion.threshold
        below_lower, above_lower = one_sided(values, lower, criterion.interval)
        below_upper, above_upper = one_sided(values, upper, criterion.interval)
        inside, outside = max(above_lower, below_upper), min(below_lower, above_upper)
        return min(1.0, 2 * min(inside, outside))
    return min(1.0, 2 * min(one_sided(values, criterion.threshold[0], criterion.interval)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values (statsmodels); an empty list stays empty."""
    if not p_values:
        return []
    return [float(p) for p in multipletests(p_values, alpha=ALPHA, method="holm")[1]]


def _side(found: Interval, criterion: Criterion) -> Verdict:
    """Where the whole interval lies; touching a threshold is undecided."""
    lower = criterion.threshold[0] if criterion.direction != "below" else -np.inf
    upper = criterion.threshold[-1] if criterion.direction != "above" else np.inf
    if lower < found.low and found.high < upper:
        return "reproduced"
    return "not reproduced" if found.high < lower or upper < found.low else "undecided"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _aim(criterion: Criterion) -> str:
    return " and ".join(_number(t) for t in criterion.threshold)


def _finite(value: float) -> float | None:
    return significant_digits(value) if isfinite(value) else None


def judge_tests(
    measured: Mapping[L, tuple[Criterion, Sequence[float]]],
) -> dict[L, JudgedTest]:
    """Judge all tests of a chapter together, because Holm's correction looks at all of them.

    ``measured`` maps any label of a test to its criterion and its finite values, one a seed. A test with
    too few values (``Criterion.fewest``) is *not tested* and takes no part in the correction.
    """
    enough = {label: item for label, item in measured.items() if len(item[1]) >= item[0].fewest}
    raw = {label: p_value(values, criterion) for label, (criterion, values) in enough.items()}
    family = [label for label, (criterion, _) in enough.items() if criterion.corrected]
    adjusted = dict(zip(family, holm([raw[label] for label in family]), strict=True))

    judged: dict[L, JudgedTest] = {}
    for label, (criterion, values) in measured.items():
        if label not in enough:
            reason = f"{len(values)} of the {criterion.fewest} seeds that it needs"
            judged[label] = JudgedTest(values=tuple(values), verdict="not tested", reason=reason)
            continue
        found = interval(values, criterion.interval)
        verdict, p, p_holm = _side(found, criterion), raw[label], adjusted.get(label)
        if verdict == "undecided":
            reason = f"interval straddles {_straddled(found, criterion)}"
        elif p_holm is not None and p_holm >= ALPHA:
            reason = (
                f"interval is clear of {_aim(criterion)}, but p = {p:.2g} becomes {p_holm:.2g} "
                f"after Holm's correction over {len(family)} tests"
            )
            verdict = "undecided"
        else:
            where = criterion.direction if verdict == "reproduced" else _OTHER_SIDE[criterion.direction]
            reason = f"interval lies {where} {_aim(criterion)}"
        judged[label] = JudgedTest(
            values=tuple(values),
            estimate=_finite(found.estimate),
            low=_finite(found.low),
            high=_finite(found.high),
            p=significant_digits(p),
            p_holm=None if p_holm is None else significant_digits(p_holm),
            verdict=verdict,
            reason=reason,
        )
    return judged


def _straddled(found: Interval, criterion: Criterion) -> str:
    touched = [_number(t) for t in criterion.threshold if found.low <= t <= found.high]
    return " and ".join(touched)


def verdict_of_claim(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim's verdict from those of its tests; a test that was not run keeps a claim from "reproduced"."""
    seen = set(verdicts)
    if seen <= {"not tested"}:
        return "not tested"
    if seen in ({"reproduced"}, {"not reproduced"}):
        return next(iter(seen))
    return "partly" if "reproduced" in seen else "undecided"


def judge_claim(tests: Mapping[str, JudgedTest]) -> JudgedClaim:
    """The claim's verdict with a sentence that names the tests which kept it from "reproduced"."""
    verdict = verdict_of_claim([test.verdict for test in tests.values()])
    others: dict[str, list[str]] = {}
    for name, test in tests.items():
        if test.verdict != "reproduced":
            others.setdefault(f"{test.verdict}, {test.reason}", []).append(name)
    n, n_others = len(tests), sum(len(names) for names in others.values())
    if not others:
        reason = next(iter(tests.values())).reason if n == 1 else f"all {n} tests are reproduced"
    elif len(others) == 1 and n_others == n:  # all for the same reason
        reason = next(iter(tests.values())).reason
    else:
        details = "; ".join(f"{', '.join(names)}: {why}" for why, names in others.items())
        reason = f"{n - n_others} of {n} tests reproduced; {details}"
    return JudgedClaim(verdict=verdict, reason=reason, tests=dict(tests))
