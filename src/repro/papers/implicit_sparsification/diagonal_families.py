"""Ways to write and to penalize the weights of a diagonal linear network, each with its gradient step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.geometry.potentials import factors

__all__ = ["FAMILIES", "Family"]

Array = NDArray[np.float64]


def _decay_both(m: Tensor, w: Tensor, g: Tensor, decay: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step on f + α(|m|² + |w|²); ``decay`` is 2ηα. The same operations for m and w keep |m| = |w| exact."""
    kept = 1 - decay
    return torch.addcmul(kept * m, g, w, value=-rate), torch.addcmul(kept * w, g, m, value=-rate)


def _decay_mask(m: Tensor, w: Tensor, g: Tensor, decay: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step on f + α|m|²; ``decay`` is 2ηα."""
    return torch.addcmul((1 - decay) * m, g, w, value=-rate), torch.addcmul(w, g, m, value=-rate)


def _l1_on_mask(m: Tensor, w: Tensor, g: Tensor, pull: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|m|₁; ``pull`` is ηα."""
    moved = torch.addcmul(m, pull, m.sign(), value=-1)
    return moved.addcmul_(g, w, value=-rate), torch.addcmul(w, g, m, value=-rate)


def _subgradient(x: Tensor, one: Tensor, g: Tensor, pull: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|x|₁; ``pull`` is ηα."""
    return torch.addcmul(x, pull, x.sign(), value=-1).sub_(g, alpha=rate), one


def _proximal(x: Tensor, one: Tensor, g: Tensor, pull: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One proximal step on f + α|x|₁: soft thresholding by ``pull``, ηα, after the step on f."""
    moved = x.sub(g, alpha=rate)
    return moved - moved.clamp(min=-pull, max=pull), one


Update = Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Family:
    r"""A way to write the weights, to start and to penalize them.

    Attributes:
        name: how the chapter calls it.
        start: ``"unbalanced"`` ($m_0^2-w_0^2=\beta$), ``"balanced"`` ($m_0^2=w_0^2$), or ``"weights"`` (x itself).
        penalty: what $\alpha_k$ multiplies.
        pull: the factor of $\eta\alpha_k$ in an update, 2 for squares and 1 for absolute values.
        update: one step.
    """

    name: str
    start: str
    penalty: str
    pull: float
    update: Update

    def begin(self, x0: Array, beta: float) -> tuple[Array, Array]:
        """Factors at x0, of its shape; those of ``"weights"`` are x0 and ones."""
        if self.start == "weights":
            return x0, np.ones_like(x0)
        if self.start == "balanced":  # |m| = |w| to the last bit: rounding must not open a way through zero
            m = factors(x0, 0.0).m
            return m, np.copysign(m, x0)
        start = factors(x0, beta)
        return start.m, start.w


FAMILIES = {
    "pilot": Family("m ⊙ w, unbalanced start", "unbalanced", "|m|² + |w|²", 2, _decay_both),
    "spred": Family("m ⊙ w, balanced start", "balanced", "|m|² + |w|²", 2, _decay_both),
    "mask_l1": Family("m ⊙ w, L1 on m", "unbalanced", "|m|₁", 1, _l1_on_mask),
    "mask_l2": Family("m ⊙ w, L2 on m", "unbalanced", "|m|²", 2, _decay_mask),
    "weights": Family("x, L1 by subgradient", "weights", "|x|₁", 1, _subgradient),
    "proximal": Family("x, L1 by proximal step", "weights", "|x|₁", 1, _proximal),
}
r"""The families by key. The paper compares ``pilot``, ``mask_l1`` and ``weights``, and ``spred`` in figure 1a.

A subgradient step leaves coordinates jumping around zero by $\eta\alpha$ and never at zero; ``proximal`` minimizes the
same objective and does reach zeros. It is not in the paper, and shows what the subgradient costs.
"""
