r"""How strong the penalty is in each epoch: by a schedule, or by algorithm 1, which watches the training.

Both are ``after_epoch`` hooks of ``learn.train`` that set a ``Penalty``'s strengths for the next epoch and keep a
record: strength, dose $A=\sum_k\eta_k\alpha_k/(1-\mu)$ over steps, $\|x\|_1$, running training accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn import EpochReport
from repro.papers.implicit_sparsification.factors import effective_weights
from repro.papers.implicit_sparsification.penalties import Penalty

__all__ = ["Controller", "PilotController", "ScheduleController"]

_COLUMNS = ("epoch", "member", "alpha", "dose", "l1", "batch_accuracy")


class Controller:
    """Records the course of the strengths; made by subclasses, which say how the strength goes on."""

    def __init__(self, penalty: Penalty, network: nn.Module, momentum: float) -> None:
        """Watch a penalty on networks alike to ``network``, under SGD with this momentum."""
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1); got {momentum!r}")
        self.penalty = penalty
        self._network = network
        self._momentum = momentum
        self._steps = 0
        self._dose = torch.zeros_like(penalty.strengths)
        self._rows: list[tuple[float, ...]] = []

    def __call__(self, model: Any, report: EpochReport) -> None:
        """Note the epoch that ended and set the strengths of the next."""
        weights = effective_weights(model.parameters, self._network).values()
        l1 = sum(w.detach().abs().flatten(1).sum(dim=1, dtype=torch.float64).cpu() for w in weights)
        assert isinstance(l1, Tensor)
        used = self.penalty.strengths
        n_steps = report.step - self._steps
        self._steps = report.step
        self._dose = self._dose + n_steps * report.learning_rate * used / (1 - self._momentum)
        columns = (used, self._dose, l1, report.batch_accuracy)
        members = zip(range(len(used)), *(column.tolist() for column in columns), strict=True)
        self._rows += [(report.epoch, *row) for row in members]
        self.penalty.strengths = self.next(report, l1)

    def next(self, report: EpochReport, l1: Tensor) -> Tensor:
        """Return the strengths ``(S,)`` of the next epoch.

        Args:
            report: of the epoch that ended.
            l1: $\\|x\\|_1$ over all Linear and Conv2d weights, ``(S,)``.
        """
        raise NotImplementedError

    def course(self) -> pd.DataFrame:
        """Return one row an epoch and network: epoch, member, alpha, dose, l1, batch_accuracy."""
        return pd.DataFrame(self._rows, columns=list(_COLUMNS))


class ScheduleController(Controller):
    r"""Strengths $\alpha_k = \alpha\,s_k$ with a shape $s$ fixed beforehand."""

    def __init__(self, penalty: Penalty, network: nn.Module, momentum: float, shape: Sequence[float]) -> None:
        """Take over a penalty; ``shape`` has one factor an epoch, the first acts at once.

        Raises:
            ValueError: a shape with a negative number or without any.
        """
        super().__init__(penalty, network, momentum)
        values = np.asarray(shape, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"a shape is a list of numbers, 0 or above, one an epoch; got {shape!r}")
        self._base = penalty.strengths
        self._shape = values
        penalty.strengths = self._base * values[0]

    def next(self, report: EpochReport, l1: Tensor) -> Tensor:
        """Return the base strengths times the next factor of the shape, the last one after its end."""
        return self._base * self._shape[min(report.epoch, len(self._shape) - 1)]


class PilotController(Controller):
    r"""Algorithm 1 of the paper: up by $\delta$ while it does no harm, down by $\delta$ otherwise.

    After epoch k the strength is multiplied by $\delta$ if the training accuracy did not fall, $\|x\|_1\ge K$ and
    $k\le T/2$, and divided by $\delta$ if not. Each network follows its own course. The comparison signs are a
    reconstruction, and the accuracy is that over the batches of the epoch: both are doubts of the reproduction.
    """

    def __init__(
        self,
        penalty: Penalty,
        network: nn.Module,
        momentum: float,
        *,
        n_epochs: int,
        factor: float,
        least_l1: Tensor,
    ) -> None:
        r"""Take over a penalty.

        Args:
            penalty: with the strengths $\alpha_{\mathrm{init}}$ of the first epoch.
            network: one of the networks.
            momentum: of SGD.
            n_epochs: T.
            factor: $\delta\ge1$.
            least_l1: K, ``(S,)``.

        Raises:
            ValueError: a factor below 1, or a negative K.
        """
        super().__init__(penalty, network, momentum)
        if not 1 <= factor < float("inf"):
            raise ValueError(f"the factor delta must be a number, 1 or above; got {factor!r}")
        if not bool((least_l1 >= 0).all()):
            raise ValueError(f"the threshold K on the L1 norm must be 0 or above; got {least_l1.tolist()}")
        self._n_epochs, self._factor, self._least_l1 = n_epochs, factor, least_l1.double()
        self._accuracy = torch.zeros_like(penalty.strengths)

    def next(self, report: EpochReport, l1: Tensor) -> Tensor:
        """Return the strengths times, or divided by, the factor."""
        up = (report.batch_accuracy >= self._accuracy) & (l1 >= self._least_l1)
        up = up & (report.epoch <= self._n_epochs / 2)
        self._accuracy = report.batch_accuracy
        return torch.where(up, self.penalty.strengths * self._factor, self.penalty.strengths / self._factor)
