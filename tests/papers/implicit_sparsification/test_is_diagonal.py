"""Batched descent: against a slow loop with automatic differentiation, the flow, and the Lasso."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from sklearn.linear_model import Lasso

from repro.papers.implicit_sparsification.diagonal import descend, logarithmic_steps
from repro.papers.implicit_sparsification.diagonal_families import FAMILIES
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression
from repro.papers.implicit_sparsification.schedules import schedule

Array = NDArray[np.float64]

SMOOTH = {
    "pilot": lambda m, w: (m**2).sum() + (w**2).sum(),
    "spred": lambda m, w: (m**2).sum() + (w**2).sum(),
    "mask_l1": lambda m, w: m.abs().sum(),
    "mask_l2": lambda m, w: (m**2).sum(),
    "weights": lambda m, w: m.abs().sum(),
    "proximal": lambda m, w: 0.0 * m.sum(),
}


def small(seed: int, d: int = 12, n: int = 20) -> SparseRegression:
    return sparse_regression(seed, d, n, 3)


def one_alone(
    problem: SparseRegression, family: str, strengths: Sequence[float], batches: Sequence[Array], rate: float
) -> Array:
    """A member by itself: the objective written down, and PyTorch's derivative of it."""
    x0 = torch.tensor(problem.x0)
    if family in ("weights", "proximal"):
        m, w = x0, torch.ones_like(x0)
    elif family == "spred":
        m, w = x0.abs().sqrt(), x0.sign() * x0.abs().sqrt()
    else:
        m = ((1 + (1 + 4 * x0**2).sqrt()) / 2).sqrt()
        w = x0 / m
    plain = family in ("weights", "proximal")
    for alpha, rows in zip(strengths, batches, strict=True):
        m, w = m.detach().requires_grad_(), w.detach().requires_grad_()
        z, y = torch.tensor(problem.Z[rows]), torch.tensor(problem.y[rows])
        f = ((z @ (m * w) - y) ** 2).sum() / (2 * len(rows))
        gm, gw = torch.autograd.grad(f + alpha * SMOOTH[family](m, w), (m, w))
        m, w = m - rate * gm, w if plain else w - rate * gw
        if family == "proximal":
            m = m.sign() * (m.abs() - rate * alpha).clamp(min=0)
    return (m * w).detach().numpy()


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_follows_the_path_it_would_follow_alone(family: str, batch_size: int | None) -> None:
    problems, n_steps, rate = [small(0), small(1)], 25, 0.03
    strengths = np.stack([schedule("constant", 0.05, n_steps), schedule("harmonic", 1.0, n_steps)])
    paths = descend(
        problems, strengths, families=["spred", family], step_size=rate, batch_size=batch_size, order_seeds=[3, 8]
    )  # fmt: skip
    for p, order_seed in enumerate([3, 8]):
        rng = np.random.default_rng([order_seed, 5])
        if batch_size is None:
            batches = [np.arange(12)] * n_steps
        else:
            batches = [rows for _ in range(9) for rows in rng.permutation(12).reshape(3, 4)][:n_steps]
        for r, alphas in enumerate(strengths):
            alone = one_alone(problems[p], family, alphas.tolist(), batches, rate)
            np.testing.assert_allclose(paths.x[-1, 1, p, r], alone, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(paths.x[0, 1, 1, 1], problems[1].x0, rtol=1e-14)


def test_small_steps_approach_the_mirror_flow_at_first_order() -> None:
    problem, time, alpha = small(2), 2.0, 0.1

    def flow(t: float, x: Array) -> Array:
        a = 0.5 * np.exp(-4 * alpha * t)
        return -2 * np.sqrt(x**2 + a**2) * problem.gradient(x) - 4 * alpha * x

    exact = solve_ivp(flow, (0, time), problem.x0, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    errors = []
    for n_steps in (1_000, 2_000):
        paths = descend(
            [problem],
            schedule("constant", alpha, n_steps)[None],
            families=["pilot"],
            step_size=time / n_steps,
            record=[n_steps],
        )
        errors.append(np.abs(paths.x[0, 0, 0, 0] - exact).max())
    assert errors[0] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.05)


def test_constant_strength_ends_at_the_lasso() -> None:
    problem, n_steps, alpha = small(3), 20_000, 0.05
    paths = descend(
        [problem],
        schedule("constant", alpha, n_steps)[None],
        families=["pilot", "proximal"],
        step_size=0.05,
        record=[n_steps],
    )
    for penalty, x in ((2 * alpha, paths.x[0, 0, 0, 0]), (alpha, paths.x[0, 1, 0, 0])):
        lasso = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000)
        np.testing.assert_allclose(x, lasso.fit(problem.Z, problem.y).coef_, atol=1e-6)


def test_only_the_proximal_step_reaches_zeros() -> None:
    n_steps = 3_000
    paths = descend(
        [small(4)], schedule("constant", 0.1, n_steps)[None], families=["weights", "proximal"], step_size=0.02
    )
    zeros = (paths.x[-1, :, 0, 0] == 0).sum(axis=-1)
    assert zeros[0] == 0
    assert zeros[1] >= 10
    np.testing.assert_allclose(paths.x[-1, 0], paths.x[-1, 1], atol=3 * 0.02 * 0.1)


def test_the_balanced_start_keeps_every_sign_and_the_unbalanced_one_does_not() -> None:
    problems = [sparse_regression(seed) for seed in range(3)]
    strengths = np.stack([schedule(name, 8.0, 1_500) for name in ("geometric", "harmonic", "quadratic")])
    paths = descend(problems, strengths, families=["spred", "pilot"], step_size=0.02)
    against = np.sign(paths.x) * np.sign(paths.x[0]) < 0
    assert not against[:, 0].any()
    assert against[-1, 1].any(axis=-1).all()


def test_without_a_penalty_families_that_share_a_start_coincide() -> None:
    families = ["pilot", "mask_l1", "mask_l2", "weights", "proximal"]
    paths = descend([small(5)], np.zeros((1, 200)), families=families, batch_size=3)
    np.testing.assert_allclose(paths.x[:, 1:3], paths.x[:, [0, 0]], atol=1e-13)
    np.testing.assert_array_equal(paths.x[:, 3], paths.x[:, 4])
    assert np.abs(paths.x[-1, 0] - paths.x[-1, 3]).max() > 1e-3


def test_strengths_may_differ_by_family_and_may_end_early() -> None:
    problem = small(6)
    each = np.array([[[0.2, 0.1]], [[0.4, 0.0]]])
    paths = descend([problem], each, families=["pilot", "weights"], n_steps=30)
    for f, family in enumerate(paths.families):
        alone = descend([problem], each[f], families=[family], n_steps=30)
        np.testing.assert_array_equal(paths.x[:, f], alone.x[:, 0])


def test_divergence_is_labelled_and_stays_with_its_member() -> None:
    problem = small(7)
    strengths = np.array([[0.01] * 400, [300.0] * 400])
    paths = descend([problem], strengths, families=["pilot", "weights"], record=[0, 2, 100, 400])
    assert paths.diverged[0, 0].tolist() == [-1, 100]
    assert np.isnan(paths.x[2:, 0, 0, 1]).all()
    assert np.isfinite(paths.x[:2, 0, 0, 1]).all()
    alone = descend([problem], strengths[:1], families=["pilot", "weights"], record=[0, 2, 100, 400])
    np.testing.assert_allclose(paths.x[:, :, :, :1], alone.x, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("before", [False, True])
def test_how_denormals_are_treated_is_as_before_afterwards(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        paths = descend([small(8)], np.full((1, 60), 49.9), families=["pilot"], record=[60])
        assert bool(torch.tensor(2e-308, dtype=torch.float64) / 4 == 0) == before
        assert np.isfinite(paths.x).all()
    finally:
        torch.set_flush_denormal(False)


def test_logarithmic_steps() -> None:
    steps = logarithmic_steps(1_000, per_decade=2, also=[500, 2_000])
    assert steps == [0, 1, 3, 10, 32, 100, 316, 500, 1000]
    assert logarithmic_steps(1) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ["pilott"]}, "did you mean 'pilot'"),
        ({"families": ["qqq"]}, "known: pilot, spred"),
        ({"strengths": [[-0.5, 1.0]]}, r"got -0\.5 at step 1"),
        ({"strengths": [0.5, 1.0]}, r"one row a member; got \(2,\)"),
        ({"strengths": np.ones((3, 1, 2))}, r"\(1, R, steps\).*got \(3, 1, 2\)"),
        ({"n_steps": 1}, "has 2 steps, but training has 1"),
        ({"beta": 0.0}, r"above 0, got 0\.0"),
        ({"step_size": -1.0}, r"got 1\.0 and -1\.0"),
        ({"batch_size": 5}, "divide the 12 samples, got 5"),
        ({"order_seeds": [1, 2]}, "1 in all; got 2"),
        ({"record": [0, 3]}, r"between 0 and 2, got \[0, 3\]"),
        ({"record": []}, r"got \[\]"),
        ({"problems": []}, r"one size, got \[\]"),
        ({"problems": [small(0), small(0, n=21)]}, r"\(12, 20\), \(12, 21\)"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {"problems": [small(0)], "strengths": [[0.1, 0.1]], "families": ["pilot"], **change}
    with pytest.raises(ValueError, match=message):
        descend(arguments.pop("problems"), arguments.pop("strengths"), **arguments)
