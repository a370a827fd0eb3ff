"""Data, networks and step rules of the image experiments, and the starts of the two-weight race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from repro.learn import Ensemble, kaiming_normal_, load, perceptron, stacked, vgg16_bias_free

_SIMPLE_TRAJ_STARTS = ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0), (5.0, 1.0), (1.0, 5.0))
"""Starts of the Simple-Traj experiment, $(w_1, w_2)$."""


@dataclass(frozen=True)
class _ImageSetting:
    """Everything that one image experiment depends on besides method, seed and depth.

    Attributes:
        dataset: name for ``repro.learn.data.load``.
        data: further arguments of ``load``.
        split_by_seed: whether each seed has a split of its own into training and test images.
        n_hidden: neurons of the one hidden layer; None for the VGG-16 of CIFAR-10.
        batch_size: None for full batch.
        grow, shrink: of the step rule, see ``training._descend``.
        max_steps: steps, or epochs with mini-batches.
        levels: percentages of units to remove.
        every_score: whether units are removed by every score, or by length and at random alone.
    """

    dataset: str
    data: dict[str, Any]
    split_by_seed: bool
    n_hidden: int | None
    batch_size: int | None = None
    grow: float = 1.02
    shrink: float = 1.2
    max_steps: int = 60_000
    levels: Sequence[float] = range(0, 100, 5)
    every_score: bool = False

    def load(self, seeds: Sequence[int]) -> tuple[list[Tensor], int]:
        """Training and test images and classes, with a first dimension where seeds have their own; how many classes."""
        of_splits = seeds if self.split_by_seed else seeds[:1]
        sets = [load(self.dataset, seed=seed, **self.data) for seed in of_splits]
        parts = [part for name in ("train", "test") for part in stacked(sets, name)]
        return [part if self.split_by_seed else part[0] for part in parts], sets[0].n_classes

    def networks(self, seeds: Sequence[int], x: Tensor, n_classes: int) -> Ensemble:
        """Freshly drawn ones for these images; the authors' for MNIST have hidden biases of 0, no output bias."""
        if self.n_hidden is None:
            return Ensemble.drawn(vgg16_bias_free, seeds)
        sizes = (x.shape[-1], self.n_hidden, n_classes)
        return Ensemble.drawn(lambda: kaiming_normal_(perceptron(sizes, bias=(True, False))), seeds)


_SMALL = {"validation": 0, "standardize": "global"}
_DIGITS = _ImageSetting("digits", {"train": 200, **_SMALL}, split_by_seed=True, n_hidden=128)
_MNIST = _ImageSetting(
    "mnist", {"validation": 0, "standardize": (0.1307, 0.3081)}, split_by_seed=False, n_hidden=1024,
    batch_size=128, grow=1.1, shrink=1.1, max_steps=15_000, every_score=True,
)  # fmt: skip
_CIFAR10 = {"validation": 0, "standardize": (0.5, 0.5), "images": True}

_IMAGES: dict[str, _ImageSetting] = {
    "digits": replace(_DIGITS, levels=(0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95), every_score=True),
    "digits-sgd": replace(_DIGITS, batch_size=20),
    "mnist5k": replace(_DIGITS, dataset="mnist5k", data={"train": 500, "pool": 2, **_SMALL}),
    "mnist": _MNIST,
    "cifar10": replace(_MNIST, dataset="cifar10", data=_CIFAR10, n_hidden=None, levels=range(0, 55, 5)),
}
"""Small versions (digits, mnist5k: chosen here) and the paper's (mnist, cifar10: after the authors' code)."""
