r"""Which parametrizations and penalties commute: only those make gradient flow a mirror flow (M2, M17)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.autograd.functional import hessian, hvp, jacobian

from repro.geometry.potentials import factors
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression

__all__ = ["brackets", "factor_gap_spread", "lie_bracket", "path_dependence"]

Array = NDArray[np.float64]
Scalar = Callable[[Tensor], Tensor]
Penalized = Literal["both", "mask"]


def factor_gap_spread(
    seeds: Sequence[int],
    which: Sequence[Penalized] = ("both", "mask"),
    *,
    beta: float = 1.0,
    alpha: float = 0.05,
    horizon: float = 10.0,
) -> pd.DataFrame:
    r"""How far $m_T^2-w_T^2$ of two flows are apart that differ in the loss alone (claim M2).

    The losses are $\frac1{2d}\|Zx\mp y\|^2$. With $\alpha(\|m\|^2+\|w\|^2)$ the gap is $\beta e^{-4\alpha T}$, whatever
    the loss is; with $\alpha\|m\|^2$ it depends on the path, and no potential can be written down in x and time.

    Args:
        seeds: of the problems.
        which: factors that are penalized.
        beta: $m_0^2-w_0^2$.
        alpha: strength of the penalty, constant.
        horizon: T.

    Returns:
        One row a (seed, which): ``spread``, the largest difference over coordinates, relative to beta.

    Raises:
        ValueError: anything but ``"both"`` and ``"mask"``; a strength, a gap or a horizon that is not positive.

    Source: section 3 of the paper's first version.
    """
    for one in which:
        if one not in ("both", "mask"):
            raise ValueError(f"which lists 'both' and 'mask', the factors penalized; got {one!r}")
    if not (beta > 0 and alpha > 0 and horizon > 0):
        raise ValueError(f"beta, alpha and horizon must be positive, got {beta}, {alpha} and {horizon}")
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        for one in which:
            gaps = [_gap(problem, sign, one, beta, alpha, horizon) for sign in (1, -1)]
            spread = float(np.abs(gaps[0] - gaps[1]).max()) / beta
            rows.append({"seed": seed, "which": one, "spread": spread})
    return pd.DataFrame(rows)


def _gap(
    problem: SparseRegression, sign: int, which: Penalized, beta: float, alpha: float, horizon: float
) -> Array:
    """The gap of squared factors at the horizon, with targets ``sign * y``."""
    Z, y = problem.Z, sign * problem.y
    start = factors(problem.x0, beta)
    decay = np.array([[2 * alpha], [2 * alpha if which == "both" else 0.0]])

    def velocity(t: float, flat: Array) -> Array:
        pair = flat.reshape(2, -1)
        gradient = (Z @ (pair[0] * pair[1]) - y) @ Z / len(y)
        return np.asarray(-gradient * pair[::-1] - decay * pair).ravel()

    first = np.concatenate([start.m, start.w])
    found = solve_ivp(velocity, (0.0, horizon), first, method="DOP853", rtol=1e-11, atol=1e-13)
    m, w = found.y[:, -1].reshape(2, -1)
    return np.asarray(m**2 - w**2)


def lie_bracket(first: Scalar, second: Scalar, theta: Tensor) -> Tensor:
    r"""Lie bracket of two gradient fields, $[\nabla g,\nabla h]=\nabla^2h\,\nabla g-\nabla^2g\,\nabla h$, by autograd.

    Zero where moving along one gradient and then along the other ends at the same point in either order.

    Args:
        first, second: from parameters ``(p,)`` to a number.
        theta: parameters, ``(p,)``.

    Returns:
        ``(p,)``.

    Source: Li, Wang, Lee & Arora 2022, definition 4.1 (as the paper cites it).
    """
    along, across = jacobian(first, theta), jacobian(second, theta)
    return hvp(second, theta, along)[1] - hvp(first, theta, across)[1]


def _elementwise(theta: Tensor) -> Tensor:
    m, w = theta.chunk(2)
    return m * w


def _neuronwise(theta: Tensor) -> Tensor:
    return theta[0] * theta[1:]


_MASKS: dict[str, Callable[[Tensor], Tensor]] = {"elementwise": _elementwise, "neuronwise": _neuronwise}


def _entry(g: Callable[[Tensor], Tensor], i: int) -> Scalar:
    return lambda theta: g(theta)[i]


def _squares(size: int) -> Scalar:
    """Sum of squares of the first ``size`` parameters; the mask comes first."""
    return lambda theta: (theta[:size] ** 2).sum()


def _start(mask: str, k: int, seed: int) -> Tensor:
    size = 2 * k if mask == "elementwise" else 1 + k
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def brackets(seeds: Sequence[int], k: int = 3) -> pd.DataFrame:
    r"""Whether Lie brackets vanish at random points, and whether x feels them (claims M2 and M17).

    A parametrization $x=g(\theta)$ can be a mirror flow only if all brackets of its entries, and of its entries with
    the penalty, stay in the kernel of $\partial g$ (Li et al. 2022, theorem 4.10).

    Args:
        seeds: of the points, drawn from a standard normal.
        k: weights.

    Returns:
        One row a (seed, mask, ``with``): ``mask`` is ``"elementwise"`` ($x=m\odot w$) or ``"neuronwise"`` ($x=mw$ with
        one number m), ``with`` says what the entries are paired with (``"entries"``, or the penalty on ``"both"``
        factors or on the ``"mask"`` alone); ``bracket`` and ``in_x`` are the largest Euclidean lengths of the bracket
        and of $\partial g$ times the bracket.

    Raises:
        ValueError: fewer than two weights, which leaves nothing to pair.
    """
    _check_size(k)
    rows = []
    for seed in seeds:
        for mask, g in _MASKS.items():
            theta = _start(mask, k, seed)
            slope = jacobian(g, theta)
            entries = [_entry(g, i) for i in range(k)]
            others: dict[str, list[Scalar]] = {
                "entries": entries,
                "both": [_squares(len(theta))],
                "mask": [_squares(k if mask == "elementwise" else 1)],
            }
            for name, second in others.items():
                found = torch.stack([lie_bracket(a, b, theta) for a in entries for b in second])
                rows.append(
                    {"seed": seed, "mask": mask, "with": name}
                    | {"bracket": float(found.norm(dim=1).max())}
                    | {"in_x": float((found @ slope.T).norm(dim=1).max())}
                )
    return pd.DataFrame(rows)


def path_dependence(seeds: Sequence[int], k: int = 3, length: float = 1.0) -> pd.DataFrame:
    r"""Follow two random gradients one after the other, in both orders: does x end at the same point (claim M17)?

    For a mirror flow $\nabla R(x_t)$ is $\nabla R(x_0)$ minus the integral of the gradients, hence the order cannot
    matter. Both masks are quadratic in their parameters, $\dot\theta=-\sum_iv_i\nabla^2g_i\,\theta$ is linear, and
    matrix exponentials solve it to round-off.

    Args:
        seeds: of starts and gradients, drawn from a standard normal.
        k: weights.
        length: Euclidean length of each gradient's time integral.

    Returns:
        One row a (seed, mask): ``difference``, the distance of the two ends, and ``moved``, how far x moved.

    Raises:
        ValueError: fewer than two weights; a length that is not positive.
    """
    _check_size(k)
    if not 0 < length < np.inf:
        raise ValueError(f"length must be positive and finite, got {length}")
    rows = []
    for seed in seeds:
        v = torch.as_tensor(np.random.default_rng(seed).standard_normal((2, k)))
        v = length * v / v.norm(dim=1, keepdim=True)
        for mask, g in _MASKS.items():
            theta = _start(mask, k, seed)
            hessians = torch.stack([hessian(_entry(g, i), theta) for i in range(k)])
            one, two = torch.linalg.matrix_exp(-torch.einsum("vi,ipq->vpq", v, hessians))
            ends = [g(two @ one @ theta), g(one @ two @ theta)]
            rows.append(
                {"seed": seed, "mask": mask}
                | {
                    "difference": float((ends[0] - ends[1]).norm()),
                    "moved": float((ends[0] - g(theta)).norm()),
                }
            )
    return pd.DataFrame(rows)


def _check_size(k: int) -> None:
    if k < 2:
        raise ValueError(f"brackets pair different weights: k must be 2 or more, got {k}")
