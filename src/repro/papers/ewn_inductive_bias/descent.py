r"""Gradient descent to vanishing loss: steps measured by the loss, kept if it fell, undone if it did not.

The step is $\theta \leftarrow \theta - k\,\mathcal L^{-c}\,\nabla\mathcal L = \theta - k\,\mathcal
L^{1-c}\,\nabla\log\mathcal L$. With $c=1$ it does not shrink with the loss; the relations between nodes need
$c<1$ (the authors use 29/30), so that the iterates stop bouncing between support vectors. The factor $k$
grows after a step that is kept and shrinks after one that is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.learn.ensembles import Ensemble
from repro.papers.ewn_inductive_bias._proposals import FullBatch, MiniBatches, Problem, Proposals
from repro.papers.ewn_inductive_bias._records import Descent, Log
from repro.papers.ewn_inductive_bias._running import Rule, Running
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import (
    layer_methods,
    lengths,
    renormalized,
)

__all__ = ["Descent", "descend", "squared_lengths"]


def squared_lengths(weight: Tensor) -> Tensor:
    r"""$\|w_u\|^2$ of weights ``(members, out, ...)``, shaped to multiply a gradient (E18's control)."""
    return lengths(weight, batched=True).square().reshape(*weight.shape[:2], *(1 for _ in weight.shape[2:]))


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
    chunk: int = 10_000,
    record_every: int = 100,
    record_lengths: bool = False,
    device: str | torch.device = "cpu",
) -> Descent:
    r"""Train S networks at once until their losses have fallen to $e^{-z}$ for given $z$.

    Every member has its own step size, decides for itself whether a step is kept, and leaves the batch when
    it is done.

    Args:
        ensemble: of S members; its parameters are not changed. Its dtype is the dtype of the training.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member``.
        y: labels ``(n,)`` or ``(S, n)``, as the loss wants them.
        log_loss: the loss.
        targets: $z$ values, rising; training ends beyond the last.
        exponent: $c$; 1 for loss-normalised steps.
        k0: first factor $k$.
        k_max: $k$ grows only while below it (the authors' rule, so it may exceed it by one growth).
        grow, shrink: factors of $k$ after a kept and after an undone step; the authors use 1.1 and 1.1. The
            defaults undo fewer steps.
        window: a step is kept if the loss does not exceed the largest of the last ``window`` kept ones; 1 is
            the authors' rule (the loss must not rise), 10 frees networks that are caught at a kink.
        batch_size: None for full batch; otherwise stochastic gradient descent, where a "step" is an epoch,
            kept or undone as a whole, and the learning rate is $k$ over the loss at its start (the authors'
            image rule).
        max_steps: of attempts.
        patience: attempts without progress of 0.01 in $z$ after which a member counts as stuck; None:
            never.
        seeds: of the members' batch orders (the shuffle streams of ``repro.learn.seeding``); needed with
            ``batch_size``.
        per_member: whether each member has data of its own.
        frozen: names of parameters that are not trained.
        gradient_multiplier: parameter name -> function of the stacked parameter that gives a factor for its
            gradient.
        renormalize: divide every direction $v_u$ by its length at every step (the authors do not).
        chunk: with ``batch_size``, how many examples at once the loss after an epoch is taken over.
        record_every: attempts between records of the history.
        record_lengths: whether the history holds neuron lengths.
        device: where to train.

    Returns:
        ``Descent``, on the CPU.

    Raises:
        ValueError: parameters out of range, labels the loss cannot use, unknown parameter names.

    Explained in chapter ``ewn-inductive-bias``.
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
    proposals = (
        FullBatch(problem)
        if batch_size is None
        else MiniBatches.from_seeds(problem, batch_size, seeds, chunk)
    )
    flat = problem.flat()
    members = Running.at_start(proposals.judge(flat), rule)
    proposals.keep(np.ones(len(members), dtype=bool))
    log = Log(problem, flat, levels, layer_methods(ensemble.member(0)), record_lengths)
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


def _checked_targets(targets: Sequence[float]) -> tuple[float, ...]:
    levels = tuple(float(target) for target in targets)
    if not levels or not np.isfinite(levels).all() or list(levels) != sorted(set(levels)):
        raise ValueError(
            f"targets must be at least one finite number z, in rising order, got {list(targets)}"
        )
    return levels
