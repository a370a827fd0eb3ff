"""What a network costs, whole and pruned: parameters and multiply-adds."""

from __future__ import annotations

from collections import ChainMap, defaultdict
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

from repro.prune._checks import homes, one_network
from repro.prune.masks import Mask

__all__ = ["Costs", "costs", "parameter_counts"]

aten = torch.ops.aten
#: Operations for each kind of product, twice the multiply-adds; the first four are missing in PyTorch's table.
_FORMULAS = ChainMap(
    {
        aten.mv: lambda matrix, _, **__: 2 * matrix.numel(),
        aten.dot: lambda vector, _, **__: 2 * vector.numel(),
        aten.addmv: lambda _, matrix, *__, **___: 2 * matrix.numel(),
        aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
            aten._scaled_dot_product_flash_attention
        ],
    },
    flop_registry,
)
#: What can be done to a weight and an input without multiplying one by the other, or is normalization.
_NO_PRODUCTS = {
    *("aten.add", "aten.sub", "aten.rsub", "aten.cat", "aten.stack", "aten.where", "aten.copy"),
    *("aten.embedding", "aten._embedding_bag", "aten.index", "aten.index_select", "aten.gather"),
    *("aten.native_layer_norm", "aten.native_group_norm"),
}
#: A part of a weight: shape, strides, offset.
_Part = tuple[tuple[int, ...], tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of one network under one mask; multiply-adds are for one example, forward.

    Attributes:
        n_parameters: numbers in parameters, weights and biases and all, frozen ones too.
        n_parameters_kept: those left by the mask.
        multiply_adds: of the whole network.
        multiply_adds_kept: left by the mask. A lower bound on arithmetic, not a speed: dense hardware saves
            nothing.
        by_layer: one row a weight that multiplies: n_weights, n_kept, positions (how often each is used, on
            average), multiply_adds, multiply_adds_kept.
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

    The whole network: half of the operations that PyTorch's formulas (``torch.utils.flop_counter``) give for its
    matrix products, convolutions and attention, within recurrent layers too. Under a mask, weight by weight,
    $\sum_l \text{kept}_l \times \text{positions}_l$: a kept weight of a convolution is used once at every output
    position (padding counts like the rest), that of a linear layer once for each vector it is given. Biases,
    activations and normalization are no multiply-adds, nor are products of weights among themselves, which
    examples share. Products of which no parameter itself is a factor, such as attention's scores, are in the row
    ``(other)`` and count as kept.

    Args:
        model: the network; it is run once in evaluation mode on zeros and left as it was.
        input_shape: shape of *one* example, without the batch: ``(784,)``, ``(3, 32, 32)``.
        mask: what is kept; all by default.

    Raises:
        ValueError: the mask or the input does not fit the network, which has no parameters, or multiplies by a
            parameter in a way that is not counted.
    """
    n_parameters, n_parameters_kept = parameter_counts(model, mask)
    counter = _run(model, tuple(input_shape))
    rows: dict[str, tuple[float, ...]] = {}
    for name, weight in counter.weights.items():
        if parts := counter.uses.get(name):
            kept = torch.ones_like(weight, dtype=torch.bool, device="cpu")
            if mask is not None and name in mask:
                kept.copy_(mask[name])
            whole = sum(n * prod(shape) for (shape, *_), n in parts.items())
            left = sum(n * int(kept.as_strided(*part).sum()) for part, n in parts.items())
            rows[name] = (weight.numel(), int(kept.sum()), whole / weight.numel(), whole, left)
    if counter.other:
        rows["(other)"] = (0, 0, 0, counter.other, counter.other)
    columns = ["n_weights", "n_kept", "positions", "multiply_adds", "multiply_adds_kept"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")
    total, total_kept = (int(frame[column].sum()) for column in columns[-2:])
    return Costs(n_parameters, n_parameters_kept, total, total_kept, frame)


class _Counter(TorchDispatchMode):
    """Counts the products among all operations, and which parts of which weights are their factors.

    Attributes:
        weights: name to tensor.
        uses: name to part to how often each number of this part is multiplied.
        other: multiply-adds without a weight as a factor, or with two.
        uncounted: operations that may multiply an input by a weight, and are no product that is known.
    """

    def __init__(self, weights: dict[str, Tensor], buffers: list[Tensor]) -> None:
        super().__init__()
        self.weights = weights
        self.uses: dict[str, dict[_Part, int]] = defaultdict(lambda: defaultdict(int))
        self.other = 0
        self.uncounted: set[str] = set()
        # what is made of weights and buffers alone is none of an example, and as good as a weight, though nameless
        self._like_weights = {_memory(weight) for weight in weights.values()}
        self._fixed = self._like_weights | {_memory(buffer) for buffer in buffers}
        self._alive: list[Tensor] = []  # so that no memory is taken for another's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = func._overloadpacket
        if kind not in _FORMULAS:
            with self:
                if (out := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return out
        out = func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.ndim]
        weights = [t for t in tensors if _memory(t) in self._like_weights]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if tensors and all(_memory(t) in self._fixed for t in tensors):
            self._alive += made
            self._fixed |= {_memory(t) for t in made}
            self._like_weights |= {_memory(t) for t in made if weights}
            return out
        self._fixed -= {_memory(t) for t in made}  # a buffer may have been written to
        if kind in _FORMULAS:
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
    """Whether an operation without a formula may be a product with a matrix, or is a stranger's."""
    if func.namespace != "aten":
        return True
    name = str(func._overloadpacket).removesuffix("_")
    return name not in _NO_PRODUCTS and any(sum(n > 1 for n in t.shape) > 1 for t in weights)


def _memory(tensor: Tensor) -> int:
    """What a tensor shares with its views, also where it has no data; 0 for a sparse one."""
    return int(tensor.untyped_storage()._cdata) if tensor.layout == torch.strided else 0


def _run(model: nn.Module, shape: tuple[int, ...]) -> _Counter:
    """Count one example in evaluation mode, without the kernels that run whole layers as one operation."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError(f"{type(model).__name__} has no parameters")
    first = {id(each): name for name, each in model.named_parameters()}
    modes = {module: module.training for module in model.modules()}
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled = [backend.enabled for backend in backends]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()  # one example is too few for batch normalization, and its statistics must not move
        torch.backends.mha.set_fastpath_enabled(False)
        for backend in backends:
            backend.enabled = False
        with torch.no_grad(), parametrize.cached():
            tensors = {name: getattr(*home) for name, home in homes(model).items()}
            weights = {first.get(id(each), name): each for name, each in tensors.items()}
            counter = _Counter(weights, list(model.buffers()))
            with counter:
                model(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:
        raise ValueError(f"the network does not take one example of shape {shape}: {error}") from error
    finally:
        for backend, on in zip(backends, enabled, strict=True):
            backend.enabled = on
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training
    if counter.uncounted:
        raise ValueError(
            f"not known what {', '.join(sorted(counter.uncounted))} multiply; counted are matrix products, "
            "convolutions and attention"
        )
    return counter
