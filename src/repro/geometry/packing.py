"""Lists of arrays as one flat vector and back: ODE solvers know vectors only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packing"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Packing:
    """The shapes of a list of arrays, in order.

    Leading dimensions in front of a shape (time, seeds) are kept by both directions.
    """

    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Packing:
        """The packing of arrays without leading dimensions."""
        return cls(tuple(a.shape for a in arrays))

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in self.shapes)

    def pack(self, arrays: Sequence[Array]) -> Array:
        """Arrays ``(..., *shape)`` to one array ``(..., size)``."""
        lead = arrays[0].shape[: arrays[0].ndim - len(self.shapes[0])]
        return np.concatenate([a.reshape(*lead, -1) for a in arrays], axis=-1)

    def unpack(self, flat: Array) -> list[Array]:
        """One array ``(..., size)`` to arrays ``(..., *shape)``."""
        if flat.shape[-1] != self.size:
            raise ValueError(f"a vector of {flat.shape[-1]} numbers does not fill the shapes {self.shapes}")
        result, start = [], 0
        for shape in self.shapes:
            stop = start + prod(shape)
            result.append(flat[..., start:stop].reshape(*flat.shape[:-1], *shape))
            start = stop
        return result
