"""One example a step: many small networks as one stack, one after the other, and by automatic differentiation.

Networks 4-6-3 on 90 standardised Iris examples, two epochs, plain gradient descent, float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.datasets import load_iris
from torch import nn

from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons

N_EPOCHS = 2
HOW = {"learning_rate": 0.05, "n_epochs": N_EPOCHS}
X, Y = load_iris(return_X_y=True)
ROWS = np.random.default_rng(0).permutation(150)[:90]
TRAIN = _Examples.of(((X - X.mean(0)) / X.std(0))[ROWS], Y[ROWS], 3)


def by_autograd(networks: _Perceptrons) -> torch.Tensor:
    """Train the first network as a module, with ``torch.optim``."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3), nn.Sigmoid()).double()
    for layer, w, b in zip(model[::2], networks.weights, networks.biases, strict=True):
        layer.weight.data.copy_(w[0])
        layer.bias.data.copy_(b[0, :, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(N_EPOCHS):
        for i in range(90):
            optimizer.zero_grad()
            (model(TRAIN.x[0, i]) - TRAIN.targets[0, :, i]).square().mean().backward()
            optimizer.step()
    return torch.cat([layer.weight.detach().flatten() for layer in model[::2]])


def stacked(networks: _Perceptrons) -> torch.Tensor:
    trained = networks.pick(range(len(networks)))
    trained.descend(TRAIN, **HOW)
    return trained.flat()[0]


@pytest.mark.benchmark(group="180 steps of 4-6-3, one example each")
@pytest.mark.parametrize("way", ["autograd, 1", "stack, 1", "stack, 10", "stack, 100", "stack, 1000"])
def test_perceptrons(benchmark: BenchmarkFixture, way: str) -> None:
    torch.set_num_threads(1)
    networks = _Perceptrons.drawn((4, 6, 3), range(int(way.split()[1])))
    found = benchmark.pedantic(by_autograd if "autograd" in way else stacked, args=(networks,), rounds=7)
    torch.testing.assert_close(found, by_autograd(networks), rtol=0, atol=1e-12)
