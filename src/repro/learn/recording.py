"""Weights, gradients and losses of a training run at every step or every k steps, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from repro.base import unknown

__all__ = ["Record", "Recording"]

KINDS = ("weights", "gradients", "loss")


@dataclass(frozen=True)
class Record:
    """What to record while training.

    Attributes:
        what: some of ``"weights"``, ``"gradients"``, ``"loss"``.
        every: steps from one record to the next, at least 1.
        max_bytes: the most memory it may take; a run that would need more fails before it starts.
        parameters: names of the parameters to record, None for all that are trained.
    """

    what: Collection[str] = ("weights",)
    every: int = 1
    max_bytes: int = 2**30
    parameters: Sequence[str] | None = None

    def __post_init__(self) -> None:
        what = (self.what,) if isinstance(self.what, str) else self.what
        if not what or not set(what) <= set(KINDS):
            raise ValueError(
                f"a record is of some of {', '.join(KINDS)}; got {', '.join(map(str, what)) or 'none'}"
            )
        object.__setattr__(self, "what", tuple(kind for kind in KINDS if kind in what))
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"every must be a whole number of steps, 1 or above; got {self.every!r}")


@dataclass
class Recording:
    r"""What a run recorded: with $\theta_t$ the weights after $t$ updates, record $i$ is of $t = ik$.

    Gradients and losses are those of the batch of update $t+1$, taken at $\theta_t$: ``gradients[name][i]``
    belongs to ``weights[name][i]``. When $k$ divides the number of steps, weights have one record more, the
    last.

    Attributes:
        every: $k$, steps from one record to the next.
        steps: $t$ of the records of gradients and losses, ``(T,)``.
        weight_steps: $t$ of the records of weights, ``(T,)`` or ``(T + 1,)``.
        weights: parameter name to ``(T or T + 1, *shape)``; ``(.., S, *shape)`` for an ensemble. On the CPU.
        gradients: parameter name to ``(T, *shape)`` or ``(T, S, *shape)``.
        loss: of the batches, ``(T,)`` or ``(T, S)``.
    """

    every: int
    steps: Tensor
    weight_steps: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Memory that the tensors take."""
        tensors = [*self.weights.values(), *self.gradients.values()]
        return sum(t.nbytes for t in tensors) + (0 if self.loss is None else self.loss.nbytes)


class Recorder:
    """Fills a ``Recording`` of known size step by step."""

    def __init__(
        self, record: Record, trained: Mapping[str, Tensor], n_steps: int, loss_shape: tuple[int, ...]
    ) -> None:
        """Set memory aside.

        Args:
            record: what to record.
            trained: the parameters that are trained, by name.
            n_steps: updates that the run will make.
            loss_shape: ``()`` for one network, ``(S,)`` for an ensemble.

        Raises:
            ValueError: an unknown parameter name.
            MemoryError: the recording would exceed ``record.max_bytes``.
        """
        self._every = record.every
        self._trained = _selected(record.parameters, trained)
        n_gradients = -(-n_steps // record.every)
        n_weights = n_steps // record.every + 1
        rows = {"weights": n_weights, "gradients": n_gradients}
        one = sum(t.nbytes for t in self._trained.values())
        needed = sum(rows[kind] * one for kind in record.what if kind in rows)
        if "loss" in record.what:
            needed += 8 * n_gradients * max(1, sum(loss_shape))
        if needed > record.max_bytes:
            enough = record.every * -(-needed // max(1, record.max_bytes))
            raise MemoryError(
                f"recording {', '.join(record.what)} every {record.every} of {n_steps} steps would take "
                f"{needed:,} bytes, more than max_bytes={record.max_bytes:,}; record less often "
                f"(every={enough} may do), fewer parameters, or allow more"
            )

        def empty(kind: str) -> dict[str, Tensor]:
            if kind not in record.what:
                return {}
            return {
                name: torch.zeros((rows[kind], *t.shape), dtype=t.dtype) for name, t in self._trained.items()
            }

        self.recording = Recording(
            record.every,
            torch.arange(n_gradients) * record.every,
            torch.arange(n_weights) * record.every,
            empty("weights"),
            empty("gradients"),
            torch.zeros((n_gradients, *loss_shape), dtype=torch.float64) if "loss" in record.what else None,
        )

    def before_update(self, step: int, losses: Tensor) -> None:
        """Record the state after ``step`` updates, with the gradients of the next one at hand."""
        if step % self._every:
            return
        i = step // self._every
        self._weights(i)
        for name, rows in self.recording.gradients.items():
            gradient = self._trained[name].grad
            if gradient is not None:
                rows[i].copy_(gradient)
        if self.recording.loss is not None:
            self.recording.loss[i].copy_(losses.detach())

    def after_last(self, n_steps: int) -> None:
        """Record the weights after the last update."""
        if n_steps % self._every == 0:
            self._weights(n_steps // self._every)

    def _weights(self, i: int) -> None:
        for name, rows in self.recording.weights.items():
            rows[i].copy_(self._trained[name].detach())


def _selected(names: Sequence[str] | None, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name in names or ():
        if name not in trained:
            raise ValueError(unknown("trained parameter", name, trained))
    return {name: t for name, t in trained.items() if names is None or name in names}
