"""Fine-tuning: the stopping rule, against networks trained by hand with one Adam; masks hold; bad input."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from repro.learn import Ensemble, TrainingDivergedError, evaluate, perceptron, train
from repro.learn.seeding import streams
from repro.papers.granger_causal_sgd import fine_tuning
from repro.papers.granger_causal_sgd.fine_tuning import fine_tune, stop_epoch
from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.prune import Mask, random, select

SEEDS = [0, 3]
IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, tune_epochs=4, rate=0.02, batch_size=40
)  # fmt: skip


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def masks(begun: Start) -> list[Mask]:
    generator = torch.Generator().manual_seed(0)
    scores = [random(member, generator=generator) for member in begun.ensemble]
    return [Mask.stack([select(each, sparsity=s) for each in scores]) for s in (0.0, 0.5, 0.9)]


def test_where_the_rule_stops() -> None:
    falling = np.linspace(1, 0.5, 10)
    assert stop_epoch(falling) is None
    assert stop_epoch(np.full(10, 0.3)) == 6
    assert stop_epoch(np.concatenate([falling, np.full(10, 0.6)])) == 15
    slow = 1 - 0.9e-4 * np.arange(20)  # each second epoch is more than 1e-4 below the best noted
    assert stop_epoch(slow) is None
    assert stop_epoch(slow, patience=1) == 2
    assert stop_epoch(1 - 0.9e-5 * np.arange(20)) == 6  # falls 5.4e-5 in five epochs
    assert stop_epoch(np.array([1.0, 1.0, 1.0]), patience=2) == 3
    assert stop_epoch(np.array([])) is None


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.integers(1, 6))
def test_no_epoch_of_the_last_patience_improves(values: list[float], patience: int) -> None:
    losses = np.array(values)
    stop = stop_epoch(losses, 1e-4, patience)
    assert stop is None or patience < stop <= len(losses)
    if stop is not None:
        assert losses[stop - patience : stop].min() >= losses[: stop - patience].min() - 1e-4 - 1e-12
        assert stop_epoch(losses[: stop - 1], 1e-4, patience) is None
        assert stop_epoch(losses[:stop], 1e-4, patience) == stop


def _by_hand(begun: Start, masks: list[Mask], i: int, n_epochs: int) -> tuple[float, float, list[float]]:
    """Training loss and test accuracy of network i under mask ``i // 2``, and its epochs' mean losses."""
    member = i % len(SEEDS)
    data, network = begun.datasets[member], begun.ensemble.member(member)
    mask = {name: kept[member] for name, kept in masks[i // len(SEEDS)].items()}
    adam, epochs = torch.optim.Adam(network.parameters(), lr=IRIS.rate), []
    for epoch in range(n_epochs):
        with torch.no_grad():
            for name, p in network.named_parameters():
                p *= mask.get(name, 1)
        if epoch % 20 == 0:
            seed = derived_seed(SEEDS[member], 0, epoch) if epoch else SEEDS[member]
            order = streams(seed).shuffle
        total = 0.0
        for index in torch.randperm(len(data.y_train), generator=order).split(IRIS.batch_size):
            loss = cross_entropy(network(data.x_train[index]), data.y_train[index])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            with torch.no_grad():
                for name, p in network.named_parameters():
                    p *= mask.get(name, 1)
            total += loss.item() * len(index)
        epochs.append(total / len(data.y_train))
    loss_, _ = evaluate(network, data.x_train, data.y_train)
    return float(loss_), float(evaluate(network, data.x_test, data.y_test)[1]), epochs


@pytest.mark.parametrize("n_epochs", [4, 23])
def test_fine_tuning_is_adam_by_hand(begun: Start, masks: list[Mask], n_epochs: int) -> None:
    frame = fine_tune(begun, masks, tune_epochs=n_epochs)
    assert list(frame["seed"]) == SEEDS * 3
    assert not frame["stopped"].any()
    for i, row in enumerate(frame.itertuples()):
        loss, accuracy, _ = _by_hand(begun, masks, i, n_epochs)
        assert row.train_loss == pytest.approx(loss, rel=1e-3)
        assert row.test_accuracy == accuracy
        assert row.tune_epochs == n_epochs


def test_each_network_is_measured_where_the_rule_stops_it(
    begun: Start, masks: list[Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = partial(stop_epoch, tolerance=0.02, patience=2)
    monkeypatch.setattr(fine_tuning, "stop_epoch", coarse)
    frame = fine_tune(begun, masks, tune_epochs=40)
    assert frame["tune_epochs"].nunique() > 2
    for i, row in enumerate(frame.itertuples()):
        assert coarse(np.array(_by_hand(begun, masks, i, 40)[2])) == row.tune_epochs
        assert row.train_loss == pytest.approx(_by_hand(begun, masks, i, int(row.tune_epochs))[0], rel=1e-3)
    assert frame["stopped"].all()


def _spied(monkeypatch: pytest.MonkeyPatch) -> list[Ensemble]:
    """The networks of all calls of the training loop from now on."""
    seen: list[Ensemble] = []

    def spy(model: Ensemble, *args: object, **kwargs: object) -> object:
        seen.append(model)
        return train(model, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(fine_tuning, "train", spy)
    return seen


def test_no_more_epochs_once_all_have_stopped(
    begun: Start, masks: list[Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _spied(monkeypatch)
    still = replace(begun, setting=replace(IRIS, rate=1e-9))
    frame = fine_tune(still, masks, tune_epochs=1000)
    assert list(frame["tune_epochs"]) == [6] * 6
    assert frame["stopped"].all()
    assert len(seen) == 1


def test_masks_hold_and_biases_are_free(
    begun: Start, masks: list[Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _spied(monkeypatch)
    before = begun.ensemble.state_dict()
    nothing = Mask({name: torch.zeros_like(kept) for name, kept in masks[0].items()})
    frame = fine_tune(begun, [*masks, nothing], tune_epochs=21)
    assert len(seen) == 2
    joined = Mask({name: torch.cat([m[name] for m in [*masks, nothing]]) for name in nothing})
    assert joined.holds(seen[-1])
    for name, p in seen[-1].parameters.items():
        moved = p != torch.cat([before[name]] * 4)
        assert moved[joined[name]].double().mean() > 0.8 if name in joined else moved[:4].any(dim=1).all()
    assert all(torch.equal(t, before[name]) for name, t in begun.ensemble.state_dict().items())
    # without weights only the class shares can be learned; iris has three equal classes
    assert frame["train_loss"].iloc[-2:].to_numpy() == pytest.approx(np.log(3), abs=0.02)


def test_equal_arguments_equal_tables(begun: Start, masks: list[Mask]) -> None:
    pd.testing.assert_frame_equal(fine_tune(begun, masks), fine_tune(begun, masks))


def test_bad_input_is_named(begun: Start, masks: list[Mask]) -> None:
    with pytest.raises(ValueError, match="at least one mask"):
        fine_tune(begun, [])
    with pytest.raises(ValueError, match="mask 1 has"):
        fine_tune(begun, [masks[0], Mask({name: kept[:1] for name, kept in masks[1].items()})])
    for number in (0, 2.5, True):
        with pytest.raises(ValueError, match="tune_epochs must be a whole number"):
            fine_tune(begun, masks, tune_epochs=number)  # type: ignore[arg-type]
    first, second = begun.datasets
    half = replace(begun, datasets=(first, replace(second, x_train=second.x_train * torch.inf)))
    with pytest.raises(TrainingDivergedError, match=r"network 1, seed 3: .* epoch 1 on"):
        fine_tune(half, masks[:1])
