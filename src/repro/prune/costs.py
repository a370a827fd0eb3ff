"""What a network costs, whole and pruned: parameters and multiply-adds."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from repro.prune.masks import Mask
from repro.prune.scores import _homes

__all__ = ["Costs", "costs"]

_aten = torch.ops.aten
#: Operations for each kind of product, twice the multiply-adds; the last three are missing in PyTorch's table.
_FORMULAS = flop_registry | {
    _aten.mv: lambda matrix, _, **__: 2 * matrix.numel(),
    _aten.dot: lambda vector, _, **__: 2 * vector.numel(),
    _aten.addmv: lambda _, matrix, *__, **___: 2 * matrix.numel(),
}
#: What can be done to a weight and an input without multiplying one by the other, or is normalization.
_NO_PRODUCTS = {
    *("aten.add", "aten.sub", "aten.rsub", "aten.cat", "aten.stack", "aten.where", "aten.copy"),
    *("aten.embedding", "aten._embedding_bag", "aten.index", "aten.index_select", "aten.gather"),
    *("aten.native_layer_norm", "aten.native_group_norm"),
}


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of one network under one mask; multiply-adds are for one example, forward.

    Attributes:
        n_parameters: numbers in parameters, weights and biases and all, frozen ones too.
        n_parameters_kept: those left by the mask.
        multiply_adds: of the whole network.
        multiply_adds_kept: left by the mask. A lower bound on arithmetic, not a speed: dense hardware saves
            nothing.
        by_weight: one row a weight that multiplies: multiply_adds, multiply_adds_kept.
    """

    n_parameters: int
    n_parameters_kept: int
    multiply_adds: int
    multiply_adds_kept: int
    by_weight: pd.DataFrame


def costs(model: nn.Module, input_shape: Sequence[int], mask: Mask | None = None) -> Costs:
    r"""Count parameters and multiply-adds of a network, whole and under a mask.

    The whole network: half of the operations that PyTorch's formulas (``torch.utils.flop_counter``) give for its
    matrix products, convolutions and attention, within recurrent layers too. Under a mask, weight by weight,
    $\sum_l \text{kept}_l \times \text{positions}_l$: a kept weight of a convolution is used once at every output
    position (padding counts like the rest), that of a linear layer once for each vector it is given. Biases,
    activations and normalization are no multiply-adds, nor are products of weights among themselves, which
    examples share. Products of which no parameter itself is a factor, such as attention's scores, are in the row
    ``(other)`` and count as kept.

    Args:
        model: the network. What is run is a copy without data (on PyTorch's device *meta*), in evaluation mode, so
            that what it computes must not depend on the values of its input.
        input_shape: shape of *one* example, without the batch: ``(784,)``, ``(3, 32, 32)``.
        mask: what is kept; all by default.

    Raises:
        ValueError: the mask or the input does not fit the network, or it multiplies by a parameter in a way that is
            not counted.
    """
    mask = mask or Mask({})
    n_parameters = sum(weight.numel() for weight in model.parameters())
    n_parameters_kept = n_parameters - sum(int((~mask[name]).sum()) for name in mask.weights_of(model))
    counter = _run(model, tuple(input_shape))
    rows: dict[str, tuple[int, int]] = {}
    for name, parts in counter.uses.items():
        kept = torch.ones_like(counter.weights[name], dtype=torch.bool, device="cpu")
        if name in mask:
            kept.copy_(mask[name])
        whole = sum(n * prod(shape) for (shape, *_), n in parts.items())
        rows[name] = whole, sum(n * int(kept.as_strided(*part).sum()) for part, n in parts.items())
    if counter.other:
        rows["(other)"] = counter.other, counter.other
    columns = ["multiply_adds", "multiply_adds_kept"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")
    total, total_kept = (int(table[column].sum()) for column in columns)
    return Costs(n_parameters, n_parameters_kept, total, total_kept, table)


class _Counter(TorchDispatchMode):
    """Counts the products among all operations, and which parts of which weights are their factors.

    Attributes:
        weights: name to tensor.
        uses: name to part (shape, strides, offset) to how often each number of this part is multiplied.
        other: multiply-adds without a weight as a factor, or with two.
        uncounted: operations that may multiply an input by a weight, and are no product that is known.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.weights = weights
        self.uses: dict[str, Counter[Any]] = defaultdict(Counter)
        self.other = 0
        self.uncounted: set[str] = set()
        # what is made of weights alone is none of an example, and as good as a weight, though nameless
        self._like_weights = {_memory(weight) for weight in weights.values()}
        self._alive: list[Tensor] = []  # so that no memory is taken for another's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, kind = kwargs or {}, func._overloadpacket
        if kind not in _FORMULAS:
            with self:
                if (out := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return out
        out = func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim]
        weights = [t for t in tensors if _memory(t) in self._like_weights]
        if weights and len(weights) == len(tensors):
            made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
            self._alive += made
            self._like_weights |= {_memory(t) for t in made}
        elif kind in _FORMULAS:
            factors = args[1:2] if "conv" in str(kind) else args[-2:]
            self._count(_FORMULAS[kind](*args, **kwargs, out_val=out) // 2, factors)
        elif tensors and _may_multiply(func, weights):
            self.uncounted.add(str(kind))
        return out

    def _count(self, n: int, factors: Sequence[Any]) -> None:
        found = [
            (name, factor, offset)
            for factor in factors
            if isinstance(factor, Tensor)
            for name, weight in self.weights.items()
            if _memory(factor) == _memory(weight)
            and 0 <= (offset := int(factor.storage_offset() - weight.storage_offset())) < weight.numel()
        ]
        if len(found) == 1 and n:
            name, factor, offset = found[0]
            self.uses[name][tuple(factor.shape), factor.stride(), offset] += n // factor.numel()
        else:
            self.other += n


def _may_multiply(func: Any, weights: Sequence[Tensor]) -> bool:
    """Whether an operation without a formula may be a product with a matrix of weights, or is a stranger's."""
    if func.namespace != "aten":
        return True
    name = str(func._overloadpacket).removesuffix("_")
    return name not in _NO_PRODUCTS and any(sum(n > 1 for n in t.shape) > 1 for t in weights)


def _memory(tensor: Tensor) -> int:
    """What a tensor shares with its views, also where it has no data."""
    return int(tensor.untyped_storage()._cdata)


def _run(model: nn.Module, shape: tuple[int, ...]) -> _Counter:
    """Count one example in a copy without data, where no kernel runs a whole layer as one operation."""
    memo: dict[int, Any] = {id(t): t.detach().to("meta") for t in model.buffers()}
    memo |= {id(t): nn.Parameter(t.detach().to("meta"), t.requires_grad) for t in model.parameters()}
    model = copy.deepcopy(model, memo).eval()
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    try:
        with torch.device("meta"), torch.no_grad(), parametrize.cached():
            tensors = {name: getattr(*home) for name, home in _homes(model).items()}
            counter = _Counter({first.get(id(each), name): each for name, each in tensors.items()})
            dtype = next((each.dtype for each in tensors.values()), None)
            with counter:
                model(torch.zeros(1, *shape, dtype=dtype))
    except Exception as error:
        raise ValueError(f"the network does not take one example of shape {shape}: {error}") from error
    if counter.uncounted:
        raise ValueError(
            f"not known what {', '.join(sorted(counter.uncounted))} multiply; counted are matrix products, "
            "convolutions and attention"
        )
    return counter
