"""A data set held in memory as tensors, served in batches by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repro.learn.data import Dataset
from repro.learn.seeding import streams

__all__ = ["Batches", "stacked_parts"]

Part = tuple[Tensor, Tensor]


def stacked_parts(datasets: Sequence[Dataset], device: torch.device, dtype: torch.dtype) -> dict[str, Part]:
    """Return the parts that are not empty: x ``(n, ...)`` and y ``(n,)``, or one of each a member in front.

    Raises:
        ValueError: data sets of different shapes.
    """
    first = datasets[0]
    for i, other in enumerate(datasets):
        for name in ("x_train", "x_validation", "x_test"):
            if getattr(other, name).shape != getattr(first, name).shape:
                raise ValueError(
                    f"data sets of an ensemble must have equal shapes; {name} of set 0 is "
                    f"{tuple(getattr(first, name).shape)}, of set {i} {tuple(getattr(other, name).shape)}"
                )
    parts = {}
    for name, x, y in first.parts():
        if len(datasets) > 1:
            x = torch.stack([getattr(d, f"x_{name}") for d in datasets])
            y = torch.stack([getattr(d, f"y_{name}") for d in datasets])
        parts[name] = (x.to(device, dtype), y.to(device))
    return parts


class Batches:
    """Training batches of one epoch after the other.

    Members see the same batches when they share data and seed: x is then ``(b, ...)``. Otherwise each has its
    own: x ``(S, b, ...)``. y always has as many leading dimensions as x.

    Args:
        x, y: the training part, ``(n, ...)`` or ``(S, n, ...)`` with ``stacked=True``.
        stacked: whether each member has data of its own.
        seeds: of the order, one for all members or one for each.
        batch_size: None for all examples at once; the last batch of an epoch may be shorter.
        shuffle: whether each epoch has a new order.
    """

    def __init__(
        self, x: Tensor, y: Tensor, stacked: bool, seeds: Sequence[int], batch_size: int | None, shuffle: bool
    ) -> None:
        self.n_examples = int(y.shape[-1])
        self.batch_size = min(batch_size or self.n_examples, self.n_examples)
        self.per_epoch = -(-self.n_examples // self.batch_size)
        self._whole = self.batch_size == self.n_examples
        self._generators = [streams(seed).shuffle for seed in seeds] if shuffle and not self._whole else []
        self.per_member = stacked or len(self._generators) > 1
        self._x, self._y = x, y
        if stacked:
            # members' examples one after the other, so that one index picks from all of them
            self._flat_x, self._flat_y = x.flatten(0, 1), y.flatten(0, 1)
            self._offset = torch.arange(len(x))[:, None] * self.n_examples
        else:
            self._flat_x, self._flat_y, self._offset = x, y, torch.zeros(1, 1, dtype=torch.int64)

    def epoch(self) -> Iterator[Part]:
        """Yield the batches of the next epoch."""
        if self._whole:
            yield self._x, self._y
            return
        order = self._order().to(self._x.device)
        for start in range(0, self.n_examples, self.batch_size):
            index = order[..., start : start + self.batch_size]
            chosen = index.reshape(-1)
            x, y = self._flat_x.index_select(0, chosen), self._flat_y.index_select(0, chosen)
            if self.per_member:
                x, y = x.view(*index.shape, *x.shape[1:]), y.view(index.shape)
            yield x, y

    def _order(self) -> Tensor:
        if self._generators:
            order = torch.stack([torch.randperm(self.n_examples, generator=g) for g in self._generators])
        else:
            order = torch.arange(self.n_examples)[None]
        order = order + self._offset
        return order if self.per_member else order[0]
