"""Gradient descent on diagonal linear networks: all problems and strengths of a family in one tensor.

A training loop of its own, for speed. A grid of 390 runs of 2,000 steps takes 0.7 s, ten times less than one run
after the other in NumPy with gradients by hand, and 250 times less than with automatic differentiation and
``torch.optim`` (``benchmarks/README.md``). A network here is 100 numbers, and a step of a run 0.9 microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.papers.implicit_sparsification.method import pilot_factors, schedule
from repro.papers.implicit_sparsification.settings import SparseRegression, _Array

_STEP_SIZE = 1e-2
r"""$\eta$. Factors move x by about $\eta\sqrt{\beta^2+4x^2}$ times the gradient. The paper's is 1e-4, with a mean
over the samples in the loss, which takes a hundred times as many steps."""
_BATCH_SIZE = 5
"""Samples a step of stochastic descent; a divisor of their number."""

_Samples = tuple[Tensor, Tensor]
"""Z, ``(P, b, n)``, and -y, ``(P, 1, b)``, of P problems."""

# --- ways to write, to start and to penalise the weights ----------------------------------------------------------


_Family = tuple[
    Callable[[_Array], tuple[_Array, _Array]],
    Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
]
r"""From x0 to factors of its shape; one step, from m, w, the gradient of f with respect to x, and $\eta\alpha$ to m and
w."""


def _decay_both(m: Tensor, w: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One step on f + α(|m|² + |w|²). The same operations for m and w keep |m| = |w| exact."""
    kept = 1 - 2 * pull
    return torch.addcmul(kept * m, g, w, value=-_STEP_SIZE), torch.addcmul(kept * w, g, m, value=-_STEP_SIZE)


def _l1_on_mask(m: Tensor, w: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|m|₁."""
    moved = torch.addcmul(m, pull, m.sign(), value=-1)
    return moved.addcmul_(g, w, value=-_STEP_SIZE), torch.addcmul(w, g, m, value=-_STEP_SIZE)


def _l1_on_weights(x: Tensor, ones: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|x|₁."""
    return torch.addcmul(x, pull, x.sign(), value=-1).sub_(g, alpha=_STEP_SIZE), ones


_FAMILIES: dict[str, _Family] = {
    "pilot": (pilot_factors, _decay_both),
    "spred": (partial(pilot_factors, beta=0.0), _decay_both),
    "l1_m": (pilot_factors, _l1_on_mask),
    "l1_x": (lambda x0: (x0, np.ones_like(x0)), _l1_on_weights),
}
r"""The families by key: the paper compares ``pilot``, ``l1_m`` (L1 on m) and ``l1_x`` (L1 on x, by subgradients;
the factors are x and ones), and ``spred``, the balanced start, in figure 1a."""

# --- the loop -----------------------------------------------------------------------------------------------------


def descend(
    problems: Sequence[SparseRegression],
    runs: Mapping[str, pd.DataFrame],
    steps: Sequence[int],
    orders: Sequence[int] | None = None,
) -> dict[str, _Array]:
    r"""Gradient descent on $\frac1{2d}\|Zx-y\|^2$ plus $\alpha_k$ times the family's penalty.

    A step of a family, for all problems and runs, is two batched matrix products and a few products of whole tensors.
    Each run follows the path that it would follow alone, up to rounding. Shrinking factors pass through denormal
    numbers, which slow arithmetic manyfold: call ``repro.learn.reproducible`` first, which flushes them to zero.

    Args:
        problems: P regressions of one size, each with its own start x0.
        runs: of each family, ``pilot``, ``spred``, ``l1_m`` or ``l1_x``, a table with R rows: schedule, a name
            for ``method.schedule``, and amplitude.
        steps: to record, ascending; step 0 is the start, the last one the end.
        orders: seeds of the order of mini-batches, one a problem, which all its families and runs share; None for full
            descent. Batches have 5 samples, a divisor of d.

    Returns:
        Weights x of each family at the steps, ``(T, P, R, n)``; NaN once one of a run's was 1e6 or more in size.
    """
    z = torch.from_numpy(np.stack([problem.Z for problem in problems]))
    minus_y = torch.from_numpy(np.stack([-problem.y for problem in problems]))
    x0, recorded = np.stack([problem.x0 for problem in problems]), set(steps)
    paths = {}
    for name, table in runs.items():  # one core's cache holds a family
        begin, update = _FAMILIES[name]
        of_runs = zip(table["schedule"], table["amplitude"], strict=True)
        alphas = np.stack([amplitude * schedule(how, steps[-1]) for how, amplitude in of_runs])
        pulls = torch.from_numpy(_STEP_SIZE * alphas.T[:, :, None])  # (K, R, 1)
        batches = repeat((z, minus_y[:, None])) if orders is None else _mini_batches(z, minus_y, orders)
        m, w = (torch.from_numpy(part)[:, None].repeat(1, len(table), 1) for part in begin(x0))
        x = m * w
        kept = {0: x}
        for step, (pull, batch) in enumerate(zip(pulls.unbind(0), batches, strict=False), start=1):
            m, w = update(m, w, _gradient(x, *batch), pull)
            x = m * w
            if step in recorded:
                kept[step] = x
        path = np.stack([kept[step].numpy() for step in steps])
        gone = ~(np.abs(path).max(axis=-1) < 1e6)
        path[np.logical_or.accumulate(gone, axis=0)] = np.nan
        paths[name] = path
    return paths


def _gradient(x: Tensor, z: Tensor, minus_y: Tensor) -> Tensor:
    """Of 1/(2b) |Zx - y|² at x, ``(P, R, n)``."""
    residual = torch.baddbmm(minus_y, x, z.mT)
    return torch.bmm(residual.div_(z.shape[1]), z)


def _mini_batches(z: Tensor, minus_y: Tensor, seeds: Sequence[int]) -> Iterator[_Samples]:
    """Endless batches, parts of a new order of the samples in every epoch."""
    orders = [np.random.default_rng([seed, 5]) for seed in seeds]
    n_problems, n_samples, n = z.shape
    first = n_samples * np.arange(n_problems)[:, None]
    while True:
        rows = torch.from_numpy(first + np.stack([rng.permutation(n_samples) for rng in orders]))
        parts = rows.view(n_problems, -1, _BATCH_SIZE).swapaxes(0, 1)  # (parts, P, b)
        samples = z.view(-1, n).index_select(0, parts.flatten()).view(*parts.shape, n)
        yield from zip(samples, minus_y.flatten()[parts].unsqueeze(-2), strict=True)
