"""The chapter's data, network and training, and the networks at the weights that all its runs start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from repro.learn import Dataset, Ensemble, History, kaiming_normal_, lenet5, load, perceptron, train


@dataclass(frozen=True)
class Setting:
    r"""One data set with its network, and how the network is trained, watched and fine-tuned.

    Attributes:
        dataset: a name that ``learn.load`` knows.
        build: the network, without arguments.
        data: further arguments of ``learn.load``; the authors' numbers where they gave some.
        pretrain_epochs: epochs with Adam before the weights that all else starts from, $\theta_0$.
        logging_epochs: epochs of plain SGD in which the steps are recorded.
        logging_rate: learning rate $\eta$ of that SGD.
        tune_epochs: epochs with Adam after pruning, at most.
        rate: of Adam, before and after pruning.
        batch_size: examples a step, in all phases.
    """

    dataset: str
    build: Callable[[], nn.Module]
    data: Mapping[str, Any] = field(default_factory=lambda: {"validation": 0.15, "test": 0.25})
    pretrain_epochs: int = 5
    logging_epochs: int = 5
    logging_rate: float = 1e-2
    tune_epochs: int = 20
    rate: float = 1e-3
    batch_size: int = 64

    def sgd(self) -> dict[str, Any]:
        """Return rate, epochs and batch size of the logged steps, as ``training.log`` takes them."""
        how = {"learning_rate": self.logging_rate, "n_epochs": self.logging_epochs}
        return how | {"batch_size": self.batch_size}

    @classmethod
    def lenet(cls, n_images: int, n_epochs: int) -> Setting:
        """LeNet on Fashion-MNIST as the authors' code of September 2024 has it: rates, batches, standardization.

        Args:
            n_images: for training; the authors take 60,000.
            n_epochs: before pruning and of logging, the authors take 10; after pruning twice as many, they at most 200.
        """
        data = {"images": True, "train": n_images, "validation": 1000, "standardize": (0.2860, 0.3530)}
        epochs = {"pretrain_epochs": n_epochs, "logging_epochs": n_epochs, "tune_epochs": 2 * n_epochs}
        return cls("fashion_mnist", lenet5, data, **epochs, logging_rate=1e-3, rate=5e-4, batch_size=512)


_DIGITS = Setting("digits", partial(perceptron, (64, 128, 64, 10)))


@dataclass(frozen=True)
class Start:
    r"""Networks at $\theta_0$, one a seed, each with a split of the data of its own.

    Attributes:
        setting: what they were made with.
        seeds: one a network.
        datasets: one a network.
        ensemble: the networks, pretrained; nobody changes them.
    """

    setting: Setting
    seeds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    ensemble: Ensemble

    @classmethod
    def draw(cls, seeds: Sequence[int], chosen: Setting = _DIGITS, *, short: bool = False) -> Start:
        """Draw a split and weights from each seed, and pretrain; ``short`` for two epochs of everything at most."""
        if short:
            chosen = replace(chosen, pretrain_epochs=2, logging_epochs=2, tune_epochs=2)
        datasets = tuple(load(chosen.dataset, seed=seed, **chosen.data) for seed in seeds)
        # as the authors' code does
        networks = Ensemble.drawn(lambda: kaiming_normal_(chosen.build(), mode="fan_out"), seeds)
        start = cls(chosen, tuple(seeds), datasets, networks)
        start.train(start.ensemble, chosen.pretrain_epochs)
        return start

    def train(self, networks: nn.Module | Ensemble, n_epochs: int, **hooks: Any) -> History:
        """Train with Adam, before or after pruning, as ``learn.train`` does; measured after the last epoch."""
        how: dict[str, Any] = {"batch_size": self.setting.batch_size, "evaluate_every": n_epochs}
        adam = partial(torch.optim.Adam, lr=self.setting.rate)
        seeds = list(self.seeds)
        return train(networks, self.datasets, optimizer=adam, n_epochs=n_epochs, seed=seeds, **how, **hooks)

    def first(self, n: int) -> Start:
        """Return the first n of the networks, with their seeds and data."""
        return Start(self.setting, self.seeds[:n], self.datasets[:n], Ensemble(list(self.ensemble)[:n]))

    def times(self, n: int) -> Start:
        """Return all S networks, then all again, n times, with their seeds and data."""
        return Start(self.setting, self.seeds * n, self.datasets * n, Ensemble(list(self.ensemble) * n))
