"""Masks of equal size, chosen for different reasons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.chaos_causality_pruning.arms import ARMS, masks, matched, pruned_set, random_masks
from repro.papers.chaos_causality_pruning.decisions import Decision

LAYERS = np.array([0, 0, 0, 0, 1, 1, 1])


@given(st.integers(0, 2**7 - 1), st.integers(0, 1000))
def test_matched_masks_remove_as_many_of_each_layer(bits, seed):
    pruned = np.array([bool(bits >> i & 1) for i in range(7)])
    keep = matched(np.random.default_rng(seed).random(7), pruned, LAYERS)
    for layer in (0, 1):
        assert (~keep[layer == LAYERS]).sum() == pruned[layer == LAYERS].sum()


def test_matched_removes_the_lowest_scores_of_each_layer():
    pruned = np.array([True, True, False, False, False, False, True])
    keep = matched(np.array([4.0, 1.0, 3.0, 2.0, 0.5, 0.1, 0.9]), pruned, LAYERS)
    assert keep.tolist() == [True, False, True, False, True, False, True]


def test_weights_without_a_score_are_never_removed():
    pruned = np.array([True, True, False, False, False, False, False])
    keep = matched(np.array([np.nan, 5.0, 6.0, np.nan, 1.0, 1.0, 1.0]), pruned, LAYERS)
    assert keep.tolist() == [True, False, False, True, True, True, True]


def test_random_masks_spare_untested_weights_and_reach_all_tested_ones():
    tested = np.array([False, True, True, True, True, True, True])
    pruned = np.array([False, True, False, False, False, True, False])
    drawn = random_masks(pruned, LAYERS, tested, 300, np.random.default_rng(0))
    assert drawn.shape == (300, 7)
    assert drawn[:, 0].all()
    share = 1 - drawn.mean(axis=0)
    assert np.allclose(share[1:], 1 / 3, atol=0.09)


def test_pruned_set_leaves_untested_and_untestable_weights():
    decision = Decision(
        np.array([0.2, 0.01, np.nan]), np.array([False, True, False]), np.array([True, True, False]), (1,)
    )
    tested = np.array([False, False, True, True, True])
    assert pruned_set(decision, tested).tolist() == [False, False, True, False, False]


def test_all_arms_of_a_network_remove_equally_many(observed_wine):
    found = masks(observed_wine, "ft", 4)
    assert set(found) == set(ARMS)
    sizes = (~found["noncausal"]).sum(axis=2)
    assert sizes.sum() > 0, "the case should prune something"
    for arm, keep in found.items():
        assert keep.shape[1] == (4 if arm == "random" else 1)
        assert ((~keep).sum(axis=2) == sizes).all(), arm


def test_magnitude_arms_remove_small_and_large_weights(observed_wine):
    found = masks(observed_wine, "ft", 1)
    after = observed_wine.networks("own", trained=True).flat().abs().numpy()
    for i, (small, large) in enumerate(zip(found["magnitude after"], found["largest"], strict=True)):
        if small.all():
            continue
        layer = observed_wine.initial.layer_of == observed_wine.initial.layer_of[~small[0]][0]
        assert after[i][layer & ~small[0]].max() <= after[i][layer & small[0]].min()
        assert after[i][layer & ~large[0]].min() >= after[i][layer & large[0]].max()


def test_the_same_seeds_give_the_same_masks(observed_wine):
    first, second = masks(observed_wine, "ft", 3), masks(observed_wine, "ft", 3)
    for arm in ARMS:
        assert (first[arm] == second[arm]).all()


def test_noise_arm_does_not_look_at_the_exponents(observed_wine):
    found = masks(observed_wine, "ft", 1)
    assert (found["noise"] != found["noncausal"]).any()


@pytest.mark.parametrize("n", [0, 3])
def test_number_of_random_masks(n):
    drawn = random_masks(np.zeros(7, bool), LAYERS, np.ones(7, bool), n, np.random.default_rng(0))
    assert drawn.shape == (n, 7)
    assert drawn.all()
