"""What pruning costs and what it saves: parameters and multiply-adds."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from repro.prune.masks import Mask

#: Layers whose weights are each used once at every position.
_COUNTED = nn.Linear | nn.modules.conv._ConvNd


@dataclass(frozen=True)
class Costs:
    """The costs of one network under one mask; multiply-adds are for one example, forward.

    Attributes:
        n_parameters: numbers in parameters, weights and biases and all, frozen ones too.
        n_parameters_kept: those left by the mask.
        multiply_adds: of the whole network.
        multiply_adds_kept: left by the mask. A lower bound on arithmetic, not a speed: dense hardware saves
            nothing.
    """

    n_parameters: int
    n_parameters_kept: int
    multiply_adds: int
    multiply_adds_kept: int


def costs(model: nn.Module, input_shape: Sequence[int], mask: Mask | None = None) -> Costs:
    r"""Count parameters and multiply-adds of a network, whole and under a mask.

    The whole network: half of the operations that PyTorch counts (``torch.utils.flop_counter``) in its matrix
    products, convolutions and attention. Under a mask, weight by weight,
    $\sum_l \text{kept}_l \times \text{positions}_l$: a kept weight of a convolution is used once at every output
    position (padding counts like the rest; of a transposed one, at every input position), that of a linear layer
    once for each vector it is given. Biases, activations and normalization are no multiply-adds. What linear and
    convolutional layers do not do, such as attention's scores or a recurrent layer, counts as kept.

    Args:
        model: the network. What is run is a copy without data (on PyTorch's device *meta*), in evaluation mode, so
            that what it computes must not depend on the values of its input.
        input_shape: shape of *one* example, without the batch: ``(784,)``, ``(3, 32, 32)``.
        mask: what is kept; all by default.

    Raises:
        ValueError: the mask or the input does not fit the network, or the mask removes weights of layers of
            another kind.
    """
    mask = mask or Mask({})
    n_removed = {name: int((~mask[name]).sum()) for name in mask.weights_of(model)}
    total, positions = _run(model, tuple(input_shape))
    unseen = [name for name, n in n_removed.items() if n and name not in positions and mask[name].ndim > 1]
    if unseen:
        told = f"no linear or convolutional layer multiplies by {', '.join(unseen)}"
        raise ValueError(f"{told}: what goes there is not counted")
    removed = sum(n * n_removed.get(name, 0) for name, n in positions.items())
    n_parameters = sum(weight.numel() for weight in model.parameters())
    return Costs(n_parameters, n_parameters - sum(n_removed.values()), total, total - removed)


def _run(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, Counter[str]]:
    """Run a copy without data on one example: all multiply-adds, and by weight its positions."""
    memo: dict[int, Any] = {id(t): t.detach().to("meta") for t in model.buffers()}
    memo |= {id(t): nn.Parameter(t.detach().to("meta"), t.requires_grad) for t in model.parameters()}
    model = copy.deepcopy(model, memo).eval()
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    positions: Counter[str] = Counter()

    def count(name: str, layer: Any, inputs: Any, output: Any) -> None:
        transposed = getattr(layer, "transposed", False)
        n_units = layer.weight.shape[0]  # of a transposed convolution these are its inputs
        positions[name] += (inputs[0] if transposed else output).numel() // n_units

    for prefix, layer in model.named_modules():
        if isinstance(layer, _COUNTED):
            shared = first.get(id(layer._parameters.get("weight")), f"{prefix}.weight".lstrip("."))
            layer.register_forward_hook(partial(count, shared))
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    counter = FlopCounterMode(display=False)
    try:
        with torch.device("meta"), torch.no_grad(), counter:
            model(torch.zeros(1, *shape, dtype=dtype))
    except Exception as error:
        raise ValueError(f"the network does not take one example of shape {shape}: {error}") from error
    return counter.get_total_flops() // 2, positions
