"""Losses of single examples, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from repro.base import unknown

__all__ = ["LOSSES", "Loss", "loss_function"]

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$-\log\mathrm{softmax}(s)_y$ of logits ``(m, k)`` and classes ``(m,)``, shape ``(m,)``."""
    return F.cross_entropy(outputs, targets, reduction="none")


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$\log(1+e^{-(2y-1)s})$ of logits ``(m, 1)`` and classes 0 or 1 ``(m,)``, shape ``(m,)``."""
    return F.binary_cross_entropy_with_logits(
        outputs.squeeze(-1), targets.to(outputs.dtype), reduction="none"
    )


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$\frac1k\sum_j(o_j-[j=y])^2$ of outputs ``(m, k)`` and classes ``(m,)``; $(o-y)^2$ if k is 1."""
    if outputs.shape[-1] == 1:
        return (outputs.squeeze(-1) - targets).square()
    return (outputs - F.one_hot(targets, outputs.shape[-1])).square().mean(dim=-1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "logistic": logistic,
    "squared_error": squared_error,
}


def loss_function(loss: str | Loss) -> Loss:
    """Return the loss of that name, or the callable itself."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"{unknown('loss', loss, LOSSES)}, or a callable")
    return LOSSES[loss]


def check_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Try a loss on a few examples ``(m, k)`` and say what is wrong, before any work is done.

    Raises:
        ValueError: it fails, or does not return one number for each example.
    """
    try:
        with torch.no_grad():
            values = loss(outputs, targets)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"the loss does not fit outputs {tuple(outputs.shape)} "
            f"and classes up to {int(targets.max())}: {error}"
        ) from error
    if values.shape != targets.shape:
        raise ValueError(
            "a loss must return one number for each example, without averaging: "
            f"expected shape {tuple(targets.shape)}, got {tuple(values.shape)}"
        )
