"""Scores of weights and of units: one number each, and the lowest go first."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

#: Layers whose parameters called ``weight...`` multiply the inputs.
_LAYERS = (
    nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd | nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention
)
#: Layers with a parameter of several dimensions that is looked up, or multiplies each input by itself.
_NO_WEIGHTS = nn.Embedding | nn.EmbeddingBag | nn.LayerNorm | nn.RMSNorm
#: Layers whose units are the rows of their weight.
_WITH_UNITS = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def prunable(model: nn.Module) -> dict[str, nn.Module]:
    """Return the weights that can be pruned and their layers, as registered.

    The rule: *every matrix or filter by which a layer of torch multiplies its inputs*: of linear, bilinear,
    convolutional (transposed too) and recurrent layers, and the projections of attention. Never biases,
    normalization, or the tables of embeddings. Nothing else is left out in silence: a weight that is computed
    before each use is an error, and a matrix in any other module (a position, a token, a layer of your own) a
    warning, which names it. Scores of such a matrix can be made by hand, under its name among the parameters.

    Args:
        model: the network. A parametrised layer is listed under the name of its *effective* weight, a weight
            that two layers share once, under the first of its names.

    Returns:
        Weight name (``"0.weight"``) to layer.

    Raises:
        ValueError: nothing to prune; a weight that ``prune``, ``weight_norm`` or ``spectral_norm`` of
            ``torch.nn.utils`` computes (those of ``torch.nn.utils.parametrizations`` are welcome).
        TypeError: no module.
    """
    homes = _homes(model)
    _refuse_computed(model)
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    layers: dict[str, nn.Module] = {}
    others = {}
    for name, (module, own) in homes.items():
        name = first.get(id(module._parameters.get(own)), name)
        if isinstance(module, _LAYERS) and "weight" in own:
            layers.setdefault(name, module)
        elif not isinstance(module, _NO_WEIGHTS) and own not in ("bias_k", "bias_v"):
            others[name] = getattr(module, own)
    if left_out := [name for name, values in others.items() if name not in layers and values.ndim > 1]:
        why = "left out, for only their author knows whether they are weights"
        warnings.warn(f"{why}: {', '.join(left_out)}", stacklevel=2)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer with weights to prune, such as nn.Linear")
    return layers


def _homes(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Each parameter's name to its module and its name there; of a parametrised one, that of the effective weight."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected one torch module (of an ensemble, a member), got a {type(model).__name__}")
    return {
        f"{prefix}.{own}".lstrip("."): (module, own)
        for prefix, module in model.named_modules()
        if ".parametrizations." not in f".{prefix}."
        for own in (
            *(own for own, parameter in module._parameters.items() if parameter is not None),
            *(module.parametrizations if parametrize.is_parametrized(module) else ()),
        )
    }


def _refuse_computed(model: nn.Module) -> None:
    """Refuse layers in which a tensor that is no parameter stands where the weight should be."""
    for prefix, layer in model.named_modules():
        for own, value in (vars(layer) | layer._buffers).items() if isinstance(layer, _LAYERS) else ():
            if own.startswith("weight") and isinstance(value, Tensor):
                told = f"{own!r} of layer {prefix!r} is no parameter, but a buffer or computed at each use"
                ways = "prune.remove, remove_weight_norm or remove_spectral_norm of torch.nn.utils"
                raise ValueError(f"{told}; make it plain first ({ways})")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The prunable weights; of a parametrised layer the effective one."""
    with torch.no_grad():
        return {n: getattr(layer, n.rpartition(".")[2]).detach() for n, layer in prunable(model).items()}


def magnitude(model: nn.Module) -> dict[str, Tensor]:
    """Score each weight by its size, $|w|$.

    Args:
        model: the network; of a parametrised layer the effective weight counts.

    Returns:
        Weight name to scores, in the shape of the weight.

    Raises:
        ValueError: as in ``prunable``.
    """
    return {name: weight.abs() for name, weight in _weights(model).items()}


def random(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Score each weight by a uniform random number: the floor under every other score.

    Args:
        model: the network.
        generator: source of the numbers, on the processor.

    Returns:
        Weight name to scores in [0, 1), float64, in the shape of the weight.

    Raises:
        ValueError: as in ``prunable``.
    """
    return {
        name: torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in _weights(model).items()
    }


def unit_norms(model: nn.Module) -> dict[str, Tensor]:
    r"""Score each unit by the length of its incoming weights, $\|w_u\|_2$ over row or filter, without bias.

    Not to be confused with ``magnitude``, which has one score a weight.

    Source: one of the scores of *Inductive Bias of Gradient Descent for Weight Normalized Smooth Homogeneous
    Neural Nets* (arXiv 2010.12909), E13 and E17. Explained in: chapter ``ewn-inductive-bias``.

    Args:
        model: the network; of a parametrised layer the effective weight counts.

    Returns:
        Name of each linear and convolutional layer (``"0"``, as ``unit_mask`` takes it) to scores ``(n_units,)``,
        float64.

    Raises:
        ValueError: as in ``prunable``, or a layer whose units are not the rows of its weight.
    """
    lengths, layers = {}, prunable(model)
    for name, weight in _weights(model).items():
        if not isinstance(layers[name], _WITH_UNITS):
            raise ValueError(f"the rows of {name!r} of {type(layers[name]).__name__} are no units")
        # in float16 the squares of 256 and more are infinite, in float32 those of less than 1e-23 are zero
        lengths[name.removesuffix("weight").removesuffix(".")] = weight.double().flatten(1).norm(dim=1)
    return lengths
