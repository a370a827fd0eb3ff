"""Largest Hessian eigenvalues of many networks: together, one by one, and by SciPy's eigsh, which must agree.

Processor time of one thread. The networks are trained perceptrons on scikit-learn's digits and Iris, each on its own
split. Where arithmetic fills a processor already, together is not faster: all wait for the slowest, in more memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.func import grad, jvp
from torch.nn.functional import cross_entropy

from repro.learn import Ensemble, initialization, load, perceptron, train
from repro.learn.training import cross_entropy as loss
from repro.papers.granger_causal_sgd.curvature import _Hessian, largest_eigenvalues

NETWORKS = {
    "17,226 parameters": ("digits", (64, 128, 64, 10)),
    "650 parameters": ("digits", (64, 10)),
    "67 parameters": ("iris", (4, 8, 3)),
}
N = 24
Data = tuple[Ensemble, Tensor, Tensor]


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> Data:
    torch.set_num_threads(1)
    name, widths = NETWORKS[request.param]
    datasets = [load(name, seed=seed, validation=0.15, test=0.25) for seed in range(N)]
    members = []
    for seed in range(N):
        with initialization(seed):
            members.append(perceptron(widths))
    ensemble = Ensemble(members)
    adam = partial(torch.optim.Adam, lr=1e-3)
    seeds = list(range(N))
    train(ensemble, datasets, optimizer=adam, n_epochs=5, batch_size=64, seed=seeds)
    return ensemble, torch.stack([d.x_train for d in datasets]), torch.stack([d.y_train for d in datasets])


def everything(ensemble: Ensemble) -> dict[str, Tensor]:
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in ensemble.parameters.items()}


def together(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    return largest_eigenvalues(ensemble, x, y, everything(ensemble))


def single(ensemble: Ensemble, x: Tensor, y: Tensor) -> Iterator[Data]:
    return ((Ensemble([m]), x[i : i + 1], y[i : i + 1]) for i, m in enumerate(ensemble))


def one_by_one(*data: *Data) -> Tensor:
    return torch.cat([together(*each) for each in single(*data)])


def by_scipy(*data: *Data) -> Tensor:
    found = []
    for each in single(*data):
        hessian = _Hessian(*each, everything(each[0]), loss)

        def product(v: np.ndarray, hessian: _Hessian = hessian) -> np.ndarray:
            return hessian(torch.from_numpy(v.reshape(1, -1)))[0].numpy()

        n = hessian.kept.shape[1]
        operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n)
        found.append(eigsh(operator, 1, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)[0])
    return torch.tensor(found)


WAYS: dict[str, Callable[..., Tensor]] = {
    "together": together,
    "one by one": one_by_one,
    "scipy, one by one": by_scipy,
}


@pytest.mark.parametrize("way", WAYS)
def test_largest_eigenvalues(benchmark: BenchmarkFixture, trained: Data, way: str) -> None:
    benchmark.group = f"{sum(p[0].numel() for p in trained[0].parameters.values())} parameters"
    found = benchmark.pedantic(WAYS[way], args=trained, rounds=2)
    torch.testing.assert_close(found, by_scipy(*trained), rtol=1e-3, atol=0)


def forward_over_reverse(data: Data, v: Tensor) -> Tensor:
    """The same product by ``torch.func``: the derivative of the gradient along v."""
    ensemble, x, y = data
    points = {name: p.detach().double() for name, p in ensemble.parameters.items()}
    parts = v.split([p[0].numel() for p in points.values()], dim=1)
    along = {name: part.view_as(p) for (name, p), part in zip(points.items(), parts, strict=True)}

    def total(parameters: dict[str, Tensor]) -> Tensor:
        outputs = ensemble(x.double(), per_member=True, parameters=parameters)
        return cross_entropy(outputs.flatten(0, 1), y.flatten()) * N

    products = jvp(grad(total), (points,), (along,))[1]
    return torch.cat([products[name].flatten(1) for name in points], dim=1)


@pytest.mark.parametrize("way", ["double backward", "forward over reverse"])
def test_products(benchmark: BenchmarkFixture, trained: Data, way: str) -> None:
    hessian = _Hessian(*trained, everything(trained[0]), loss)
    v = torch.randn(hessian.kept.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = partial(hessian, v)
    benchmark.group = f"product, {v.shape[1]}"
    run = ours if way == "double backward" else partial(forward_over_reverse, trained, v)
    found = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    torch.testing.assert_close(found, ours(), rtol=1e-10, atol=1e-12)
