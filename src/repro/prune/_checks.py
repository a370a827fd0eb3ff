"""Checks that the modules of this package share, with the words of their errors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

#: What the old ways of torch to compute a weight before each use leave beside it, and how it becomes plain again.
_COMPUTED_BY = {
    "_mask": "torch.nn.utils.prune: prune.remove(layer, {!r}) makes it plain",
    "_g": "torch.nn.utils.weight_norm: remove_weight_norm(layer, {!r}) makes it plain",
    "_u": "torch.nn.utils.spectral_norm: remove_spectral_norm(layer, {!r}) makes it plain",
    "": "hand; only an nn.Parameter can be pruned",
}


def one_network(model: object) -> None:
    """Refuse anything but one ``nn.Module`` whose parameters all have a shape."""
    if not isinstance(model, nn.Module):
        hint = "; take its members one by one: model.member(i)" if hasattr(model, "member") else ""
        raise TypeError(f"expected one torch module, got a {type(model).__name__}{hint}")
    if lazy := next((name for name, p in model.named_parameters() if is_lazy(p)), None):
        raise ValueError(f"{lazy!r} has no shape yet: run the network on one batch first")


def homes(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Each parameter's name to its module and its name there; of a parametrised one, that of the effective weight."""
    return {
        f"{prefix}.{own}".lstrip("."): (module, own)
        for prefix, module in model.named_modules()
        if ".parametrizations." not in f".{prefix}."
        for own in (
            *(own for own, parameter in module._parameters.items() if parameter is not None),
            *(module.parametrizations if parametrize.is_parametrized(module) else ()),
        )
    }


def refuse_computed(model: nn.Module, name: str) -> None:
    """Refuse a weight that is no parameter but a tensor computed from others before each use."""
    prefix, _, own = name.rpartition(".")
    module = dict(model.named_modules()).get(prefix)
    if module is not None and isinstance(vars(module).get(own, module._buffers.get(own)), Tensor):
        how = next(how for ending, how in _COMPUTED_BY.items() if hasattr(module, own + ending))
        raise ValueError(f"{name!r} is no parameter, it is computed before each use by {how.format(own)}")


def is_plain(values: object) -> bool:
    """Whether something is a dense tensor with data, and no more than that."""
    if not isinstance(values, Tensor) or type(values.detach()) is not Tensor:
        return False
    return values.layout == torch.strided and not (values.is_meta or values.is_nested or values.is_quantized)


def described(values: object) -> str:
    """What to call a value in an error."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    more = "" if is_plain(values) else f" ({type(values).__name__}, {values.layout}, on {values.device})"
    return f"{values.dtype}{more}"


def flat_scores(name: str, values: Tensor) -> Tensor:
    """Return scores as a float64 vector on the processor; refuse what cannot be ranked."""
    if not is_plain(values) or values.is_complex():
        raise TypeError(f"scores must be real, dense tensors; those of {name!r} are {described(values)}")
    flat = values.detach().cpu().to(torch.float64).flatten()
    if n_nan := int(flat.isnan().sum()):
        raise ValueError(
            f"{n_nan} of the {flat.numel()} scores of {name!r} are NaN; scores must be comparable"
        )
    if not values.is_floating_point() and len(large := flat[flat.abs() >= 2**53]):
        raise ValueError(
            f"scores that are integers must be below 2**53; those of {name!r} reach {large[0]:.0f}"
        )
    return flat
