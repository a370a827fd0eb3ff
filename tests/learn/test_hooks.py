"""Hooks of the loop: what they see and when, reports of epochs against a slow count, augmentation, bad hooks."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repro.learn import Dataset, Ensemble, EpochReport, initialization, load, perceptron, streams, train

N_TRAIN, BATCH = 110, 40
STEPS_PER_EPOCH = 3
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
HALVE = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", train=N_TRAIN, validation=0, test=50)


def build(seed: int) -> nn.Sequential:
    with initialization(seed):
        return perceptron((64, 8, 10))


def fitted(model: Any, data: Dataset, **options: Any) -> Any:
    told = {"optimizer": SGD, "n_epochs": 2, "batch_size": BATCH, "progress": False} | options
    return train(model, data, **told)


def tensors(model: Any) -> dict[str, Tensor]:
    return model.parameters if isinstance(model, Ensemble) else dict(model.named_parameters())


# ---- before_step


@pytest.mark.parametrize("size", [0, 2])
def test_weight_decay_added_by_hand_is_torchs(digits: Dataset, size: int) -> None:
    decay = 0.03

    def add(model: Any, step: int) -> None:
        for parameter in tensors(model).values():
            parameter.grad.add_(parameter, alpha=decay)

    def fresh() -> Any:
        return Ensemble([build(seed) for seed in range(size)]) if size else build(0)

    by_hand, by_torch, without = fresh(), fresh(), fresh()
    fitted(by_hand, digits, before_step=[add])
    fitted(by_torch, digits, optimizer=partial(SGD, weight_decay=decay))
    fitted(without, digits)
    for name, expected in tensors(by_torch).items():
        torch.testing.assert_close(tensors(by_hand)[name], expected, rtol=0, atol=1e-7)
    assert not torch.allclose(tensors(without)["1.weight"], tensors(by_torch)["1.weight"], atol=1e-3)


def test_the_gradient_of_the_batch_is_there_and_that_of_the_step_before_is_not(digits: Dataset) -> None:
    network, same = build(0), build(0)
    seen: list[Tensor] = []

    def note(model: nn.Sequential, step: int) -> None:
        seen.append(model[1].weight.grad.clone())

    fitted(network, digits, optimizer=partial(torch.optim.SGD, lr=0.0), batch_size=None, before_step=[note])
    nn.functional.cross_entropy(same(digits.x_train), digits.y_train).backward()
    assert len(seen) == 2
    for gradient in seen:
        torch.testing.assert_close(gradient, same[1].weight.grad)


def test_hooks_are_called_around_each_update_in_their_order_without_gradients(digits: Dataset) -> None:
    network = build(0)
    calls: list[tuple[str, int]] = []
    weights: list[tuple[str, Tensor]] = []

    def told(name: str) -> Any:
        def hook(model: nn.Sequential, told: int | EpochReport) -> None:
            assert model is network
            assert model.training
            assert not torch.is_grad_enabled()
            calls.append((name, told.step if isinstance(told, EpochReport) else told))
            weights.append((name, model[1].weight.detach().clone()))

        return hook

    fitted(
        network,
        digits,
        before_step=[told("first"), told("second")],
        after_step=[told("third"), told("fourth")],
        after_epoch=[told("epoch"), told("epoch too")],
    )
    expected = []
    for step in range(1, 2 * STEPS_PER_EPOCH + 1):
        expected += [(name, step) for name in ("first", "second", "third", "fourth")]
        if step % STEPS_PER_EPOCH == 0:
            expected += [("epoch", step), ("epoch too", step)]
    assert calls == expected
    for (before, old), (after, new) in pairwise(weights):
        # the update lies between the second and the third, and nothing else changes weights
        assert torch.equal(old, new) == ((before, after) != ("second", "third"))


def test_a_gradient_that_a_hook_clears_moves_nothing(digits: Dataset) -> None:
    network, before = build(0), build(0)

    def freeze(model: nn.Sequential, step: int) -> None:
        model[1].weight.grad.zero_()

    fitted(network, digits, before_step=[freeze])
    assert torch.equal(network[1].weight, before[1].weight)
    assert not torch.equal(network[3].weight, before[3].weight)


# ---- after_epoch


def slow_accuracy(seed: int, data: Dataset, n_epochs: int, shuffle_seed: int) -> list[float]:
    """Each batch counted before its update, in a plain loop of its own."""
    network = build(seed)
    stepper = SGD(network.parameters())
    order_of = streams(shuffle_seed).shuffle
    shares = []
    for _ in range(n_epochs):
        order = torch.randperm(N_TRAIN, generator=order_of)
        right = 0
        for start in range(0, N_TRAIN, BATCH):
            some = order[start : start + BATCH]
            outputs = network(data.x_train[some])
            for output, label in zip(outputs.tolist(), data.y_train[some].tolist(), strict=True):
                right += int(np.argmax(output) == label)
            stepper.zero_grad()
            nn.functional.cross_entropy(outputs, data.y_train[some]).backward()
            stepper.step()
        shares.append(right / N_TRAIN)
    return shares


@pytest.mark.parametrize("seeds", [[3], [3, 4, 5]])
def test_batch_accuracy_agrees_with_a_slow_count(digits: Dataset, seeds: list[int]) -> None:
    reports: list[EpochReport] = []
    model = Ensemble([build(s) for s in seeds]) if len(seeds) > 1 else build(seeds[0])
    fitted(model, digits, n_epochs=3, seed=seeds, after_epoch=[lambda model, report: reports.append(report)])
    found = torch.stack([report.batch_accuracy for report in reports])
    assert found.shape == (3, len(seeds))
    assert found.dtype == torch.float64
    expected = [slow_accuracy(s, digits, 3, s) for s in seeds]
    np.testing.assert_allclose(found.T.numpy(), expected, atol=1.5 / N_TRAIN)  # a tie may go either way
    assert [(r.epoch, r.step) for r in reports] == [(k, k * STEPS_PER_EPOCH) for k in (1, 2, 3)]


def test_a_single_output_is_counted_by_its_threshold() -> None:
    data = load("breast_cancer", train=100, validation=0, test=10)
    with initialization(0):
        network = perceptron((30, 1))
    right = (network(data.x_train)[:, 0] > 0).long() == data.y_train
    reports: list[EpochReport] = []
    train(
        network,
        data,
        optimizer=SGD,
        n_epochs=1,
        loss="logistic",
        after_epoch=[lambda model, report: reports.append(report)],
        progress=False,
    )
    assert reports[0].batch_accuracy.tolist() == pytest.approx([right.double().mean().item()])


@pytest.mark.parametrize(
    ("every", "expected"), [("epoch", [0.1, 0.05, 0.025]), ("step", [0.1 / 2**3, 0.1 / 2**6, 0.1 / 2**9])]
)
def test_the_learning_rate_is_that_after_the_last_update(
    digits: Dataset, every: str, expected: list[float]
) -> None:
    rates: list[float] = []
    fitted(
        build(0),
        digits,
        n_epochs=3,
        schedule=HALVE,
        schedule_every=every,
        after_epoch=[lambda model, report: rates.append(report.learning_rate)],
    )
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("n_steps", "n_reports"), [(2, 0), (3, 1), (5, 1), (6, 2)])
def test_an_epoch_that_is_cut_short_is_not_reported(digits: Dataset, n_steps: int, n_reports: int) -> None:
    reports: list[EpochReport] = []
    fitted(
        build(0),
        digits,
        n_epochs=None,
        n_steps=n_steps,
        after_epoch=[lambda model, report: reports.append(report)],
    )
    assert [report.epoch for report in reports] == list(range(1, n_reports + 1))


def test_hooks_that_only_look_change_nothing(digits: Dataset) -> None:
    network, watched = build(0), build(0)
    look = [lambda model, told: None]
    fitted(network, digits)
    fitted(watched, digits, before_step=look, after_step=look, after_epoch=look)
    assert torch.equal(network[1].weight, watched[1].weight)


# ---- augment


@pytest.mark.parametrize(
    ("size", "seed", "leading"), [(0, 0, ()), (2, 0, ()), (2, [0, 1], (2,))], ids=["one", "shared", "apart"]
)
def test_batches_are_augmented_in_the_shape_they_come_in(
    digits: Dataset, size: int, seed: Any, leading: tuple[int, ...]
) -> None:
    shapes: list[tuple[int, ...]] = []

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    model = Ensemble([build(s) for s in range(size)]) if size else build(0)
    fitted(model, digits, n_epochs=1, seed=seed, augment=augment)
    assert shapes == [(*leading, n, 64) for n in (40, 40, 30)]


def test_augmentation_is_trained_on_reproducible_and_leaves_the_other_streams_alone(digits: Dataset) -> None:
    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator)

    def nothing(x: Tensor, generator: torch.Generator) -> Tensor:
        torch.randn(x.shape, generator=generator)
        return x

    found = {}
    for name, seed, augment in [
        ("plain", 0, None),
        ("nothing", 0, nothing),
        ("noisy", 0, noise),
        ("again", 0, noise),
    ]:
        network = build(0)
        history = fitted(network, digits, seed=seed, augment=augment)
        found[name] = network[1].weight.detach().clone()
        # evaluations are on the data as they are
        assert history.metrics["train_loss"][0] == pytest.approx(
            nn.functional.cross_entropy(build(0)(digits.x_train), digits.y_train).item(), rel=1e-5
        )
    assert torch.equal(found["plain"], found["nothing"])
    assert torch.equal(found["noisy"], found["again"])
    assert not torch.equal(found["noisy"], found["plain"])


def test_the_draws_come_from_the_stream_of_the_first_seed(digits: Dataset) -> None:
    drawn: list[Tensor] = []

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.rand(3, generator=generator))
        return x

    fitted(Ensemble([build(0), build(1)]), digits, n_epochs=1, seed=[7, 8], augment=augment)
    expected = streams(7).augmentation
    for numbers in drawn:
        assert torch.equal(numbers, torch.rand(3, generator=expected))


# ---- bad hooks


def _hook(model: object, told: object) -> None: ...


@pytest.mark.parametrize("name", ["before_step", "after_step", "after_epoch"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_hook, "got one callable, put it in a list"),
        ([_hook, 3], "got 3"),
        (None, "got a NoneType"),
        (iter([_hook]), "got a list_iterator"),
    ],
    ids=["single", "number", "none", "iterator"],
)
def test_bad_hooks_are_refused_before_any_work(
    digits: Dataset, name: str, given: object, message: str
) -> None:
    network, before = build(0), build(0)
    with pytest.raises(TypeError, match=f"{name} .*{message}"):
        fitted(network, digits, **{name: given})
    assert torch.equal(network[1].weight, before[1].weight)


def test_an_augmentation_that_cannot_be_called_is_refused(digits: Dataset) -> None:
    with pytest.raises(TypeError, match=r"augment is a function.*got 'crop'"):
        fitted(build(0), digits, augment="crop")
