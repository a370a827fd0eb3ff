"""Dense training under observation: the exponents and errors from which masks are chosen, and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.decisions import Decision, granger_tests, judge
from repro.papers.chaos_causality_pruning.descent import descend
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons
from repro.papers.chaos_causality_pruning.settings import Parts, Setting
from repro.papers.chaos_causality_pruning.windows import (
    Exponents,
    WindowRecorder,
    Windows,
)
from repro.series.granger import GrangerResult

__all__ = ["NUDGE", "ROLES", "Observed", "observe"]

ROLES = ("own", "stranger", "nudged")
NUDGE = 1e-4
"""Size of the nudge to initial weights, relative to each weight's own."""
HONEST_WINDOW = 50


@dataclass(frozen=True)
class Observed:
    """S splits of one data set; on each, three dense networks trained side by side on the same examples.

    The network itself, a *stranger* with other initial weights, and a *nudged* copy whose initial weights differ
    by one part in ten thousand.

    Attributes:
        setting: network and training.
        parts: the data.
        seeds: one a split.
        initial: initial weights of all 3 S networks, three a split in the order of ``ROLES``.
        trained: the same after training.
        exponents: what recorders saw, by variant ``"ft"``, ``"pt"`` and ``"honest"`` (short windows without
            overlap over the whole training).
        tested: which weights are tested, ``(P,)``.
    """

    setting: Setting
    parts: Parts
    seeds: tuple[int, ...]
    initial: Perceptrons
    trained: Perceptrons
    exponents: dict[str, Exponents]
    tested: NDArray[np.bool_]

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants of the paper that were observed."""
        return tuple(v for v in ("ft", "pt") if v in self.exponents)

    def networks(self, role: str, *, trained: bool = False) -> Perceptrons:
        """Copy the S networks of one role, before or after training."""
        index = np.arange(len(self.seeds)) * len(ROLES) + ROLES.index(role)
        return (self.trained if trained else self.initial).pick(index)

    def series(self, variant: str, role: str = "own") -> NDArray[np.float64]:
        """Return exponents ``(S, P_tested, T)``."""
        found = self.exponents[variant].exponents
        return found[ROLES.index(role) :: found.shape[0] // len(self.seeds)]

    def errors(self, variant: str, part: str = "validation", role: str = "own") -> NDArray[np.float64]:
        """Return the share of wrong answers at the end of each window, ``(S, T)``."""
        found = self.exponents[variant].errors[part]
        return found[ROLES.index(role) :: found.shape[0] // len(self.seeds)]

    def tests(
        self,
        variant: str,
        *,
        role: str = "own",
        part: str = "validation",
        exponents: NDArray[np.float64] | None = None,
    ) -> list[GrangerResult]:
        """Test each of the S networks' weights.

        Args:
            variant: ``"ft"``, ``"pt"``, or ``"honest"`` for the short windows, where both series are differenced.
            role: of which network.
            part: whose errors are the effect.
            exponents: in place of the network's own, ``(S, P_tested, T)``.
        """
        series = self.series(variant, role) if exponents is None else exponents
        errors = self.errors(variant, part, role)
        one = partial(granger_tests, max_lag=self.setting.max_lag, difference=int(variant == "honest"))
        return [one(y, x) for y, x in zip(errors, series, strict=True)]

    def decisions(
        self,
        variant: str,
        *,
        role: str = "own",
        part: str = "validation",
        exponents: NDArray[np.float64] | None = None,
    ) -> list[Decision]:
        """Apply the paper's rule to each of the S networks; the arguments are those of ``tests``."""
        return [judge(tests) for tests in self.tests(variant, role=role, part=part, exponents=exponents)]


def observe(setting: Setting, seeds: Sequence[int], *, epochs: int | None = None) -> Observed:
    """Train dense networks from new initial weights on new splits, and record windows of all variants.

    Args:
        setting: network, data and training.
        seeds: one a split, at least one.
        epochs: passes, None for the setting's.

    Raises:
        ValueError: no seeds, or too few epochs for one window.
    """
    if not len(seeds):
        raise ValueError("give at least one seed")
    parts = setting.load(seeds)
    own = setting.initial(parts, seeds)
    # far from any seed in use, so that no stranger is a network of another split
    strangers = setting.initial(parts, [2**31 + seed for seed in seeds])
    initial = _interleaved(own, strangers, _nudged(own, seeds))
    # parameters flat order: the first layer's weights come first
    tested = own.layer_of > 0 if setting.upper_layers_only else np.ones(len(own.layer_of), bool)
    weights = slice(int(np.argmax(tested)), None)
    errors_on = {"validation": parts.validation, "test": parts.test}

    def recorder(windows: Windows, last_update: int | None, roles: int) -> WindowRecorder:
        return WindowRecorder(
            windows,
            errors_on,
            networks=np.flatnonzero(np.arange(len(initial)) % len(ROLES) < roles),
            weights=weights,
            last_update=last_update,
        )

    updates_an_epoch = -(-len(parts.train) // setting.batch_size)
    early = None if setting.early_epochs is None else setting.early_epochs * updates_an_epoch
    recorders = {"pt": recorder(setting.early, early, 2)}
    if setting.full is not None:
        recorders["ft"] = recorder(setting.full, None, 3)
        recorders["honest"] = recorder(Windows(HONEST_WINDOW, overlap=0), None, 2)
    trained = initial.pick(range(len(initial)))
    descend(
        trained,
        parts.train,
        learning_rate=setting.learning_rate,
        n_epochs=epochs or setting.epochs,
        batch_size=setting.batch_size,
        order=setting.order,
        after_update=list(recorders.values()),
    )
    exponents = {variant: r.result() for variant, r in recorders.items()}
    return Observed(setting, parts, tuple(seeds), initial, trained, exponents, tested)


def _nudged(networks: Perceptrons, seeds: Sequence[int]) -> Perceptrons:
    copy = networks.pick(range(len(networks)))
    rng = np.random.default_rng([*seeds, 1])
    for tensor in copy.tensors:
        tensor.mul_(1 + NUDGE * torch.as_tensor(rng.standard_normal(tensor.shape)))
    return copy


def _interleaved(*groups: Perceptrons) -> Perceptrons:
    """Networks 0 of each group, then networks 1 of each, ..."""
    tensors = [torch.stack(ts, 1).flatten(0, 1) for ts in zip(*(g.tensors for g in groups), strict=True)]
    half = len(tensors) // 2
    return Perceptrons(tensors[:half], tensors[half:], groups[0].head)
