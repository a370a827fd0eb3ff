"""What a network costs, whole and pruned: parameters and multiply-adds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from repro.prune._checks import one_network
from repro.prune.masks import Mask
from repro.prune.scores import prunable

__all__ = ["Costs", "costs", "parameter_counts"]


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of one network under one mask; multiply-adds are for one example, forward.

    Attributes:
        n_parameters: numbers that training can change, weights and biases and all.
        n_parameters_kept: those left by the mask.
        multiply_adds: of the whole network.
        multiply_adds_kept: left by the mask. A lower bound on arithmetic, not a speed: dense hardware saves
            nothing.
        by_layer: one row a weight: n_weights, n_kept, positions, multiply_adds, multiply_adds_kept.
    """

    n_parameters: int
    n_parameters_kept: int
    multiply_adds: int
    multiply_adds_kept: int
    by_layer: pd.DataFrame


def parameter_counts(model: nn.Module, mask: Mask | None = None) -> tuple[int, int]:
    """Return how many parameters ``model`` has and how many ``mask`` leaves.

    Raises:
        ValueError: the mask does not fit the model.
    """
    one_network(model)
    n = sum(parameter.numel() for parameter in model.parameters())
    if mask is None:
        return n, n
    mask.check(model)
    return n, n - mask.n_pruned


def costs(model: nn.Module, input_shape: Sequence[int], mask: Mask | None = None) -> Costs:
    r"""Count parameters and multiply-adds of a network, whole and under a mask.

    The whole network: half of the operations that ``torch.utils.flop_counter.FlopCounterMode`` counts. Under
    a mask, layer by layer, $\sum_l \text{kept}_l \times \text{positions}_l$: a kept weight of a convolution
    is used once at every output position (padding counts like the rest), that of a linear layer once for each
    vector it is given. Biases, activations and normalization are no multiply-adds. What layers other than
    ``nn.Linear`` and ``nn.Conv2d`` multiply, or a second layer that shares a weight, stands in the row
    ``(other)`` and counts as kept.

    Args:
        model: the network; it is run once in evaluation mode on zeros and left as it was.
        input_shape: shape of *one* example, without the batch: ``(784,)``, ``(3, 32, 32)``.
        mask: what is kept; all by default.

    Raises:
        ValueError: the mask or the input does not fit the network.
    """
    n_parameters, n_parameters_kept = parameter_counts(model, mask)
    layers = prunable(model)
    positions, total = _run(model, layers, tuple(input_shape))
    rows: dict[str, tuple[int, ...]] = {}
    for name, layer in layers.items():
        n = layer.weight.numel()
        n_kept = n - (mask.n_pruned_by_parameter.get(name, 0) if mask is not None else 0)
        rows[name] = (n, n_kept, positions[name], n * positions[name], n_kept * positions[name])
    if other := total - sum(row[3] for row in rows.values()):
        rows["(other)"] = (0, 0, 0, other, other)
    columns = ["n_weights", "n_kept", "positions", "multiply_adds", "multiply_adds_kept"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")
    return Costs(n_parameters, n_parameters_kept, total, int(frame["multiply_adds_kept"].sum()), frame)


def _run(
    model: nn.Module, layers: dict[str, nn.Linear | nn.Conv2d], shape: tuple[int, ...]
) -> tuple[dict[str, int], int]:
    """Return how often each weight is used for one example, and all multiply-adds."""
    positions: dict[str, int] = defaultdict(int)

    def count(_: nn.Module, __: Any, output: Tensor, *, name: str, layer: nn.Linear | nn.Conv2d) -> None:
        positions[name] += output.numel() // layer.weight.shape[0]

    parameter = next(model.parameters())
    modes = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_hook(partial(count, name=name, layer=layer)) for name, layer in layers.items()
    ]
    counter = FlopCounterMode(display=False)
    try:
        model.eval()  # one example is too few for batch normalization, and its statistics must not move
        with torch.no_grad(), counter:
            model(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device))
    except RuntimeError as error:
        raise ValueError(f"the network does not take one example of shape {shape}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return positions, counter.get_total_flops() // 2
