"""Losses and accuracies of a network, or of every member of an ensemble."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.learn.ensembles import Ensemble

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$-\log\mathrm{softmax}(s)_y$ of logits ``(m, k)`` and classes ``(m,)``, shape ``(m,)``."""
    return functional.cross_entropy(outputs, targets, reduction="none")


class Networks:
    """One view of a module and of an ensemble: outputs always ``(S, n, k)``, with S = 1 for a module."""

    def __init__(self, model: nn.Module | Ensemble) -> None:
        self.model = model
        self.size = len(model) if isinstance(model, Ensemble) else 1
        named = model.parameters if isinstance(model, Ensemble) else dict(model.named_parameters())
        self.trained = [p for p in named.values() if p.requires_grad]
        first = next(iter(named.values()), torch.zeros(()))
        self.device, self.dtype = first.device, first.dtype

    def __call__(self, loss: Loss, x: Tensor, y: Tensor, per_member: bool) -> tuple[Tensor, Tensor]:
        """Losses of single examples ``(S, n)`` and outputs ``(S, n, k)``.

        Inputs are ``(n, ...)``, or ``(S, n, ...)`` per member; classes ``(n,)`` or ``(S, n)``.
        """
        if isinstance(self.model, Ensemble):
            outputs = self.model(x, per_member=per_member)
        else:
            outputs = self.model(x[0] if per_member else x).unsqueeze(0)
        if outputs.ndim != 3:
            raise ValueError(f"a network must return (n, k) for n inputs; got {tuple(outputs.shape[1:])}")
        targets = y.expand(outputs.shape[:2]).reshape(-1)
        losses = loss(outputs.reshape(-1, outputs.shape[-1]), targets)
        if losses.shape != targets.shape:
            raise ValueError(
                "a loss must return one number for each example, without averaging: "
                f"expected shape {tuple(targets.shape)}, got {tuple(losses.shape)}"
            )
        return losses.view(outputs.shape[:2]), outputs


def right(outputs: Tensor, y: Tensor) -> Tensor:
    """Count the right predictions, ``(S,)``: outputs ``(S, n, k)``, or ``(S, n, 1)`` above 0 for class 1."""
    single = outputs.shape[-1] == 1
    predicted = (outputs.squeeze(-1) > 0).long() if single else outputs.argmax(dim=-1)
    return (predicted == y).sum(dim=-1)


def evaluate(
    model: nn.Module | Ensemble,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = cross_entropy,
    per_member: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return mean loss and accuracy, in evaluation mode and in pieces that bound the memory.

    A network with one output predicts class 1 above 0.

    Args:
        model: a module, or an ensemble of S.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member=True``.
        y: classes ``(n,)``, or ``(S, n)``.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.
        per_member: whether each member has inputs of its own.

    Returns:
        Losses and accuracies, float64, ``(S,)`` each, S = 1 for a module; accuracies lie in [0, 1].

    Raises:
        ValueError: no examples.
    """
    networks = Networks(model)
    n = y.shape[-1]
    if n == 0:
        raise ValueError("there are no examples to evaluate on")
    axis = 1 if per_member else 0
    chunk = max(1, (512 if x.ndim > 2 + axis else 8192) // networks.size)  # images take more memory than rows
    total = torch.zeros(networks.size, dtype=torch.float64, device=y.device)
    correct = torch.zeros_like(total)
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            for some_x, some_y in zip(x.split(chunk, axis), y.split(chunk, -1), strict=True):
                losses, outputs = networks(loss, some_x, some_y, per_member)
                total += losses.sum(dim=1)
                correct += right(outputs, some_y)
    finally:
        model.train(mode)
    return total / n, correct / n
