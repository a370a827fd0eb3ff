"""What a training run leaves behind: metrics by epoch and member, recordings, members that diverged."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.learn.recording import Recording

__all__ = ["EpochReport", "History", "TrainingDivergedError"]


class TrainingDivergedError(FloatingPointError):
    """A loss became infinite or not a number."""


@dataclass(frozen=True)
class EpochReport:
    """What ``after_epoch`` hooks of ``train`` are told.

    Attributes:
        epoch: epochs finished.
        step: updates made.
        batch_accuracy: share of right predictions over the batches of the epoch, each at the weights of its
            time; ``(S,)`` float64 in [0, 1], S = 1 for a module.
        learning_rate: as it stands after the last update of the epoch: that of the epoch under a schedule by
            epoch, which moves it later; that of the next update under a schedule by step.
    """

    epoch: int
    step: int
    batch_accuracy: Tensor
    learning_rate: float


@dataclass
class History:
    """The course of a training run.

    Attributes:
        metrics: one row an evaluated epoch and member. Columns: ``epoch`` (0 is before training), ``step``,
            ``member``, ``seed``, ``learning_rate`` (of the next update), ``batch_loss`` (mean over the
            batches since the row before, each at the weights of its time), and for each part of the data
            ``train_loss``, ``train_accuracy``, ``validation_loss``, ... at the weights of that epoch's end.
            Losses are means over examples; accuracies lie in [0, 1].
        n_steps: updates made.
        n_epochs: epochs begun.
        seconds: wall time, evaluation included.
        device: where it ran.
        recording: what was asked for with ``record``, or None.
        diverged: member to (epoch, step) of its first loss that is not finite; empty if all went well.
    """

    metrics: pd.DataFrame
    n_steps: int
    n_epochs: int
    seconds: float
    device: str
    recording: Recording | None = None
    diverged: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def final(self) -> pd.DataFrame:
        """The rows of the last evaluation, one a member."""
        return self.metrics[self.metrics["step"] == self.metrics["step"].max()].reset_index(drop=True)

    def last(self, column: str) -> NDArray[np.float64]:
        """Values of a column at the last evaluation, ``(S,)``.

        Raises:
            KeyError: no such column.
        """
        if column not in self.metrics:
            raise KeyError(f"no column {column!r}; there are {', '.join(self.metrics.columns)}")
        return self.final[column].to_numpy(dtype=np.float64)


class LossWatch:
    """Adds up the losses of batches and notices the first that is not finite.

    Looking at each loss would make a GPU wait at every step; losses are gathered and looked at together.
    """

    def __init__(self, size: int, raise_at_once: bool) -> None:
        self.diverged: dict[int, tuple[int, int]] = {}
        self._size = size
        self._raise_at_once = raise_at_once
        self._losses: list[Tensor] = []
        self._places: list[tuple[int, int, int]] = []
        self._total = torch.zeros(size, dtype=torch.float64)
        self._n = 0

    def add(self, losses: Tensor, n: int, epoch: int, step: int) -> None:
        """Take in the mean losses ``(S,)``, or ``()`` of one network, of a batch of n examples."""
        self._losses.append(losses)
        self._places.append((n, epoch, step))
        if len(self._losses) == 64:
            self._look()

    def _look(self) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses).view(-1, self._size).to("cpu", torch.float64)
        finite = losses.isfinite()
        if not finite.all():
            for member in (~finite).any(dim=0).nonzero().flatten().tolist():
                row = int((~finite[:, member]).nonzero()[0])
                _, epoch, step = self._places[row]
                self.diverged.setdefault(member, (epoch, step))
                if self._raise_at_once or len(self.diverged) == self._size:
                    who = "" if self._size == 1 else f" of all {self._size} members, last of member {member},"
                    raise TrainingDivergedError(
                        f"the loss{who} became {losses[row, member].item()} at epoch {epoch}, step {step}; "
                        "a smaller learning rate may help"
                    )
        sizes = torch.tensor([n for n, _, _ in self._places], dtype=torch.float64)
        self._total += (losses * sizes[:, None]).sum(dim=0)
        self._n += int(sizes.sum())
        self._losses, self._places = [], []

    def mean(self) -> Tensor:
        """Mean loss ``(S,)`` over the examples since the last call."""
        self._look()
        mean = self._total / self._n if self._n else torch.full_like(self._total, torch.nan)
        self._total, self._n = torch.zeros_like(self._total), 0
        return mean
