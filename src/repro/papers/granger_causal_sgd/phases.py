"""The plain SGD of one pruning iteration, logged as rows or as sums, or run to its end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.learn import Dataset, Ensemble, TrainingDivergedError, train
from repro.papers.granger_causal_sgd.moments import stream_moments
from repro.papers.granger_causal_sgd.settings import Setting
from repro.papers.granger_causal_sgd.trace import Trace, log_trace
from repro.prune import Mask

__all__ = ["Phase", "derived_seed"]


def derived_seed(seed: int, *key: int) -> int:
    """Return a seed for a part of a network's run, told by whole numbers; none has to do with another.

    Networks of one seed share it, whatever their penalty or mask, so that their runs differ in nothing else.
    """
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0])


@dataclass(frozen=True)
class Phase:
    """Plain SGD with masks held, at the setting's logging rate; last short batches are kept.

    Attributes:
        ensemble: S networks, pruned weights at zero; they stay as they are.
        datasets: one a network.
        seeds: of the order of batches, one a network.
        mask: entries ``(S, *shape)``.
        setting: gives learning rate and batch size.
        n_epochs: of SGD.
        device: as in ``learn.train``.
    """

    ensemble: Ensemble
    datasets: list[Dataset]
    seeds: list[int]
    mask: Mask
    setting: Setting
    n_epochs: int
    device: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that ``log_trace`` and ``stream_moments`` share."""
        return {
            "learning_rate": self.setting.logging_rate,
            "n_epochs": self.n_epochs,
            "batch_size": self.setting.batch_size,
            "seeds": self.seeds,
            "masks": self.mask,
            "drop_last": False,
            "device": self.device,
        }

    def covariance(self, loss_delta: str) -> Tensor:
        r"""Return $\frac1T\sum_t\Delta L_t\Delta\theta_{t,k}^2$, ``(S, p)``; keeps no rows."""
        return stream_moments(self.ensemble, self.datasets, **self.arguments).covariance[loss_delta]

    def trace(self, store: str) -> Trace:
        """Return the rows of this SGD, kept where ``store`` says."""
        return log_trace(self.ensemble, self.datasets, store=store, **self.arguments)

    @cached_property
    def end(self) -> Ensemble:
        """The networks where this SGD arrives.

        Raises:
            TrainingDivergedError: a loss is not finite.
        """
        networks = Ensemble(list(self.ensemble))
        history = train(
            networks,
            self.datasets,
            optimizer=partial(torch.optim.SGD, lr=self.setting.logging_rate),
            n_epochs=self.n_epochs,
            batch_size=self.setting.batch_size,
            after_step=[self.mask],
            evaluate_every=self.n_epochs,
            seed=self.seeds,
            device=self.device,
            progress=False,
        )
        if history.diverged:
            member, (epoch, step) = next(iter(history.diverged.items()))
            raise TrainingDivergedError(
                f"the loss of network {member} is not finite in epoch {epoch}, step {step}, of the SGD before "
                f"pruning; a smaller learning rate than {self.setting.logging_rate} may help"
            )
        return networks
