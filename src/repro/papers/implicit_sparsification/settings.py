"""Networks and data of the chapter's pruning experiments: its own small settings, and the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from repro.base import unknown
from repro.learn import Dataset, initialization, lenet_300_100, load, perceptron, resnet18, resnet20
from repro.learn.data import Size, Standardize
from repro.learn.networks import kaiming_normal_

__all__ = ["SETTINGS", "Setting", "data_sets", "initial_networks", "setting"]


@dataclass(frozen=True)
class Setting:
    r"""One data set with its network, and how it is trained; the same for all methods.

    Attributes:
        name: of the setting.
        dataset: a name that ``learn.load`` knows.
        build: the network, without arguments.
        images: whether the network takes images rather than rows of numbers.
        parts: shares or counts of the training, validation and test part.
        standardize: as in ``learn.load``.
        n_epochs: of training, under a cosine schedule.
        batch_size: examples a step.
        rate: learning rate of plain networks at the start.
        factor_rate: learning rate of $m\odot w$; the paper takes twice the plain one.
        momentum: of SGD.
        weight_decay: PyTorch's, on everything that is not a factor (biases, normalization, plain weights).
        augmented: whether training images are cropped and mirrored at random.
    """

    name: str
    dataset: str
    build: Callable[[], nn.Module]
    images: bool = False
    parts: tuple[Size, Size, Size] = (None, 5000, None)
    standardize: Standardize = "global"
    n_epochs: int = 150
    batch_size: int = 256
    rate: float = 0.1
    factor_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 1e-4
    augmented: bool = False


_DIGITS = Setting(
    "digits", "digits", partial(perceptron, (64, 128, 64, 10)), parts=(None, 200, 500), standardize="feature",
    n_epochs=60, batch_size=128,
)  # fmt: skip
_CIFAR = Setting(
    "resnet20-cifar10", "cifar10", resnet20, images=True, standardize="channel", augmented=True
)  # fmt: skip

SETTINGS: dict[str, Setting] = {
    each.name: each
    for each in (
        _DIGITS,
        replace(
            _DIGITS,
            name="mnist5k",
            dataset="mnist5k",
            build=partial(perceptron, (784, 300, 100, 10)),
            parts=(None, 500, 1000),
            standardize="global",
            n_epochs=15,
        ),
        Setting("lenet-mnist", "mnist", lenet_300_100, n_epochs=60),
        Setting("lenet-fashion", "fashion_mnist", lenet_300_100, n_epochs=60),
        _CIFAR,
        replace(_CIFAR, name="resnet18-cifar10", build=resnet18),
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


def data_sets(chosen: Setting, seeds: Sequence[int]) -> list[Dataset]:
    """Return one data set a seed, each with a split of its own.

    Raises:
        ValueError: no seeds, or a seed that stands twice.
    """
    if not len(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least one number and all different; got {list(seeds)}")
    n_train, n_validation, n_test = chosen.parts
    return [
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
    ]


def initial_networks(chosen: Setting, seeds: Sequence[int]) -> list[nn.Module]:
    """Return one plain network a seed, weights Kaiming-normal: where all methods start."""
    networks = []
    for seed in seeds:
        with initialization(seed):
            networks.append(kaiming_normal_(chosen.build()))
    return networks
