"""Gradient descent on diagonal linear networks: all problems, families and strengths in one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repro.base import unknown
from repro.papers.implicit_sparsification.diagonal_families import FAMILIES, Family
from repro.papers.implicit_sparsification.regression import SparseRegression
from repro.papers.implicit_sparsification.schedules import followed_by_zeros

__all__ = ["Paths", "descend", "logarithmic_steps"]

Array = NDArray[np.float64]

_BEYOND = 1e6


@dataclass(frozen=True)
class Paths:
    r"""Weights along gradient descent.

    Attributes:
        families: F keys of ``FAMILIES``.
        steps: recorded steps, ``(T,)``; step 0 is the start.
        x: weights $x=m\odot w$, ``(T, F, P, R, n)`` for P problems and R strengths; NaN once diverged.
        diverged: the first recorded step at which a weight was 1e6 or more in size, ``(F, P, R)``; -1 for none.
    """

    families: tuple[str, ...]
    steps: NDArray[np.int64]
    x: NDArray[np.float64]
    diverged: NDArray[np.int64]


def logarithmic_steps(n_steps: int, per_decade: int = 8, also: Sequence[int] = ()) -> list[int]:
    """Steps 0, 1, ..., ``n_steps``, evenly spaced on a logarithmic scale, and those of ``also`` up to ``n_steps``."""
    count = int(np.ceil(per_decade * np.log10(n_steps))) + 1
    spaced = np.unique(np.geomspace(1, n_steps, count).round().astype(int)).tolist()
    return sorted({0, *spaced, *(step for step in also if step <= n_steps)})


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero: shrinking factors pass through them, which slows arithmetic manyfold."""
    before = bool(torch.tensor(2e-308, dtype=torch.float64) / 4 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def descend(
    problems: Sequence[SparseRegression],
    strengths: ArrayLike,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    n_steps: int | None = None,
    step_size: float = 1e-2,
    beta: float = 1.0,
    batch_size: int | None = None,
    order_seeds: Sequence[int] | None = None,
    record: Sequence[int] | None = None,
) -> Paths:
    r"""Gradient descent on $\frac1{2d}\|Zx-y\|^2$ plus $\alpha_k$ times the family's penalty.

    A step of a family, for all problems and strengths, is two batched matrix products and a few products of whole
    tensors. Each member follows the path that it would follow alone, up to rounding.

    Args:
        problems: P regressions of one size, each with its own start x0.
        strengths: $\alpha_k$, ``(R, k)`` for all families alike or ``(F, R, k)``.
        families: keys of ``FAMILIES``.
        n_steps: K; None for the length of the strengths. Strengths that end before are followed by zeros.
        step_size: $\eta$. Factors move x by about $\eta\sqrt{\beta^2+4x^2}$ times the gradient.
        beta: $m_0^2-w_0^2$ of the unbalanced start, above 0.
        batch_size: samples a step (a divisor of d); None for all d.
        order_seeds: one a problem, of the order of mini-batches, which all its families and strengths share.
        record: steps to keep; None for ``logarithmic_steps(n_steps)``.

    Returns:
        ``Paths``. Members that diverge are labelled there and stop nothing.

    Raises:
        ValueError: an unknown family, strengths that are negative or longer than training, a start without
            ``beta``, a batch size that does not divide d, a recorded step outside training.
    """
    for family in families:
        if family not in FAMILIES:
            raise ValueError(unknown("family", family, FAMILIES))
    alpha = np.asarray(strengths, dtype=np.float64)
    if alpha.ndim not in (2, 3) or (alpha.ndim == 3 and len(alpha) != len(families)):
        raise ValueError(
            f"strengths are (R, steps) or ({len(families)}, R, steps), one row a member; got {alpha.shape}"
        )
    n_steps = alpha.shape[-1] if n_steps is None else n_steps
    alpha = followed_by_zeros(alpha, n_steps)
    alpha = np.broadcast_to(alpha, (len(families), *alpha.shape[-2:]))
    kept_steps = sorted(set(logarithmic_steps(n_steps) if record is None else record))
    if not kept_steps or kept_steps[0] < 0 or kept_steps[-1] > n_steps:
        raise ValueError(f"record takes steps between 0 and {n_steps}, got {kept_steps}")
    if not beta > 0 or not step_size > 0:
        raise ValueError(f"beta and step_size must be above 0, got {beta!r} and {step_size!r}")
    batches = _Batches(problems, batch_size, order_seeds)
    x0 = np.stack([problem.x0 for problem in problems])
    with _denormals_flushed(), torch.no_grad():
        paths = [
            _path(FAMILIES[family], x0, strengths_of_it, batches, step_size, beta, kept_steps)
            for family, strengths_of_it in zip(families, alpha, strict=True)
        ]
    x = np.stack(paths, axis=1)
    x[~(np.abs(x).max(axis=-1) < _BEYOND)] = np.nan
    gone = np.logical_or.accumulate(np.isnan(x[..., 0]), axis=0)
    x[gone] = np.nan
    steps = np.asarray(kept_steps, dtype=np.int64)
    diverged = np.where(gone[-1], steps[gone.argmax(axis=0)], -1)
    return Paths(tuple(families), steps, x, diverged)


def _path(
    family: Family,
    x0: Array,
    alpha: Array,
    batches: _Batches,
    rate: float,
    beta: float,
    kept_steps: Sequence[int],
) -> Array:
    """x of one family at the kept steps, ``(T, P, R, n)``: what one core's cache holds, so a family at a time."""
    m, w = (torch.from_numpy(part)[:, None].repeat(1, len(alpha), 1) for part in family.begin(x0, beta))
    x = m * w
    kept = np.empty((len(kept_steps), *x.shape))
    at = dict(zip(kept_steps, kept, strict=True))
    if 0 in at:
        at[0][...] = x.numpy()
    pulls = torch.from_numpy(family.pull * rate * alpha.T[: kept_steps[-1], :, None])  # (K, R, 1)
    for step, (pull, batch) in enumerate(zip(pulls.unbind(0), batches, strict=False), start=1):
        m, w = family.update(m, w, batch.gradient(x), pull, rate)
        x = m if family.start == "weights" else m * w
        if step in at:
            at[step][...] = x.numpy()
    return kept


@dataclass(frozen=True)
class _Batch:
    """Samples of P problems: Z, ``(P, b, n)``, and -y, ``(P, 1, b)``."""

    z: Tensor
    minus_y: Tensor

    def gradient(self, x: Tensor) -> Tensor:
        """Of 1/(2b) |Zx - y|², ``(P, R, n)``."""
        residual = torch.baddbmm(self.minus_y, x, self.z.mT)
        return torch.bmm(residual.div_(self.z.shape[1]), self.z)


class _Batches:
    """Endless batches, the same ones at every iteration: all samples, or parts of a new order in every epoch."""

    def __init__(
        self,
        problems: Sequence[SparseRegression],
        batch_size: int | None,
        order_seeds: Sequence[int] | None,
    ) -> None:
        sizes = sorted({np.shape(problem.Z) for problem in problems})
        if len(sizes) != 1:
            raise ValueError(f"descend takes one or more problems of one size, got {sizes}")
        self._z = torch.from_numpy(np.stack([problem.Z for problem in problems]))
        self._minus_y = torch.from_numpy(np.stack([-problem.y for problem in problems]))
        n_samples = self._z.shape[1]
        if batch_size is not None and (batch_size < 1 or n_samples % batch_size):
            raise ValueError(f"batch_size must divide the {n_samples} samples, got {batch_size!r}")
        self._size = batch_size
        self._seeds = [0] * len(problems) if order_seeds is None else list(order_seeds)
        if len(self._seeds) != len(problems):
            raise ValueError(
                f"order_seeds must be one a problem, {len(problems)} in all; got {len(self._seeds)}"
            )

    def __iter__(self) -> Iterator[_Batch]:
        if self._size is None:
            yield from repeat(_Batch(self._z, self._minus_y[:, None]))
            return
        orders = [np.random.default_rng([seed, 5]) for seed in self._seeds]
        n_problems, n_samples, n = self._z.shape
        first = n_samples * np.arange(n_problems)[:, None]
        while True:
            rows = torch.from_numpy(first + np.stack([rng.permutation(n_samples) for rng in orders]))
            parts = rows.view(n_problems, -1, self._size).swapaxes(0, 1)  # (parts, P, b)
            z = self._z.view(-1, n).index_select(0, parts.flatten()).view(*parts.shape, n)
            yield from map(_Batch, z, self._minus_y.flatten()[parts].unsqueeze(-2))
