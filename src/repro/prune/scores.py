"""Scores of weights and of units: one number each, and the lowest go first.

Every weight score has the signature ``score(model, names=None, *, generator=None)``, so that one can stand in
for another in a comparison; a score that needs no random numbers ignores the generator.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from repro.base import unknown
from repro.prune._checks import homes, one_network, refuse_computed

__all__ = ["magnitude", "prunable", "random", "unit_norms"]


#: Layers whose parameters called ``weight...`` multiply the inputs.
_LAYERS = (
    nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd | nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention
)
#: Layers with a parameter of several dimensions that is looked up, or multiplies each input by itself.
_NO_WEIGHTS = nn.Embedding | nn.EmbeddingBag | nn.LayerNorm | nn.RMSNorm
#: Layers whose units are the rows of their weight.
WITH_UNITS = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def prunable(model: nn.Module, *, include_last: bool = True) -> dict[str, nn.Module]:
    """Return the weights that can be pruned and their layers, as registered.

    The rule: *every matrix or filter by which a layer of torch multiplies its inputs*: of linear, bilinear,
    convolutional (transposed too) and recurrent layers, and the projections of attention. Never biases,
    normalization, or the tables of embeddings. Nothing else is left out in silence: a weight that is computed
    before each use is an error, and a matrix in any other module (a position, a token, a layer of your own) a
    warning, which names it.

    Args:
        model: the network. A parametrised layer is listed under the name of its *effective* weight, a weight
            that two layers share once, under the first of its names.
        include_last: whether the layer registered last (in most networks the classifier) is among them.

    Returns:
        Weight name (``"0.weight"``) to layer.

    Raises:
        ValueError: nothing to prune; a layer without a shape yet; a weight that ``prune``, ``weight_norm`` or
            ``spectral_norm`` of ``torch.nn.utils`` computes (those of ``torch.nn.utils.parametrizations`` are
            welcome).
    """
    one_network(model)
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    layers: dict[str, nn.Module] = {}
    others = {}
    for prefix, module in model.named_modules():
        if isinstance(module, _LAYERS):
            for own in (*vars(module), *({"weight"} & module._buffers.keys())):
                if "weight" in own:
                    refuse_computed(model, f"{prefix}.{own}".lstrip("."))
    for name, (module, own) in homes(model).items():
        name = first.get(id(dict(module._parameters).get(own)), name)
        if isinstance(module, _LAYERS) and "weight" in own:
            layers.setdefault(name, module)
        elif not isinstance(module, _NO_WEIGHTS) and own not in ("bias_k", "bias_v"):
            others[name] = (module, own)
    unknown_kind = [n for n, home in others.items() if n not in layers and getattr(*home).ndim > 1]
    if unknown_kind:
        left_out = (
            f"left out, for only their author knows whether they are weights: {', '.join(unknown_kind)}; "
            "names=[...] of magnitude or random takes any parameter"
        )
        warnings.warn(left_out, stacklevel=2)
    if not include_last and layers:
        last = list(layers.values())[-1]
        layers = {name: layer for name, layer in layers.items() if layer is not last}
    if not layers:
        rest = "" if include_last else " besides its last layer, which include_last=False leaves out"
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear or nn.Conv2d to prune, nor another layer with weights{rest}"
        )
    return layers


def magnitude(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Score each weight by its size, $|w|$.

    Args:
        model: the network; of a parametrised layer the effective weight counts.
        names: of any parameters; by default the weights that ``prunable`` lists.
        generator: not used.

    Returns:
        Weight name to scores, in the shape of the weight.

    Raises:
        ValueError: as in ``prunable``, or an unknown name.
    """
    return {name: weight.abs() for name, weight in weights(model, names).items()}


def random(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Score each weight by a uniform random number: the floor under every other score.

    Args:
        model: the network.
        names: of any parameters; by default the weights that ``prunable`` lists.
        generator: source of the numbers, on the processor; required, so that every run can be repeated.

    Returns:
        Weight name to scores in [0, 1), float64, in the shape of the weight.

    Raises:
        ValueError: as in ``prunable``, an unknown name, or no generator.
    """
    if generator is None:
        raise ValueError("random scores need generator=torch.Generator().manual_seed(...); got None")
    return {
        name: torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in weights(model, names).items()
    }


def unit_norms(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    r"""Score each unit by the length of its incoming weights, $\|w_u\|_2$ over row or filter, without bias.

    Not to be confused with ``magnitude``, which has one score a weight.

    Source: one of the scores of *Inductive Bias of Gradient Descent for Weight Normalized Smooth Homogeneous
    Neural Nets* (arXiv 2010.12909), E13 and E17. Explained in: chapter ``ewn-inductive-bias``.

    Args:
        model: the network; of a parametrised layer the effective weight counts.
        names: of weights of linear and convolutional layers; by default those that ``prunable`` lists.
        generator: not used.

    Returns:
        Layer name (``"0"``, as ``units.unit_mask`` takes it) to scores ``(n_units,)``, float64.

    Raises:
        ValueError: as in ``prunable``, an unknown name, or a layer whose units are not the rows of its weight.
    """
    lengths, known = {}, homes(model)
    for name, weight in weights(model, names).items():
        layer, own = known[name]
        if not isinstance(layer, WITH_UNITS) or own != "weight":
            raise ValueError(
                f"the rows of {name!r} of {type(layer).__name__} are no units; say by names=[...] which weights "
                "of linear or convolutional layers are meant"
            )
        # in float16 the squares of 256 and more are infinite, in float32 those of less than 1e-23 are zero
        lengths[name.removesuffix("weight").removesuffix(".")] = weight.double().flatten(1).norm(dim=1)
    return lengths


def weights(model: nn.Module, names: Iterable[str] | None) -> dict[str, Tensor]:
    """Return parameters by name, by default the prunable ones; of a parametrised layer the effective weight."""
    one_network(model)
    chosen = [names] if isinstance(names, str) else list(prunable(model) if names is None else names)
    known = homes(model)
    for name in chosen:
        if name not in known:
            refuse_computed(model, name)
            raise ValueError(unknown("weight", name, known))
    with torch.no_grad():
        return {name: getattr(*known[name]).detach() for name in chosen}
