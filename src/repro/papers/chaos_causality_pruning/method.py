"""LEGCNet as code: from the path of a weight to exponents, from exponents to a decision, from decisions to a mask.

With a network, data and a loop of your own:

    >>> import torch
    >>> x, model = torch.randn(200, 8), torch.nn.Linear(8, 1)
    >>> y = x[:, :1] + torch.randn(200, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    >>> recorder = WindowRecorder(50)
    >>> for k in range(2000):  # an example a step
    ...     error = lambda: (model(x) - y).square().mean().item()
    ...     recorder(model.weight.detach()[0], error)
    ...     optimizer.zero_grad()
    ...     (model(x[k % 200]) - y[k % 200]).square().sum().backward()
    ...     optimizer.step()
    >>> decision = decide(recorder.errors, recorder.exponents)
    >>> decision.keep.shape  # False for weights that LEGCNet prunes
    (8,)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.base import one_of, whole
from repro.series.granger import GrangerResult, granger_test
from repro.series.lyapunov import lyapunov_tisean
from repro.series.multiplicity import benjamini_hochberg, holm

_Array = NDArray[np.float64]
_Mask = NDArray[np.bool_]
_Error = Callable[[], ArrayLike]

_LEVEL = 0.05
"""Of the tests; the false-discovery rate of the honest rule."""

_RULES = ("paper", "f_test", "single_lag", "honest")


def paper_exponents(windows: _Array, forward_steps: int = 3) -> _Array:
    r"""Return the paper's exponent $S(1)-S(0)$ of each window, nats an update.

    TISEAN's ``lyap_r`` in dimension 2 on the window rescaled to [0, 1]; 0 for a window that moves by less
    than $10^{-5}$; NaN where no point has a neighbour.

    Args:
        windows: ``(n, N)``.
        forward_steps: s; the last s points serve neither as reference nor as neighbour.

    Source: the paper's section 3.6; the details are in its authors' code.
    """
    return lyapunov_tisean(windows, forward_steps=forward_steps).exponent


class WindowRecorder:
    r"""Follows a training run and keeps one exponent a weight and window instead of the whole log.

    Call it before training and after every update. Window $t$ covers the rows $ht,\dots,ht+N-1$ of the log, whose
    row k holds the weights after k updates, with the stride $h=(1-\text{overlap})N$. N rows are held at a time.
    """

    def __init__(
        self, length: int, *, overlap: float = 0.1, last_update: int | None = None, forward_steps: int = 3
    ) -> None:
        """Set up.

        Args:
            length: N, rows in a window, at least 10.
            overlap: share of a window that the next one covers again, in [0, 1); the paper has 0.1.
            last_update: stop looking after this many updates (LEGCNet-PT); None for never.
            forward_steps: as for ``paper_exponents``.

        Raises:
            ValueError: a length or an overlap outside its range.
        """
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must lie in [0, 1); got {overlap}")
        self.length = whole("length", length, 10)
        self.stride = round(length * (1 - overlap))
        self._last, self._forward_steps = last_update, forward_steps
        self._update = 0
        self._rows: list[_Array] = []
        self._exponents: list[_Array] = []
        self._errors: list[_Array] = []

    def __call__(self, weights: ArrayLike, error: _Error | None = None) -> None:
        """Take in the weights after the next update, ``(..., P)``.

        ``error`` is asked at the end of each window.
        """
        if self._last is not None and self._update > self._last:
            return
        self._rows.append(np.array(np.asarray(weights), dtype=np.float64))
        self._update += 1
        if len(self._rows) == self.length:
            series = np.stack(self._rows, axis=-1)
            windows = series.reshape(-1, self.length)
            exponents = paper_exponents(windows, self._forward_steps)
            self._exponents.append(exponents.reshape(series.shape[:-1]))
            if error is not None:
                self._errors.append(np.asarray(error(), dtype=np.float64))
            del self._rows[: self.stride]

    @property
    def exponents(self) -> _Array:
        """Nats an update, ``(..., P, T)`` for T windows; raises ``ValueError`` if the run was shorter than one."""
        if not self._exponents:
            raise ValueError(f"{self._update} rows are fewer than one window of {self.length}: train longer")
        return np.stack(self._exponents, axis=-1)

    @property
    def errors(self) -> _Array:
        """What ``error`` gave at each window's last update, ``(..., T)``."""
        return np.stack(self._errors, axis=-1)


@dataclass(frozen=True)
class Decision:
    r"""What a rule says of P weights: each is causal, non-causal, or cannot be tested.

    Attributes:
        p: one p-value a weight, ``(P,)``; NaN where untestable. Under the paper's rule the least over lags,
            which is not a valid p-value.
        causal: whether the rule calls the weight causal, ``(P,)``.
    """

    p: _Array
    causal: _Mask

    @property
    def testable(self) -> _Mask:
        """Whether the test could be made."""
        return ~np.isnan(self.p)

    @property
    def non_causal(self) -> _Mask:
        """Weights that LEGCNet prunes."""
        return self.testable & ~self.causal

    @property
    def keep(self) -> _Mask:
        """LEGCNet's mask: False for weights that go; as in the authors' code, untestable ones stay."""
        return ~self.non_causal


def _granger_tests(effect: _Array, exponents: _Array, max_lag: int, difference: int = 0) -> GrangerResult:
    """Make the Granger tests from which every rule decides: lags 1 to ``max_lag``, or to what T allows.

    T windows allow lags L with $T\\ge3L+2$. Where they allow none, one lag is tested, and its status says
    ``TOO_SHORT``. Arguments as for ``decide``.
    """
    n_windows = effect.shape[-1] - difference
    top = max(1, min(max_lag, (n_windows - 2) // 3))
    return granger_test(effect, exponents, tuple(range(1, top + 1)), difference=difference)


def judge(tests: GrangerResult, rule: str = "paper") -> Decision:
    """Apply a rule to tests that were made, see ``decide``."""
    one_of("rule", rule, _RULES)
    p = tests.chi2_p_value if rule == "paper" else tests.p_value  # (P, L)
    if rule == "single_lag":
        p = p[:, -1:]
    if rule == "honest":
        p = holm(p, axis=1)
    least = p.min(axis=1)  # NaN where any lag could not be tested
    if rule == "honest":
        return Decision(least, benjamini_hochberg(least) <= _LEVEL)
    rounded = least.round(4) if rule == "paper" else least
    return Decision(least, rounded < _LEVEL)


def decide(
    effect: _Array, exponents: _Array, *, rule: str = "paper", max_lag: int = 14, difference: int = 0
) -> Decision:
    r"""Test for every weight whether its exponents Granger-cause the effect.

    Null hypothesis of weight i: given its own past, $y_t$ does not depend on
    $\lambda_{i,t-1},\dots,\lambda_{i,t-L}$.

    ``"paper"``
        $p^\star_i=\min_Lp^{\chi^2}_{i,L}$ over L = 1 to ``max_lag``; causal if below 0.05 after rounding
        to four decimals. As in the authors' code, a weight whose test fails at any lag is kept.
    ``"f_test"``
        the same with the F statistic's p-values, not rounded: shows what the chi-squared form does.
    ``"single_lag"``
        the F-test at ``max_lag`` alone: a valid test of each weight, without correction over weights.
    ``"honest"``
        F-tests at all lags, Holm's correction over lags, Benjamini and Hochberg's over weights.

    Args:
        effect: $y$, such as the error at the end of each window, ``(T,)``.
        exponents: $\lambda$, ``(P, T)``.
        rule: one of the four.
        max_lag: largest lag; lowered to what T allows ($T\ge3L+2$). The authors' code has 14, or 20.
        difference: how often to difference both series first.

    Raises:
        ValueError: an unknown rule, or shapes that do not fit.

    Source: the paper's sections 3.4 to 3.6, and its authors' code.
    """
    return judge(_granger_tests(effect, exponents, max_lag, difference), rule)
