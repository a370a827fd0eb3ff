r"""Scores of weights before training, of S networks at once: SNIP, GraSP, SynFlow; the lowest go.

All three are products of a weight with a derivative at the start. Here $L$ is a network's mean cross-entropy on the
examples that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from repro.learn import Ensemble
from repro.prune import Mask, prunable

__all__ = ["grasp", "snip", "synflow"]

Scores = dict[str, Tensor]
"""Weight name to one number a weight, ``(S, *shape)``."""

_ROUNDS = 100  # of SynFlow, as in its paper


def _weights(networks: Ensemble) -> Scores:
    return {name: networks.parameters[name] for name in prunable(networks.template)}


def _loss(networks: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """The sum of the networks' mean losses, whose gradient is that of each network alone."""
    outputs = networks(x, per_member=True)
    return functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]


def snip(networks: Ensemble, x: Tensor, y: Tensor) -> Scores:
    r"""Connection sensitivity, $|w\,\partial L/\partial w|$.

    It says how much the loss feels a weight's gate.

    Args:
        networks: S of them.
        x: inputs ``(S, n, ...)``, of each network its own.
        y: classes ``(S, n)``.

    Source: Lee, Ajanthan and Torr (2019), equation 6, without the normalization, which
    changes no order.
    """
    weights = _weights(networks)
    gradients = torch.autograd.grad(_loss(networks, x, y), list(weights.values()))
    return {
        name: (weight * gradient).abs().detach()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def grasp(networks: Ensemble, x: Tensor, y: Tensor) -> Scores:
    r"""How much gradient flow a weight carries, $w\,(Hg)_w$ with $g=\partial L/\partial w$ and $H$ the Hessian.

    Without the weight the squared length of the gradient changes by $-2\,w\,(Hg)_w$ to first order: where the score is
    high it falls most, so the weight stays. (The paper scores with the sign turned and removes the highest.)

    Arguments as for ``snip``. Source: Wang, Zhang and Grosse (2020), equation 8.
    """
    weights = _weights(networks)
    own = list(weights.values())
    gradients = torch.autograd.grad(_loss(networks, x, y), own, create_graph=True)
    # half the squared length: its gradient is Hg
    products = torch.autograd.grad(sum((g.square().sum() / 2 for g in gradients), torch.zeros(())), own)
    return {
        name: (weight * product).detach()
        for (name, weight), product in zip(weights.items(), products, strict=True)
    }


def synflow(
    networks: Ensemble, x: Tensor, select: Callable[[Mapping[str, Tensor], float], Mask], sparsity: float
) -> Mask:
    r"""Prune by synaptic saliency, $|w\,\partial R/\partial w|$ with $R=\mathbf 1^\top f_{|w|}(\mathbf 1)$: no data.

    In a hundred rounds, after round k the density is $(1-p)^{k/100}$; scores are those of the network that is left,
    which keeps layers from being emptied.

    Args:
        networks: S of them; they stay as they are.
        x: any inputs ``(S, n, ...)``; their shape alone is used.
        select: from scores and a sparsity to a mask ``(S, *shape)``.
        sparsity: p, below 1.

    Source: Tanaka, Kunin, Yamins and Ganguli (2020), algorithm 1.
    """
    ones = torch.ones_like(x[:, :1], dtype=torch.float64)
    sizes = {name: p.detach().abs().double() for name, p in networks.parameters.items()}
    weights = {name: sizes[name].clone().requires_grad_() for name in prunable(networks.template)}
    mask = Mask({})
    for k in range(1, _ROUNDS + 1):
        total = networks(ones, per_member=True, parameters=sizes | weights).sum()
        gradients = torch.autograd.grad(total, list(weights.values()))
        scores = {
            name: (weight * gradient).detach()
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        mask = select(scores, 1 - (1 - sparsity) ** (k / _ROUNDS))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.masked_fill_(~mask[name], 0)
    return mask
