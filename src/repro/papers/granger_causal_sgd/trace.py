"""Traces of training: how every weight moved at every step, beside what the loss did."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.learn import Dataset, Ensemble
from repro.learn._losses import Loss
from repro.papers.granger_causal_sgd._logging import Descent
from repro.papers.granger_causal_sgd.moments import Moments
from repro.papers.granger_causal_sgd.settings import Start
from repro.prune import Mask

__all__ = ["Trace", "gram", "log_from", "log_trace"]

_BLOCK = 2**22
"""Numbers of a float64 block of columns: 32 MiB."""


@dataclass(frozen=True)
class Trace:
    r"""T steps of S networks with p prunable weights each; row t belongs to $\theta_t \to \theta_{t+1}$.

    Attributes:
        steps: $v_t$ ``(S, T, p)`` in the networks' dtype, with $\Delta\theta_t = -\eta v_t$; the columns are the
            prunable weights, flattened in the order of ``shapes``. Plain SGD has $v_t = g_t$, the gradient;
            momentum $v_t = \mu v_{t-1} + g_t$. With ``changes="stored"`` it is $\Delta\theta_t$ itself.
        loss_changes: $\Delta L_t$ ``(S, T)``, float64, by target: ``"same_batch"``
            $L_{B_t}(\theta_{t+1}) - L_{B_t}(\theta_t)$, ``"cross_batch"``
            $L_{B_{t+1}}(\theta_{t+1}) - L_{B_t}(\theta_t)$ and, where asked for, ``"full_loss"``
            $L(\theta_{t+1}) - L(\theta_t)$ on the whole training part.
        batch_losses: $L_{B_t}(\theta_t)$ ``(S, T)``, float64.
        rest: $\sum\Delta\theta_t^2$ ``(S, T)``, float64, over all other trained parameters (biases).
        shapes: parameter name to the shape of one network's weight.
        learning_rate: $\eta$; of a placebo, the rate its steps would have had.
        momentum: $\mu$.
        placebo: whether the steps were computed and never taken.
        changes: ``"exact"``, or ``"stored"`` for differences of the weights as they are stored.
        cross: $\sum\Delta\theta_{t-1}\Delta\theta_t$ ``(S, T)``, float64, over all trained parameters; the first
            is 0. None without momentum.
    """

    steps: Tensor
    loss_changes: dict[str, Tensor]
    batch_losses: Tensor
    rest: Tensor
    shapes: dict[str, torch.Size]
    learning_rate: float
    momentum: float
    placebo: bool
    changes: str = "exact"
    cross: Tensor | None = None

    @property
    def n_networks(self) -> int:
        """S."""
        return self.steps.shape[0]

    @property
    def n_rows(self) -> int:
        """T, one less than the steps that were taken."""
        return self.steps.shape[1]

    @property
    def n_weights(self) -> int:
        """Prunable weights of one network, p."""
        return self.steps.shape[2]

    @property
    def layers(self) -> dict[str, slice]:
        """Columns of each parameter."""
        ends = accumulate((shape.numel() for shape in self.shapes.values()), initial=0)
        return {name: slice(*ends_) for name, ends_ in zip(self.shapes, pairwise(ends), strict=True)}

    def squares(self, member: int, layer: str | None = None) -> Tensor:
        r"""Return $(\Delta\theta_{t,k})^2$ of one network, ``(T, p)`` or, of one layer, ``(T, p_layer)``; float64.

        Raises:
            ValueError: no such network or layer.
        """
        if layer is not None and layer not in self.shapes:
            raise ValueError(f"no layer {layer!r}; there are {', '.join(self.shapes)}")
        return self._squares(member, slice(None) if layer is None else self.layers[layer])

    def energy(self) -> Tensor:
        r"""Return $\sum_k(\Delta\theta_{t,k})^2$ over all trained parameters, ``(S, T)``, float64."""
        weights = [
            torch.stack([block.sum(dim=1) for _, block in self._blocks(i)]).sum(dim=0)
            for i in range(self.n_networks)
        ]
        return torch.stack(weights) + self.rest

    def moments(self) -> Moments:
        """Return the means over rows of squares and of their products with each loss change."""
        mean_square = torch.empty(self.n_networks, self.n_weights, dtype=torch.float64)
        covariance = {name: torch.empty_like(mean_square) for name in self.loss_changes}
        for i in range(self.n_networks):
            for columns, block in self._blocks(i):
                mean_square[i, columns] = block.mean(dim=0)
                for name, change in self.loss_changes.items():
                    covariance[name][i, columns] = change[i] @ block / self.n_rows
        return Moments(mean_square, covariance, self.shapes, self.n_rows)

    def _squares(self, member: int, columns: slice) -> Tensor:
        if not 0 <= member < self.n_networks:
            raise ValueError(
                f"a trace of {self.n_networks} networks has members 0 to {self.n_networks - 1}; got {member}"
            )
        factor = 1.0 if self.changes == "stored" else -self.learning_rate
        return (factor * self.steps[member, :, columns].double()).square_()

    def _blocks(self, member: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield squares of one network by blocks of columns that fit into memory."""
        width = max(1, _BLOCK // self.n_rows)
        for start in range(0, self.n_weights, width):
            columns = slice(start, start + width)
            yield columns, self._squares(member, columns)


def gram(trace: Trace, member: int) -> Tensor:
    r"""Return $K_{st} = \sum_k x_{s,k}x_{t,k}$ with $x_{t,k} = (\Delta\theta_{t,k})^2$, ``(T, T)``, float64.

    Over the prunable weights of one network, by blocks of columns.

    Raises:
        ValueError: no such network.
    """
    result = torch.zeros(trace.n_rows, trace.n_rows, dtype=torch.float64)
    for _, block in trace._blocks(member):
        result.addmm_(block, block.T)
    return result


def log_trace(
    ensemble: Ensemble,
    datasets: Dataset | Sequence[Dataset],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    n_epochs: int | None = None,
    n_steps: int | None = None,
    batch_size: int | None,
    loss: str | Loss = "cross_entropy",
    seeds: int | Sequence[int],
    masks: Mask | None = None,
    full_loss: bool = False,
    placebo: bool = False,
    changes: str = "exact",
    drop_last: bool = True,
    store: str = "memory",
    max_bytes: int = 2**31,
    device: str = "auto",
) -> Trace:
    r"""Log SGD on S networks, $\theta_{t+1} = \theta_t - \eta v_t$ with $v_t = \mu v_{t-1} + g_t$.

    The networks are copied first and stay as they are. $\Delta\theta_t = -\eta v_t$ in float64 is the change that
    SGD means to make; the float32 weights make it to within their rounding, which ``changes="stored"`` logs
    instead: differences of stored weights, as in the authors' code, in whole multiples of a weight's last digit.

    Args:
        ensemble: the networks, at the weights to start from.
        datasets: one, or one a network; the training parts are used.
        learning_rate: $\eta$, above 0.
        momentum: $\mu$, in [0, 1).
        n_epochs: passes over the training part; or give ``n_steps``.
        n_steps: steps, at least 2; a trace has one row less.
        batch_size: examples a step; None for the whole training part.
        loss: as in ``learn.train``; its mean over a batch is descended.
        seeds: of the order of batches, one or one a network; the order is that of ``learn.train``.
        masks: held while logging; the changes of pruned weights are 0.
        full_loss: whether to log the loss of the whole training part around each step, too.
        placebo: compute steps and never take them; ``steps`` are then gradients at the start.
        changes: ``"exact"`` or ``"stored"``.
        drop_last: leave out the last batch of an epoch where it is shorter; the authors' code keeps it.
        store: ``"memory"``, or ``"disk"`` for a temporary file that vanishes with the trace.
        max_bytes: the most memory that the steps may take with ``store="memory"``.
        device: as in ``learn.train``; a trace is always on the processor.

    Raises:
        ValueError: bad arguments, nothing to prune or to log, buffers (batch normalization), before any work.
        MemoryError: the trace would exceed ``max_bytes``, or the disk's free space; before any work.
        TrainingDivergedError: a loss is not finite; names network and step.
    """
    descent = Descent(
        ensemble, datasets, learning_rate=learning_rate, momentum=momentum, n_epochs=n_epochs, n_steps=n_steps,
        batch_size=batch_size, loss=loss, seeds=seeds, masks=masks, full_loss=full_loss, placebo=placebo,
        changes=changes, drop_last=drop_last, device=device,
    )  # fmt: skip
    steps = _room((descent.n_networks, descent.n_rows, descent.n_weights), descent.dtype, store, max_bytes)
    rows = []
    for t, row in enumerate(descent.rows()):
        steps[:, t] = row.step
        rows.append((row.loss_changes, row.batch_loss, row.rest, row.cross))
    loss_changes, batch_losses, rest, cross = zip(*rows, strict=True)

    def over_time(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values), dim=1).cpu()

    return Trace(
        steps,
        {name: over_time([change[name] for change in loss_changes]) for name in loss_changes[0]},
        over_time(batch_losses),
        over_time(rest),
        descent.shapes,
        learning_rate,
        momentum,
        placebo,
        changes,
        over_time(cross) if momentum else None,
    )


def log_from(
    start: Start, *, learning_rate: float | None = None, n_epochs: int | None = None, **options: Any
) -> Trace:
    """Log the networks of a start on their own data; None stands for the setting's rate and epochs.

    Other options, and errors, are those of ``log_trace``; the order of batches is that of the networks' seeds
    unless ``seeds`` says otherwise.
    """
    if n_epochs is None and options.get("n_steps") is None:
        n_epochs = start.setting.logging_epochs
    rate = start.setting.logging_rate if learning_rate is None else learning_rate
    defaults: dict[str, Any] = {"batch_size": start.setting.batch_size, "seeds": start.seeds}
    return log_trace(
        start.ensemble, start.datasets, learning_rate=rate, n_epochs=n_epochs, **(defaults | options)
    )


def _room(shape: tuple[int, int, int], dtype: torch.dtype, store: str, max_bytes: int) -> Tensor:
    """Set memory or disk aside for the steps."""
    needed = shape[0] * shape[1] * shape[2] * dtype.itemsize
    sizes = f"{shape[0]} networks x {shape[1]} steps x {shape[2]:,} weights take {needed:,} bytes"
    if store == "memory":
        if needed > max_bytes:
            raise MemoryError(
                f"{sizes}, more than max_bytes={max_bytes:,}; log with store='disk', keep sums only with "
                "stream_moments, log fewer networks at a time, or allow more"
            )
        return torch.empty(shape, dtype=dtype)
    if store != "disk":
        raise ValueError(f"store is 'memory' or 'disk', got {store!r}")
    if needed > (free := shutil.disk_usage(tempfile.gettempdir()).free):
        raise MemoryError(
            f"{sizes}, more than the {free:,} free in {tempfile.gettempdir()!r}; keep sums only with "
            "stream_moments, or name a larger folder in TMPDIR"
        )
    with tempfile.TemporaryFile() as file:  # without a name, it vanishes with its last mapping
        return torch.from_numpy(np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, "w+", shape=shape))
