"""Training to two stops: against networks trained alone; masks, shared starts, bad input."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from repro.learn import Ensemble, TrainingDivergedError, evaluate, perceptron, train
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.stopping import Stopped, train_to_stops
from repro.prune import Mask, magnitude, random, select

N_EPOCHS, MAX_EPOCHS, TARGET = 3, 12, 0.25
IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, tune_epochs=N_EPOCHS, rate=0.02, batch_size=30
)  # fmt: skip
SEEDS = [0, 3]


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def masks(begun: Start) -> dict[str, dict[float, Mask]]:
    generator = torch.Generator().manual_seed(0)
    drawn = [random(member, generator=generator) for member in begun.ensemble]
    scores = {"magnitude": [magnitude(member) for member in begun.ensemble], "random": drawn}
    return {
        arm: {s: Mask.stack([select(one, sparsity=s) for one in some]) for s in (0.25, 0.5, 0.75)}
        for arm, some in scores.items()
    }


@pytest.fixture(scope="module")
def stopped(begun: Start, masks: dict[str, dict[float, Mask]]) -> Stopped:
    return train_to_stops(begun, masks, target_loss=TARGET, max_epochs=MAX_EPOCHS)


def _alone(stopped: Stopped, i: int, n_epochs: int) -> nn.Module:
    """Network i, trained without the others."""
    seed, dataset = list(zip(SEEDS, stopped.start.datasets, strict=True))[i % len(SEEDS)]
    network = stopped.start.ensemble.member(i % len(SEEDS))
    mask = Mask({name: stopped.mask[name][i] for name in stopped.mask})
    mask.apply(network)
    train(
        network,
        dataset,
        optimizer=IRIS.adam(),
        n_epochs=n_epochs,
        batch_size=IRIS.batch_size,
        after_step=[mask],
        seed=seed,
        progress=False,
    )
    return network


def _loss(stopped: Stopped, i: int, network: nn.Module) -> float:
    x, y = stopped.part("train")
    return float(evaluate(network, x[i], y[i])[0])


def _close(network: nn.Module, ensemble: Ensemble, i: int) -> bool:
    other = dict(ensemble.member(i).named_parameters())
    return all(torch.allclose(p, other[name], atol=1e-4) for name, p in network.named_parameters())


def test_the_stop_by_epochs_is_where_plain_training_gets(stopped: Stopped) -> None:
    for i in range(len(stopped.mask[next(iter(stopped.mask))])):
        assert _close(_alone(stopped, i, N_EPOCHS), stopped.networks["epochs"], i)
    assert set(stopped.epochs["epochs"].tolist()) == {N_EPOCHS}


def test_the_stop_by_loss_is_the_first_epoch_at_the_target(stopped: Stopped) -> None:
    losses = evaluate(stopped.networks["loss"], *stopped.part("train"), per_member=True)[0]
    assert 0 < int(stopped.reached.sum()) < len(stopped.reached)
    for i, (epoch, reached) in enumerate(zip(stopped.epochs["loss"].tolist(), stopped.reached, strict=True)):
        assert _close(_alone(stopped, i, epoch), stopped.networks["loss"], i)
        assert (losses[i] <= TARGET) == reached
        if reached and epoch > 1:
            assert _loss(stopped, i, _alone(stopped, i, epoch - 1)) > TARGET
        if not reached:
            assert epoch == MAX_EPOCHS
    assert len(set(stopped.epochs["loss"].tolist())) > 3


def test_either_stop_may_come_first(begun: Start, masks: dict[str, dict[float, Mask]]) -> None:
    some = {"random": {0.5: masks["random"][0.5]}}
    late = train_to_stops(begun, some, n_epochs=6, target_loss=1e-9, max_epochs=2)
    assert not late.reached.any()
    for i in (0, 3):
        assert _close(_alone(late, i, 6), late.networks["epochs"], i)
        assert _close(_alone(late, i, 2), late.networks["loss"], i)


def test_masks_hold_and_what_is_not_masked_moves(stopped: Stopped, begun: Start) -> None:
    for networks in stopped.networks.values():
        assert stopped.mask.holds(networks)
        for name, first in begun.copy(len(stopped.arms)).parameters.items():
            moved = networks.parameters[name] != first
            free = stopped.mask[name] if name in stopped.mask else torch.ones_like(moved)
            assert moved[free].float().mean() > 0.5


def test_dense_networks_are_the_same_whatever_is_beside_them(
    stopped: Stopped, begun: Start, masks: dict[str, dict[float, Mask]]
) -> None:
    before = begun.ensemble.state_dict()
    alone = train_to_stops(
        begun, {"random": {0.25: masks["random"][0.25]}}, target_loss=TARGET, max_epochs=MAX_EPOCHS
    )
    for stopping in ("epochs", "loss"):
        for i in range(len(SEEDS)):
            assert _close(alone.networks[stopping].member(i), stopped.networks[stopping], i)
    assert all(torch.equal(t, before[name]) for name, t in begun.ensemble.state_dict().items())


def test_bad_input_is_named(begun: Start, masks: dict[str, dict[float, Mask]]) -> None:
    good = masks["random"][0.5]
    nothing = Mask({name: torch.zeros_like(kept) for name, kept in good.items()})
    for bad, message in (
        ({}, "at least one mask"),
        ({"random": {}}, "at least one mask"),
        ({"dense": {0.5: good}}, "may not be called 'dense'"),
        ({"random": {0.9: good}}, r"filed under sparsity 0\.9"),
        ({"random": {1.0: nothing}}, "keeps no weight"),
        ({"random": {0.5: Mask({name: kept[0] for name, kept in good.items()})}}, "has shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            train_to_stops(begun, bad)
    some = {"random": {0.5: good}}
    with pytest.raises(ValueError, match="n_epochs must be a whole number, 1 or above; got 0"):
        train_to_stops(begun, some, n_epochs=0)
    with pytest.raises(ValueError, match=r"max_epochs .* got 2\.5"):
        train_to_stops(begun, some, max_epochs=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target_loss must be above 0, got nan"):
        train_to_stops(begun, some, target_loss=float("nan"))


def test_a_network_that_diverges_is_named(begun: Start, masks: dict[str, dict[float, Mask]]) -> None:
    wild = replace(begun, setting=replace(IRIS, rate=1e30))
    with pytest.raises(TrainingDivergedError, match="epoch 1"):
        train_to_stops(wild, {"random": {0.5: masks["random"][0.5]}}, max_epochs=2, n_epochs=2)
