"""The grid of diagonal linear networks: all at once, seed by seed, and one run after the other, which must agree.

Processor time of one thread. One after the other is done in two ways: a short NumPy loop, the fastest of the obvious
ones, and a PyTorch loop with automatic differentiation, as a network would be trained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from repro.geometry.potentials import factors
from repro.papers.implicit_sparsification.diagonal import descend
from repro.papers.implicit_sparsification.diagonal_experiments import CONSTANTS, DECAYING
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression
from repro.papers.implicit_sparsification.schedules import SCHEDULES, schedule

FAMILIES = ("pilot", "mask_l1", "weights")
N_STEPS, RATE = 2_000, 1e-2
SEEDS = range(5)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def problems() -> list[SparseRegression]:
    torch.set_num_threads(1)
    return [sparse_regression(seed) for seed in SEEDS]


def strengths() -> Array:
    """The 26 settings of the chapter's grid in which no member diverges: decaying amplitudes up to 32."""
    amplitudes = {name: [a for a in DECAYING if a <= 32] for name in SCHEDULES} | {
        "constant": list(CONSTANTS)
    }
    return np.stack([schedule(name, a, N_STEPS) for name in SCHEDULES for a in amplitudes[name]])


def at_once(problems: list[SparseRegression], alphas: Array) -> Array:
    return descend(problems, alphas, families=FAMILIES, record=[N_STEPS]).x[0]


def seed_by_seed(problems: list[SparseRegression], alphas: Array) -> Array:
    return np.concatenate([at_once([problem], alphas) for problem in problems], axis=1)


def one_by_one(problems: list[SparseRegression], alphas: Array) -> Array:
    runs = [[[in_numpy(p, f, alpha) for alpha in alphas] for p in problems] for f in FAMILIES]
    return np.array(runs)


def in_numpy(problem: SparseRegression, family: str, alphas: Array) -> Array:
    z, y, d = problem.Z, problem.y, len(problem.y)
    start = factors(problem.x0, 1.0)
    m, w = (problem.x0, np.ones_like(problem.x0)) if family == "weights" else (start.m, start.w)
    for alpha in alphas:
        g = (z @ (m * w) - y) @ z / d
        if family == "pilot":
            m, w = m - RATE * (g * w + 2 * alpha * m), w - RATE * (g * m + 2 * alpha * w)
        elif family == "mask_l1":
            m, w = m - RATE * (g * w + alpha * np.sign(m)), w - RATE * g * m
        else:
            m = m - RATE * (g + alpha * np.sign(m))
    return np.asarray(m * w)


def in_torch(problem: SparseRegression, family: str, alphas: Array) -> Array:
    z, y = torch.from_numpy(problem.Z), torch.from_numpy(problem.y)
    start = factors(problem.x0, 1.0)
    parts = [problem.x0] if family == "weights" else [start.m, start.w]
    parameters = [torch.from_numpy(part).clone().requires_grad_() for part in parts]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    for alpha in alphas.tolist():
        optimizer.zero_grad()
        x = parameters[0] if family == "weights" else parameters[0] * parameters[1]
        penalty = parameters[0].abs().sum()
        if family == "pilot":
            penalty = (parameters[0] ** 2).sum() + (parameters[1] ** 2).sum()
        (((z @ x - y) ** 2).sum() / (2 * len(y)) + alpha * penalty).backward()
        optimizer.step()
    return (parameters[0] if family == "weights" else parameters[0] * parameters[1]).detach().numpy()


def distances(problems: list[SparseRegression], x: Array) -> Array:
    return np.asarray(np.linalg.norm(x - np.stack([p.x_star for p in problems])[:, None], axis=-1))


WAYS: dict[str, Callable[[list[SparseRegression], Array], Array]] = {
    "at once": at_once,
    "seed by seed": seed_by_seed,
    "one by one, NumPy": one_by_one,
}


@pytest.mark.benchmark(group=f"grid, {N_STEPS} steps")
@pytest.mark.parametrize("way", WAYS)
def test_grid(benchmark: BenchmarkFixture, problems: list[SparseRegression], way: str) -> None:
    alphas = strengths()
    found = benchmark.pedantic(
        WAYS[way], args=(problems, alphas), rounds=1 if "NumPy" in way else 3, warmup_rounds=way == "at once"
    )
    benchmark.extra_info["runs"] = found.shape[0] * found.shape[1] * found.shape[2]
    if way != "at once":
        np.testing.assert_allclose(
            distances(problems, found), distances(problems, at_once(problems, alphas)), rtol=1e-3, atol=1e-3
        )


@pytest.mark.benchmark(group=f"one run, {N_STEPS} steps")
@pytest.mark.parametrize("way", ["NumPy", "automatic differentiation"])
def test_one_run(benchmark: BenchmarkFixture, problems: list[SparseRegression], way: str) -> None:
    alphas = schedule("geometric", 16.0, N_STEPS)
    run = in_numpy if way == "NumPy" else in_torch
    found = benchmark.pedantic(run, args=(problems[0], "pilot", alphas), rounds=5, warmup_rounds=1)
    expected = at_once(problems, alphas[None])[0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
