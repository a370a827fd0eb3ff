"""Fits: every network as if it were alone, equal starts, folding, the course, divergence, bad arguments."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repro.learn import (
    Ensemble,
    TrainingDivergedError,
    evaluate,
    initialization,
    load,
    perceptron,
    small_cnn,
    streams,
)
from repro.learn.networks import kaiming_normal_
from repro.papers.implicit_sparsification import fitting
from repro.papers.implicit_sparsification.factors import (
    Product,
    effective_weights,
    parametrize_weights,
    pilot_factors,
)
from repro.papers.implicit_sparsification.fitting import LEAST_L1, RISE, Fit, fit, run, written
from repro.papers.implicit_sparsification.methods import METHODS
from repro.papers.implicit_sparsification.settings import SETTINGS, data_sets, initial_networks

TINY = replace(
    SETTINGS["digits"],
    n_epochs=3,
    build=partial(perceptron, (64, 16, 10)),
    parts=(150, 60, 60),
    batch_size=50,
)
STRENGTHS, SEEDS = [1e-3, 4e-3], [3, 5]
COURSE = {"strength", "seed", "epoch", "alpha", "dose", "l1", "batch_accuracy", "method"}


@pytest.fixture(scope="module")
def pilots() -> Fit:
    return fit(TINY, "pilot", STRENGTHS, seeds=SEEDS, progress=False)


# ---- a network as if it were alone


@pytest.mark.parametrize(
    "name", ["pilot_algorithm", "l1_x", "spred_independent", "continuous_original", "str"]
)
def test_every_network_equals_its_run_alone(name: str) -> None:
    together = fit(TINY, name, STRENGTHS, seeds=SEEDS, progress=False)
    for i, row in enumerate(together.members.itertuples()):
        alone = fit(TINY, name, [row.strength], seeds=[row.seed], progress=False)
        for key, weight in alone.networks.parameters.items():
            torch.testing.assert_close(together.networks.parameters[key][i], weight[0], atol=1e-4, rtol=1e-4)
        own = together.course[
            (together.course["strength"] == row.strength) & (together.course["seed"] == row.seed)
        ]
        for column in ("alpha", "dose", "l1"):
            np.testing.assert_allclose(own[column], alone.course[column], rtol=1e-4)


def test_pilot_agrees_with_a_plain_loop_that_adds_the_penalty_to_the_loss(pilots: Fit) -> None:
    strength, seed = STRENGTHS[1], SEEDS[0]
    data = load("digits", seed=seed, train=150, validation=60, test=60, standardize="feature")
    with initialization(seed):
        plain = kaiming_normal_(perceptron((64, 16, 10)))
    factors = {i: [t.requires_grad_() for t in pilot_factors(plain[i].weight.detach())] for i in (1, 3)}
    biases = [plain[i].bias for i in (1, 3)]
    stepper = torch.optim.SGD(
        [
            {"params": [t for both in factors.values() for t in both]},
            {"params": biases, "weight_decay": 1e-4},
        ],
        lr=0.2,
        momentum=0.9,
    )
    alphas, shuffle, dose = [strength, strength * 0.8, strength * 0.64], streams(seed).shuffle, 0.0
    for k, alpha in enumerate(alphas):
        rate = 0.1 * (1 + np.cos(np.pi * k / 3))
        for group in stepper.param_groups:
            group["lr"] = rate
        order = torch.randperm(150, generator=shuffle)
        for some in order.split(50):
            h = torch.relu(data.x_train[some] @ (factors[1][0] * factors[1][1]).T + biases[0])
            outputs = h @ (factors[3][0] * factors[3][1]).T + biases[1]
            penalty = sum((t**2).sum() for both in factors.values() for t in both)
            stepper.zero_grad()
            (nn.functional.cross_entropy(outputs, data.y_train[some]) + alpha * penalty).backward()
            stepper.step()
            dose += rate * alpha / (1 - 0.9)
    member = 2  # the second strength, the first seed
    for i in (1, 3):
        expected = (factors[i][0] * factors[i][1]).detach()
        torch.testing.assert_close(
            pilots.networks.parameters[f"{i}.weight"][member], expected, atol=1e-4, rtol=1e-4
        )
    own = pilots.course[(pilots.course["strength"] == strength) & (pilots.course["seed"] == seed)]
    np.testing.assert_allclose(own["alpha"], alphas, rtol=1e-12)
    assert own["dose"].iloc[-1] == pytest.approx(dose, rel=1e-12)


def test_the_invariant_of_the_factors_shrinks_by_the_dose(monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Of a flow $m^2-w^2=\beta e^{-4A}$ whatever the loss; small steps of SGD come near."""
    slow = replace(TINY, factor_rate=0.01, momentum=0.0, batch_size=10, n_epochs=6)
    seen: list[Ensemble] = []
    monkeypatch.setattr(fitting, "_weights", lambda model: seen.append(model) or _effective(model))
    found = fit(slow, "pilot_constant", [0.5, 1.0], seeds=[0], progress=False)
    doses = found.course[found.course["epoch"] == 6]["dose"].to_numpy()
    assert doses.max() > 0.5
    parameters = seen[0].parameters
    m, w = (parameters[f"1.parametrizations.weight.original{i}"].detach() for i in range(2))
    expected = np.exp(-4 * doses)[:, None] * np.ones(m[0].numel())
    np.testing.assert_allclose((m**2 - w**2).flatten(1), expected, rtol=0.03)


def _effective(model: Ensemble) -> dict[str, Tensor]:
    return effective_weights(model.parameters, model.member(0))


# ---- where they start, what they end as


def test_a_seed_starts_from_the_same_weights_whatever_the_method(pilots: Fit) -> None:
    plain = initial_networks(TINY, SEEDS)
    for name in ("x", "balanced", "powerprop", "continuous", "str"):
        other = fit(
            TINY, name, [2.0] if name == "powerprop" else [1e-3], seeds=SEEDS, n_epochs=1, progress=False
        )
        for key, start in other.start.items():
            expected = torch.stack([network.state_dict()[key] for network in plain])
            torch.testing.assert_close(start, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(pilots.start[key], torch.cat([expected] * 2), atol=1e-5, rtol=1e-5)


def test_folded_networks_give_the_outputs_of_the_trained_ones() -> None:
    for name in ("pilot", "str", "continuous_original", "powerprop"):
        how = METHODS[name]
        datasets, plain = data_sets(TINY, [0]), initial_networks(TINY, [0])
        trained = Ensemble([written(plain[0], how, how.strengths[0], 0)])
        run(trained, datasets, TINY, how, how.strengths[:1], seeds=[0], n_epochs=2, progress=False)
        folded = fit(TINY, name, how.strengths[:1], seeds=[0], n_epochs=2, progress=False).networks
        torch.testing.assert_close(folded(datasets[0].x_test), trained(datasets[0].x_test), atol=0, rtol=0)
        assert set(folded.parameters) == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_the_networks_are_those_of_their_rows(pilots: Fit) -> None:
    """Each has learned the data of its own seed."""
    for i, row in enumerate(pilots.members.itertuples()):
        assert (row.strength, row.seed) == (STRENGTHS[i // 2], SEEDS[i % 2])
        data = pilots.datasets[i % 2]
        (accuracy,) = evaluate(pilots.networks.member(i), data.x_test, data.y_test)[1].tolist()
        assert accuracy > 0.4
    assert pilots.strengths == tuple(STRENGTHS)
    assert pilots.seeds == tuple(SEEDS)


# ---- the course


def test_the_course_has_a_row_for_each_network_and_epoch(pilots: Fit) -> None:
    course = pilots.course
    assert set(course.columns) == COURSE
    assert len(course) == 2 * 2 * TINY.n_epochs
    assert not course.duplicated(["strength", "seed", "epoch"]).any()
    assert set(course["method"]) == {"pilot"}
    assert not course.isna().any(axis=None)
    assert (course.groupby(["strength", "seed"])["dose"].diff().dropna() > 0).all()
    l1 = sum(pilots.networks.parameters[f"{i}.weight"].detach().abs().flatten(1).sum(dim=1) for i in (1, 3))
    last = course[course["epoch"] == TINY.n_epochs].sort_values(["strength", "seed"])["l1"]
    np.testing.assert_allclose(last, l1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pilot_constant", [1, 1, 1, 1, 1]),
        ("pilot", [1, 1, 0.8, 0.8**2, 0.8**3]),
        ("l1_x", [2, 2, 1.6, 2 * 0.8**2, 2 * 0.8**3]),
        ("continuous", [0, 0.5, 1, 1.5, 2]),
        ("mw", [0, 0, 0, 0, 0]),
    ],
)
def test_strengths_follow_the_methods_schedule(name: str, shape: list[float]) -> None:
    found = fit(TINY, name, [1e-3], seeds=[0], n_epochs=5, progress=False)
    np.testing.assert_allclose(found.course["alpha"], 1e-3 * np.array(shape), rtol=1e-12)


def test_algorithm_1_may_rise_by_what_is_said_and_then_dies_out() -> None:
    n_epochs = 8
    found = fit(TINY, "pilot_algorithm", [1e-5], seeds=[0], n_epochs=n_epochs, progress=False).course
    accuracies = np.array([0.0, *found["batch_accuracy"]])
    factor = RISE ** (2 / n_epochs)
    start_l1 = sum(
        w.detach().abs().sum().item()
        for k, w in initial_networks(TINY, [0])[0].named_parameters()
        if "weight" in k
    )
    alpha, expected = 1e-5, []
    for k in range(1, n_epochs + 1):
        expected.append(alpha)
        up = (
            accuracies[k] >= accuracies[k - 1]
            and found["l1"].iloc[k - 1] >= LEAST_L1 * start_l1
            and k <= n_epochs / 2
        )
        alpha = alpha * factor if up else alpha / factor
    np.testing.assert_allclose(found["alpha"], expected, rtol=1e-6)
    assert found["alpha"].max() > 1e-5


def test_masks_grow_hotter_with_each_epoch() -> None:
    how = METHODS["continuous_original"]
    ensemble = Ensemble([written(initial_networks(TINY, [0])[0], how, 1e-3, 0)])
    seen: list[float] = []
    key = "1.parametrizations.weight.original2"
    run(
        ensemble,
        data_sets(TINY, [0]),
        TINY,
        how,
        [1e-3],
        seeds=[0],
        n_epochs=2,
        after_step=[lambda model, step: seen.append(model.parameters[key].item())],
        progress=False,
    )
    assert seen == pytest.approx([1.0] * 3 + [200**0.5] * 3)
    assert ensemble.parameters[key].item() == pytest.approx(200)


# ---- augmentation


@pytest.mark.parametrize("augmented", [True, False])
def test_images_are_augmented_where_the_setting_says_so(augmented: bool) -> None:
    images = replace(
        TINY, build=partial(small_cnn, width=2), images=True, standardize="channel", augmented=augmented
    )

    def unchanged(x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    by_setting = fit(images, "x", seeds=[0], n_epochs=1, progress=False)
    told_not_to = fit(images, "x", seeds=[0], n_epochs=1, augment=unchanged, progress=False)
    same = torch.equal(
        by_setting.networks.parameters["0.weight"], told_not_to.networks.parameters["0.weight"]
    )
    assert same != augmented


# ---- divergence and bad arguments


def test_networks_that_diverge_are_told_of_and_the_others_go_on() -> None:
    found = fit(TINY, "pilot", [1e-3, 1e3], seeds=SEEDS, progress=False)
    assert found.diverged == [(1e3, 3), (1e3, 5)]
    assert all(isinstance(seed, int) for _, seed in found.diverged)
    alone = fit(TINY, "pilot", [1e-3], seeds=SEEDS, progress=False)
    for key, weight in alone.networks.parameters.items():
        torch.testing.assert_close(found.networks.parameters[key][:2], weight, atol=1e-4, rtol=1e-4)


def test_all_networks_diverging_is_an_error() -> None:
    with pytest.raises(TrainingDivergedError, match="smaller learning rate"):
        fit(replace(TINY, factor_rate=1e4), "mw", seeds=SEEDS, progress=False)


@pytest.mark.parametrize(
    ("strengths", "got"),
    [
        ([], r"\[\]"),
        ([1e-3, 1e-3], r"\[0\.001, 0\.001\]"),
        ([1e-3, -1e-3], r"\[0\.001, -0\.001\]"),
        ([float("nan")], r"\[nan\]"),
        ([float("inf")], r"\[inf\]"),
    ],
)
def test_bad_strengths_are_refused(strengths: list[float], got: str) -> None:
    with pytest.raises(ValueError, match=f"at least one number, 0 or above, all different; got {got}"):
        fit(TINY, "pilot", strengths, seeds=[0])


def test_bad_names_seeds_and_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown setting 'digit'; did you mean 'digits'"):
        fit("digit", "pilot", seeds=[0])
    with pytest.raises(ValueError, match="unknown method 'pilott'; did you mean 'pilot'"):
        fit(TINY, "pilott", seeds=[0])
    with pytest.raises(ValueError, match=r"all different; got \[\]"):
        fit(TINY, "pilot", seeds=[])
    with pytest.raises(ValueError, match=r"all different; got \[1, 1\]"):
        fit(TINY, "pilot", seeds=[1, 1])
    for name in ("pilot", "pilot_algorithm", "continuous"):
        with pytest.raises(ValueError, match="n_epochs must be a whole number, 1 or above; got 0"):
            fit(TINY, name, seeds=[0], n_epochs=0)
    with pytest.raises(ValueError, match=r"exponent must be a number, 2 or above; got 1\.0"):
        fit(TINY, "powerprop", [1.0], seeds=[0])


def test_writing_leaves_the_plain_network_alone() -> None:
    (plain,) = initial_networks(TINY, [0])
    network = written(plain, METHODS["pilot"], 1e-3, 0)
    assert isinstance(plain[1].weight, nn.Parameter)
    with torch.no_grad():
        network[1].parametrizations.weight.original0.zero_()
    assert plain[1].weight.abs().sum() > 0
    untouched = written(plain, METHODS["x"], 0.0, 0)
    assert untouched is not plain
    assert torch.equal(untouched[1].weight, plain[1].weight)
    with pytest.raises(ValueError, match="already parametrised"):
        parametrize_weights(network, Product)
