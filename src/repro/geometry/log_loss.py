r"""The logarithm of an exponential-tailed loss, from margins, without ever forming the loss itself.

At a loss of $e^{-300}$ the loss underflows in float32 and its squared gradient in float64. Everything that
the flows, cosines, ratios and rates need is $\log\mathcal L$ and $\nabla\log\mathcal L$, which stay of
moderate size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from repro.base import unknown

__all__ = ["LOSSES", "log_loss", "log_loss_slopes"]

Array = NDArray[np.float64]

LOSSES = ("exponential", "logistic")
_TAIL = 30.0
"""Margin beyond which $\\log\\log(1+e^{-q})$ becomes $-q - e^{-q}/2$; the next term is below 1e-26."""


def check_loss(loss: str) -> None:
    """Refuse a loss that this module does not know, with the nearest name."""
    if loss not in LOSSES:
        raise ValueError(unknown("loss", loss, LOSSES))


def _per_sample(margins: Array, loss: str) -> tuple[Array, float | Array]:
    """Log of each sample's loss and its slope $-\\partial\\log\\ell_i/\\partial q_i$."""
    if loss == "exponential":
        return -margins, 1.0
    half_tail = 0.5 * np.exp(-np.maximum(margins, _TAIL))
    if margins.min() > _TAIL:
        return -margins - half_tail, 1.0 - half_tail
    # The branch that np.where discards must not overflow or take the log of zero.
    capped = np.minimum(margins, _TAIL)
    softplus = np.logaddexp(0.0, -capped)
    far = margins > _TAIL
    log_losses = np.where(far, -margins - half_tail, np.log(softplus))
    slopes = np.where(far, 1.0 - half_tail, expit(-capped) / softplus)
    return log_losses, slopes


def log_loss_slopes(margins: Array, loss: str) -> tuple[Array, Array]:
    r"""Log-loss and its derivative with respect to every margin.

    $\log\mathcal L = \operatorname{LSE}_i \log\ell_i$ with $\ell_i = e^{-q_i}$ (exponential) or
    $\ell_i = \log(1 + e^{-q_i})$ (logistic), summed over samples, not averaged; and
    $\partial\log\mathcal L/\partial q_i = -\frac{\ell_i}{\mathcal L}\,\frac{\sigma(-q_i)}{\log(1+e^{-q_i})}$
    (the second factor is 1 for the exponential loss and tends to 1 for the logistic one).

    Args:
        margins: $q_i = y_i\Phi(w, x_i)$, shape ``(..., n_samples)``.
        loss: ``"exponential"`` or ``"logistic"``.

    Returns:
        ``log_loss`` of shape ``(...)`` in natural logarithms, and ``slopes`` of shape ``(..., n_samples)``,
        all of them negative or zero.

    Raises:
        ValueError: for an unknown loss.

    Explained in: chapter ``ewn-inductive-bias``.
    """
    check_loss(loss)
    log_losses, slopes = _per_sample(margins, loss)
    largest = log_losses.max(axis=-1, keepdims=True)
    shares = np.exp(log_losses - largest)
    total = shares.sum(axis=-1, keepdims=True)
    return (largest + np.log(total))[..., 0], -shares / total * slopes


def log_loss(margins: Array, loss: str) -> Array:
    r"""Log of the summed loss, $\log\sum_i\ell_i$; $z = -\log\mathcal L$ is its negative.

    Args:
        margins: shape ``(..., n_samples)``.
        loss: ``"exponential"`` or ``"logistic"``.

    Returns:
        Shape ``(...)``, natural logarithm.

    Not to be confused with the mean loss of most training loops, whose logarithm is smaller by
    $\log n$.
    """
    return log_loss_slopes(margins, loss)[0]
