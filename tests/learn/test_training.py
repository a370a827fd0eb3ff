"""The loop against a closed form and plain PyTorch; hooks, schedules, augmentation, divergence; evaluation."""

import copy
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from small_networks import small_cnn
from torch import nn

from repro.learn import (
    Dataset,
    Ensemble,
    EpochReport,
    TrainingDivergedError,
    evaluate,
    initialization,
    load,
    perceptron,
    streams,
    train,
)
from repro.learn.training import bar

SGD = partial(torch.optim.SGD, lr=0.1)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
HALVE = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
N, BATCH, STEPS_PER_EPOCH = 200, 64, 4


@pytest.fixture(scope="module")
def digits():
    return load("digits", train=N, validation=97, test=300)


def build(seed, sizes=(64, 12, 10)):
    with initialization(seed):
        return perceptron(sizes)


def fitted(model, data, **options):
    return train(model, data, **{"optimizer": SGD, "n_epochs": 2, "batch_size": BATCH} | options)


def parabola(outputs, y):
    return (outputs[:, 0] - y).square()


def one_example():
    x, y = torch.ones(1, 1), torch.ones(1, dtype=torch.int64)
    return Dataset(x, y, x[:0], y[:0], x[:0], y[:0], 2, "one example")


def scalar(w, dtype=torch.float64):
    network = perceptron((1, 1), bias=False).to(dtype)
    with torch.no_grad():
        network[1].weight.fill_(w)
    return network


@settings(max_examples=12)
@given(start=st.floats(-3, 3), rate=st.floats(0.01, 0.4), n=st.integers(1, 12))
def test_descent_on_a_parabola(start, rate, n):
    r"""$w_t = 1 + (w_0 - 1)(1 - 2\eta)^t$ for the loss $(w - 1)^2$, with gradients $2(w_t - 1)$."""
    network, gradients = scalar(start), []
    how = {"optimizer": partial(torch.optim.SGD, lr=rate), "n_epochs": n, "loss": parabola}
    how["before_step"] = [lambda model, step: gradients.append(model[1].weight.grad.item())]
    history = train(network, one_example(), **how)
    w = 1 + (start - 1) * (1 - 2 * rate) ** np.arange(n + 1)
    np.testing.assert_allclose(gradients, 2 * (w[:-1] - 1), atol=1e-12)
    np.testing.assert_allclose(history.metrics["train_loss"], (w - 1) ** 2, atol=1e-12)
    assert network[1].weight.item() == pytest.approx(w[-1], abs=1e-12)
    assert not [name for name in history.metrics if name.startswith(("validation", "test"))]


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("factory", [MOMENTUM, partial(torch.optim.Adam, lr=1e-2)])
def test_agrees_with_a_plain_loop(digits, batch_size, factory):
    network = build(0)
    plain = copy.deepcopy(network)
    reports, how = [], {"optimizer": factory, "schedule": HALVE, "n_epochs": 3, "batch_size": batch_size}
    fitted(network, digits, **how, seed=9, after_epoch=[lambda model, report: reports.append(report)])
    optimizer = factory(plain.parameters())
    clock = HALVE(optimizer)
    generator = streams(9).shuffle
    shares, rates = [], []
    for _ in range(3):
        order = torch.randperm(N, generator=generator) if batch_size else torch.arange(N)
        right = 0
        for index in order.split(batch_size or N):
            optimizer.zero_grad()
            outputs, y = plain(digits.x_train[index]), digits.y_train[index]
            right += sum(int(np.argmax(o) == c) for o, c in zip(outputs.tolist(), y.tolist(), strict=True))
            F.cross_entropy(outputs, y).backward()
            optimizer.step()
        shares.append(right / N)
        rates.append(optimizer.param_groups[0]["lr"])
        clock.step()
    torch.testing.assert_close(network.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose([r.batch_accuracy.item() for r in reports], shares, atol=1.5 / N)  # ties
    assert [r.learning_rate for r in reports] == pytest.approx(rates)
    n = len(range(0, N, batch_size or N))
    assert [(r.epoch, r.step) for r in reports] == [(k, k * n) for k in (1, 2, 3)]


@pytest.mark.parametrize("images", [False, True])
def test_members_of_an_ensemble_train_as_alone(images):
    dataset = load("digits", train=N, validation=97, test=300, images=images)

    def make(seed):
        with initialization(seed):
            return small_cnn(width=3, batch_norm=True).eval() if images else perceptron((64, 12, 10))

    members = [make(s) for s in range(3)]
    ensemble = Ensemble(members)
    together = fitted(ensemble, dataset, optimizer=MOMENTUM, seed=[0, 1, 2])
    for i, member in enumerate(members):
        alone = fitted(member, dataset, optimizer=MOMENTUM, seed=i)
        torch.testing.assert_close(ensemble.member(i).state_dict(), member.state_dict(), atol=1e-5, rtol=1e-5)
        rows = together.metrics[together.metrics["member"] == i].drop(columns="member")
        np.testing.assert_allclose(rows, alone.metrics.drop(columns="member"), atol=1e-5)
        assert member.training != images  # the mode is what it was
        if images:  # evaluations leave running statistics alone
            assert member[1].num_batches_tracked.item() == 2 * STEPS_PER_EPOCH


def test_hooks_are_called_around_each_update_in_their_order_without_gradients(digits):
    network, calls, weights = build(0), [], []

    def told(name):
        def hook(model, told):
            assert (model is network, model.training, torch.is_grad_enabled()) == (True, True, False)
            calls.append((name, told.step if isinstance(told, EpochReport) else told))
            weights.append(model[1].weight.detach().clone())

        return hook

    names = ("first", "second", "third", "fourth")
    first, second, third, fourth = map(told, names)
    hooks = {"before_step": [first, second], "after_step": [third, fourth], "after_epoch": [told("epoch")]}
    fitted(network, digits, **hooks)
    expected = []
    for step in range(1, 2 * STEPS_PER_EPOCH + 1):
        expected += [(name, step) for name in names] + [("epoch", step)] * (step % STEPS_PER_EPOCH == 0)
    assert calls == expected
    for ((before, _), (after, _)), (old, new) in zip(pairwise(calls), pairwise(weights), strict=True):
        # the update lies between the second and the third, and nothing else changes weights
        assert torch.equal(old, new) == ((before, after) != ("second", "third"))
    alone = build(0)
    fitted(alone, digits)
    assert torch.equal(alone[1].weight, network[1].weight)  # who only looks changes nothing


def test_augmentation_is_trained_on_reproducible_and_leaves_the_other_streams_alone(digits):
    def noise(x, generator, strength=1.0):
        return x + strength * torch.randn(x.shape, generator=generator)

    found = []
    for augment in (None, partial(noise, strength=0.0), noise, noise):
        network = build(0)
        history = fitted(network, digits, augment=augment)
        found.append(network[1].weight.detach())
        # evaluations are on the data as they are
        expected = F.cross_entropy(network(digits.x_train), digits.y_train).item()
        assert history.last("train_loss")[0] == pytest.approx(expected, rel=1e-5)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])
    assert not torch.equal(found[0], found[2])


def test_history_is_tidy(digits):
    still = partial(torch.optim.SGD, lr=0.0)
    ensemble = Ensemble([build(0), build(1)])
    history = fitted(ensemble, digits, optimizer=still, n_epochs=3, seed=[5, 6], evaluate_every=2)
    metrics = history.metrics
    assert metrics["epoch"].tolist() == [0, 0, 2, 2, 3, 3]
    assert metrics["step"].tolist() == [0, 0, 8, 8, 12, 12]
    assert metrics["seed"].tolist() == [5, 6] * 3
    for part in ("train", "validation", "test"):
        assert metrics[f"{part}_accuracy"].between(0, 1).all()
    assert history.last("test_loss").shape == (2,)
    assert fitted(ensemble, digits, optimizer=still, n_epochs=3, seed=[5, 6], evaluate_every=0).metrics.empty


def test_networks_learn_digits_but_not_shuffled_labels(digits):
    accuracy = {}
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for name, y in (("real", digits.y_train), ("shuffled", digits.y_train[order])):
        dataset = Dataset(**{**vars(digits), "y_train": y})
        how = {"optimizer": MOMENTUM, "n_epochs": 25, "batch_size": 32, "evaluate_every": 25}
        history = fitted(build(0, (64, 32, 10)), dataset, **how)
        accuracy[name] = history.last("test_accuracy")[0]
        assert history.last("train_accuracy")[0] > 0.5
    assert accuracy["real"] > 0.85
    assert accuracy["shuffled"] < 0.25  # chance is 0.1, its standard error over 300 images 0.017


def test_divergence_of_one_member_leaves_the_others_alone():
    members = [scalar(s) for s in (0.5, math.inf, 0.2)]
    ensemble = Ensemble(members)
    history = train(ensemble, one_example(), optimizer=SGD, n_epochs=5, loss=parabola)
    assert history.diverged == {1: (1, 1)}
    expected = [1 + (s - 1) * 0.8**5 for s in (0.5, 0.2)]
    assert ensemble.parameters["1.weight"][[0, 2]].flatten().tolist() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(TrainingDivergedError, match="all 2 members"):
        train(Ensemble([members[1]] * 2), one_example(), optimizer=SGD, n_epochs=5, loss=parabola)


@settings(max_examples=12)
@given(n=st.sampled_from([1, 7, 30, 9000]), size=st.integers(1, 3), per_member=st.booleans())
def test_agrees_with_scikit_learn(n, size, per_member):
    members = [perceptron((4, 5, 3)) for _ in range(size)]
    x = torch.randn((size, n, 4) if per_member else (n, 4))
    y = torch.randint(3, (size, n) if per_member else (n,))
    losses, accuracies = evaluate(Ensemble(members), x, y, per_member=per_member)
    for i, member in enumerate(members):
        own_x, own_y = (x[i], y[i]) if per_member else (x, y)
        probabilities = member(own_x).softmax(1).detach().double().numpy()
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert losses[i].item() == pytest.approx(log_loss(own_y, probabilities, labels=[0, 1, 2]), rel=1e-5)
        assert accuracies[i].item() == pytest.approx(accuracy_score(own_y, probabilities.argmax(1)))
        alone = evaluate(member, own_x, own_y)
        assert alone[0].item() == pytest.approx(losses[i].item(), rel=1e-6)
    assert members[0].training


def test_one_output_is_cut_at_zero():
    x, y = torch.tensor([[-1.0], [0.2], [0.8]]), torch.tensor([0, 1, 0])
    losses, accuracies = evaluate(scalar(1.0, x.dtype), x, y, loss=lambda s, y: (s[:, 0] - y).square())
    assert losses.item() == pytest.approx((1 + 0.8**2 + 0.8**2) / 3)
    assert accuracies.item() == pytest.approx(2 / 3)


def test_nothing_to_evaluate_and_a_loss_that_averages_are_refused():
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="no examples"):
        evaluate(perceptron((2, 2)), x[:0], y[:0])
    with pytest.raises(ValueError, match="one number for each example"):
        evaluate(perceptron((2, 2)), x, y, loss=torch.nn.functional.cross_entropy)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"n_epochs": 0}, ValueError),
        ({"batch_size": 2.5}, ValueError),
        ({"after_step": [3]}, TypeError),
        ({"seed": [1, 2]}, ValueError),
        ({"model": nn.Sequential(nn.Flatten(0))}, ValueError),
    ],
)
def test_bad_arguments_are_found_before_any_work(digits, change, error):
    network = build(0)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(error, match=r"n_epochs|batch_size|hooks|one for all|nothing to train"):
        fitted(**{"model": network, "data": digits} | change)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_progress_only_when_somebody_watches(monkeypatch, capsys):
    for wanted, shown in ((None, False), ("1", True), ("0", False)):  # standard error is no terminal here
        if wanted is not None:
            monkeypatch.setenv("REPRO_PROGRESS", wanted)
        with bar(3) as shown_bar:
            shown_bar.update()
        assert ("step" in capsys.readouterr().err) == shown


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["perceptron", "cnn", "ensemble"])
def test_cuda_agrees_with_the_cpu(mixed, kind):
    dataset = load("digits", train=N, validation=97, test=300, images=kind == "cnn")

    def loss(device, mixed_precision=False):
        with initialization(0):
            network = small_cnn(width=3, batch_norm=True) if kind == "cnn" else perceptron((64, 12, 10))
        model = Ensemble([network, network]) if kind == "ensemble" else network
        history = fitted(model, dataset, device=device, mixed_precision=mixed_precision)
        assert {t.device.type for t in model.state_dict().values()} == {"cpu"}  # it came back
        return float(history.last("train_loss")[0])

    assert loss("cuda", mixed) == pytest.approx(loss("cpu"), abs=0.1 if mixed else 1e-3)
