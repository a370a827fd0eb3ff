"""Checks that the modules of this package share, with the words of their errors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def one_network(model: object) -> None:
    """Refuse anything but one ``nn.Module``."""
    if not isinstance(model, nn.Module):
        hint = "; take its members one by one: model.member(i)" if hasattr(model, "member") else ""
        raise TypeError(f"expected one torch module, got a {type(model).__name__}{hint}")


def flat_scores(name: str, values: Tensor) -> Tensor:
    """Return scores as a float64 vector on the processor; refuse what cannot be ranked."""
    if not isinstance(values, Tensor) or values.is_complex():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"scores must be real tensors; those of {name!r} are {got}")
    flat = values.detach().cpu().to(torch.float64).flatten()
    if n_nan := int(flat.isnan().sum()):
        raise ValueError(
            f"{n_nan} of the {flat.numel()} scores of {name!r} are NaN; scores must be comparable"
        )
    return flat
