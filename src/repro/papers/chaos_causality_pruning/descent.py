"""Plain stochastic gradient descent on many perceptrons at once, in the order that the paper's networks see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons

__all__ = ["ORDERS", "Examples", "accuracy", "batches", "descend", "examples", "loss", "macro_f1"]

ORDERS = ("fixed", "reshuffled")


@dataclass(frozen=True)
class Examples:
    """Inputs with their classes and what the network should put out, for S splits of the data at once.

    Of R networks the first R / S learn from the first split, and so on.

    Attributes:
        x: ``(S, n, features)``, float64.
        y: classes ``(S, n)``, 0 and up.
        targets: one-hot ``(S, classes, n)``; ``(S, 1, n)`` with zeros and ones for a single output.
    """

    x: Tensor
    y: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.x.shape[1]

    @property
    def n_splits(self) -> int:
        """S."""
        return self.x.shape[0]


def examples(x: ArrayLike, y: ArrayLike, n_outputs: int) -> Examples:
    """Put inputs and classes in the form that ``Perceptrons`` learn from.

    Args:
        x: ``(n, features)``, or ``(S, n, features)`` for S splits.
        y: classes ``(n,)`` or ``(S, n)``, 0 to ``n_outputs - 1``, or 0 and 1 for a single output.
        n_outputs: width of the network's last layer.

    Raises:
        ValueError: no examples, or a class that the outputs cannot stand for.
    """
    inputs = torch.as_tensor(np.asarray(x, dtype=np.float64))
    classes = torch.as_tensor(np.asarray(y, dtype=np.int64))
    if inputs.ndim == 2:
        inputs, classes = inputs[None], classes[None]
    most = max(1, n_outputs - 1)
    if inputs.ndim != 3 or not inputs.numel() or inputs.shape[:2] != classes.shape:
        raise ValueError(
            "give inputs (n, features) or (S, n, features) with as many classes, at least one; "
            f"got {tuple(inputs.shape)} and {tuple(classes.shape)}"
        )
    if int(classes.min()) < 0 or int(classes.max()) > most:
        raise ValueError(
            f"{n_outputs} outputs stand for classes 0 to {most}; got {int(classes.min())} to {int(classes.max())}"
        )
    if n_outputs == 1:
        targets = classes.to(torch.float64)[:, None]
    else:
        one_hot = torch.nn.functional.one_hot(classes, n_outputs)
        targets = one_hot.to(torch.float64).transpose(1, 2).contiguous()
    return Examples(inputs, classes, targets)


def _by_split(values: Tensor, data: Examples) -> Tensor:
    """``(R, ...)`` as ``(S, R / S, ...)``."""
    return values.view(data.n_splits, -1, *values.shape[1:])


def accuracy(networks: Perceptrons, data: Examples) -> NDArray[np.float64]:
    """Return the share of examples that each network gets right, ``(R,)``.

    With sigmoid outputs an example is right when *all* outputs, rounded, equal the target: the paper's code
    counts so, and it is stricter than the largest output. With softmax outputs the largest output decides.
    """
    outputs = _by_split(networks.activations(data.x)[-1], data)
    if networks.head == "sigmoid":
        right = ((outputs > 0.5) == (data.targets[:, None] > 0.5)).all(2)
    else:
        right = outputs.argmax(2) == data.y[:, None]
    return right.to(torch.float64).mean(2).flatten().numpy()


def loss(networks: Perceptrons, data: Examples) -> NDArray[np.float64]:
    """Return each network's mean squared error over examples and outputs, ``(R,)``."""
    outputs = _by_split(networks.activations(data.x)[-1], data)
    return (outputs - data.targets[:, None]).square().mean((2, 3)).flatten().numpy()


def macro_f1(networks: Perceptrons, data: Examples) -> NDArray[np.float64]:
    r"""Return the mean over classes of $F_1=2TP/(2TP+FP+FN)$ for the largest output, ``(R,)``.

    With a single output its rounding decides. Classes that are neither present nor predicted do not count, as in
    scikit-learn.
    """
    outputs = _by_split(networks.activations(data.x)[-1], data)
    predicted = (outputs[:, :, 0] > 0.5).long() if outputs.shape[2] == 1 else outputs.argmax(2)
    scores = []
    for c in range(max(2, outputs.shape[2])):
        said, true = predicted == c, (data.y == c)[:, None]
        # 0 / 0, so not a number, for a class that there is not
        scores.append(2 * (said & true).sum(2) / (said.sum(2) + true.sum(2)))
    return torch.nanmean(torch.stack(scores).to(torch.float64), 0).flatten().numpy()


def batches(n: int, batch_size: int, order: str, seed: int) -> Iterator[list[Tensor]]:
    """Give the batches of one epoch after the other as indices, for ever.

    Args:
        n: number of examples.
        batch_size: examples a batch; a last shorter one is used too.
        order: ``"fixed"``: 0, 1, 2, ... in every epoch, as for the paper's tables; ``"reshuffled"``: a new
            random order in each.
        seed: of the random orders.
    """
    rng = np.random.default_rng(seed)
    while True:
        index = torch.arange(n) if order == "fixed" else torch.as_tensor(rng.permutation(n))
        yield list(index.split(batch_size))


Watch = Callable[[int, Perceptrons], object]


@torch.inference_mode()
def descend(
    networks: Perceptrons,
    data: Examples,
    *,
    learning_rate: float,
    n_epochs: int,
    batch_size: int = 1,
    order: str = "fixed",
    seed: int = 0,
    keep: Tensor | None = None,
    after_update: Sequence[Watch] = (),
    after_epoch: Callable[[int, Perceptrons], bool | None] | None = None,
) -> None:
    r"""Train in place by $\theta\leftarrow m\odot(\theta-\eta\nabla\theta)$; biases are never masked.

    All networks see the same places of their split in the same order.

    Args:
        networks: changed in place.
        data: training examples.
        learning_rate: $\eta$, constant.
        n_epochs: most passes over the data.
        batch_size: examples an update.
        order: see ``batches``.
        seed: of the order.
        keep: mask ``(R, P)`` over the weights in the flat order; False weights are zero before the first
            update and after every one. None: all are kept.
        after_update: called as ``f(k, networks)`` with k = 0 before training and after each update.
        after_epoch: called as ``f(epoch, networks)`` with epochs from 0, as the paper counts; returning True
            ends the training.

    Raises:
        ValueError: bad arguments, before any work.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if not learning_rate > 0 or n_epochs < 1 or batch_size < 1:
        raise ValueError(
            "learning_rate must be above 0, n_epochs and batch_size 1 or more; "
            f"got {learning_rate}, {n_epochs} and {batch_size}"
        )
    if len(networks) % data.n_splits:
        raise ValueError(
            f"the networks must be as many for each split; got {len(networks)} for {data.n_splits} splits"
        )
    masks: list[Tensor] = []
    if keep is not None:
        expected = (len(networks), len(networks.layer_of))
        if tuple(keep.shape) != expected:
            raise ValueError(f"keep must have shape (R, P) = {expected}; got {tuple(keep.shape)}")
        masks = [m.to(torch.float64) for m in networks.unflat(keep)]

    def mask() -> None:
        for w, m in zip(networks.weights, masks, strict=False):
            w.mul_(m)

    mask()
    for watch in after_update:
        watch(0, networks)
    update = 0
    epochs = batches(len(data), batch_size, order, seed)
    for epoch in range(n_epochs):
        for index in next(epochs):
            networks.step(data.x[:, index], data.targets[:, :, index], learning_rate)
            if masks:
                mask()
            update += 1
            for watch in after_update:
                watch(update, networks)
        if after_epoch is not None and after_epoch(epoch, networks):
            return
