"""Masks: which weights stay; combined, counted and held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from repro.base import one_of
from repro.prune.scores import _weights


class Mask(Mapping[str, Tensor]):
    r"""Which weights stay: parameter name to a bool tensor, True where the weight is kept.

    Applying it sets $w \leftarrow m \odot w$. A mask never changes: it copies what it is given, and
    ``mask[name]`` is a copy. Parameters that it does not name are kept whole.

    It is callable as an ``after_step`` of the training loop. That is the only place that holds: momentum and
    weight decay bring a pruned weight back within one step, even where its gradient is set to zero.

    Supported are plain parameters. The weight of a parametrised layer (``torch.nn.utils.parametrize``) is
    computed anew from others at each use, and a zero in those need not be a zero in the weight (exp(0) = 1):
    applying a mask there is an error that says to fold the parametrisation back first.
    """

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        """Copy ``kept`` (name to bool tensor, True = kept).

        Raises:
            TypeError: an entry that is not a bool tensor.
        """
        for name, tensor in kept.items():
            if getattr(tensor, "dtype", None) != torch.bool:
                what = getattr(tensor, "dtype", type(tensor).__name__)
                raise TypeError(f"a mask needs bool tensors (True = kept); {name!r} is {what}")
        self._kept = {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}
        self._pruned_on: dict[tuple[str, torch.device], Tensor] = {}  # complements, made once for a device

    @classmethod
    def dense(cls, model: nn.Module) -> Mask:
        """Return the mask that keeps every prunable weight of ``model`` (see ``prunable``)."""
        return cls({n: torch.ones(weight.shape, dtype=torch.bool) for n, weight in _weights(model).items()})

    @classmethod
    def stack(cls, masks: Sequence[Mask]) -> Mask:
        """Return one mask with a leading dimension, entry i for member i of an ``Ensemble``.

        Raises:
            ValueError: masks that differ in names.
            RuntimeError: masks that differ in shapes.
        """
        if any(mask.keys() != masks[0].keys() for mask in masks):
            raise ValueError(f"masks of one ensemble must name the same weights, got {[*map(list, masks)]}")
        return cls({name: torch.stack([mask._kept[name] for mask in masks]) for name in masks[0]})

    @classmethod
    def joined(cls, masks: Sequence[Mask]) -> Mask:
        """Return the masks of several ensembles, ``(S, *shape)`` each, as one of all their members together."""
        return cls({name: torch.cat([mask._kept[name] for mask in masks]) for name in masks[0]})

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(self[name], other[name]) for name in self)

    def __repr__(self) -> str:
        return f"Mask({len(self)} parameters, {self.n_kept:,} of {self.n_weights:,} weights kept)"

    def __and__(self, other: Mask) -> Mask:
        """Keep what both keep; a parameter that one of them does not name, it keeps whole."""
        both = {name: kept & other._kept[name] for name, kept in self._kept.items() if name in other}
        return Mask(self._kept | other._kept | both)

    @property
    def n_weights(self) -> int:
        """How many weights the mask speaks of."""
        return sum(kept.numel() for kept in self._kept.values())

    @property
    def n_kept(self) -> int:
        """How many of them stay."""
        return sum(int(kept.sum()) for kept in self._kept.values())

    @property
    def n_pruned(self) -> int:
        """How many of them go."""
        return self.n_weights - self.n_kept

    @property
    def sparsity(self) -> float:
        """Fraction removed of the weights that the mask names."""
        return 1.0 - self.n_kept / self.n_weights if self.n_weights else 0.0

    def apply(self, model: Any) -> None:
        r"""Set the pruned weights to zero in place, $w \leftarrow m \odot w$, infinite and NaN ones too.

        Args:
            model: an ``nn.Module``, or an ``Ensemble`` with parameters ``(S, *shape)``; there a mask
                ``(*shape)`` serves all members and a mask ``(S, *shape)`` has an entry for each.

        Raises:
            ValueError: a name that the model lacks, a weight that is parametrised, or a shape that does not fit.
        """
        with torch.no_grad():
            for name, weight in self.weights_of(model).items():
                weight.masked_fill_(self._pruned(name, weight.device), 0)

    def __call__(self, model: Any, step: int | None = None) -> None:
        """Apply the mask; the form in which the training loop calls it after each step."""
        self.apply(model)

    def holds(self, model: Any) -> bool:
        """Return whether every pruned weight of ``model`` is zero; arguments and errors as in ``apply``."""
        weights = self.weights_of(model).items()
        return not any(bool((w.ne(0) & self._pruned(name, w.device)).any()) for name, w in weights)

    def weights_of(self, model: Any) -> dict[str, Tensor]:
        """Return the parameters of ``model`` that the mask names; arguments and errors as in ``apply``."""
        stacked = isinstance(model.parameters, Mapping)
        known: dict[str, Tensor] = dict(model.parameters if stacked else model.named_parameters())
        for name, kept in self._kept.items():
            _check_plain(name, known)
            shape = tuple(known[name].shape)
            if tuple(kept.shape) not in ([shape, shape[1:]] if stacked else [shape]):
                raise ValueError(f"the mask of {name!r} has shape {tuple(kept.shape)}, the parameter {shape}")
        return {name: known[name] for name in self._kept}

    def _pruned(self, name: str, device: torch.device) -> Tensor:
        if (name, device) not in self._pruned_on:
            self._pruned_on[name, device] = ~self._kept[name].to(device)
        return self._pruned_on[name, device]


def _check_plain(name: str, known: Mapping[str, Tensor]) -> None:
    """Refuse parametrised weights, under either of their names, and unknown names."""
    prefix, _, leaf = name.rpartition(".")
    home = f"{prefix}.parametrizations.{leaf}.".lstrip(".")
    if ".parametrizations." in f".{name}" or any(other.startswith(home) for other in known):
        told = f"{name!r} belongs to a parametrised layer, where a zero need not stay in the weight"
        fold = "torch.nn.utils.parametrize.remove_parametrizations, leave_parametrized=True"
        raise ValueError(f"{told}; fold it first ({fold})")
    one_of("model parameter", name, known)
