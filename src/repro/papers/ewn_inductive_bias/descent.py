r"""Gradient descent to vanishing loss: steps measured by the loss, kept if it fell, undone if it did not.

The step is $\theta \leftarrow \theta - k\,\mathcal L^{-c}\,\nabla\mathcal L = \theta - k\,\mathcal
L^{1-c}\,\nabla\log\mathcal L$. With $c=1$ it does not shrink with the loss; the relations between nodes need
$c<1$ (the authors use 29/30), so that the iterates stop bouncing between support vectors. The factor $k$
grows after a step that is kept and shrinks after one that is undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.learn.ensembles import Ensemble
from repro.papers.ewn_inductive_bias._proposals import FullBatch, MiniBatches, Problem, Proposals
from repro.papers.ewn_inductive_bias._running import Rule, Running
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import (
    effective_weights,
    layer_methods,
    lengths,
    renormalized,
)

__all__ = ["Descent", "descend", "squared_lengths"]

Array = NDArray[np.float64]


def squared_lengths(weight: Tensor) -> Tensor:
    r"""$\|w_u\|^2$ of weights `(members, out, ...)`, shaped to multiply a gradient (E18's control)."""
    return lengths(weight, batched=True).square().reshape(*weight.shape[:2], *(1 for _ in weight.shape[2:]))


@dataclass(frozen=True, eq=False)
class Descent:
    r"""What `descend` found, for S members.

    Attributes:
        targets: the loss levels $z=-\log\mathcal L$, rising.
        start: parameters at the start, name -> `(S, ...)`.
        checkpoints: target -> parameters at the first step (or epoch) with $z$ beyond it; NaN rows for
            members that never got there.
        final: parameters at each member's end.
        z: $z$ at the end, `(S,)`.
        n_attempts: steps (or epochs) tried, `(S,)`; what the authors' logs call steps.
        n_accepted: steps kept, `(S,)`.
        attempts_to: `(S, n_targets)`, attempts needed for each target; NaN if never reached.
        seconds_to: the same in seconds of the whole ensemble's time.
        status: for each member `"reached"`, `"max_steps"`, `"stuck"` (no progress within the patience),
            `"stalled"` (the step size vanished) or `"flat"` (the gradient is exactly zero).
        history: one row a member and recorded step: member, step, z, step_size.
        lengths: layer -> `(n_records, S, out)`, neuron lengths at the recorded steps (the distinct values of
            `history.step`), NaN after a member's end; empty unless asked for.
        methods: layer -> parametrisation.
    """

    targets: tuple[float, ...]
    start: dict[str, Tensor]
    checkpoints: dict[float, dict[str, Tensor]]
    final: dict[str, Tensor]
    z: Array
    n_attempts: NDArray[np.int64]
    n_accepted: NDArray[np.int64]
    attempts_to: Array
    seconds_to: Array
    status: tuple[str, ...]
    history: pd.DataFrame
    lengths: dict[str, Array]
    methods: dict[str, str]

    def weights(self, target: float | None = None) -> dict[str, Tensor]:
        """Effective weights by layer, `(S, out, ...)`, at a target; at the start for None."""
        return effective_weights(self.start if target is None else self._at(target), self.methods)

    def final_weights(self) -> dict[str, Tensor]:
        """Effective weights by layer at each member's end, reached or not, `(S, out, ...)`."""
        return effective_weights(self.final, self.methods)

    def reached(self, target: float) -> NDArray[np.bool_]:
        """Which members reached a target, `(S,)`."""
        self._at(target)
        return np.isfinite(self.attempts_to[:, self.targets.index(target)])

    def _at(self, target: float) -> dict[str, Tensor]:
        if target not in self.checkpoints:
            raise ValueError(
                f"no checkpoint at z = {target}: targets were {', '.join(f'{t:g}' for t in self.targets)}"
            )
        return self.checkpoints[target]

    def summary(self) -> pd.DataFrame:
        """One row a member: member, status, z, n_attempts, n_accepted."""
        return pd.DataFrame(
            {
                "member": np.arange(len(self.z)),
                "status": self.status,
                "z": self.z,
                "n_attempts": self.n_attempts,
                "n_accepted": self.n_accepted,
            }
        )


def descend(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    *,
    log_loss: LogLoss,
    targets: Sequence[float] = (10.0, 100.0, 300.0),
    exponent: float = 1.0,
    k0: float = 0.01,
    k_max: float = float("inf"),
    grow: float = 1.02,
    shrink: float = 1.2,
    window: int = 1,
    batch_size: int | None = None,
    max_steps: int = 100_000,
    patience: int | None = None,
    seeds: Sequence[int] | None = None,
    per_member: bool = False,
    frozen: Sequence[str] = (),
    gradient_multiplier: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    renormalize: bool = False,
    record_every: int = 100,
    record_lengths: bool = False,
    device: str | torch.device = "cpu",
) -> Descent:
    r"""Train S networks at once until their losses have fallen to $e^{-z}$ for given $z$.

    Every member has its own step size, decides for itself whether a step is kept, and leaves the batch when
    it is done.

    Args:
        ensemble: of S members; its parameters are not changed. Its dtype is the dtype of the training.
        x: inputs `(n, ...)`, or `(S, n, ...)` with `per_member`.
        y: labels `(n,)` or `(S, n)`, as the loss wants them.
        log_loss: the loss.
        targets: $z$ values, rising; training ends beyond the last.
        exponent: $c$; 1 for loss-normalised steps.
        k0: first factor $k$.
        k_max: $k$ grows only while below it (the authors' rule, so it may exceed it by one growth).
        grow, shrink: factors of $k$ after a kept and after an undone step; the authors use 1.1 and 1.1. The
            defaults undo fewer steps.
        window: a step is kept if the loss does not exceed the largest of the last `window` kept ones; 1 is
            the authors' rule (the loss must not rise), 10 frees networks that are caught at a kink.
        batch_size: None for full batch; otherwise stochastic gradient descent, where a "step" is an epoch,
            kept or undone as a whole, and the learning rate is $k$ over the loss at its start (the authors'
            image rule).
        max_steps: of attempts.
        patience: attempts without progress of 0.01 in $z$ after which a member counts as stuck; None:
            never.
        seeds: of the members' batch orders (the shuffle streams of `repro.learn.seeding`); needed with
            `batch_size`.
        per_member: whether each member has data of its own.
        frozen: names of parameters that are not trained.
        gradient_multiplier: parameter name -> function of the stacked parameter that gives a factor for its
            gradient.
        renormalize: divide every direction $v_u$ by its length at every step (the authors do not).
        record_every: attempts between records of the history.
        record_lengths: whether the history holds neuron lengths.
        device: where to train.

    Returns:
        `Descent`, on the CPU.

    Raises:
        ValueError: parameters out of range, labels the loss cannot use, unknown parameter names.

    Explained in chapter `ewn-inductive-bias`.
    """
    rule = Rule(k0, k_max, grow, shrink, window, patience)
    levels = _checked_targets(targets)
    log_loss.check_labels(y)
    multipliers = dict(gradient_multiplier or {})
    for what, names in (("frozen", frozen), ("gradient_multiplier", multipliers)):
        for name in names:
            if name not in ensemble.parameters:
                raise ValueError(f"{what}: no parameter {name!r}; there are {', '.join(ensemble.parameters)}")
    if max_steps < 1 or record_every < 1:
        raise ValueError(f"max_steps and record_every must be at least 1, got {max_steps} and {record_every}")

    copy = Ensemble(list(ensemble)).to(device)
    problem = Problem(copy, x.to(device), y.to(device), log_loss, per_member, frozen, multipliers)
    proposals: Proposals
    if batch_size is None:
        proposals = FullBatch(problem)
    else:
        proposals = MiniBatches.from_seeds(problem, batch_size, seeds)
    flat = problem.flat()
    members = Running.at_start(proposals.judge(flat), rule)
    proposals.keep(np.ones(len(members), dtype=bool))
    log = _Log(problem, flat, levels, layer_methods(ensemble.member(0)), record_lengths)
    step = 0
    while True:
        members, crossed = members.crossing(levels)
        log.checkpoints(crossed, members, flat, step)
        # looking for zero gradients costs as much as a step of a small network
        zero = proposals.zero_gradient() if step % 100 == 0 else None
        endings = members.endings(step, len(levels), rule, zero)
        if step >= max_steps:
            endings = [ending or "max_steps" for ending in endings or [""] * len(members)]
        if endings or step % record_every == 0:
            log.record(members, flat, step)
        if endings:
            log.ends(endings, members, flat, step)
            stay = np.array([not ending for ending in endings])
            if not stay.any():
                return log.result()
            rows = torch.from_numpy(np.flatnonzero(stay)).to(flat.device)
            members, proposals, flat = members.only(stay), proposals.only(rows), flat[rows]
        step += 1
        rate = members.k * np.exp((1 - exponent) * members.log_loss)
        trial = proposals.propose(flat, rate, members.log_loss, members.ids)
        if renormalize:
            trial = proposals.problem.flat_of(renormalized(proposals.problem.named(trial)))
        members, accepted = members.after(proposals.judge(trial), step, rule)
        proposals.keep(accepted)
        if accepted.all():
            flat = trial
        elif accepted.any():
            flat = torch.where(torch.from_numpy(accepted).to(flat.device).unsqueeze(1), trial, flat)


class _Log:
    """Collects what `Descent` holds, while members come and go."""

    def __init__(
        self,
        problem: Problem,
        flat: Tensor,
        targets: tuple[float, ...],
        methods: dict[str, str],
        lengths: bool,
    ) -> None:
        size = len(flat)
        self.problem, self.targets, self.methods, self.with_lengths = problem, targets, methods, lengths
        self.start, self.final = flat.cpu().clone(), torch.full_like(flat, torch.nan, device="cpu")
        self.saved = {target: self.final.clone() for target in targets}
        self.attempts_to, self.seconds_to = np.full((2, size, len(targets)), np.nan)
        self.z, self.status = np.full(size, np.nan), [""] * size
        self.n_attempts, self.n_accepted = np.zeros((2, size), dtype=np.int64)
        self.history: list[pd.DataFrame] = []
        self.lengths: list[dict[str, Array]] = []
        self.began = time.perf_counter()

    def checkpoints(self, crossed: list[tuple[int, int]], members: Running, flat: Tensor, step: int) -> None:
        for i, j in crossed:
            member = members.ids[i]
            self.saved[self.targets[j]][member] = flat[i].cpu()
            self.attempts_to[member, j] = step
            self.seconds_to[member, j] = time.perf_counter() - self.began

    def record(self, members: Running, flat: Tensor, step: int) -> None:
        now = {"member": members.ids, "step": step, "z": -members.log_loss, "step_size": members.k}
        self.history.append(pd.DataFrame(now))
        if self.with_lengths:
            everyone = torch.full_like(self.start, torch.nan)
            everyone[torch.from_numpy(members.ids)] = flat.cpu()
            weights = effective_weights(self._named(everyone), self.methods)
            self.lengths.append({n: lengths(w, batched=True).double().numpy() for n, w in weights.items()})

    def ends(self, endings: list[str], members: Running, flat: Tensor, step: int) -> None:
        for i, ending in enumerate(endings):
            if ending:
                member = members.ids[i]
                self.status[member], self.z[member] = ending, -members.log_loss[i]
                self.n_attempts[member], self.n_accepted[member] = step, members.n_accepted[i]
                self.final[member] = flat[i].cpu()

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        return {n: p.detach().cpu().clone() for n, p in self.problem.named(flat).items()}

    def result(self) -> Descent:
        return Descent(
            targets=self.targets,
            start=self._named(self.start),
            checkpoints={target: self._named(flat) for target, flat in self.saved.items()},
            final=self._named(self.final),
            z=self.z,
            n_attempts=self.n_attempts,
            n_accepted=self.n_accepted,
            attempts_to=self.attempts_to,
            seconds_to=self.seconds_to,
            status=tuple(self.status),
            history=pd.concat(self.history, ignore_index=True),
            lengths={n: np.stack([at[n] for at in self.lengths]) for n in self.methods if self.lengths},
            methods=self.methods,
        )


def _checked_targets(targets: Sequence[float]) -> tuple[float, ...]:
    levels = tuple(float(target) for target in targets)
    if not levels or not np.isfinite(levels).all() or list(levels) != sorted(set(levels)):
        raise ValueError(
            f"targets must be at least one finite number z, in rising order, got {list(targets)}"
        )
    return levels
