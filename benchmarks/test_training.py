"""Ensembles against sequential training, and the loop against plain PyTorch, side by side in one run.

All ways to train see the same batches from the same initial weights and must end at the same losses: a way
that is fast because it computes something else fails here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.func import functional_call, vmap
from torch.utils.data import DataLoader, Sampler, TensorDataset

from repro.learn import (
    Dataset,
    Ensemble,
    initialization,
    lenet5,
    load,
    perceptron,
    reproducible,
    streams,
    train,
)

SIZES = (64, 128, 64, 10)
BATCH = 64
N_EPOCHS = 10
OPTIMIZER = partial(torch.optim.SGD, lr=0.05, momentum=0.9)

Networks = list[nn.Sequential]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    reproducible(1)
    return load("digits")


def build(n: int) -> Networks:
    networks = []
    for seed in range(n):
        with initialization(seed):
            networks.append(perceptron(SIZES))
    return networks


def loss_before_and_after(network: nn.Module, dataset: Dataset, run: Callable[[], None]) -> float:
    """What ``train`` does around its steps: evaluate all parts at the start and at the end."""
    for moment in ("before", "after"):
        network.eval()
        with torch.no_grad():
            losses = [F.cross_entropy(network(x), y).item() for _, x, y in dataset.parts()]
        network.train()
        if moment == "before":
            run()
    return losses[0]


def by_ensemble(networks: Networks, dataset: Dataset) -> list[float]:
    history = train(
        Ensemble(networks),
        dataset,
        optimizer=OPTIMIZER,
        n_epochs=N_EPOCHS,
        batch_size=BATCH,
        seed=range(len(networks)),
        evaluate_every=N_EPOCHS,
        device="cpu",
    )
    return history.last("train_loss").tolist()


def by_our_loop(networks: Networks, dataset: Dataset) -> list[float]:
    return [
        train(
            network,
            dataset,
            optimizer=OPTIMIZER,
            n_epochs=N_EPOCHS,
            batch_size=BATCH,
            seed=seed,
            evaluate_every=N_EPOCHS,
            device="cpu",
        ).last("train_loss")[0]
        for seed, network in enumerate(networks)
    ]


def by_plain_tensors(networks: Networks, dataset: Dataset) -> list[float]:
    def run(network: nn.Module, seed: int) -> None:
        optimizer = OPTIMIZER(network.parameters())
        generator = streams(seed).shuffle
        for _ in range(N_EPOCHS):
            for index in torch.randperm(len(dataset.y_train), generator=generator).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(network(dataset.x_train[index]), dataset.y_train[index]).backward()
                optimizer.step()

    return [
        loss_before_and_after(network, dataset, partial(run, network, seed))
        for seed, network in enumerate(networks)
    ]


class SeededOrder(Sampler[int]):
    """The order of ``streams(seed).shuffle``; PyTorch's sampler draws once more at the end of an epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.generator = n, streams(seed).shuffle

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.n, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.n


def by_dataloader(networks: Networks, dataset: Dataset) -> list[float]:
    examples = TensorDataset(dataset.x_train, dataset.y_train)

    def run(network: nn.Module, seed: int) -> None:
        optimizer = OPTIMIZER(network.parameters())
        loader = DataLoader(examples, batch_size=BATCH, sampler=SeededOrder(len(examples), seed))
        for _ in range(N_EPOCHS):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(network(x), y).backward()
                optimizer.step()

    return [
        loss_before_and_after(network, dataset, partial(run, network, seed))
        for seed, network in enumerate(networks)
    ]


WAYS: dict[str, Callable[[Networks, Dataset], list[float]]] = {
    "repro, ensemble": by_ensemble,
    "repro, one after the other": by_our_loop,
    "plain PyTorch, tensors": by_plain_tensors,
    "plain PyTorch, DataLoader": by_dataloader,
}


def measure(benchmark: BenchmarkFixture, way: str, n: int, dataset: Dataset, rounds: int) -> None:
    losses = benchmark.pedantic(
        WAYS[way], setup=lambda: ((build(n), dataset), {}), rounds=rounds, warmup_rounds=1
    )
    expected = by_plain_tensors(build(n), dataset)
    assert losses == pytest.approx(expected, rel=1e-3)


@pytest.mark.benchmark(group=f"ten perceptrons {'-'.join(map(str, SIZES))}, batch {BATCH}, {N_EPOCHS} epochs")
@pytest.mark.parametrize("way", WAYS)
def test_ten_networks(benchmark: BenchmarkFixture, digits: Dataset, way: str) -> None:
    measure(benchmark, way, 10, digits, rounds=5)


@pytest.mark.benchmark(group=f"one perceptron {'-'.join(map(str, SIZES))}, batch {BATCH}, {N_EPOCHS} epochs")
@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_one_network(benchmark: BenchmarkFixture, digits: Dataset, way: str) -> None:
    measure(benchmark, way, 1, digits, rounds=9)


class Opaque(nn.Module):
    """Hides a perceptron's chain of layers, so that an ensemble of it runs through ``torch.func``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


@pytest.mark.benchmark(group="forward and backward, full batch")
@pytest.mark.parametrize("path", ["batched matrix products", "torch.func"])
@pytest.mark.parametrize("n", [1, 8, 24])
@pytest.mark.parametrize(
    ("sizes", "dtype", "n_examples"),
    [((2, 8, 1), torch.float64, 60), ((64, 128, 10), torch.float32, 200)],
    ids=["2-8-1 float64, 60 examples", "64-128-10 float32, 200 examples"],
)
def test_step(
    benchmark: BenchmarkFixture,
    sizes: tuple[int, ...],
    dtype: torch.dtype,
    n_examples: int,
    n: int,
    path: str,
) -> None:
    reproducible(1)
    members: list[nn.Module] = [perceptron(sizes).to(dtype) for _ in range(n)]
    ensemble = Ensemble([Opaque(m) for m in members] if path == "torch.func" else members)
    assert path in repr(ensemble)
    x = torch.randn(n_examples, sizes[0], dtype=dtype)

    def step() -> None:
        ensemble(x).square().sum().backward()
        for tensor in ensemble.parameters.values():
            tensor.grad = None

    benchmark(step)


@pytest.mark.benchmark(group="forward and backward of nine LeNet-5, 128 images each")
@pytest.mark.parametrize("way", ["ensemble", "torch.func", "plain PyTorch"])
def test_convolutions(benchmark: BenchmarkFixture, way: str) -> None:
    reproducible(1)
    members = [lenet5() for _ in range(9)]
    ensemble = Ensemble(members)
    apart = torch.randn(9, 128, 1, 28, 28)

    def one(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(members[0], parameters, (x,))

    ways = {
        "ensemble": (lambda: ensemble(apart, per_member=True), ensemble.parameters.values()),
        "torch.func": (lambda: vmap(one)(ensemble.parameters, apart), ensemble.parameters.values()),
        "plain PyTorch": (
            lambda: torch.stack([m(x) for m, x in zip(members, apart, strict=True)]),
            [p for member in members for p in member.parameters()],
        ),
    }
    outputs, trained = ways[way]
    torch.testing.assert_close(outputs(), ways["plain PyTorch"][0](), atol=1e-4, rtol=1e-4)

    def step() -> None:
        outputs().square().sum().backward()
        for tensor in trained:
            tensor.grad = None

    benchmark(step)
