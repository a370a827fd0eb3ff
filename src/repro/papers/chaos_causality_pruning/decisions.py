"""From exponents and errors to a decision a weight: causal, non-causal, or not to be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.windows import largest_lag
from repro.series.granger import GrangerResult, granger_test
from repro.series.multiplicity import benjamini_hochberg, holm, least_p

__all__ = ["RULES", "Decision", "decide", "granger_tests", "judge", "keep_mask"]

RULES = ("paper", "single_lag", "f_test", "honest")


@dataclass(frozen=True)
class Decision:
    r"""What a rule says of P weights.

    Attributes:
        p: one p-value a weight, ``(P,)``; NaN where untestable. Under the paper's rule the least over lags,
            which is not a valid p-value.
        causal: whether the rule calls the weight causal.
        testable: whether the test could be made. The weights that are ``testable & ~causal`` get pruned.
        lags: lags that were tried.
    """

    p: NDArray[np.float64]
    causal: NDArray[np.bool_]
    testable: NDArray[np.bool_]
    lags: tuple[int, ...]

    @property
    def non_causal(self) -> NDArray[np.bool_]:
        """Weights that the rule would prune."""
        return self.testable & ~self.causal

    @property
    def non_causal_share(self) -> float:
        """Share of non-causal weights among all, as the paper counts."""
        return float(self.non_causal.mean()) if len(self.p) else float("nan")


def decide(
    effect: NDArray[np.float64],
    exponents: NDArray[np.float64],
    *,
    rule: str = "paper",
    max_lag: int = 20,
    level: float = 0.05,
    difference: int = 0,
) -> Decision:
    r"""Test for every weight whether its exponents Granger-cause the effect.

    Null hypothesis of weight i: given its own past, $y_t$ does not depend on
    $\lambda_{i,t-1},\dots,\lambda_{i,t-L}$.

    ``"paper"``
        $p^\star_i=\min_Lp^{\chi^2}_{i,L}$ over L = 1 to ``max_lag``; causal if below the level after rounding
        to four decimals. As in the authors' code, a weight whose test fails at any lag is kept.
    ``"f_test"``
        the same with the F statistic's p-values, not rounded: shows what the chi-squared form does.
    ``"single_lag"``
        the F-test at ``max_lag`` alone: a valid test of each weight, without correction over weights.
    ``"honest"``
        F-tests at all lags, Holm's correction over lags, Benjamini and Hochberg's over weights.

    Args:
        effect: $y$, ``(T,)``.
        exponents: $\lambda$, ``(P, T)``.
        rule: one of the four.
        max_lag: largest lag; lowered to what T allows ($T\ge3L+2$).
        level: of the test, or the false-discovery rate of the honest rule.
        difference: how often to difference both series first.

    Raises:
        ValueError: an unknown rule, or shapes that do not fit.
    """
    _check(rule)
    return judge(granger_tests(effect, exponents, max_lag=max_lag, difference=difference), rule, level)


def granger_tests(
    effect: NDArray[np.float64], exponents: NDArray[np.float64], *, max_lag: int = 20, difference: int = 0
) -> GrangerResult:
    """Make the Granger tests from which every rule decides: lags 1 to ``max_lag``, or to what T allows.

    Where T allows none, one lag is tested, and its status says ``TOO_SHORT``.
    """
    top = largest_lag(effect.shape[-1] - difference, max_lag)
    return granger_test(effect, exponents, tuple(range(1, max(1, top) + 1)), difference=difference)


def judge(tests: GrangerResult, rule: str = "paper", level: float = 0.05) -> Decision:
    """Apply a rule to tests that were made, see ``decide``."""
    _check(rule)
    p = np.where(tests.ok, tests.chi2_p_value if rule == "paper" else tests.p_value, np.nan)
    lags = tuple(lag for lag, n in zip(tests.lags, tests.n_obs, strict=True) if n)
    if rule == "single_lag":
        p, lags = p[:, -1:], lags[-1:]
    testable = ~np.asarray(np.isnan(p).any(axis=1), dtype=bool)
    if rule == "honest":
        p = least_p(holm(p, axis=1).adjusted, axis=1)
        causal: NDArray[np.bool_] = benjamini_hochberg(p, level).rejected
    else:
        p = least_p(p, axis=1)
        causal = np.asarray((p.round(4) if rule == "paper" else p) < level, dtype=bool)
    return Decision(p, causal & testable, testable, lags)


def _check(rule: str) -> None:
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}")


def keep_mask(decisions: Sequence[Decision], prune: str = "noncausal") -> NDArray[np.bool_]:
    """Return the weights that stay, ``(R, P)``, for one decision a network.

    Args:
        decisions: one a network.
        prune: ``"noncausal"`` as the paper's code does, or ``"causal"`` as its abstract has it.

    Raises:
        ValueError: another word for ``prune``.
    """
    if prune not in ("noncausal", "causal"):
        raise ValueError(f"prune must be 'noncausal' or 'causal'; got {prune!r}")
    return np.stack([~(d.non_causal if prune == "noncausal" else d.causal) for d in decisions])
