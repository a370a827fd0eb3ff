"""Losses and accuracies of a network, or of every member of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from repro.learn._losses import Loss, loss_function
from repro.learn.ensembles import Ensemble

__all__ = ["Networks", "accuracy", "evaluate"]


class Networks:
    """One view of a module and of an ensemble: outputs always ``(S, n, k)``, with S = 1 for a module."""

    def __init__(self, model: nn.Module | Ensemble) -> None:
        if not isinstance(model, (nn.Module, Ensemble)):
            raise TypeError(f"expected a torch module or an Ensemble, got a {type(model).__name__}")
        self.model = model
        self.size = len(model) if isinstance(model, Ensemble) else 1
        named = model.parameters if isinstance(model, Ensemble) else dict(model.named_parameters())
        self.trained: Mapping[str, Tensor] = {name: p for name, p in named.items() if p.requires_grad}
        first = next(iter(named.values()), torch.zeros(()))
        self.device, self.dtype = first.device, first.dtype

    def outputs(self, x: Tensor, per_member: bool) -> Tensor:
        """Outputs ``(S, n, k)`` for inputs ``(n, ...)``, or ``(S, n, ...)`` per member."""
        if isinstance(self.model, Ensemble):
            return self.model(x, per_member=per_member)
        return self.model(x[0] if per_member else x).unsqueeze(0)

    def losses(self, loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
        """Losses of single examples ``(S, n)``; outputs ``(S, n, k)``, classes ``(n,)`` or ``(S, n)``."""
        expanded = y.expand(outputs.shape[:2]).reshape(-1)
        return loss(outputs.reshape(-1, outputs.shape[-1]), expanded).view(outputs.shape[:2])

    def batch_losses(self, loss: Loss, x: Tensor, y: Tensor, per_member: bool) -> Tensor:
        """Losses of a batch, ``(S, b)`` for an ensemble and ``(b,)``, without detours, for a module."""
        return self.batch(loss, x, y, per_member)[0]

    def batch(self, loss: Loss, x: Tensor, y: Tensor, per_member: bool) -> tuple[Tensor, Tensor]:
        """Losses of a batch, as in ``batch_losses``, and the outputs ``(S, b, k)`` or ``(b, k)``."""
        if isinstance(self.model, Ensemble):
            outputs = self.model(x, per_member=per_member)
            return self.losses(loss, outputs, y), outputs
        outputs = self.model(x)
        return loss(outputs, y), outputs

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode without gradients; afterwards the mode is what it was."""
        mode = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(mode)


def decision_threshold(loss: str | Loss) -> float:
    """Return above which output a network with one output predicts class 1."""
    return 0.5 if loss == "squared_error" else 0.0


def predictions(outputs: Tensor, threshold: float) -> Tensor:
    """Return the predicted classes ``(...)`` of outputs ``(..., k)``; one output is above its threshold or not."""
    if outputs.shape[-1] == 1:
        return (outputs.squeeze(-1) > threshold).long()
    return outputs.argmax(dim=-1)


def evaluate(
    model: nn.Module | Ensemble,
    x: Tensor,
    y: Tensor,
    *,
    loss: str | Loss = "cross_entropy",
    per_member: bool = False,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return mean loss and accuracy, in evaluation mode and in pieces that bound the memory.

    A network with one output predicts class 1 above 0, or above 1/2 with the squared error.

    Args:
        model: a module, or an ensemble of S.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member=True``.
        y: classes ``(n,)``, or ``(S, n)``.
        loss: a name, or a callable from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.
        per_member: whether each member has inputs of its own.
        chunk: examples at a time; None for a size that suits rows or images.

    Returns:
        Losses and accuracies, float64, ``(S,)`` each; accuracies lie in [0, 1].

    Raises:
        ValueError: no examples, or an unknown loss.
    """
    function = loss_function(loss)
    networks = Networks(model)
    n = y.shape[-1]
    if n == 0:
        raise ValueError("there are no examples to evaluate on")
    axis = 1 if per_member else 0
    chunk = chunk or max(1, (512 if x.ndim > 2 + axis else 8192) // networks.size)
    total = torch.zeros(networks.size, dtype=torch.float64, device=y.device)
    correct = torch.zeros_like(total)
    threshold = decision_threshold(loss)
    with networks.evaluating():
        for start in range(0, n, chunk):
            some_x = x.narrow(axis, start, min(chunk, n - start))
            some_y = y[..., start : start + chunk]
            outputs = networks.outputs(some_x, per_member)
            total += networks.losses(function, outputs, some_y).sum(dim=1)
            correct += (predictions(outputs, threshold) == some_y).sum(dim=1)
    return total / n, correct / n


def accuracy(model: nn.Module | Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """Return the share of right predictions, ``(S,)`` float64 in [0, 1]; S = 1 for a module.

    Args:
        model: a module, or an ensemble of S.
        x: inputs ``(n, ...)``, seen by all members.
        y: classes ``(n,)``.

    Raises:
        ValueError: no examples.
    """
    return evaluate(model, x, y, loss=_no_loss)[1]


def _no_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.new_zeros(targets.shape)
