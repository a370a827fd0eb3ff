"""The image experiments' data, networks and step rules: small ones, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from repro.base import unknown
from repro.learn.networks import kaiming_normal_, perceptron, vgg16_bias_free

__all__ = ["SETTINGS", "ImageSetting", "image_setting", "one_hidden_layer"]


def one_hidden_layer(n_inputs: int, n_hidden: int, n_classes: int) -> nn.Module:
    """The authors' MNIST network: hidden ReLUs with bias 0, a bias-free output, Kaiming-normal weights."""
    return kaiming_normal_(perceptron((n_inputs, n_hidden, n_classes), bias=(True, False)))


@dataclass(frozen=True)
class ImageSetting:
    """Everything that one image experiment depends on besides method and seed.

    Attributes:
        dataset: name for ``repro.learn.data.load``.
        data: further arguments of ``load``.
        split_by_seed: whether each seed has a split of its own into training and test images.
        n_hidden: neurons of the one hidden layer; None for the VGG-16 of CIFAR-10.
        batch_size: None for full batch.
        grow, shrink, window: of the step rule, see ``descend``.
        max_steps: steps, or epochs with mini-batches.
        levels: percentages of units to remove.
        scores: names from ``pruning.SCORES``.
        chunk: images at once where no gradient is needed.
    """

    dataset: str
    data: dict[str, Any]
    split_by_seed: bool
    n_hidden: int | None
    batch_size: int | None = None
    grow: float = 1.02
    shrink: float = 1.2
    window: int = 1
    max_steps: int = 60_000
    levels: tuple[float, ...] = tuple(float(p) for p in range(0, 100, 5))
    scores: tuple[str, ...] = ("length", "random")
    chunk: int = 10_000

    def network(self, n_inputs: int, n_classes: int) -> nn.Module:
        """A freshly drawn network."""
        if self.n_hidden is None:
            return vgg16_bias_free(n_inputs, n_classes)
        return one_hidden_layer(n_inputs, self.n_hidden, n_classes)


_AUTHORS = {"batch_size": 128, "grow": 1.1, "shrink": 1.1, "max_steps": 15_000}
_ALL_SCORES = ("length", "since start", "since checkpoints", "with outgoing", "random")

SETTINGS: dict[str, ImageSetting] = {
    "digits": ImageSetting(
        "digits", {"train": 200, "validation": 0, "standardize": "global"}, split_by_seed=True, n_hidden=128
    ),
    "mnist5k": ImageSetting(
        "mnist5k",
        {"train": 500, "validation": 0, "standardize": "global", "pool": 2},
        split_by_seed=True,
        n_hidden=128,
    ),
    "mnist": ImageSetting(
        "mnist",
        {"validation": 0, "standardize": (0.1307, 0.3081)},
        split_by_seed=False,
        n_hidden=1024,
        scores=_ALL_SCORES,
        **_AUTHORS,  # type: ignore[arg-type]
    ),
    "cifar10": ImageSetting(
        "cifar10",
        {"validation": 0, "standardize": (0.5, 0.5), "images": True},
        split_by_seed=False,
        n_hidden=None,
        scores=_ALL_SCORES,
        levels=tuple(float(p) for p in range(0, 55, 5)),
        chunk=1_000,
        **_AUTHORS,  # type: ignore[arg-type]
    ),
}
"""Small versions (digits, mnist5k: chosen here) and the paper's (mnist, cifar10: after the authors' code)."""


def image_setting(dataset: str | ImageSetting, changes: dict[str, Any]) -> ImageSetting:
    """A setting by its name (or itself) with some fields changed; ValueError for an unknown name or field."""
    if isinstance(dataset, str):
        if dataset not in SETTINGS:
            raise ValueError(unknown("image set", dataset, SETTINGS))
        dataset = SETTINGS[dataset]
    fields = ImageSetting.__dataclass_fields__
    for name in changes:
        if name not in fields:
            raise ValueError(unknown("setting", name, fields))
    return replace(dataset, **changes)
