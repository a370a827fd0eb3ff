"""Dense training under observation, and the masks that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.method import Decision, WindowRecorder, _granger_tests, judge
from repro.papers.chaos_causality_pruning.perceptrons import _Perceptrons
from repro.papers.chaos_causality_pruning.settings import Setting, _Parts
from repro.prune.selection import keep_highest
from repro.series.granger import GrangerResult

_Array = NDArray[np.float64]
_Mask = NDArray[np.bool_]
_Given = _Array | None

_ROLES = ("own", "stranger", "nudged")
_NUDGE = 1e-4
"""Size of the nudge to initial weights, relative to each weight's own."""
_PLANTED = 0.01
"""Variance of a planted cause, as a share of that of the error's changes."""
_SHORT_WINDOW = 50
"""Rows in a window of LEGCNet-PT, and of the honest rule."""
_EVERY = 32
"""Of the stretches of an FT window's length one in so many is kept in full, for surrogates."""
_SHOWN = 5
"""The weight of the first network whose path is kept in full."""
_PARTS = ("validation", "test")
_VARIANTS = ("ft", "pt", "honest")

_ARMS = ("noncausal", "causal", "noise", "magnitude after", "largest", "random")
"""LEGCNet's masks, and those that remove as many weights of each layer for other reasons."""


@dataclass(frozen=True)
class Observed:
    """S splits of one data set; on each, dense networks trained side by side on the same examples.

    The network itself, a *stranger* with other initial weights, and, for tables, a *nudged* copy whose initial
    weights differ by one part in ten thousand.

    Attributes:
        setting: network and training.
        parts: the data.
        seeds: one a split.
        initial: initial weights of all networks, those of a split in the order own, stranger, nudged.
        trained: the same after training.
        recorders: what was seen, by variant ``"ft"``, ``"pt"`` and ``"honest"`` (short windows without overlap over
            the whole training): exponents ``(S, roles, P_tested, T)`` and errors ``(2, S, roles, T)``.
        tested: which weights are tested, ``(P,)``.
        paths: of the networks' weights in one of 32 stretches of an FT window's length, ``(S, stretches, P, rows)``;
            for tables.
        path: of one weight of the first network, ``(updates + 1,)``; for tables.
    """

    setting: Setting
    parts: _Parts
    seeds: tuple[int, ...]
    initial: _Perceptrons
    trained: _Perceptrons
    recorders: dict[str, WindowRecorder]
    tested: _Mask
    paths: _Array
    path: _Array

    @classmethod
    def of(cls, setting: Setting, seeds: Sequence[int], variants: Sequence[str] = _VARIANTS) -> Self:
        """Train dense networks from new initial weights on new splits, and record windows.

        Args:
            setting: network, data and training.
            seeds: one a split.
            variants: those to record; a setting without FT has ``"pt"`` alone.

        Raises:
            ValueError: too few epochs for one window.
        """
        parts, own = setting.start(seeds)
        # far from any seed in use, so that no stranger is a network of another split
        strangers = setting.initial(parts, [2**31 + seed for seed in seeds])
        n_roles = 2 if setting.images else 3
        initial = own.pick(np.repeat(np.arange(len(seeds)), n_roles))
        rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
        for tensor, strange in zip(initial.tensors, strangers.tensors, strict=True):
            tensor[1::n_roles] = strange
            nudges = np.stack([rng.standard_normal(strange.shape[1:]) for rng in rngs])
            tensor[2::n_roles] *= 1 + _NUDGE * torch.as_tensor(nudges)[: len(tensor[2::n_roles])]
        # as in the paper's MNIST runs, which test only weights above the first layer
        tested = (own.layer_of > 0) | (setting.name != "mnist")
        updates_an_epoch = -(-len(parts.train) // setting.batch_size)
        early = None if setting.early_epochs is None else setting.early_epochs * updates_an_epoch
        known = {"pt": WindowRecorder(_SHORT_WINDOW, last_update=early)}
        if setting.window:
            long, apart = WindowRecorder(setting.window), WindowRecorder(_SHORT_WINDOW, overlap=0)
            known |= {"ft": long, "honest": apart}
        recorders = {variant: known[variant] for variant in variants if variant in known}
        # only FT of nudged networks is looked at
        shown = {variant: n_roles if variant == "ft" else 2 for variant in recorders}
        trained = initial.pick(range(len(initial)))
        path: list[float] = []
        rows: list[_Array] = []

        def look() -> None:
            weights = trained.flat().numpy()[:, tested].reshape(len(seeds), n_roles, -1)
            for variant, recorder in recorders.items():
                recorder(weights[:, : shown[variant]], errors)
            if not setting.images:
                if len(path) // setting.window % _EVERY == 0:
                    rows.append(weights[:, 0].copy())
                path.append(weights[0, 0, _SHOWN])

        def errors() -> _Array:
            wrong = [1 - trained.accuracy(part) for part in (parts.validation, parts.test)]
            return np.reshape(wrong, (len(_PARTS), len(seeds), n_roles))

        trained.descend(parts.train, n_epochs=setting.dense_epochs, after_update=look, **setting.how)
        length = max(1, setting.window)
        whole = np.array(rows[: len(rows) // length * length])  # (rows, S, P)
        paths = whole.reshape(-1, length, len(seeds), int(tested.sum())).transpose(2, 0, 3, 1)
        seen = (recorders, tested, paths, np.array(path))
        return cls(setting, parts, tuple(seeds), initial, trained, *seen)

    def networks(self, role: str, *, trained: bool = False) -> _Perceptrons:
        """Copy the S networks of one role, before or after training."""
        return (self.trained if trained else self.initial).pick(self.places(role))

    def places(self, role: str) -> NDArray[np.int64]:
        """Return the indices of the S networks of one role among all."""
        n_roles = len(self.initial) // len(self.seeds)
        return np.arange(len(self.seeds)) * n_roles + _ROLES.index(role)

    def series(self, variant: str, role: str = "own") -> _Array:
        """Return exponents ``(S, P_tested, T)``."""
        return self.recorders[variant].exponents[:, _ROLES.index(role)]

    def errors(self, variant: str, part: str = "validation", role: str = "own") -> _Array:
        """Return the share of wrong answers at the end of each window, ``(S, T)``."""
        return self.recorders[variant].errors[_PARTS.index(part), :, _ROLES.index(role)]

    def one_weight(self) -> pd.DataFrame:
        """Set the path of one weight of the first network beside its FT windows.

        Returns:
            One row an update: ``weight``, its value; where a window ends, its ``exponent`` in nats an update, and
            ``error``, the share of wrong answers on the validation part; else NaN.
        """
        recorder, exponents = self.recorders["ft"], self.series("ft")[0, _SHOWN]
        ends = recorder.length - 1 + recorder.stride * np.arange(len(exponents))
        seen = pd.DataFrame({"exponent": exponents, "error": self.errors("ft")[0]}, index=ends)
        return pd.DataFrame({"weight": self.path}).join(seen)

    def tests(self, variant: str, cause: _Given = None, effect: _Given = None) -> list[GrangerResult]:
        """Test each of the S networks' weights.

        Args:
            variant: ``"ft"``, ``"pt"``, or ``"honest"`` for the short windows, where both series are differenced.
            cause: in place of the network's own exponents, ``(S, P_tested, T)``.
            effect: in place of its errors on the validation part, ``(S, T)`` or ``(S, P_tested, T)``.
        """
        causes = self.series(variant) if cause is None else cause
        effects = self.errors(variant) if effect is None else effect
        how = self.setting.max_lag, int(variant == "honest")
        return [_granger_tests(y, x, *how) for y, x in zip(effects, causes, strict=True)]

    def decisions(self, variant: str, *series: _Given) -> list[Decision]:
        """Apply the paper's rule to each of the S networks; the arguments are those of ``tests``."""
        return [judge(tests) for tests in self.tests(variant, *series)]

    def planted(self, variant: str) -> _Array:
        """Return errors with a cause planted into them, one a weight, ``(S, P_tested, T)``.

        To the error at each window the exponent of the window before is added, scaled to a hundredth of the variance of
        the error's changes from window to window.
        """
        causes, errors = self.series(variant), self.errors(variant)[:, None]
        with np.errstate(invalid="ignore"):  # a weight at rest has no exponent that varies
            scaled = (causes - causes.mean(-1, keepdims=True)) / causes.std(-1, keepdims=True)
        before = np.roll(scaled, 1, axis=-1)
        before[..., 0] = 0.0
        return errors + np.sqrt(_PLANTED) * np.diff(errors).std(-1, keepdims=True) * before

    def pruned(self, variant: str, role: str = "own") -> list[_Mask]:
        """Return which of all P weights the paper's rule removes, ``(P,)`` a network; untested ones stay."""
        decisions = self.decisions(variant, self.series(variant, role), self.errors(variant, role=role))
        removed = np.zeros((len(self.seeds), len(self.tested)), bool)
        removed[:, self.tested] = [d.non_causal for d in decisions]
        return list(removed)

    def masks(self, variant: str, n_random: int) -> dict[str, _Mask]:
        """Return the masks of all arms for one variant, each ``(S, n, P)`` with n = 1, or ``n_random`` random ones.

        Args:
            variant: ``"ft"`` or ``"pt"``.
            n_random: random masks a seed, at least 1.
        """
        tested, layer_of = self.tested, self.initial.layer_of
        after = self.networks("own", trained=True).flat().abs().numpy()
        one = self.series(variant).shape[1:]
        noise = np.stack([np.random.default_rng([seed, 2]).standard_normal(one) for seed in self.seeds])
        by_weight: dict[str, _Array | list[_Array]] = {
            "causal": [d.p for d in self.decisions(variant)],
            "noise": [-d.p for d in self.decisions(variant, noise)],
            "magnitude after": after[:, tested],
            "largest": -after[:, tested],
        }
        found: dict[str, list[_Mask]] = {arm: [] for arm in _ARMS}
        for i, (seed, pruned) in enumerate(zip(self.seeds, self.pruned(variant), strict=True)):
            rng = np.random.default_rng([seed, variant == "ft", 3])
            found["noncausal"].append(~pruned[None])
            found["random"].append(_random_masks(pruned, layer_of, tested, n_random, rng))
            for arm, values in by_weight.items():
                scores = np.full(len(tested), np.nan)
                scores[tested] = values[i]
                found[arm].append(_matched(scores, pruned, layer_of)[None])
        return {arm: np.stack(rows) for arm, rows in found.items()}


def _matched(scores: _Array, pruned: _Mask, layer_of: NDArray[np.int64]) -> _Mask:
    """Keep the highest scores, removing in each layer as many weights as ``pruned`` does.

    Args:
        scores: ``(P,)``; NaN is never removed.
        pruned: the set to match, ``(P,)``.
        layer_of: layer of each weight, ``(P,)``.

    Returns:
        _Mask ``(P,)``, True for weights that stay.
    """
    keep = np.ones(len(scores), bool)
    ranked = np.where(np.isnan(scores), np.inf, scores)
    for layer in np.unique(layer_of[pruned]):
        here = layer_of == layer
        keep[here] = keep_highest(torch.as_tensor(ranked[here]), int(pruned[here].sum())).numpy()
    return keep


def _random_masks(
    pruned: _Mask, layer_of: NDArray[np.int64], tested: _Mask, n_masks: int, rng: np.random.Generator
) -> _Mask:
    """Draw masks ``(n_masks, P)`` that remove tested weights at random, as many of each layer as ``pruned``."""
    scores = np.where(tested, rng.random((n_masks, len(pruned))), np.nan)
    return np.stack([_matched(s, pruned, layer_of) for s in scores])


def _laid_out(keeps: Mapping[tuple[Any, Any], _Mask], seeds: Sequence[int]) -> tuple[pd.DataFrame, _Mask]:
    """Lay masks ``(S, n, P)``, by variant and arm, network after network.

    Returns:
        One row a mask: ``network`` (its place among the S), ``seed``, ``variant``, ``arm`` and ``draw``; and the
        masks ``(rows, P)``.
    """
    keep = np.concatenate(list(keeps.values()), axis=1)
    columns = [(*names, draw) for names, drawn in keeps.items() for draw in range(drawn.shape[1])]
    rows = [(i, seed, *column) for i, seed in enumerate(seeds) for column in columns]
    names = ["network", "seed", "variant", "arm", "draw"]
    return pd.DataFrame(rows, columns=names), keep.reshape(len(rows), -1)
