r"""Losses in the log domain: $\log\ell_i$ and $\log\mathcal L$ where the loss itself would underflow.

At a loss of $e^{-300}$ nothing is left of $\mathcal L$ in float32, and squared gradients underflow in float64
beyond $e^{-372}$. Everything that the paper measures needs only $\log\mathcal L$ and $\nabla\log\mathcal L$,
and $\nabla\mathcal L = \mathcal L\,\nabla\log\mathcal L$.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from repro.base import unknown

__all__ = [
    "KINDS",
    "LogLoss",
    "log_cross_entropy",
    "log_exponential",
    "log_logistic",
    "log_loss",
    "log_softplus",
]

KINDS: tuple[str, ...] = ("logistic", "exponential", "cross-entropy")

# Below this, log(softplus(a)) is a - exp(a)/2 to the last digit of float64: the next term is 5/24 exp(2a).
_SWITCH = -30.0


def log_softplus(a: Tensor) -> Tensor:
    r"""$\log\log(1+e^{a})$, exact to rounding for any $a$, with a gradient free of NaN.

    The unused branch is fed a harmless zero: a masked infinity times zero would make the gradient NaN.
    """
    small = a < _SWITCH
    safe = torch.where(small, torch.zeros_like(a), a)
    tail = torch.where(small, a, torch.full_like(a, _SWITCH))
    return torch.where(small, tail - 0.5 * tail.exp(), F.softplus(safe, threshold=40.0).log())


def log_logistic(margins: Tensor) -> Tensor:
    r"""$\log\ell_i = \log\log(1+e^{-q_i})$ of the logistic loss; margins $q_i$ of any shape."""
    return log_softplus(-margins)


def log_exponential(margins: Tensor) -> Tensor:
    r"""$\log\ell_i = -q_i$ of the exponential loss at margins $q_i = y_i\,\Phi(x_i)$, any shape."""
    return -margins


def _wrong_class_gaps(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores minus the score of the right class, and -inf at the right class itself: shape of the scores."""
    index = labels.unsqueeze(-1)
    return (scores - scores.gather(-1, index)).scatter(-1, index, -math.inf)


def log_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    r"""Log of the multi-class cross-entropy of each sample.

    $$\log\ell_i = \log\log\Bigl(1+\sum_{k\ne y_i} e^{s_{ik}-s_{iy_i}}\Bigr)$$

    Args:
        scores: logits ``(..., n, classes)``.
        labels: classes ``(..., n)``, int64.

    Returns:
        ``(..., n)``.
    """
    return log_softplus(torch.logsumexp(_wrong_class_gaps(scores, labels), dim=-1))


def log_loss(log_losses: Tensor, reduction: str = "sum") -> Tensor:
    r"""$\log\mathcal L = \log\sum_i\ell_i$ (mean: minus $\log n$) from $\log\ell_i$, ``(..., n)``."""
    _check_reduction(reduction)
    total = torch.logsumexp(log_losses, dim=-1)
    return total if reduction == "sum" else total - math.log(log_losses.shape[-1])


def _check_reduction(reduction: str) -> None:
    if reduction not in ("sum", "mean"):
        raise ValueError(unknown("reduction", reduction, ("sum", "mean")))


@dataclass(frozen=True)
class LogLoss:
    r"""A loss in the log domain, with its gradient written out.

    Args:
        kind: ``"logistic"`` or ``"exponential"`` (scores ``(..., n)`` or ``(..., n, 1)``, labels $\pm1$ of
            shape ``(n,)`` or ``(..., n)``), or ``"cross-entropy"`` (scores ``(..., n, classes)``, labels
            int64).
        reduction: ``"sum"`` over the samples (the paper's synthetic sets) or ``"mean"`` (its image sets).

    Explained in chapter ``ewn-inductive-bias``.
    """

    kind: str
    reduction: str = "sum"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown("loss", self.kind, KINDS))
        _check_reduction(self.reduction)

    def check_labels(self, labels: Tensor) -> None:
        """Raise a ValueError that quotes a label which this loss cannot use."""
        if self.kind == "cross-entropy":
            if labels.dtype != torch.int64:
                raise ValueError(f"cross-entropy needs class labels of dtype int64, got {labels.dtype}")
        elif not bool(((labels == 1) | (labels == -1)).all()):
            odd = labels[(labels != 1) & (labels != -1)].flatten()[0].item()
            raise ValueError(f"the {self.kind} loss needs labels -1 and +1, got {odd}")

    def margins(self, scores: Tensor, labels: Tensor) -> Tensor:
        r"""$q_i$ ``(..., n)``: $y_i\Phi(x_i)$, for cross-entropy right score minus largest wrong one."""
        if self.kind == "cross-entropy":
            return -_wrong_class_gaps(scores, _expand(labels, scores)).amax(dim=-1)
        flat = scores.squeeze(-1) if scores.ndim > labels.ndim and scores.shape[-1] == 1 else scores
        return flat * labels.to(flat.dtype)

    def per_sample(self, scores: Tensor, labels: Tensor) -> Tensor:
        r"""$\log\ell_i$, shape ``(..., n)``; differentiable."""
        if self.kind == "cross-entropy":
            return log_cross_entropy(scores, _expand(labels, scores))
        margins = self.margins(scores, labels)
        return log_logistic(margins) if self.kind == "logistic" else log_exponential(margins)

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        r"""$\log\mathcal L$, shape ``(...)``: one number for each leading index; differentiable."""
        return self.reduce(self.per_sample(scores, labels))

    def reduce(self, log_losses: Tensor) -> Tensor:
        r"""$\log\mathcal L$, shape ``(...)``, from the samples' $\log\ell_i$ of shape ``(..., n)``."""
        return log_loss(log_losses, self.reduction)

    @torch.no_grad()
    def value_and_slope(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\log\mathcal L$ in float64 and $\partial\log\mathcal L/\partial s$, without an autograd graph.

        With $a_i = \log\sum_{k\ne y_i}e^{s_{ik}-s_{iy_i}}$, $p = \mathrm{softmax}_i(\log\ell_i)$ and $\pi_i$
        the softmax over the wrong classes,

        $$\frac{\partial\log\mathcal L}{\partial s_{ik}} = p_i\,\frac{\sigma(a_i)}{\log(1+e^{a_i})}\,\pi_{ik}
        \quad(k\ne y_i),$$

        and minus their sum for $k=y_i$. For two classes $a_i=-q_i$ and the slope is $-p_i\,(\dots)\,y_i$.

        Args:
            scores: ``(..., n, classes)``, or ``(..., n, 1)`` or ``(..., n)`` for labels $\pm1$; no gradient
                is recorded.
            labels: as in the class's description.

        Returns:
            ``(...)`` float64, and the slope in the shape and dtype of the scores.
        """
        if self.kind == "cross-entropy":
            labels = _expand(labels, scores)
            gaps = _wrong_class_gaps(scores, labels)
            a = torch.logsumexp(gaps, dim=-1)
        else:
            a = -self.margins(scores, labels)
        if self.kind == "exponential":
            log_losses, factor = a, None
        else:
            # For a below the switch both functions are linear to the last digit, so clamping is exact.
            high = a.clamp(min=_SWITCH)
            softplus = F.softplus(high, threshold=40.0)
            log_losses = softplus.log() + (a - high)
            factor = torch.sigmoid(high) / softplus
        log_losses = log_losses.double()
        value = torch.logsumexp(log_losses, dim=-1)
        weight = (log_losses - value.unsqueeze(-1)).exp().to(scores.dtype)
        if factor is not None:
            weight = weight * factor
        if self.reduction == "mean":
            value = value - math.log(log_losses.shape[-1])
        if self.kind == "cross-entropy":
            slope = (gaps - a.unsqueeze(-1)).exp_().mul_(weight.unsqueeze(-1))
            slope.scatter_(-1, labels.unsqueeze(-1), -weight.unsqueeze(-1))
            return value, slope
        return value, (-weight * labels.to(scores.dtype)).view_as(scores)


def _expand(labels: Tensor, scores: Tensor) -> Tensor:
    return labels.expand(scores.shape[:-1])
