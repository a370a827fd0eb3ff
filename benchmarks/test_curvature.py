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
from repro.papers.granger_causal_sgd.curvature import Hessian

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


def together(data: Data, n: int) -> Tensor:
    ensemble, x, y = data
    return Hessian(ensemble, x, y).eigenvalues(n)[0]


def one_by_one(data: Data, n: int) -> Tensor:
    return torch.cat([hessian.eigenvalues(n)[0] for hessian in single(data)])


def single(data: Data) -> Iterator[Hessian]:
    ensemble, x, y = data
    for i, member in enumerate(ensemble):
        yield Hessian(Ensemble([member]), x[i : i + 1], y[i : i + 1])


def by_scipy(data: Data, n: int) -> Tensor:
    found = []
    for hessian in single(data):

        def product(v: np.ndarray, hessian: Hessian = hessian) -> np.ndarray:
            return hessian.matvec(torch.from_numpy(v.reshape(1, -1)))[0].numpy()

        operator = LinearOperator((hessian.n, hessian.n), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(hessian.n)
        values = eigsh(operator, n, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
        found.append(torch.from_numpy(np.sort(values)[::-1].copy()))
    return torch.stack(found)


WAYS: dict[str, Callable[[Data, int], Tensor]] = {
    "together": together,
    "one by one": one_by_one,
    "scipy, one by one": by_scipy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [1, 20])
def test_largest_eigenvalues(benchmark: BenchmarkFixture, trained: Data, n: int, way: str) -> None:
    benchmark.group = f"{n} of {sum(p[0].numel() for p in trained[0].parameters.values())}"
    found = benchmark.pedantic(WAYS[way], args=(trained, n), rounds=2)
    reference, _ = Hessian(*trained).eigenvalues(n, tolerance=1e-6)
    assert ((found - reference).abs() <= 1e-3 * reference[:, :1]).all()


def forward_over_reverse(data: Data, v: Tensor) -> Tensor:
    """The same product by ``torch.func``: the derivative of the gradient along v."""
    ensemble, x, y = data
    points = {name: p.detach().double() for name, p in ensemble.parameters.items()}
    parts = v.split([p[0].numel() for p in points.values()], dim=1)
    along = {name: part.view_as(p) for (name, p), part in zip(points.items(), parts, strict=True)}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        outputs = ensemble(x.double(), per_member=True, parameters=parameters)
        return cross_entropy(outputs.flatten(0, 1), y.flatten()) * N

    products = jvp(grad(loss), (points,), (along,))[1]
    return torch.cat([products[name].flatten(1) for name in points], dim=1)


@pytest.mark.parametrize("way", ["double backward", "forward over reverse"])
def test_products(benchmark: BenchmarkFixture, trained: Data, way: str) -> None:
    hessian = Hessian(*trained)
    v = torch.randn(N, hessian.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = partial(hessian.matvec, v)
    benchmark.group = f"product, {hessian.n}"
    run = ours if way == "double backward" else partial(forward_over_reverse, trained, v)
    found = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    torch.testing.assert_close(found, ours(), rtol=1e-10, atol=1e-12)
