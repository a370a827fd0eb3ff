"""Courses of strengths: the dose in closed form, shapes, algorithm 1 against a slow loop, what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repro.learn import Dataset, Ensemble, EpochReport, initialization, load, perceptron, train
from repro.papers.implicit_sparsification.controllers import Controller, PilotController, ScheduleController
from repro.papers.implicit_sparsification.factors import Product, effective_weights, parametrize_weights
from repro.papers.implicit_sparsification.penalties import Penalty

MOMENTUM = 0.9


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", train=150, validation=0, test=20)


def ensemble(size: int = 2) -> Ensemble:
    members = []
    for seed in range(size):
        with initialization(seed):
            members.append(parametrize_weights(perceptron((64, 6, 10)), Product))
    return Ensemble(members)


def penalty_of(model: Ensemble, strengths: list[float]) -> Penalty:
    return Penalty(model, "squares", torch.tensor(strengths, dtype=torch.float64), 0.0)


def fitted(
    model: Ensemble,
    data: Dataset,
    penalty: Penalty,
    controller: Controller,
    n_epochs: int,
    more: tuple[Any, ...] = (),
) -> None:
    train(
        model,
        data,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=MOMENTUM),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=50,
        before_step=[penalty],
        after_epoch=[controller, *more],
        progress=False,
    )


class Stub:
    """As much of an ensemble as a controller looks at: the weights of one layer."""

    def __init__(self, size: int) -> None:
        self.model = Ensemble([torch.nn.Linear(2, 1, bias=False) for _ in range(size)])
        self.network = self.model.member(0)

    def tell(self, controller: Controller, epoch: int, accuracy: list[float], l1: list[float]) -> None:
        with torch.no_grad():
            self.model.parameters["weight"].copy_(
                torch.tensor(l1)[:, None, None] * torch.tensor([0.25, -0.75])
            )
        report = EpochReport(epoch, 10 * epoch, torch.tensor(accuracy, dtype=torch.float64), 0.1)
        controller(self.model, report)


# ---- dose and shapes


def test_dose_of_a_constant_strength_under_a_cosine_in_closed_form(digits: Dataset) -> None:
    r"""$\sum_k \tfrac12\eta(1+\cos\frac{\pi k}{T})$ over k < T is $\eta(T+1)/2$; three steps an epoch."""
    model, n_epochs, alphas = ensemble(), 5, [0.01, 0.0]
    penalty = penalty_of(model, alphas)
    controller = ScheduleController(penalty, model.member(0), MOMENTUM, [1.0] * n_epochs)
    fitted(model, digits, penalty, controller, n_epochs)
    course = controller.course()
    assert list(course.columns) == ["epoch", "member", "alpha", "dose", "l1", "batch_accuracy"]
    assert len(course) == 2 * n_epochs
    last = course[course["epoch"] == n_epochs].set_index("member")
    for member, alpha in enumerate(alphas):
        expected = 3 * 0.1 * alpha * (n_epochs + 1) / 2 / (1 - MOMENTUM)
        assert last.loc[member, "dose"] == pytest.approx(expected, rel=1e-12)
        own = course[course["member"] == member]
        rates = [0.05 * (1 + math.cos(math.pi * k / n_epochs)) for k in range(n_epochs)]
        np.testing.assert_allclose(
            own["dose"], np.cumsum([3 * rate * alpha / (1 - MOMENTUM) for rate in rates]), rtol=1e-12
        )
    weights = effective_weights(model.parameters, model.member(0)).values()
    l1 = sum(w.detach().abs().flatten(1).sum(dim=1) for w in weights)
    np.testing.assert_allclose(last["l1"], l1, rtol=1e-5)


def test_each_epoch_is_trained_with_its_own_factor_of_the_shape(digits: Dataset) -> None:
    model, shape, used = ensemble(), [0.5, 1.0, 0.0, 0.25], []
    penalty = penalty_of(model, [0.01, 0.02])
    controller = ScheduleController(penalty, model.member(0), MOMENTUM, shape)

    def noted(model: Ensemble, step: int) -> None:
        used.append(penalty.strengths.tolist())
        penalty(model, step)

    train(
        model,
        digits,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        n_epochs=4,
        batch_size=75,
        before_step=[noted],
        after_epoch=[controller],
        progress=False,
    )
    expected = [[0.01 * s, 0.02 * s] for s in shape for _ in range(2)]
    np.testing.assert_allclose(used, expected, rtol=1e-12)
    np.testing.assert_allclose(
        controller.course()["alpha"], np.outer(shape, [0.01, 0.02]).ravel(), rtol=1e-12
    )
    assert penalty.strengths.tolist() == pytest.approx([0.0025, 0.005])  # the last factor, after the end


@pytest.mark.parametrize("shape", [[], [1.0, -0.1], [float("nan")], [[1.0]], [float("inf")]])
def test_bad_shapes_are_refused(shape: Any) -> None:
    stub = Stub(1)
    with pytest.raises(ValueError, match="a shape is a list of numbers, 0 or above, one an epoch; got"):
        ScheduleController(penalty_of(stub.model, [1.0]), stub.network, MOMENTUM, shape)


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_a_momentum_for_which_there_is_no_dose_is_refused(momentum: float) -> None:
    stub = Stub(1)
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\); got"):
        ScheduleController(penalty_of(stub.model, [1.0]), stub.network, momentum, [1.0])


# ---- algorithm 1


def pilot(
    stub: Stub, strengths: list[float], n_epochs: int, factor: float, least: list[float]
) -> PilotController:
    return PilotController(
        penalty_of(stub.model, strengths),
        stub.network,
        MOMENTUM,
        n_epochs=n_epochs,
        factor=factor,
        least_l1=torch.tensor(least),
    )


def slow(
    alpha: float, accuracies: list[float], norms: list[float], n_epochs: int, factor: float, least: float
) -> list[float]:
    """Algorithm 1 line by line: the strengths of epochs 1 to T + 1."""
    strengths, previous = [alpha], 0.0
    for k in range(1, n_epochs + 1):
        accuracy = accuracies[k - 1]
        if accuracy >= previous and norms[k - 1] >= least and k <= n_epochs / 2:
            alpha = alpha * factor
        else:
            alpha = alpha / factor
        strengths.append(alpha)
        previous = accuracy
    return strengths


def run(controller: PilotController, stub: Stub, accuracies: Any, norms: Any) -> list[list[float]]:
    found = [controller.penalty.strengths.tolist()]
    for k in range(len(accuracies)):
        stub.tell(controller, k + 1, list(accuracies[k]), list(norms[k]))
        found.append(controller.penalty.strengths.tolist())
    return found


@st.composite
def courses(draw: st.DrawFn) -> tuple[int, float, list[list[float]], list[list[float]]]:
    n_epochs = draw(st.integers(1, 9))
    level = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])

    def rows() -> Any:
        pairs = st.tuples(level, level, level).map(list)
        return draw(st.lists(pairs, min_size=n_epochs, max_size=n_epochs))

    return n_epochs, draw(st.floats(1.0, 3.0)), rows(), rows()


@given(courses())
def test_algorithm_1_agrees_with_a_slow_loop_member_by_member(
    course: tuple[int, float, list[list[float]], list[list[float]]],
) -> None:
    n_epochs, factor, accuracies, norms = course
    starts, least = [0.1, 0.2, 0.0], [0.5, 0.0, 0.75]
    stub = Stub(3)
    found = run(pilot(stub, starts, n_epochs, factor, least), stub, accuracies, norms)
    for i in range(3):
        own = slow(starts[i], [a[i] for a in accuracies], [x[i] for x in norms], n_epochs, factor, least[i])
        np.testing.assert_allclose([row[i] for row in found], own, rtol=1e-10)


@given(courses())
def test_algorithm_1_never_raises_the_strength_in_the_second_half(
    course: tuple[int, float, list[list[float]], list[list[float]]],
) -> None:
    n_epochs, factor, accuracies, norms = course
    stub = Stub(3)
    found = np.array(run(pilot(stub, [1.0] * 3, n_epochs, factor, [0.5] * 3), stub, accuracies, norms))
    late = found[math.floor(n_epochs / 2) :]
    assert (np.diff(late, axis=0) <= 0).all()


@pytest.mark.parametrize(
    ("accuracy", "l1", "epoch", "up"),
    [
        (0.6, 1.0, 1, True),
        (0.6, 1.0, 2, True),
        (0.6, 1.0, 3, False),
        (0.6, 0.5, 2, True),
        (0.6, 0.4, 2, False),
    ],
    ids=["first", "at half", "after half", "at K", "below K"],
)
def test_each_condition_of_algorithm_1_by_itself(accuracy: float, l1: float, epoch: int, up: bool) -> None:
    stub = Stub(1)
    controller = pilot(stub, [1.0], 4, 2.0, [0.5])
    stub.tell(controller, epoch, [accuracy], [l1])
    assert controller.penalty.strengths.tolist() == [2.0 if up else 0.5]


def test_an_accuracy_that_stays_counts_as_no_harm_and_one_that_falls_does_not() -> None:
    stub = Stub(1)
    controller = pilot(stub, [1.0], 10, 2.0, [0.0])
    found = run(controller, stub, [[0.5], [0.5], [0.4], [0.45]], [[1.0]] * 4)
    assert found == [[1.0], [2.0], [4.0], [2.0], [4.0]]


def test_a_network_follows_its_own_course_whatever_the_others_do() -> None:
    rng = np.random.default_rng(0)
    accuracies, norms = rng.random((8, 1)), rng.random((8, 1))
    alone, pair = Stub(1), Stub(2)
    expected = run(pilot(alone, [0.1], 8, 1.5, [0.3]), alone, accuracies, norms)
    together = run(
        pilot(pair, [0.1, 5.0], 8, 1.5, [0.3, 0.9]),
        pair,
        np.hstack([accuracies, rng.random((8, 1))]),
        np.hstack([norms, rng.random((8, 1))]),
    )
    assert [row[:1] for row in together] == expected


def test_algorithm_1_in_training_records_what_it_used(digits: Dataset) -> None:
    model, reports = ensemble(), []
    penalty = penalty_of(model, [1e-4, 1e-3])
    controller = PilotController(
        penalty, model.member(0), MOMENTUM, n_epochs=6, factor=1.5, least_l1=torch.tensor([0.0, 1e6])
    )
    fitted(model, digits, penalty, controller, 6, (lambda model, report: reports.append(report),))
    course = controller.course()
    for member, (alpha, least) in enumerate([(1e-4, 0.0), (1e-3, 1e6)]):
        own = course[course["member"] == member]
        accuracies = [float(report.batch_accuracy[member]) for report in reports]
        np.testing.assert_array_equal(own["batch_accuracy"], accuracies)
        expected = slow(alpha, accuracies, list(own["l1"]), 6, 1.5, least)
        np.testing.assert_allclose(own["alpha"], expected[:-1], rtol=1e-10)
        steps = [3 * report.learning_rate / (1 - MOMENTUM) for report in reports]
        np.testing.assert_allclose(own["dose"], np.cumsum(np.array(steps) * expected[:-1]), rtol=1e-10)
    assert course["alpha"].nunique() > 6


@pytest.mark.parametrize("factor", [0.99, 0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_below_one_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="factor delta must be a number, 1 or above; got"):
        pilot(Stub(1), [1.0], 4, factor, [0.0])


@pytest.mark.parametrize("least", [-1.0, float("nan")])
def test_a_negative_threshold_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match="K on the L1 norm must be 0 or above; got"):
        pilot(Stub(2), [1.0, 1.0], 4, 1.1, [0.0, least])


def test_without_a_full_epoch_the_course_is_empty() -> None:
    stub = Stub(2)
    controller = pilot(stub, [1.0, 1.0], 4, 1.1, [0.0, 0.0])
    assert controller.course().empty
    assert "dose" in controller.course()


def test_the_dose_counts_the_steps_since_the_report_before() -> None:
    stub = Stub(1)
    controller = ScheduleController(penalty_of(stub.model, [2.0]), stub.network, 0.5, [1.0, 3.0])
    stub.tell(controller, 1, [0.5], [1.0])
    stub.tell(controller, 2, [0.5], [1.0])
    # ten steps at rate 0.1 each
    assert controller.course()["dose"].tolist() == pytest.approx([10 * 0.1 * 2 / 0.5, 10 * 0.1 * 8 / 0.5])


def test_next_is_for_subclasses() -> None:
    stub = Stub(1)
    controller = Controller(penalty_of(stub.model, [1.0]), stub.network, 0.0)
    with pytest.raises(NotImplementedError):
        controller.next(EpochReport(1, 1, torch.zeros(1), 0.1), Tensor([1.0]))
