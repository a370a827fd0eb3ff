r"""Removing the shortest neurons of trained networks, without training them again.

The headline score is the length $\|w_u\|$ at the checkpoint, fixed in advance. The authors' plots take, for
each share of removed neurons, the best of several scores *on the test set*; that rule is here too, under its
own name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.learn.ensembles import Ensemble
from repro.learn.seeding import streams
from repro.papers.ewn_inductive_bias.descent import Descent
from repro.papers.ewn_inductive_bias.parametrizations import effective_weights, fold, lengths
from repro.prune.units import select_units, unit_mask

__all__ = ["AUTHORS_SCORES", "SCORES", "best_of_scores", "n_removed", "pruned_accuracy", "unit_scores"]

SCORES: tuple[str, ...] = ("length", "since start", "since checkpoints", "with outgoing", "random")
"""``length``: $\\|w_u\\|$ at the checkpoint. ``since start``: minus its value at the start.
``since checkpoints``: minus its value at each earlier checkpoint (one score each, called "since z = ...").
``with outgoing``: times the length of the outgoing weights. ``random``: a floor."""

AUTHORS_SCORES: tuple[str, ...] = ("length", "since start", "since checkpoints")
"""The scores among which the authors' plots choose."""


def n_removed(percent: float, n_units: int) -> int:
    r"""$\lfloor p\,n/100 \rfloor$, how many of n units go at p per cent."""
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentage of units to remove lies between 0 and 100, got {percent}")
    # 0.29 * 100 is 28.999...: a whole number must not fall below itself
    return math.floor(percent * n_units / 100 + 1e-9)


def unit_scores(
    descent: Descent, target: float, layer: str, scores: Sequence[str] = SCORES, seeds: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Scores of the units (neurons or filters) of one layer; the lowest go first.

    Args:
        descent: a finished descent of S members.
        target: the checkpoint, a value of z.
        layer: name of a Linear or Conv2d layer.
        scores: names from ``SCORES``.
        seeds: of the members, for the random score.

    Returns:
        Name -> ``(S, units)``; ``since checkpoints`` becomes one entry for each earlier target.

    Raises:
        ValueError: unknown score, layer or target, or no seeds for the random score.
    """
    if unknown := [score for score in scores if score not in SCORES]:
        raise ValueError(f"unknown score {unknown[0]!r}: accepted are {', '.join(map(repr, SCORES))}")
    if layer not in descent.methods:
        raise ValueError(f"unknown layer {layer!r}: there are {', '.join(map(repr, descent.methods))}")
    weights = descent.weights(target)
    now = lengths(weights[layer], batched=True)
    found: dict[str, Tensor] = {}
    if "length" in scores:
        found["length"] = now
    if "since start" in scores:
        found["since start"] = now - lengths(descent.weights()[layer], batched=True)
    if "since checkpoints" in scores:
        for earlier in descent.targets[: descent.targets.index(target)]:
            before = lengths(descent.weights(earlier)[layer], batched=True)
            found[f"since z = {earlier:g}"] = now - before
    if "with outgoing" in scores:
        found["with outgoing"] = now * _outgoing_lengths(weights, layer)
    if "random" in scores:
        if len(seeds) != len(now):
            raise ValueError(
                f"the random score needs one seed a member: {len(now)} members, {len(seeds)} seeds"
            )
        # the stream of batch orders: independent of the initial weights and of the split
        draws = [torch.rand(now.shape[1], generator=streams(seed).shuffle) for seed in seeds]
        found["random"] = torch.stack(draws)
    return found


def _outgoing_lengths(weights: Mapping[str, Tensor], layer: str) -> Tensor:
    """Lengths of what leaves each unit, ``(S, units)``, in a chain of layers; ones after the last layer."""
    names = list(weights)
    size, units = weights[layer].shape[:2]
    if layer == names[-1]:
        return torch.ones(size, units)
    following = weights[names[names.index(layer) + 1]]
    # a linear layer behind a flattened convolution has several inputs a channel, side by side
    by_unit = following.reshape(size, following.shape[1], units, -1)
    return torch.linalg.vector_norm(by_unit, dim=(1, 3))


def _plain_parameters(plain: Ensemble, descent: Descent, target: float) -> dict[str, Tensor]:
    """The parameters of a checkpoint as those of plain networks."""
    parameters = descent.checkpoints[target]
    weights = {
        (f"{name}.weight" if name else "weight"): weight
        for name, weight in effective_weights(parameters, descent.methods).items()
    }
    return {name: weights.get(name, parameters.get(name, own)) for name, own in plain.parameters.items()}


@torch.no_grad()
def pruned_accuracy(
    ensemble: Ensemble,
    descent: Descent,
    x: Tensor,
    y: Tensor,
    *,
    layers: Sequence[str],
    levels: Sequence[float],
    scores: Sequence[str] = SCORES,
    targets: Sequence[float] | None = None,
    seeds: Sequence[int],
    per_member: bool = False,
    chunk: int = 10_000,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    r"""Accuracy after the lowest $\lfloor p\,n/100\rfloor$ units of each layer are removed, without
    fine-tuning.

    A removed unit loses its incoming weights and its bias. Scores are compared as numbers, ties go by index.

    Args:
        ensemble: the networks that were trained (their architecture is used, not their parameters).
        descent: their descent.
        x, y: test data ``(n, ...)`` and classes ``(n,)``; with ``per_member``, each with a leading dimension
            S.
        layers: names of the layers that lose units, the same percentage each.
        levels: percentages to remove.
        scores: names from ``SCORES``.
        targets: checkpoints; all by default.
        seeds: of the members.
        chunk: test examples at once.
        device: where to evaluate.

    Returns:
        One row a member that reached the target, target, score and level: seed, z, score, pruned_percent,
        n_removed, accuracy (in per cent).
    """
    frames = []
    size = len(ensemble)
    x, y = x.to(device), y.to(device)
    network = fold(ensemble.member(0))
    plain = Ensemble([fold(member) for member in ensemble]).to(device).eval()
    for target in descent.targets if targets is None else targets:
        reached = descent.reached(target)
        if not reached.any():
            continue
        parameters = {n: p.to(device) for n, p in _plain_parameters(plain, descent, target).items()}
        by_layer = {layer: unit_scores(descent, target, layer, scores, seeds) for layer in layers}
        whole: np.ndarray | None = None
        for score in by_layer[layers[0]]:
            for level in levels:
                removed = {layer: n_removed(level, own[score].shape[1]) for layer, own in by_layer.items()}
                if sum(removed.values()) or whole is None:
                    pruned = dict(parameters)
                    for layer, own in by_layer.items():
                        ranked = own[score].nan_to_num()
                        mask = unit_mask(network, layer, select_units(ranked, n_pruned=removed[layer]))
                        pruned |= {n: pruned[n] * kept.to(device) for n, kept in mask.items()}
                    accuracy = _accuracy(plain, pruned, x, y, per_member, chunk)
                    whole = accuracy if not sum(removed.values()) else whole
                else:
                    accuracy = whole
                frame = {"seed": list(seeds), "z": target, "score": score, "pruned_percent": level}
                frame |= {"n_removed": sum(removed.values()), "accuracy": accuracy}
                frames.append(pd.DataFrame(frame, index=range(size))[reached])
    columns = ["seed", "z", "score", "pruned_percent", "n_removed", "accuracy"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _accuracy(
    ensemble: Ensemble, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor, per_member: bool, chunk: int
) -> np.ndarray:
    """Per cent of right answers of each member, ``(S,)``."""
    right = torch.zeros(len(ensemble), device=x.device)
    dim = 1 if per_member else 0
    for part, labels in zip(x.split(chunk, dim), y.split(chunk, dim), strict=True):
        scores = ensemble(part, per_member=per_member, parameters=parameters)
        right += (scores.argmax(dim=-1) == labels).sum(dim=-1)
    return (100.0 * right.double() / y.shape[dim]).cpu().numpy()


def best_of_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The authors' rule: for each network and level, the highest *test* accuracy over their scores.

    It looks at the test set to choose, and has more scores to choose from the later the checkpoint:
    optimistic. It is here to compare with the authors' plots.

    Args:
        table: from ``pruned_accuracy``, with the scores ``AUTHORS_SCORES``; further columns (method) are kept
            apart.

    Returns:
        The same columns, with the score "best of scores (on the test set)".
    """
    ours = table["score"].isin(AUTHORS_SCORES) | table["score"].str.startswith("since z = ")
    keys = [c for c in table.columns if c not in ("score", "accuracy")]
    best = table[ours].groupby(keys, sort=False, as_index=False)["accuracy"].max()
    return best.assign(score="best of scores (on the test set)")[list(table.columns)]
