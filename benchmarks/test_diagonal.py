"""The grid of diagonal linear networks: all at once, seed by seed, and one run after the other, which must agree.

Processor time of one thread. One after the other is done in two ways: a short NumPy loop, the fastest of the obvious
ones, and a PyTorch loop with automatic differentiation, as a network would be trained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from repro.learn import reproducible
from repro.papers.implicit_sparsification.method import pilot_factors, schedule
from repro.papers.implicit_sparsification.settings import _SparseRegression
from repro.papers.implicit_sparsification.training import _descend

FAMILIES = ("pilot", "l1_m", "l1_x")
N_STEPS, RATE = 2_000, 1e-2
SEEDS = range(5)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def problems() -> list[_SparseRegression]:
    reproducible(threads=1)
    return [_SparseRegression.draw(seed) for seed in SEEDS]


def settings() -> pd.DataFrame:
    """26 settings like those of the chapter's grid, in which no run diverges."""
    rows = [("constant", 0.002 * 2**k) for k in range(11)]
    rows += [("harmonic", 32.0 / 2**k) for k in range(8)] + [("geometric", 32.0 / 2**k) for k in range(7)]
    return pd.DataFrame(rows, columns=["schedule", "amplitude"])


def at_once(problems: list[_SparseRegression], runs: pd.DataFrame) -> Array:
    paths = _descend(problems, dict.fromkeys(FAMILIES, runs), [N_STEPS])
    return np.stack([x[0] for x in paths.values()])


def seed_by_seed(problems: list[_SparseRegression], runs: pd.DataFrame) -> Array:
    return np.concatenate([at_once([problem], runs) for problem in problems], axis=1)


def one_by_one(problems: list[_SparseRegression], runs: pd.DataFrame) -> Array:
    alphas = [a * schedule(name, N_STEPS) for name, a in runs.itertuples(index=False)]
    return np.array([[[in_numpy(p, f, alpha) for alpha in alphas] for p in problems] for f in FAMILIES])


def in_numpy(problem: _SparseRegression, family: str, alphas: Array) -> Array:
    z, y, d = problem.Z, problem.y, len(problem.y)
    m, w = (problem.x0, np.ones_like(problem.x0)) if family == "l1_x" else pilot_factors(problem.x0)
    for alpha in alphas:
        g = (z @ (m * w) - y) @ z / d
        if family == "pilot":
            m, w = m - RATE * (g * w + 2 * alpha * m), w - RATE * (g * m + 2 * alpha * w)
        elif family == "l1_m":
            m, w = m - RATE * (g * w + alpha * np.sign(m)), w - RATE * g * m
        else:
            m = m - RATE * (g + alpha * np.sign(m))
    return np.asarray(m * w)


def in_torch(problem: _SparseRegression, family: str, alphas: Array) -> Array:
    z, y = torch.from_numpy(problem.Z), torch.from_numpy(problem.y)
    parts = [problem.x0] if family == "l1_x" else pilot_factors(problem.x0)
    parameters = [torch.from_numpy(part).clone().requires_grad_() for part in parts]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    for alpha in alphas.tolist():
        optimizer.zero_grad()
        x = parameters[0] if family == "l1_x" else parameters[0] * parameters[1]
        penalty = parameters[0].abs().sum()
        if family == "pilot":
            penalty = (parameters[0] ** 2).sum() + (parameters[1] ** 2).sum()
        (((z @ x - y) ** 2).sum() / (2 * len(y)) + alpha * penalty).backward()
        optimizer.step()
    return (parameters[0] if family == "l1_x" else parameters[0] * parameters[1]).detach().numpy()


def distances(problems: list[_SparseRegression], x: Array) -> Array:
    return np.asarray(np.linalg.norm(x - np.stack([p.x_star for p in problems])[:, None], axis=-1))


WAYS: dict[str, Callable[[list[_SparseRegression], pd.DataFrame], Array]] = {
    "at once": at_once,
    "seed by seed": seed_by_seed,
    "one by one, NumPy": one_by_one,
}


@pytest.mark.benchmark(group=f"grid, {N_STEPS} steps")
@pytest.mark.parametrize("way", WAYS)
def test_grid(benchmark: BenchmarkFixture, problems: list[_SparseRegression], way: str) -> None:
    runs = settings()
    found = benchmark.pedantic(
        WAYS[way], args=(problems, runs), rounds=1 if "NumPy" in way else 3, warmup_rounds=way == "at once"
    )
    benchmark.extra_info["runs"] = found.shape[0] * found.shape[1] * found.shape[2]
    if way != "at once":
        np.testing.assert_allclose(
            distances(problems, found), distances(problems, at_once(problems, runs)), rtol=1e-3, atol=1e-3
        )


@pytest.mark.benchmark(group=f"one run, {N_STEPS} steps")
@pytest.mark.parametrize("way", ["NumPy", "automatic differentiation"])
def test_one_run(benchmark: BenchmarkFixture, problems: list[_SparseRegression], way: str) -> None:
    alphas = 16.0 * schedule("geometric", N_STEPS)
    run = in_numpy if way == "NumPy" else in_torch
    found = benchmark.pedantic(run, args=(problems[0], "pilot", alphas), rounds=5, warmup_rounds=1)
    only = pd.DataFrame({"schedule": ["geometric"], "amplitude": [16.0]})
    expected = at_once(problems, only)[0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
