"""Logged SGD against descent by hand; Adam after pruning, its stops epoch by epoch."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from gc_by_hand import IRIS, N_WEIGHTS, SEEDS, descend, in_float64, iris
from small_networks import small_cnn
from torch import nn

from repro.learn import Ensemble, TrainingDivergedError, evaluate, stacked
from repro.papers.granger_causal_sgd import settings, training
from repro.papers.granger_causal_sgd.experiments import _logged
from repro.papers.granger_causal_sgd.training import _train_to_stops, _tune
from repro.prune import Mask, magnitude, random, select


@pytest.fixture(scope="module")
def masks() -> list[Mask]:
    scores = [random(member, generator=torch.Generator().manual_seed(0)) for member in iris().ensemble]
    return [Mask.stack([select(each, sparsity=s) for each in scores]) for s in (0.0, 0.5, 0.9)]


@pytest.mark.parametrize(
    ("how", "masked"),
    [
        ({}, False),
        ({"momentum": 0.9}, False),
        ({"drop_last": False}, False),
        ({"placebo": True}, False),
        ({"momentum": 0.5}, True),
    ],
)
def test_a_trace_is_descent_by_hand_and_its_means_need_no_rows(how, masked, masks):
    held = masks[1] if masked else None
    trace, without = (
        _logged(in_float64(iris()), full_loss=True, mask=held, rows=rows, **how) for rows in (True, False)
    )
    assert without.steps.shape == (2, 0, N_WEIGHTS)
    for i, seed in enumerate(SEEDS):
        mask = held and {name: kept[i] for name, kept in held.items()}
        rows = descend(iris().ensemble.member(i), iris().datasets[i], seed, mask=mask, **how)
        found = {**trace.loss_changes, "energy": trace.energy, "cross": trace.cross, "steps": trace.steps}
        for name, values in found.items():
            torch.testing.assert_close(values[i], rows[name], rtol=1e-9, atol=1e-14, msg=name)
        squares = rows["squares"]
        torch.testing.assert_close(trace.squares(i), squares, rtol=1e-9, atol=0)
        for means in (trace, without):
            torch.testing.assert_close(means.mean_squares[i], squares.mean(dim=0), rtol=1e-9, atol=0)
            for target, covariance in means.covariance.items():
                wanted, atol = (rows[target][:, None] * squares).mean(dim=0), 1e-12 * float(squares.max())
                torch.testing.assert_close(covariance[i], wanted, rtol=1e-9, atol=atol)


def test_what_cannot_be_logged_is_named(monkeypatch):
    normalized = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    for start, changed, message in (
        (replace(iris(), ensemble=Ensemble([normalized] * 2)), {}, r"buffers.*1\.running_mean"),
        (iris(), {"learning_rate": 0.0}, r"learning_rate must be above 0 and finite, got 0.0"),
        (iris(), {"n_epochs": 1, "batch_size": None}, "at least 2 steps; 1 epochs of 90 examples have 1"),
    ):
        with pytest.raises(ValueError, match=message):
            _logged(start, **changed)
    monkeypatch.setattr(training, "_MOST_BYTES", needed := 2 * 15 * 56 * 4)
    assert _logged(iris()).steps.nbytes == needed
    monkeypatch.setattr(training, "_MOST_BYTES", needed - 1)
    with pytest.raises(MemoryError, match=rf"take {needed:,} bytes.*rows=False"):
        _logged(iris())
    _logged(iris(), rows=False)


def test_a_loss_that_is_not_finite_is_named(masks):
    broken = iris().times(1).ensemble
    broken.parameters["3.bias"].data[1] = torch.nan
    for train in (_logged, lambda start: _tune(start, masks[0], 2)):
        with pytest.raises(TrainingDivergedError, match="network 1, seed 3, is not finite in epoch 1"):
            train(replace(iris(), ensemble=broken))


@pytest.fixture(scope="module")
def epochs(masks) -> list[Ensemble]:
    """Each network under each mask, after each epoch of one training."""
    after: list[Ensemble] = []
    keep = [lambda ensemble, report: after.append(Ensemble(list(ensemble)))]
    _tune(iris().times(3), Mask.joined(masks), 12, keep)
    return after


def assert_close(network: nn.Module, other: nn.Module) -> None:
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-4)


def test_an_image_network_alone_is_what_it_is_in_an_ensemble():
    digits = {"dataset": "digits", "data": {"images": True, "train": 100, "test": 50}}
    start = settings.Start.draw(SEEDS, replace(IRIS, build=partial(small_cnn, 2), **digits))
    masks = [select(magnitude(member), sparsity=0.5) for member in start.ensemble]
    together, history = _tune(start, Mask.stack(masks), 2)
    alone, course = _tune(start.first(1), Mask.stack(masks[:1]), 2)
    assert masks[0].holds(alone)
    assert_close(alone.member(0), together.member(0))
    assert course.last("test_accuracy")[0] == history.last("test_accuracy")[0]


@pytest.mark.parametrize(("n_epochs", "target", "max_epochs"), [(3, 0.25, 12), (6, 1e-9, 2)])
def test_one_stop_counts_epochs_and_the_other_is_the_first_at_the_target(
    n_epochs, target, max_epochs, masks, epochs
):
    every = replace(iris(), setting=replace(IRIS, tune_epochs=n_epochs)).times(3)
    stops = _train_to_stops(every, Mask.joined(masks), target_loss=target, max_epochs=max_epochs)
    data = stacked(every.datasets, "train")
    losses = torch.stack([evaluate(each, *data, per_member=True)[0] for each in epochs])
    low = (losses[:max_epochs] <= target).T.tolist()
    first = [own.index(True) + 1 if any(own) else max_epochs for own in low]
    assert sum(map(any, low)) in ((0,) if target < 0.1 else range(1, 6))
    for stopping, at, reached in (("epochs", [n_epochs] * 6, [True] * 6), ("loss", first, [*map(any, low)])):
        networks, came_down = stops[stopping]
        assert Mask.joined(masks).holds(networks)
        assert came_down.tolist() == reached
        for i, epoch in enumerate(at):
            assert_close(networks.member(i), epochs[epoch - 1].member(i))
