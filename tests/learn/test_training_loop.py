"""The loop against closed forms and plain PyTorch; hooks, schedules, divergence, bad arguments."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.learn import (
    Dataset,
    Ensemble,
    History,
    Record,
    TrainingDivergedError,
    initialization,
    load,
    perceptron,
    small_cnn,
    streams,
    train,
)
from repro.learn import _progress as progress_module
from repro.learn.training import resolve_device

SGD = partial(torch.optim.SGD, lr=0.1)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", train=200, validation=97, test=300)


def build(seed: int, sizes: tuple[int, ...] = (64, 12, 10)) -> nn.Sequential:
    with initialization(seed):
        return perceptron(sizes)


def one_example(n: int = 1, y: int = 1) -> Dataset:
    x = torch.ones(n, 1)
    labels = torch.full((n,), y)
    return Dataset(x, labels, x[:0], labels[:0], x[:0], labels[:0], 2, "one example")


# ---- closed form


def scalar(w: float) -> nn.Sequential:
    network = perceptron((1, 1), bias=False).double()
    with torch.no_grad():
        network[1].weight.fill_(w)
    return network


@settings(max_examples=20)
@given(start=st.floats(-3, 3), rate=st.floats(0.01, 0.4), n_steps=st.integers(1, 12), every=st.integers(1, 5))
def test_descent_on_a_parabola(start: float, rate: float, n_steps: int, every: int) -> None:
    r"""$w_t = 1 + (w_0 - 1)(1 - 2\eta)^t$ for the loss $(w - 1)^2$, with gradients $2(w_t - 1)$."""
    network = scalar(start)
    history = train(
        network,
        one_example(),
        optimizer=partial(torch.optim.SGD, lr=rate),
        n_steps=n_steps,
        loss="squared_error",
        record=Record(("weights", "gradients", "loss"), every=every),
    )
    assert history.recording is not None
    t = np.arange(0, n_steps + 1, every)
    w = 1 + (start - 1) * (1 - 2 * rate) ** t
    before = t < n_steps
    recording = history.recording
    assert recording.weight_steps.tolist() == t.tolist()
    assert recording.steps.tolist() == t[before].tolist()
    np.testing.assert_allclose(recording.weights["1.weight"].flatten(), w, atol=1e-12)
    np.testing.assert_allclose(recording.gradients["1.weight"].flatten(), 2 * (w[before] - 1), atol=1e-12)
    np.testing.assert_allclose(recording.loss, (w[before] - 1) ** 2, atol=1e-12)
    final = 1 + (start - 1) * (1 - 2 * rate) ** n_steps
    assert network[1].weight.item() == pytest.approx(final, abs=1e-12)
    assert history.last("train_loss")[0] == pytest.approx((final - 1) ** 2, abs=1e-12)


def test_the_sum_is_as_many_times_the_mean() -> None:
    results = {}
    for reduction, rate in (("mean", 0.3), ("sum", 0.1)):
        network = scalar(0.0)
        train(
            network,
            one_example(3),
            optimizer=partial(torch.optim.SGD, lr=rate),
            n_steps=4,
            loss="squared_error",
            reduction=reduction,
        )
        results[reduction] = network[1].weight.item()
    assert results["mean"] == pytest.approx(results["sum"], abs=1e-12)


def test_named_losses() -> None:
    logits = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
    y = torch.tensor([1, 0])
    from repro.learn._losses import LOSSES

    torch.testing.assert_close(
        LOSSES["logistic"](logits, y),
        torch.tensor([math.log1p(math.exp(-0.5)), math.log1p(math.exp(-2.0))], dtype=torch.float64),
    )
    two = torch.tensor([[1.0, 3.0]])
    assert LOSSES["squared_error"](two, torch.tensor([1])).item() == pytest.approx((1 + 4) / 2)
    assert LOSSES["cross_entropy"](two, torch.tensor([1])).item() == pytest.approx(math.log1p(math.exp(-2)))


# ---- agreement with plain PyTorch


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("factory", [MOMENTUM, partial(torch.optim.Adam, lr=1e-2)])
def test_agrees_with_a_plain_loop(
    digits: Dataset, batch_size: int | None, factory: Callable[..., torch.optim.Optimizer]
) -> None:
    network = build(0)
    plain = copy.deepcopy(network)
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    train(network, digits, optimizer=factory, schedule=schedule, n_epochs=3, batch_size=batch_size, seed=9)
    optimizer = factory(plain.parameters())
    clock = schedule(optimizer)
    generator = streams(9).shuffle
    for _ in range(3):
        order = torch.randperm(200, generator=generator) if batch_size else torch.arange(200)
        for index in order.split(batch_size or 200):
            optimizer.zero_grad()
            F.cross_entropy(plain(digits.x_train[index]), digits.y_train[index]).backward()
            optimizer.step()
        clock.step()
    for got, expected in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("images", [False, True])
def test_members_of_an_ensemble_train_as_alone(images: bool) -> None:
    dataset = load("digits", train=200, validation=97, test=300, images=images)

    def make(seed: int) -> nn.Module:
        with initialization(seed):
            return small_cnn(width=3, batch_norm=True) if images else perceptron((64, 12, 10))

    members = [make(s) for s in range(3)]
    ensemble = Ensemble(members)
    record = Record(("gradients", "loss"), every=3)
    together = train(
        ensemble, dataset, optimizer=MOMENTUM, n_epochs=2, batch_size=64, seed=[0, 1, 2], record=record
    )
    for i, member in enumerate(members):
        alone = train(member, dataset, optimizer=MOMENTUM, n_epochs=2, batch_size=64, seed=i, record=record)
        for got, expected in zip(
            ensemble.member(i).state_dict().values(), member.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        rows = together.metrics[together.metrics["member"] == i].drop(columns="member")
        np.testing.assert_allclose(rows, alone.metrics.drop(columns="member"), atol=1e-5)
        assert together.recording is not None
        assert alone.recording is not None
        torch.testing.assert_close(together.recording.loss[:, i], alone.recording.loss, atol=1e-5, rtol=1e-5)
        for name, rows_ in alone.recording.gradients.items():
            torch.testing.assert_close(together.recording.gradients[name][:, i], rows_, atol=1e-5, rtol=1e-4)


def test_each_member_may_have_data_of_its_own() -> None:
    sets = [load("digits", seed=s, train=100, validation=0, test=200) for s in (0, 1)]
    members = [build(s) for s in (0, 1)]
    ensemble = Ensemble(members)
    for batch_size in (None, 16):
        together = train(ensemble, sets, optimizer=SGD, n_epochs=2, batch_size=batch_size, seed=[3, 4])
        for i in (0, 1):
            alone = train(members[i], sets[i], optimizer=SGD, n_epochs=2, batch_size=batch_size, seed=3 + i)
            assert together.last("test_loss")[i] == pytest.approx(alone.last("test_loss")[0], abs=1e-5)


def test_one_seed_shows_all_members_the_same_batches(digits: Dataset) -> None:
    same = [build(0), build(0)]
    for seed, expected in ((7, True), ([7, 8], False)):
        ensemble = Ensemble(same)
        train(ensemble, digits, optimizer=SGD, n_steps=3, batch_size=20, seed=seed)
        weight = ensemble.parameters["1.weight"]
        assert torch.allclose(weight[0], weight[1]) == expected


# ---- streams


def test_the_order_of_batches_leaves_the_initial_weights_alone(digits: Dataset) -> None:
    records = []
    for seed, batch_size in ((0, 10), (0, 50), (1, 50)):
        history = train(
            build(0), digits, optimizer=SGD, n_steps=4, batch_size=batch_size, seed=seed, record=Record()
        )
        assert history.recording is not None
        records.append(history.recording.weights["1.weight"])
    assert torch.equal(records[0][0], records[1][0])
    assert torch.equal(records[1][0], records[2][0])
    assert not torch.equal(records[1][-1], records[2][-1])


@settings(max_examples=15)
@given(batch_size=st.integers(1, 12), n_epochs=st.integers(1, 3), shuffle=st.booleans())
def test_every_epoch_visits_every_example_once(batch_size: int, n_epochs: int, shuffle: bool) -> None:
    x = torch.arange(10.0)[:, None]
    y = torch.zeros(10, dtype=torch.int64)
    dataset = Dataset(x, y, x[:0], y[:0], x[:0], y[:0], 2, "ten numbers")
    seen: list[float] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1, 1))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.extend(x.flatten().tolist())
            return x @ self.w

    train(
        Watch(),
        dataset,
        optimizer=SGD,
        n_epochs=n_epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        loss="logistic",
    )
    epochs = [seen[i : i + 10] for i in range(0, len(seen), 10)]
    assert len(epochs) == n_epochs
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    if not shuffle:
        assert all(epoch == sorted(epoch) for epoch in epochs)


# ---- what happens around a step


def test_a_mask_holds_after_every_step_through_momentum_and_decay(digits: Dataset) -> None:
    kept = {}
    for masked in (True, False):
        network = build(0)
        mask = torch.rand(12, 64, generator=torch.Generator().manual_seed(0)) > 0.5
        steps: list[int] = []

        def hold(model: nn.Sequential, step: int, mask: Tensor = mask, steps: list[int] = steps) -> None:
            steps.append(step)
            model[1].weight.mul_(mask)

        with torch.no_grad():
            network[1].weight.mul_(mask)
        history = train(
            network,
            digits,
            optimizer=MOMENTUM,
            n_steps=8,
            batch_size=50,
            after_step=[hold] if masked else [],
            record=Record(),
        )
        assert history.recording is not None
        kept[masked] = (history.recording.weights["1.weight"][:, ~mask] == 0).all().item()
        assert steps == (list(range(1, 9)) if masked else [])
    assert kept == {True: True, False: False}  # without the mask the weights come back: the control


def test_schedule_by_step_or_epoch(digits: Dataset) -> None:
    halve = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    rates = {}
    for every in ("epoch", "step"):
        history = train(
            build(0), digits, optimizer=SGD, schedule=halve, schedule_every=every, n_epochs=2, batch_size=50
        )
        rates[every] = history.metrics["learning_rate"].tolist()
    assert rates["epoch"] == pytest.approx([0.1, 0.05, 0.025])
    assert rates["step"] == pytest.approx([0.1, 0.1 / 2**4, 0.1 / 2**8])


def test_history_is_tidy(digits: Dataset) -> None:
    history = train(
        Ensemble([build(0), build(1)]), digits, optimizer=SGD, n_steps=10, batch_size=64, seed=[5, 6]
    )
    metrics = history.metrics
    # 200 examples in batches of 64 are 4 steps an epoch: ten steps end in the middle of the third
    assert metrics["step"].unique().tolist() == [0, 4, 8, 10]
    assert metrics["epoch"].unique().tolist() == [0, 1, 2, 3]
    assert metrics[["epoch", "member"]].drop_duplicates().shape[0] == len(metrics) == 8
    assert metrics["seed"].tolist() == [5, 6] * 4
    assert metrics.loc[metrics["epoch"] == 0, "batch_loss"].isna().all()
    assert metrics.drop(columns="batch_loss").notna().all().all()
    for part in ("train", "validation", "test"):
        assert metrics[f"{part}_accuracy"].between(0, 1).all()
    assert history.last("test_loss").shape == (2,)
    with pytest.raises(KeyError, match="no column 'accuracy'"):
        history.last("accuracy")


def test_batch_losses_are_means_over_examples_of_an_epoch(digits: Dataset) -> None:
    history = train(build(0), digits, optimizer=partial(torch.optim.SGD, lr=0.0), n_epochs=2, batch_size=64)
    # with a rate of 0 nothing moves: batches of 64, 64, 64 and 8 together have the loss of the whole
    np.testing.assert_allclose(
        history.metrics["batch_loss"][1:], history.metrics["train_loss"][1:], rtol=1e-5
    )


def test_long_runs_are_evaluated_about_a_hundred_times(digits: Dataset) -> None:
    history = train(scalar(0.5), one_example(), optimizer=SGD, n_steps=950, loss="squared_error")
    assert 100 <= len(history.metrics) <= 110
    assert history.metrics["step"].iloc[-1] == 950


def test_parts_that_are_empty_have_no_columns() -> None:
    history = train(scalar(0.5), one_example(), optimizer=SGD, n_steps=2, loss="squared_error")
    assert not [name for name in history.metrics if name.startswith(("validation", "test"))]


def test_evaluation_leaves_running_statistics_and_mode_alone() -> None:
    dataset = load("digits", train=100, validation=0, test=50, images=True)
    network = small_cnn(width=2, batch_norm=True).eval()
    train(network, dataset, optimizer=SGD, n_steps=3)
    assert not network.training
    assert network[1].num_batches_tracked.item() == 3


def test_networks_learn_digits_but_not_shuffled_labels(digits: Dataset) -> None:
    accuracy = {}
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    for name, y in (("real", digits.y_train), ("shuffled", digits.y_train[order])):
        dataset = Dataset(**{**vars(digits), "y_train": y})
        history = train(build(0, (64, 32, 10)), dataset, optimizer=MOMENTUM, n_epochs=25, batch_size=32)
        accuracy[name] = history.last("test_accuracy")[0]
        assert history.last("train_accuracy")[0] > 0.5
    assert accuracy["real"] > 0.85
    assert accuracy["shuffled"] < 0.25  # chance is 0.1, its standard error over 300 images 0.017


# ---- divergence


def test_divergence_names_epoch_and_step() -> None:
    # the parabola with a rate of 1e30: w is about 1e30 after one step, and its square leaves float32
    network = scalar(0.0).float()
    with pytest.raises(TrainingDivergedError, match="became inf at epoch 2, step 2"):
        train(
            network,
            one_example(),
            optimizer=partial(torch.optim.SGD, lr=1e30),
            n_steps=500,
            loss="squared_error",
        )


def test_divergence_of_one_member_leaves_the_others_alone() -> None:
    members = [scalar(s).float() for s in (0.5, math.inf, 0.2)]
    ensemble = Ensemble(members)
    history = train(ensemble, one_example(), optimizer=SGD, n_steps=5, loss="squared_error")
    assert history.diverged == {1: (1, 1)}
    expected = [1 + (s - 1) * 0.8**5 for s in (0.5, 0.2)]
    assert ensemble.parameters["1.weight"][[0, 2]].flatten().tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(TrainingDivergedError, match="all 2 members"):
        train(
            Ensemble([members[1], members[1]]), one_example(), optimizer=SGD, n_steps=5, loss="squared_error"
        )


# ---- bad arguments


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_steps": 3}, ValueError, "either n_epochs or n_steps"),
        ({"n_epochs": None}, ValueError, "either n_epochs or n_steps"),
        ({"n_epochs": 0}, ValueError, "n_epochs must be a whole number, 1 or above; got 0"),
        ({"batch_size": 2.5}, ValueError, "batch_size .* got 2.5"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every"),
        ({"loss": "crossentropy"}, ValueError, "did you mean 'cross_entropy'"),
        ({"loss": F.cross_entropy}, ValueError, "one number for each example"),
        ({"loss": "logistic"}, ValueError, "the loss does not fit outputs"),
        ({"reduction": "median"}, ValueError, "reduction is 'mean' or 'sum'; got 'median'"),
        ({"schedule_every": "day"}, ValueError, "got 'day'"),
        ({"optimizer": torch.optim.LBFGS}, ValueError, "LBFGS"),
        ({"optimizer": "sgd"}, TypeError, "functools.partial"),
        ({"optimizer": lambda p: None}, TypeError, "returned a NoneType"),
        ({"after_step": [3]}, TypeError, "got 3"),
        ({"after_step": print}, TypeError, "put it in a list"),
        ({"device": "tpu"}, ValueError, "device is 'auto', 'cpu' or 'cuda'; got 'tpu'"),
        ({"device": "cpu", "mixed_precision": True}, ValueError, "CUDA only; the device is 'cpu'"),
        ({"seed": [1, 2]}, ValueError, "seed is one seed or 1, one a member; got 2"),
        ({"seed": -4}, ValueError, "got -4"),
        ({"dataset": "digits"}, TypeError, "got a str"),
        ({"dataset": []}, ValueError, "got 0"),
        ({"model": perceptron((63, 10))}, ValueError, "does not take inputs of shape"),
        (
            {"model": perceptron((64, 5))},
            ValueError,
            "classes go up to 9, but the network has only 5 outputs",
        ),
        ({"model": nn.Sequential(nn.Flatten(0))}, ValueError, "nothing to train"),
        ({"model": "network"}, TypeError, "got a str"),
        ({"record": Record(parameters=["1.wieght"])}, ValueError, "did you mean '1.weight'"),
        ({"record": Record(max_bytes=1000)}, MemoryError, "more than max_bytes=1,000"),
    ],
)
def test_bad_arguments_are_found_before_any_work(
    digits: Dataset, change: dict[str, object], error: type[Exception], message: str
) -> None:
    network = build(0)
    before = copy.deepcopy(network.state_dict())
    arguments: dict[str, object] = {
        "model": network,
        "dataset": digits,
        "optimizer": SGD,
        "n_epochs": 1,
    } | change
    with pytest.raises(error, match=message):
        train(**arguments)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_device_is_said() -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        resolve_device("cuda")
    assert resolve_device("auto").type == "cpu"


def test_data_sets_of_different_shapes_are_refused() -> None:
    sets = [load("digits", train=n, validation=0, test=50) for n in (100, 120)]
    with pytest.raises(ValueError, match="x_train of set 0"):
        train(Ensemble([build(0), build(1)]), sets, optimizer=SGD, n_steps=1)


# ---- progress


def test_progress_only_when_somebody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(progress: bool | None) -> str:
        train(scalar(0.0), one_example(), optimizer=SGD, n_steps=3, loss="squared_error", progress=progress)
        return capsys.readouterr().err

    assert run(None) == ""  # standard error is no terminal here
    assert "step" in run(True)
    monkeypatch.setenv("REPRO_PROGRESS", "1")
    assert progress_module.somebody_watches()
    assert run(False) == ""
    monkeypatch.setenv("REPRO_PROGRESS", "0")
    assert not progress_module.somebody_watches()


# ---- CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["perceptron", "cnn", "ensemble"])
def test_cuda_agrees_with_the_cpu(mixed: bool, kind: str) -> None:
    dataset = load("digits", train=200, validation=97, test=300, images=kind == "cnn")

    def run(device: str, mixed_precision: bool = False) -> History:
        with initialization(0):
            network = small_cnn(width=3, batch_norm=True) if kind == "cnn" else perceptron((64, 12, 10))
        model = Ensemble([network, network]) if kind == "ensemble" else network
        record = Record(("weights", "gradients", "loss"), every=2)
        history = train(
            model,
            dataset,
            optimizer=SGD,
            n_epochs=2,
            batch_size=50,
            device=device,
            mixed_precision=mixed_precision,
            record=record,
        )
        tensors = model.parameters.values() if isinstance(model, Ensemble) else model.parameters()
        assert {t.device.type for t in tensors} == {"cpu"}  # it came back
        return history

    on_cpu, on_gpu = run("cpu"), run("cuda", mixed)
    assert on_gpu.device.startswith("cuda")
    tolerance = 0.1 if mixed else 1e-3
    np.testing.assert_allclose(on_gpu.last("train_loss"), on_cpu.last("train_loss"), atol=tolerance)
