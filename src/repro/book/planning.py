r"""How many seeds it takes to decide: computed from margin and spread before the run.

The same number decides both ways: an effect of the margin is told from none, and none from an effect of the margin.
"""

from __future__ import annotations

from math import ceil, log, pi

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from repro.book.claims import ChapterClaims, DecidingTest
from repro.book.errors import BadInput
from repro.book.judging import Criterion, strictest_level

_POWER = 0.9
_MOST_SEEDS = 3000
_CARE_FOR_SKEWNESS = 1.03
_MEDIAN_FOR_MEAN = pi / 2
_JUDGED = ("quick", "full", "paper")


def _plan(chapter: ChapterClaims) -> pd.DataFrame:
    """What every deciding test of a chapter needs to decide, a row a test.

    Columns: claim, test, margin, sd, level (the strictest, one-sided, in ``full`` or the strongest profile that runs
    it), needs (seeds, for 90 % power at that level), the seeds of each profile, and why they are fewer. Missing where
    there is no such number.
    """
    rows = [
        {
            "claim": claim.id,
            "test": test.name,
            "margin": test.margin,
            "sd": test.sd,
            "level": (level := _level(chapter, claim.id, test.name, _strongest(test))),
            "needs": _seeds_needed(test.criterion, test.sd, level),
            **{profile: chapter.seeds(test, profile) for profile in _JUDGED},
            "why fewer": test.fewer or "",
        }
        for claim, test in chapter.deciding()
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(("needs", *_JUDGED), "Int64"))


def table(chapter: ChapterClaims) -> str:
    """What ``_plan`` says of a chapter, as text; a number of seeds that is too small to decide is marked."""
    planned = _plan(chapter)
    shown = planned.astype(object).where(planned.notna(), "–")
    for profile in _JUDGED:
        too_few = (planned[profile] < planned["needs"]).fillna(False)
        shown[profile] = shown[profile].astype(str).where(~too_few, shown[profile].astype(str) + " (too few)")
    return shown.to_string(index=False, float_format="{:.3g}".format)


def _strongest(test: DecidingTest) -> str:
    return next((profile for profile in ("full", "paper") if profile in test.profiles), "quick")


def _level(chapter: ChapterClaims, claim: str, test: str, profile: str) -> float:
    family = chapter.family(profile)
    return strictest_level(len(family) if (claim, test) in family else 1)


def _seeds_needed(criterion: Criterion, sd: float | None, level: float, power: float = _POWER) -> int | None:
    r"""The seeds with which a test says *yes* to an effect of the margin, and *no* to none, with this power.

    * mean: the t test of one sample (statsmodels) at the one-sided ``level``, for an effect of $m / sd$, and 3 % more,
      which is what the care for skewed values costs where there are none. *Between* needs both bounds to hold for a
      value in their middle: an effect of half their distance, each with a power of 95 %.
    * median: $\pi / 2$ times as many, which is what the sign test needs with normal values.
    * share: the exact binomial test, which needs no ``sd``.

    Never fewer than let a perfect run pass (``check_seeds``). None for a worst case, and where ``sd`` is unknown.
    """
    if criterion.statistic == "share":
        return next((n for n in range(1, _MOST_SEEDS) if _power_of_share(criterion, n, level) >= power), None)
    if criterion.statistic == "worst" or sd is None:
        return None
    fewest = max(2, ceil(log(level) / log(0.5)))
    if sd == 0:
        return fewest
    between = criterion.side == "between"
    effect = (criterion.bounds[1] - criterion.bounds[0]) / 2 if between else criterion.margin
    assert effect is not None
    wanted = 1 - (1 - power) / 2 if between else power
    times_sd = min(effect / sd, 10.0)  # ten take no seed less than more do
    found = TTestPower().solve_power(times_sd, alpha=level, power=wanted, alternative="larger")
    times = _MEDIAN_FOR_MEAN if criterion.statistic == "median" else _CARE_FOR_SKEWNESS
    return max(fewest, ceil(times * float(np.squeeze(found))))


def _power_of_share(criterion: Criterion, n: int, level: float) -> float:
    """The smaller power of the two questions of a share, over all that n zeros and ones can be."""
    hits = np.arange(n + 1)
    p_yes, p_no = criterion.questions_of_a_share(hits, n)
    if criterion.side == "between":
        return float(stats.binom.pmf(hits, n, sum(criterion.bounds) / 2) @ (p_yes <= level))
    of_the_margin, of_none = (stats.binom.pmf(hits, n, at) for at in (criterion.matters, criterion.bounds[0]))
    return float(min(of_the_margin @ (p_yes <= level), of_none @ (p_no <= level)))


def _least_p_values(criterion: Criterion, n: int) -> tuple[float, float]:
    """The least p-values, for yes and for no, that n values can give at all: those of a perfect run.

    Of a mean and a median: 2⁻ⁿ, that of equal values. Of a share: the best of all that n zeros and ones can be.
    """
    if criterion.statistic == "worst":
        return 0.0, 0.0
    if criterion.statistic == "share":
        p_yes, p_no = criterion.questions_of_a_share(np.arange(n + 1), n)
        return float(p_yes.min()), float(p_no.min())
    return (0.5**n, 0.5**n) if n > 1 else (1.0, 1.0)


def check_seeds(chapter: ChapterClaims) -> None:
    """Raise ``BadInput`` for a test that no run, however perfect, decides with the seeds of ``full`` or ``paper``."""
    for claim, test in chapter.deciding():
        for profile in _JUDGED[1:]:
            n, level = chapter.seeds(test, profile), _level(chapter, claim.id, test.name, profile)
            if n is not None and max(_least_p_values(test.criterion, n)) > level:
                more = (k for k in range(n, _MOST_SEEDS) if max(_least_p_values(test.criterion, k)) <= level)
                raise BadInput(
                    f"{chapter.chapter}.yml: claim {claim.id}: test {test.name}: even a perfect run cannot decide it "
                    f"with the {n} seeds of {profile} (level {level:.2g}); accepted: at least {next(more, 'more')}"
                )
