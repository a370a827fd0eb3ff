"""The loops of the authors' code: log or train, prune, rewind, again; causal pruning and pruning by magnitude."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.learn import Ensemble
from repro.papers.granger_causal_sgd.phases import Phase, derived_seed
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.tg_lasso import tg_lasso
from repro.prune import Mask, select

__all__ = ["LOSS_DELTAS", "PruningRun", "causal_pruning", "magnitude_pruning"]

LOSS_DELTAS = ("cross_batch", "same_batch")


@dataclass(frozen=True)
class PruningRun:
    """What a loop over S networks, run with R values of its parameter at once, came to.

    Attributes:
        masks: after each iteration, entries ``(R * S, *shape)``: all S networks with the first value, then all
            with the next. Each mask keeps a part of what the one before keeps.
        frame: one row an iteration, value and network, in this order: ``seed``, ``alpha`` or ``amount``,
            ``iteration`` (from 1), ``sparsity``, ``sparsity NAME`` of each layer, and ``collapsed``, the number
            of layers without a single weight left.
    """

    masks: list[Mask]
    frame: pd.DataFrame


def causal_pruning(
    start: Start,
    *,
    alpha: float | Sequence[float],
    loss_delta: str = "cross_batch",
    n_iterations: int = 10,
    logging_epochs: int | None = None,
    rewind: bool = True,
    scope: str = "layer",
    rule: str = "tg_lasso",
    store: str = "memory",
    device: str = "auto",
) -> PruningRun:
    r"""Prune by the authors' loop: log SGD from $\theta_0\odot m$, regress, $m \leftarrow m\odot[\hat\gamma\ne0]$.

    $\hat\gamma$ is the truncated-gradient regression of $\Delta L_t$ on $(\Delta\theta_t)^2$. There is no target
    sparsity: it is what $\alpha$ makes of it. A network without a weight left stays as it is in all further
    iterations; one that has lost a whole layer goes on, as in the authors' code.

    Args:
        start: S networks at $\theta_0$, which stay as they are.
        alpha: penalty, above 0; several are run at once.
        loss_delta: ``"cross_batch"`` (as the paper's code) or ``"same_batch"``.
        n_iterations: how often to log and prune.
        logging_epochs: of each iteration; None for the setting's. Last short batches are kept. In iteration j,
            from 1, the order of batches of a network of seed s is that of ``phases.derived_seed(s, j)``: another
            in each, and none that pretraining had.
        rewind: back to $\theta_0$ after each iteration (the authors), or on from where the logged SGD got.
        scope: one regression a ``"layer"`` (the authors), or one ``"global"`` one.
        rule: ``"tg_lasso"``, or ``"threshold"``: keep $|\frac1T\sum_t\Delta L_t\Delta\theta_{t,k}^2|>\alpha$, which is
            what the regression does to features so small (claim G4) and needs no rows in memory.
        store: where the rows are kept, as in ``log_trace``; not used by ``"threshold"``.
        device: as in ``learn.train``.

    Raises:
        ValueError: bad arguments, before any work.
        MemoryError, TrainingDivergedError: as ``log_trace``.

    Source: the authors' code of September 2024.
    """
    alphas = list(alpha) if isinstance(alpha, Sequence) else [alpha]
    if not alphas or any(not 0 < each < float("inf") for each in alphas) or len({*alphas}) < len(alphas):
        raise ValueError(f"alpha must be above 0 and finite, several of them different; got {alpha!r}")
    for name, value, known in (
        ("loss_delta", loss_delta, LOSS_DELTAS),
        ("scope", scope, ("layer", "global")),
        ("rule", rule, ("tg_lasso", "threshold")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {known[0]!r} or {known[1]!r}; got {value!r}")

    def kept(phase: Phase, members: Tensor) -> Tensor:
        penalties = torch.tensor(alphas, dtype=torch.float64)[members // len(start.seeds)]
        if rule == "threshold":
            return phase.covariance(loss_delta).abs() > penalties[:, None]
        return _nonzero(phase, penalties, loss_delta, scope, store)

    return _loop(start, "alpha", alphas, kept, n_iterations, logging_epochs, rewind, device)


def magnitude_pruning(
    start: Start,
    amount: float | Sequence[float],
    n_iterations: int = 10,
    *,
    logging_epochs: int | None = None,
    rewind: bool = True,
    device: str = "auto",
) -> PruningRun:
    r"""Prune the smallest of the remaining weights over all layers, after the same SGD as causal pruning.

    The sparsity after J iterations is $1-(1-a)^J$, to within rounding to whole weights in each.

    Args:
        start: S networks at $\theta_0$, which stay as they are.
        amount: share a of the remaining weights that each iteration removes, in (0, 1); several are run at once.
        n_iterations: J.
        logging_epochs: of SGD before each pruning; None for the setting's.
        rewind: as in ``causal_pruning``.
        device: as in ``learn.train``.

    Raises:
        ValueError: bad arguments, before any work.
        TrainingDivergedError: a loss is not finite.

    Source: the authors' code of September 2024.
    """
    amounts = list(amount) if isinstance(amount, Sequence) else [amount]
    if not amounts or any(not 0 < each < 1 for each in amounts):
        raise ValueError(f"amount is a share of the remaining weights, in (0, 1); got {amount!r}")

    def kept(phase: Phase, members: Tensor) -> Tensor:
        weights = {name: phase.end.parameters[name].detach().abs() for name in phase.mask}
        rows = []
        for i, a in enumerate(amounts[m // len(start.seeds)] for m in members.tolist()):
            within = Mask({name: phase.mask[name][i] for name in phase.mask})
            n_pruned = within.n_pruned + round(a * within.n_kept)
            chosen = select({n: w[i] for n, w in weights.items()}, n_pruned=n_pruned, within=within)
            rows.append(torch.cat([chosen[name].flatten() for name in chosen]))
        return torch.stack(rows)

    return _loop(start, "amount", amounts, kept, n_iterations, logging_epochs, rewind, device)


def _nonzero(phase: Phase, penalties: Tensor, loss_delta: str, scope: str, store: str) -> Tensor:
    """Where the regression's coefficients are not 0, ``(S, p)``; networks of one penalty are solved at once."""
    trace = phase.trace(store)
    y = trace.loss_changes[loss_delta]
    blocks = list(trace.layers.items()) if scope == "layer" else [(None, slice(None))]
    kept = torch.zeros(trace.n_networks, trace.n_weights, dtype=torch.bool)
    for alpha, (layer, columns) in product(penalties.unique().tolist(), blocks):
        same = (penalties == alpha).nonzero().flatten()
        # what had to go to disk comes back one network at a time
        for members in same.split(len(same) if store == "memory" else 1):
            squares = [trace.squares(i, layer) for i in members.tolist()]
            x = torch.stack(squares) if len(squares) > 1 else squares[0][None]
            kept[members, columns] = tg_lasso(x, y[members], alpha).coefficients != 0
    return kept


def _loop(
    start: Start,
    parameter: str,
    values: Sequence[float],
    keep: Callable[[Phase, Tensor], Tensor],
    n_iterations: int,
    logging_epochs: int | None,
    rewind: bool,
    device: str,
) -> PruningRun:
    """Repeat SGD and pruning; ``keep`` maps a phase and the places of its networks to ``(networks, p)``."""
    n_epochs = start.setting.logging_epochs if logging_epochs is None else logging_epochs
    for name, number in (("n_iterations", n_iterations), ("logging_epochs", n_epochs)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number, 1 or above; got {number!r}")
    repeats = len(values)
    ensemble, datasets, seeds = start.copy(repeats), start.datasets * repeats, start.seeds * repeats
    mask = Mask({name: torch.cat([kept] * repeats) for name, kept in start.dense().items()})
    masks = []
    for iteration in range(1, n_iterations + 1):
        flat = torch.cat([kept.flatten(1) for kept in mask.values()], dim=1)
        members = flat.any(dim=1).nonzero().flatten()
        if len(members):
            places = members.tolist()
            phase = Phase(
                Ensemble([ensemble.member(i) for i in places]),
                [datasets[i] for i in places],
                [derived_seed(seeds[i], iteration) for i in places],
                Mask({name: kept[members] for name, kept in mask.items()}),
                start.setting,
                n_epochs,
                device,
            )
            phase.mask.apply(phase.ensemble)
            flat[members] &= keep(phase, members)
            mask = _unflatten(flat, mask)
            if not rewind:
                state = ensemble.state_dict()
                for name, tensor in phase.end.state_dict().items():
                    state[name][members] = tensor
                ensemble.load_state_dict(state)
        masks.append(mask)
    labels = [(seed, value) for value in values for seed in start.seeds]
    frames = [_table(mask, labels, parameter, j) for j, mask in enumerate(masks, start=1)]
    return PruningRun(masks, pd.concat(frames, ignore_index=True))


def _unflatten(flat: Tensor, like: Mask) -> Mask:
    shapes = {name: kept.shape for name, kept in like.items()}
    parts = flat.split([shape[1:].numel() for shape in shapes.values()], dim=1)
    return Mask({name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)})


def _table(mask: Mask, labels: list[tuple[int, float]], parameter: str, iteration: int) -> pd.DataFrame:
    kept = {name: each.flatten(1) for name, each in mask.items()}
    columns = {f"sparsity {n}": (~k).double().mean(dim=1).numpy() for n, k in kept.items()}
    whole = (~torch.cat(list(kept.values()), dim=1)).double().mean(dim=1)
    collapsed = sum((~k.any(dim=1)).long() for k in kept.values())
    first = pd.DataFrame(labels, columns=["seed", parameter])
    rest: dict[str, Any] = {
        "iteration": iteration,
        "sparsity": whole.numpy(),
        **columns,
        "collapsed": np.asarray(collapsed),
    }
    return first.assign(**rest)
