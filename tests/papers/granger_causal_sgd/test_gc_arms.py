"""Arms: what each ranks by, exact counts, nesting, and which of them know the loss."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro.learn import perceptron
from repro.papers.granger_causal_sgd.arms import ARMS, arm_mask, arm_masks, arm_scores, collapsed
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.trace import Trace, log_trace
from repro.prune import Mask

IRIS = Setting("iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, rate=0.02, batch_size=10)
SEEDS = [0, 3]
N_WEIGHTS = 4 * 8 + 8 * 3


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def trace(begun: Start) -> Trace:
    return _trace(begun)


def _trace(begun: Start) -> Trace:
    return log_trace(
        begun.ensemble, begun.datasets, learning_rate=0.01, n_epochs=2, batch_size=10, seeds=list(begun.seeds)
    )


def _flat(scores: dict[str, Tensor], i: int) -> Tensor:
    return torch.cat([score[i].flatten() for score in scores.values()])


@pytest.mark.parametrize("arm", ARMS)
def test_scores_are_float64_in_the_shape_of_the_weights(arm: str, trace: Trace, begun: Start) -> None:
    for name, score in arm_scores(arm, trace, begun).items():
        assert score.shape == begun.ensemble.parameters[name].shape
        assert score.dtype == torch.float64
        assert bool((score >= 0).all())


@pytest.mark.parametrize(("arm", "target"), [("causal", "same_batch"), ("causal_cross", "cross_batch")])
def test_causal_scores_are_mean_products_with_the_loss_change(
    arm: str, target: str, trace: Trace, begun: Start
) -> None:
    scores = arm_scores(arm, trace, begun)
    for i in range(len(SEEDS)):
        total = torch.zeros(N_WEIGHTS, dtype=torch.float64)
        for t in range(trace.n_rows):
            total += trace.loss_changes[target][i, t] * (0.01 * trace.steps[i, t].double()) ** 2
        torch.testing.assert_close(_flat(scores, i), (total / trace.n_rows).abs())


def test_energy_is_the_mean_squared_change_and_knows_no_loss(trace: Trace, begun: Start) -> None:
    other = replace(trace, loss_changes={name: -7 * y.flip(1) for name, y in trace.loss_changes.items()})
    for i in range(len(SEEDS)):
        energy = (0.01 * trace.steps[i].double()).square().mean(dim=0)
        torch.testing.assert_close(_flat(arm_scores("energy", trace, begun), i), energy)
        torch.testing.assert_close(_flat(arm_scores("energy", other, begun), i), energy)


def test_exact_coefficients_solve_the_regression_with_least_norm(trace: Trace, begun: Start) -> None:
    scores = arm_scores("exact", trace, begun)
    for i in range(len(SEEDS)):
        x, y = trace.squares(i), trace.loss_changes["same_batch"][i]
        gamma = torch.linalg.pinv(x, rtol=1e-8) @ y
        torch.testing.assert_close(
            _flat(scores, i), gamma.abs(), rtol=1e-4, atol=1e-4 * float(gamma.abs().max())
        )


def test_magnitudes_are_those_before_pruning(trace: Trace, begun: Start) -> None:
    for name, score in arm_scores("magnitude", trace, begun).items():
        assert torch.equal(score, begun.ensemble.parameters[name].detach().abs().double())


def test_with_one_loss_change_for_all_steps_a_permutation_changes_nothing(trace: Trace, begun: Start) -> None:
    constant = replace(
        trace, loss_changes={name: torch.full_like(y, -0.3) for name, y in trace.loss_changes.items()}
    )
    permuted, causal = (arm_scores(arm, constant, begun) for arm in ("permuted", "causal"))
    energy = arm_scores("energy", constant, begun)
    for name in causal:
        torch.testing.assert_close(permuted[name], causal[name])
        torch.testing.assert_close(causal[name], 0.3 * energy[name])


def test_permuted_scores_belong_to_a_permutation_of_the_rows(begun: Start) -> None:
    short = log_trace(
        begun.ensemble, begun.datasets, learning_rate=0.01, n_steps=4, batch_size=10, seeds=list(begun.seeds)
    )
    orders = [[a, b, c] for a in range(3) for b in range(3) for c in range(3) if len({a, b, c}) == 3]
    for seed in range(5):
        scores = arm_scores("permuted", short, begun, seed=seed)
        for i in range(len(SEEDS)):
            y, x = short.loss_changes["same_batch"][i], short.squares(i)
            possible = [(y[order] @ x / 3).abs() for order in orders]
            assert sum(torch.allclose(_flat(scores, i), each, rtol=1e-9, atol=0) for each in possible) == 1


@given(sparsity=st.floats(0, 0.98), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_layerwise_random_takes_of_each_layer_what_causal_takes(
    sparsity: float, seed: int, trace: Trace, begun: Start
) -> None:
    causal = arm_mask("causal", trace, begun, sparsity)
    drawn = arm_mask("random_layerwise", trace, begun, sparsity, seed=seed)
    for name in causal:
        assert torch.equal(causal[name].flatten(1).sum(dim=1), drawn[name].flatten(1).sum(dim=1))


def test_layerwise_random_overlaps_with_causal_by_chance_only(trace: Trace, begun: Start) -> None:
    causal = arm_mask("causal", trace, begun, 0.5)
    draws = [arm_mask("random_layerwise", trace, begun, 0.5, seed=seed) for seed in range(200)]
    for name in causal:
        common = torch.stack([(causal[name] & each[name]).flatten(1).sum(dim=1).double() for each in draws])
        kept = causal[name].flatten(1).sum(dim=1).double()
        expected = kept**2 / causal[name][0].numel()  # mean of the hypergeometric distribution
        assert bool(((common.mean(dim=0) - expected).abs() < 4 * common.std(dim=0) / 200**0.5 + 1e-9).all())


@pytest.mark.parametrize("arm", ARMS)
def test_masks_remove_the_exact_number_from_each_network_and_are_nested(
    arm: str, trace: Trace, begun: Start
) -> None:
    sparsities = (0.0, 0.3, 0.5, 0.9)
    masks = arm_masks([arm], trace, begun, sparsities)[arm]
    flat = [torch.cat([kept.flatten(1) for kept in masks[s].values()], dim=1) for s in sparsities]
    for s, kept in zip(sparsities, flat, strict=True):
        assert (~kept).sum(dim=1).tolist() == [int(s * N_WEIGHTS)] * len(SEEDS)
    assert not any(bool((later & ~earlier).any()) for earlier, later in pairwise(flat))


@pytest.mark.parametrize("arm", ["causal", "exact", "energy", "magnitude"])
def test_no_weight_that_goes_scores_above_one_that_stays(arm: str, trace: Trace, begun: Start) -> None:
    scores, mask = arm_scores(arm, trace, begun), arm_mask(arm, trace, begun, 0.6)
    for i in range(len(SEEDS)):
        values, kept = _flat(scores, i), torch.cat([mask[name][i].flatten() for name in scores])
        assert values[kept].min() >= values[~kept].max()


@pytest.mark.parametrize("arm", ["permuted", "random", "random_layerwise"])
def test_draws_are_repeatable_and_each_network_has_its_own(arm: str, trace: Trace, begun: Start) -> None:
    here, again, other = (arm_scores(arm, trace, begun, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(_flat(here, 0), _flat(again, 0))
    assert not torch.equal(_flat(here, 0), _flat(other, 0))
    alone = begun.first(1)
    assert torch.allclose(_flat(arm_scores(arm, _trace(alone), alone, seed=1), 0), _flat(here, 0), rtol=1e-4)


def test_random_scores_of_two_networks_differ(trace: Trace, begun: Start) -> None:
    scores = arm_scores("random", trace, begun)
    assert not torch.equal(_flat(scores, 0), _flat(scores, 1))


def test_a_layer_without_weights_is_a_result() -> None:
    mask = Mask(
        {
            "a": torch.tensor([[[False, False]], [[True, False]]]),
            "b": torch.tensor([[True, False], [False, False]]),
        }
    )
    assert collapsed(mask).tolist() == [[True, False], [False, True]]


def test_the_causal_screen_may_take_a_whole_layer(trace: Trace, begun: Start) -> None:
    steps = trace.steps.clone()
    steps[:, :, trace.layers["1.weight"]] *= 1e-6
    mask = arm_mask("causal", replace(trace, steps=steps), begun, 0.6)
    assert collapsed(mask).tolist() == [[True, False]] * len(SEEDS)


def test_all_weights_cannot_go(trace: Trace, begun: Start) -> None:
    with pytest.raises(ValueError, match="removes all 56 weights"):
        arm_mask("energy", trace, begun, 1.0)
    almost = arm_mask("energy", trace, begun, 55 / 56)
    assert almost.n_kept == len(SEEDS)


@pytest.mark.parametrize(
    ("arms", "sparsities", "told"),
    [
        (["cuasal"], [0.5], "unknown arm 'cuasal'; known are causal"),
        ([], [0.5], "arms must be at least one"),
        (["energy"], [], "sparsities must be at least one"),
        (["energy"], [0.5, 0.5], "none of them twice"),
        (["energy"], [1.5], "1.5"),
        (["energy"], [-0.1], "-0.1"),
        (["energy"], [float("nan")], "nan"),
    ],
)
def test_bad_arms_and_sparsities(
    arms: list[str], sparsities: list[float], told: str, trace: Trace, begun: Start
) -> None:
    with pytest.raises(ValueError, match=told):
        arm_masks(arms, trace, begun, sparsities)


def test_a_trace_of_other_networks_is_refused(trace: Trace, begun: Start) -> None:
    with pytest.raises(ValueError, match="the trace is of 2 networks"):
        arm_scores("energy", trace, begun.first(1))
