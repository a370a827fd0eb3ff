"""Networks, data and training of the chapter: its own small settings, and those of the authors' code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from repro.base import unknown
from repro.learn import Dataset, Ensemble, History, initialization, lenet5, load, perceptron, resnet18, train
from repro.learn.data import Size, Standardize
from repro.prune import Mask

__all__ = ["SETTINGS", "Setting", "Start", "kaiming_fan_out_", "setting", "start"]


@dataclass(frozen=True)
class Setting:
    r"""One data set with its network, and how the network is trained, watched and fine-tuned.

    Attributes:
        name: of the setting.
        dataset: a name that ``learn.load`` knows.
        build: the network, without arguments.
        images: whether the network takes images rather than rows of numbers.
        parts: shares or counts of the training, validation and test part.
        standardize: as in ``learn.load``; the authors' numbers where they gave some.
        pretrain_epochs: epochs with Adam before the weights that all else starts from, $\theta_0$.
        logging_epochs: epochs of plain SGD in which the steps are recorded.
        logging_rate: learning rate $\eta$ of that SGD.
        tune_epochs: epochs with Adam after pruning, at most.
        rate: of Adam, before and after pruning.
        batch_size: examples a step, in all phases.
    """

    name: str
    dataset: str
    build: Callable[[], nn.Module]
    images: bool = False
    parts: tuple[Size, Size, Size] = (None, 0.15, 0.25)
    standardize: Standardize = "feature"
    pretrain_epochs: int = 5
    logging_epochs: int = 5
    logging_rate: float = 1e-2
    tune_epochs: int = 20
    rate: float = 1e-3
    batch_size: int = 64

    def adam(self) -> Callable[..., torch.optim.Optimizer]:
        """Return the optimizer of the phases before and after pruning, as ``learn.train`` takes it."""
        return partial(torch.optim.Adam, lr=self.rate)


_DIGITS = Setting("digits", "digits", partial(perceptron, (64, 128, 64, 10)))
#: What the authors' code of September 2024 does, for LeNet; the paper's own settings are not known.
_AUTHORS = Setting(
    "lenet-fashion", "fashion_mnist", lenet5, images=True, parts=(None, 5000, None), standardize=(0.2860, 0.3530),
    pretrain_epochs=10, logging_epochs=10, logging_rate=1e-3, tune_epochs=200, rate=5e-4, batch_size=512,
)  # fmt: skip

SETTINGS: dict[str, Setting] = {
    each.name: each
    for each in (
        _DIGITS,
        replace(
            _DIGITS,
            name="mnist5k",
            dataset="mnist5k",
            build=partial(perceptron, (784, 100, 10)),
            standardize="global",
        ),
        _AUTHORS,
        replace(
            _AUTHORS,
            name="lenet-cifar10",
            dataset="cifar10",
            build=partial(lenet5, n_channels=3, image_size=32),
            standardize="channel",
        ),
        replace(
            _AUTHORS,
            name="resnet18-cifar10",
            dataset="cifar10",
            build=partial(resnet18, batch_norm=False),
            standardize="channel",
        ),
    )
}


def setting(name: str) -> Setting:
    """Return the setting of that name.

    Raises:
        ValueError: unknown; says which are known.
    """
    if name not in SETTINGS:
        raise ValueError(unknown("setting", name, SETTINGS))
    return SETTINGS[name]


def kaiming_fan_out_(network: nn.Module) -> nn.Module:
    r"""Draw weights $N(0, 2/\text{fan-out})$, biases 0, as the authors' code does; return the network."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


@dataclass(frozen=True)
class Start:
    r"""Networks at $\theta_0$, one a seed, each with a split of the data of its own.

    Attributes:
        setting: what they were made with.
        seeds: one a network.
        datasets: one a network.
        ensemble: the networks, pretrained; take a copy with ``copy`` before changing them.
        history: of the pretraining.
    """

    setting: Setting
    seeds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    ensemble: Ensemble
    history: History

    def copy(self, repeats: int = 1) -> Ensemble:
        """Return copies: all S networks, then all again, ``repeats`` times; their data are ``datasets * repeats``."""
        return Ensemble(list(self.ensemble) * repeats)

    def first(self, n: int) -> Start:
        """Return the first n of the networks, with their seeds and data.

        Raises:
            ValueError: n below 1 or above the number of networks.
        """
        if not 1 <= n <= len(self.seeds):
            raise ValueError(f"there are {len(self.seeds)} networks to choose from; got n={n!r}")
        members = Ensemble(list(self.ensemble)[:n])
        return Start(self.setting, self.seeds[:n], self.datasets[:n], members, self.history)

    def dense(self) -> Mask:
        """Return the mask ``(S, *shape)`` that keeps every prunable weight."""
        return Mask.stack([Mask.dense(member) for member in self.ensemble])


def start(
    chosen: Setting, seeds: Sequence[int], *, device: str = "auto", progress: bool | None = None
) -> Start:
    """Draw splits and weights from the seeds, and pretrain.

    Args:
        chosen: the setting.
        seeds: one a network, at least one.
        device: as in ``learn.train``.
        progress: as in ``learn.train``.

    Raises:
        ValueError: no seeds.
    """
    if not seeds:
        raise ValueError("at least one seed is needed, got none")
    n_train, n_validation, n_test = chosen.parts
    datasets = tuple(
        load(
            chosen.dataset,
            seed=seed,
            train=n_train,
            validation=n_validation,
            test=n_test,
            standardize=chosen.standardize,
            images=chosen.images,
        )
        for seed in seeds
    )
    members = []
    for seed in seeds:
        with initialization(seed):
            members.append(kaiming_fan_out_(chosen.build()))
    ensemble = Ensemble(members)
    history = train(
        ensemble,
        datasets,
        optimizer=chosen.adam(),
        n_epochs=chosen.pretrain_epochs,
        batch_size=chosen.batch_size,
        seed=list(seeds),
        device=device,
        progress=progress,
    )
    return Start(chosen, tuple(seeds), datasets, ensemble, history)
