r"""How an ensemble's next parameters are proposed: one gradient step, or one epoch of mini-batches.

Parameters live in one matrix ``(members, numbers)``: an update, or the undoing of one, is then one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.learn.ensembles import Ensemble
from repro.learn.seeding import streams
from repro.papers.ewn_inductive_bias.log_losses import LogLoss

__all__ = ["FullBatch", "MiniBatches", "Problem", "Proposals"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Multipliers = Mapping[str, Callable[[Tensor], Tensor]]


class Problem:
    """An ensemble, its data and its loss; parameters as rows of a matrix."""

    def __init__(
        self,
        ensemble: Ensemble,
        x: Tensor,
        y: Tensor,
        loss: LogLoss,
        per_member: bool,
        frozen: Sequence[str],
        multipliers: Multipliers,
    ) -> None:
        self.ensemble, self.x, self.y, self.loss = ensemble, x, y, loss
        self.per_member, self.frozen, self.multipliers = per_member, tuple(frozen), multipliers
        trained = {n: p for n, p in ensemble.parameters.items() if p.requires_grad and n not in self.frozen}
        self._fixed = {n: p.detach() for n, p in ensemble.parameters.items() if n not in trained}
        self._shapes = {n: p.shape[1:] for n, p in trained.items()}
        ends = np.cumsum([0, *(p[0].numel() for p in trained.values())])
        self._slices = {
            n: slice(int(a), int(b)) for n, a, b in zip(trained, ends[:-1], ends[1:], strict=True)
        }

    def only(self, rows: Tensor) -> Problem:
        """The same problem for some of the members."""
        members = [self.ensemble.member(int(i)) for i in rows]
        x, y = (self.x[rows], self.y[rows]) if self.per_member else (self.x, self.y)
        return Problem(Ensemble(members), x, y, self.loss, self.per_member, self.frozen, self.multipliers)

    def flat(self) -> Tensor:
        """The ensemble's own trained parameters, ``(members, numbers)``."""
        return self.flat_of(self.ensemble.parameters)

    def flat_of(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The trained ones of these parameters, ``(members, numbers)``."""
        return torch.cat([parameters[n].detach().flatten(1) for n in self._slices], dim=1)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """All parameters by name, the trained ones as views of a matrix."""
        return {n: flat[:, s].reshape(-1, *self._shapes[n]) for n, s in self._slices.items()} | self._fixed

    def forward(self, flat: Tensor, x: Tensor, per_member: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores ``(members, n, ...)`` with their graph, and the leaves to differentiate by."""
        named = self.named(flat)
        leaves = {n: named[n].detach().requires_grad_() for n in self._slices}
        return self.ensemble(x, per_member=per_member, parameters=named | leaves), leaves

    def backward(self, scores: Tensor, leaves: Mapping[str, Tensor], slope: Tensor) -> Tensor:
        """Gradient by the trained parameters, ``(members, numbers)``, from the gradient by the scores."""
        found = torch.autograd.grad(scores, list(leaves.values()), slope)
        gradients = dict(zip(leaves, found, strict=True))
        for name, multiplier in self.multipliers.items():
            gradients[name] = gradients[name] * multiplier(leaves[name].detach())
        return torch.cat([g.flatten(1) for g in gradients.values()], dim=1)


class Proposals(Protocol):
    """What the descent asks of either way to propose."""

    problem: Problem

    def only(self, rows: Tensor) -> Proposals:
        """The same for some of the members."""

    def propose(self, flat: Tensor, rate: Array, log_losses: Array, ids: Integers) -> Tensor:
        r"""New parameters ``(members, numbers)``; ``rate``: $k\mathcal L^{1-c}$; ``ids``: member numbers."""

    def judge(self, flat: Tensor) -> Array:
        """Log-losses ``(members,)`` of parameters."""

    def keep(self, accepted: Flags) -> None:
        """Prepare the next proposal, for the members that keep the parameters last judged."""

    def zero_gradient(self) -> Flags:
        """Members whose gradient is exactly zero: they will never move."""


def _column(values: Array, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


class FullBatch:
    """A gradient step on all data. The forward pass that judges a step also serves the next one."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._slope: Tensor | None = None
        self._pending: tuple[Tensor, dict[str, Tensor], Tensor] | None = None

    def only(self, rows: Tensor) -> FullBatch:
        chosen = FullBatch(self.problem.only(rows))
        chosen._slope = None if self._slope is None else self._slope[rows]
        return chosen

    def propose(self, flat: Tensor, rate: Array, log_losses: Array, ids: Integers) -> Tensor:
        assert self._slope is not None
        return torch.addcmul(flat, _column(rate, flat), self._slope, value=-1)

    def judge(self, flat: Tensor) -> Array:
        """Log-losses ``(members,)`` of parameters."""
        scores, leaves = self.problem.forward(flat, self.problem.x, self.problem.per_member)
        value, slope = self.problem.loss.value_and_slope(scores.detach(), self.problem.y)
        self._pending = (scores, leaves, slope)
        return value.cpu().numpy()

    def keep(self, accepted: Flags) -> None:
        """Compute the gradient at the parameters last judged, for the members that keep them."""
        assert self._pending is not None
        if accepted.any():
            found = self.problem.backward(*self._pending[:2], self._pending[2])
            if self._slope is not None and not accepted.all():
                rows = torch.from_numpy(accepted).to(found.device).unsqueeze(1)
                found = torch.where(rows, found, self._slope)
            self._slope = found
        self._pending = None

    def zero_gradient(self) -> Flags:
        """Members whose gradient is exactly zero: they will never move."""
        assert self._slope is not None
        return ~self._slope.any(dim=1).cpu().numpy()


class MiniBatches:
    r"""One epoch of stochastic gradient descent, each member with its own order of the data.

    The step is $k\,\mathcal L^{1-c}\,\nabla\mathcal L_B/\mathcal L$ with $\mathcal L$ the loss at the start
    of the epoch.
    """

    def __init__(
        self, problem: Problem, batch_size: int, generators: Sequence[torch.Generator], chunk: int
    ) -> None:
        self.problem, self.batch_size, self.generators, self.chunk = problem, batch_size, generators, chunk

    @classmethod
    def from_seeds(
        cls, problem: Problem, batch_size: int, seeds: Sequence[int] | None, chunk: int
    ) -> MiniBatches:
        """With the shuffle streams of the members' seeds."""
        size = len(problem.ensemble)
        if seeds is None or len(seeds) != size:
            got = "none" if seeds is None else len(seeds)
            raise ValueError(
                f"mini-batches need one seed a member for their order: {size} members, {got} seeds"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return cls(problem, batch_size, [streams(seed).shuffle for seed in seeds], chunk)

    def only(self, rows: Tensor) -> MiniBatches:
        return MiniBatches(self.problem.only(rows), self.batch_size, self.generators, self.chunk)

    def propose(self, flat: Tensor, rate: Array, log_losses: Array, ids: Integers) -> Tensor:
        p = self.problem
        n = p.x.shape[1] if p.per_member else p.x.shape[0]
        order = torch.stack([torch.randperm(n, generator=self.generators[int(i)]) for i in ids]).to(
            flat.device
        )
        rows = torch.arange(len(ids), device=flat.device).unsqueeze(1)
        rates, start = _column(rate, flat), torch.as_tensor(log_losses, device=flat.device)
        for index in order.split(self.batch_size, dim=1):
            x, y = (p.x[rows, index], p.y[rows, index]) if p.per_member else (p.x[index], p.y[index])
            scores, leaves = p.forward(flat, x, per_member=True)
            value, slope = p.loss.value_and_slope(scores.detach(), y)
            gradient = p.backward(scores, leaves, slope)
            relative = (value - start).exp().to(flat.dtype).unsqueeze(1)
            flat = torch.addcmul(flat, rates * relative, gradient, value=-1)
        return flat

    @torch.no_grad()
    def judge(self, flat: Tensor) -> Array:
        p = self.problem
        named, dim = p.named(flat), 1 if p.per_member else 0
        parts = zip(p.x.split(self.chunk, dim), p.y.split(self.chunk, p.y.ndim - 1), strict=True)
        log_losses = [
            p.loss.per_sample(p.ensemble(x, per_member=p.per_member, parameters=named), y) for x, y in parts
        ]
        return p.loss.reduce(torch.cat(log_losses, dim=-1).double()).cpu().numpy()

    def keep(self, accepted: Flags) -> None:
        """Nothing to prepare: an epoch computes its own gradients."""

    def zero_gradient(self) -> Flags:
        return np.zeros(len(self.problem.ensemble), dtype=bool)
