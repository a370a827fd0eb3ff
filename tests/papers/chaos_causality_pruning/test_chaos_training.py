"""Dense training under observation, against plain runs; masks of equal size, chosen for different reasons."""

from __future__ import annotations

import numpy as np
import torch

from repro.papers.chaos_causality_pruning.method import WindowRecorder, decide
from repro.papers.chaos_causality_pruning.perceptrons import descend
from repro.papers.chaos_causality_pruning.training import _ARMS, _ROLES, _matched, masks, random_masks

LAYERS = np.array([0, 0, 0, 0, 1, 1, 1])


def test_what_is_observed_is_what_a_network_trained_alone_shows(observed_wine):
    setting = observed_wine.setting
    parts, alone = setting.start([2])[0], observed_wine.networks("nudged").pick([2])
    recorder = WindowRecorder(60)
    wrong = lambda: [1 - alone.accuracy(part)[0] for part in (parts.validation, parts.test)]  # noqa: E731
    look = lambda: recorder(alone.flat(), wrong)  # noqa: E731
    descend(alone, parts.train, n_epochs=setting.epochs, after_update=look, **setting.how)
    # a last bit of a weight can change its rounding to six digits, and so an exponent
    assert np.abs(observed_wine.series("ft", "nudged")[2] - recorder.exponents[0]).mean() < 1e-4
    for part, errors in zip(("validation", "test"), recorder.errors, strict=True):
        np.testing.assert_allclose(observed_wine.errors("ft", part, "nudged")[2], errors)
    trained = observed_wine.networks("nudged", trained=True)
    torch.testing.assert_close(trained.flat()[2], alone.flat()[0], rtol=0, atol=1e-9)
    assert observed_wine.trained.accuracy(observed_wine.parts.train).min() > 0.9


def test_pt_sees_the_first_epochs_and_the_honest_windows_do_not_overlap(observed_wine):
    n_rows = {"ft": 30 * 106 + 1, "pt": 12 * 106 + 1, "honest": 30 * 106 + 1}
    for variant, (length, stride) in {"ft": (60, 54), "pt": (50, 45), "honest": (50, 50)}.items():
        n_windows = (n_rows[variant] - length) // stride + 1
        assert observed_wine.series(variant).shape == (3, 96, n_windows)
        assert observed_wine.errors(variant).shape == (3, n_windows)


def test_own_stranger_and_nudged_are_different_networks_on_the_same_data(observed_wine):
    own, stranger, nudged = (observed_wine.networks(role).flat().numpy() for role in _ROLES)
    assert np.abs(own - stranger).max() > 0.1
    assert 1e-5 < np.abs(nudged / own - 1).mean() < 1e-3
    series = {role: observed_wine.series("ft", role) for role in _ROLES}
    assert not np.allclose(series["own"], series["stranger"])
    assert np.corrcoef(series["own"].ravel(), series["nudged"].ravel())[0, 1] > 0.9


def test_pruned_sets_are_those_of_the_rule_on_the_roles_own_errors(observed_wine):
    for role in _ROLES:
        y, x = observed_wine.errors("ft", role=role)[1], observed_wine.series("ft", role)[1]
        assert (observed_wine.pruned("ft", role)[1] == decide(y, x, max_lag=5).non_causal).all()


def test_matched_removes_the_lowest_scores_of_each_layer_and_none_without_a_score():
    pruned = np.array([True, True, False, False, False, False, True])
    keep = _matched(np.array([4.0, 1.0, 3.0, 2.0, 0.5, 0.1, 0.9]), pruned, LAYERS)
    assert keep.tolist() == [True, False, True, False, True, False, True]
    keep = _matched(np.array([np.nan, 5.0, 6.0, np.nan, 1.0, np.nan, 1.0]), pruned, LAYERS)
    assert keep.tolist() == [True, False, False, True, False, True, True]


def test_random_masks_spare_untested_weights_and_reach_all_tested_ones():
    tested = np.array([False, True, True, True, True, True, True])
    pruned = np.array([False, True, False, False, False, True, False])
    drawn = random_masks(pruned, LAYERS, tested, 300, np.random.default_rng(0))
    assert drawn.shape == (300, 7)
    assert drawn[:, 0].all()
    assert np.allclose(1 - drawn.mean(axis=0)[1:], 1 / 3, atol=0.09)


def test_all_arms_of_a_network_remove_equally_many_and_each_what_it_says(observed_wine):
    found = masks(observed_wine, "ft", 4)
    assert tuple(found) == _ARMS
    sizes = (~found["noncausal"]).sum(axis=2)
    assert sizes.sum() > 0, "the case should prune something"
    for arm, keep in found.items():
        assert keep.shape[1] == (4 if arm == "random" else 1)
        assert ((~keep).sum(axis=2) == sizes).all(), arm
    assert (found["noise"] != found["noncausal"]).any()
    for i, pruned in enumerate(observed_wine.pruned("ft")):
        assert (found["noncausal"][i, 0] == ~pruned).all()
    for arm, sign in (("magnitude before", 1), ("magnitude after", 1), ("largest", -1)):
        networks = observed_wine.networks("own", trained=arm != "magnitude before")
        scores = sign * networks.flat().abs().numpy()
        for values, (keep,) in zip(scores, found[arm], strict=True):
            for layer in (0, 1):
                here = observed_wine.initial.layer_of == layer
                if not keep[here].all():
                    assert values[here & ~keep].max() <= values[here & keep].min()
    again = masks(observed_wine, "ft", 4)
    assert all((found[arm] == again[arm]).all() for arm in _ARMS)
