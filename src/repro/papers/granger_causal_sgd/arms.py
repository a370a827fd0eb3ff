"""Masks of equal sparsity for different reasons: the causal screen, what it may stand for, and baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.ridge import ridge
from repro.papers.granger_causal_sgd.screening import covariance
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.stopping import Masks
from repro.papers.granger_causal_sgd.trace import Trace
from repro.prune import Mask, magnitude, random, select

__all__ = ["ARMS", "arm_mask", "arm_masks", "arm_scores", "collapsed"]

ARMS = {
    "causal": "covariance with the loss change on the same batch",
    "causal_cross": "covariance with the loss change across batches",
    "energy": "mean squared change, no loss",
    "permuted": "covariance with loss changes of other steps",
    "exact": "least-norm regression coefficients",
    "magnitude": "size before pruning",
    "random": "random",
    "random_layerwise": "random, as many in each layer as causal",
}
"""Names of the arms and what they rank weights by."""


def arm_scores(arm: str, trace: Trace, start: Start, *, seed: int = 0) -> dict[str, Tensor]:
    r"""Score each weight of each network; the lowest go first.

    With $x_{t,k} = (\Delta\theta_{t,k})^2$ and $\Delta L_t$ the loss change on the same batch:

    - ``"causal"``: $|\frac1T\sum_t\Delta L_t x_{t,k}|$, which is what TG_LASSO compares with $\alpha$ (claim G4);
      ``"causal_cross"``: with the loss change from batch to batch, as in
      the authors' code.
    - ``"energy"``: $\frac1T\sum_t x_{t,k}$.
    - ``"permuted"``: as causal, rows of $\Delta L$ in a random order.
    - ``"exact"``: $|\gamma_k|$ of the least-norm solution of $X\gamma = \Delta L$. A converged Lasso
      cannot rank: it keeps at most T weights, whatever the sparsity asked for.
    - ``"magnitude"``: $|\theta_{0,k}|$. ``"random"``: uniform numbers.
    - ``"random_layerwise"``: the causal scores of each layer in a random order, so that at every sparsity each
      layer loses as many weights as with causal scores.

    Args:
        arm: of ``ARMS``.
        trace: logged from ``start``.
        start: networks at $\theta_0$.
        seed: of the arms that draw. What a network draws depends on this, its own seed and the arm alone.

    Returns:
        Parameter name to scores ``(S, *shape)``, float64.

    Raises:
        ValueError: an unknown arm, or a trace of other networks.
    """
    if arm not in ARMS:
        raise ValueError(f"unknown arm {arm!r}; known are {', '.join(ARMS)}")
    own = {name: kept.shape[1:] for name, kept in start.dense().items()}
    if trace.n_networks != len(start.seeds) or trace.shapes != own:
        raise ValueError(
            f"the trace is of {trace.n_networks} networks with weights {_told(trace.shapes)}, the start of "
            f"{len(start.seeds)} with {_told(own)}"
        )
    number = list(ARMS).index(arm)
    generators = [torch.Generator().manual_seed(derived_seed(each, 1, seed, number)) for each in start.seeds]
    return _SCORES[arm](trace, start, generators)


def arm_mask(arm: str, trace: Trace, start: Start, sparsity: float, *, seed: int = 0) -> Mask:
    r"""Return the mask that removes the $\lfloor s\,p\rfloor$ weights of lowest score from each network.

    Scores are compared over all layers of a network, so a layer can lose all its weights (see ``collapsed``);
    such a mask is a result, not an error.

    Args:
        arm, trace, start, seed: as in ``arm_scores``.
        sparsity: s, in [0, 1).

    Returns:
        Mask with entries ``(S, *shape)``.

    Raises:
        ValueError: a sparsity outside [0, 1] or that removes all weights, or as ``arm_scores``.
    """
    return arm_masks([arm], trace, start, [sparsity], seed=seed)[arm][sparsity]


def arm_masks(
    arms: Sequence[str], trace: Trace, start: Start, sparsities: Sequence[float], *, seed: int = 0
) -> Masks:
    """Return ``arm_mask`` for each arm and sparsity: arm to sparsity to mask. Masks of an arm are nested.

    Raises:
        ValueError: no arms or sparsities, one of them twice, or as ``arm_mask``.
    """
    for name, values in (("arms", arms), ("sparsities", sparsities)):
        if not values or len({*values}) < len(values):
            raise ValueError(f"{name} must be at least one, none of them twice; got {list(values)}")
    if nothing_left := [s for s in sparsities if s <= 1 and (1 - s) * trace.n_weights < 1e-9]:
        raise ValueError(
            f"sparsity {nothing_left[0]} removes all {trace.n_weights:,} weights of a network; at least one "
            "must be left"
        )
    found = {}
    for arm in arms:
        scores = arm_scores(arm, trace, start, seed=seed)
        found[arm] = {
            sparsity: Mask.stack(
                [
                    select({name: score[i] for name, score in scores.items()}, sparsity=sparsity)
                    for i in range(len(start.seeds))
                ]
            )
            for sparsity in sparsities
        }
    return found


def collapsed(mask: Mask) -> Tensor:
    """Return which layers have no weight left, bool ``(S, layers)``, for entries ``(S, *shape)``."""
    return torch.stack([~kept.flatten(1).any(dim=1) for kept in mask.values()], dim=1)


def _causal(trace: Trace, start: Start, generators: list[torch.Generator], target: str) -> dict[str, Tensor]:
    return _by_name(trace, trace.moments().covariance[target].abs())


def _energy(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    return _by_name(trace, trace.moments().mean_square)


def _permuted(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    rows = []
    for i, generator in enumerate(generators):
        order = torch.randperm(trace.n_rows, generator=generator)
        rows.append(covariance(trace.squares(i), trace.loss_changes["same_batch"][i, order]).abs())
    return _by_name(trace, torch.stack(rows))


def _exact(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    changes = trace.loss_changes["same_batch"]
    rows = [ridge(trace.squares(i), changes[i], 0.0).abs() for i in range(trace.n_networks)]
    return _by_name(trace, torch.stack(rows))


def _magnitude(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    return _stacked([magnitude(member) for member in start.ensemble])


def _random(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    pairs = zip(start.ensemble, generators, strict=True)
    return _stacked([random(member, generator=generator) for member, generator in pairs])


def _random_layerwise(trace: Trace, start: Start, generators: list[torch.Generator]) -> dict[str, Tensor]:
    def shuffled(score: Tensor, generator: torch.Generator) -> Tensor:
        return score.flatten()[torch.randperm(score.numel(), generator=generator)].view(score.shape)

    return {
        name: torch.stack(
            [shuffled(one, generator) for one, generator in zip(score, generators, strict=True)]
        )
        for name, score in _causal(trace, start, generators, "same_batch").items()
    }


_SCORES: dict[str, Callable[[Trace, Start, list[torch.Generator]], dict[str, Tensor]]] = {
    "causal": partial(_causal, target="same_batch"),
    "causal_cross": partial(_causal, target="cross_batch"),
    "energy": _energy,
    "permuted": _permuted,
    "exact": _exact,
    "magnitude": _magnitude,
    "random": _random,
    "random_layerwise": _random_layerwise,
}


def _by_name(trace: Trace, flat: Tensor) -> dict[str, Tensor]:
    """Split scores ``(S, p)`` into parameters."""
    return {name: flat[:, columns].reshape(-1, *trace.shapes[name]) for name, columns in trace.layers.items()}


def _stacked(scores: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([each[name] for each in scores]).double() for name in scores[0]}


def _told(shapes: dict[str, torch.Size]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in shapes.items()}
