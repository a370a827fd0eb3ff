"""The loops of pruning: against slow loops by hand, what masks must be, collapse, bad input."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune as torch_prune

from repro.learn import Dataset, TrainingDivergedError, perceptron
from repro.learn.seeding import streams
from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.pruning_loop import PruningRun, causal_pruning, magnitude_pruning
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.tg_lasso import tg_lasso
from repro.prune import Mask

SEEDS = [0, 3]
IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, logging_epochs=4, rate=0.02, batch_size=40
)  # fmt: skip
NAMES = ("1.weight", "3.weight")
ALPHA = 2e-9
ALPHA_SAME = 2e-10


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in network.named_parameters() if name in NAMES}


def _descend(
    network: nn.Module, data: Dataset, seed: int, mask: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """SGD by hand, in place: squared changes by layer ``(T, p)``, and loss changes across and within batches."""
    order = streams(seed).shuffle
    squares: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    before, after = [], []
    for _ in range(IRIS.logging_epochs):
        for index in torch.randperm(len(data.y_train), generator=order).split(IRIS.batch_size):
            loss = cross_entropy(network(data.x_train[index]), data.y_train[index])
            network.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, p in network.named_parameters():
                    assert p.grad is not None
                    step = p.grad * mask.get(name, 1)
                    p -= IRIS.logging_rate * step
                    if name in NAMES:
                        squares[name].append((IRIS.logging_rate * step.flatten().double()) ** 2)
                before.append(loss.item())
                after.append(float(cross_entropy(network(data.x_train[index]), data.y_train[index])))
    rows = {name: torch.stack(each[:-1]) for name, each in squares.items()}
    first = torch.tensor(before, dtype=torch.float64)
    return rows, first[1:] - first[:-1], (torch.tensor(after, dtype=torch.float64) - first)[:-1]


def _by_hand(
    begun: Start, member: int, *, alpha: float, loss_delta: str, rewind: bool, rule: str
) -> list[dict[str, Tensor]]:
    network, masks = begun.ensemble.member(member), []
    mask = {name: torch.ones_like(p, dtype=torch.bool) for name, p in _weights(network).items()}
    for iteration in (1, 2, 3):
        if rewind:
            network = begun.ensemble.member(member)
        with torch.no_grad():
            for name, p in _weights(network).items():
                p *= mask[name]
        rows, cross, same = _descend(
            network, begun.datasets[member], derived_seed(SEEDS[member], iteration), mask
        )
        y = cross if loss_delta == "cross_batch" else same
        for name, x in rows.items():
            means = y @ x / len(y)
            chosen = means.abs() > alpha if rule == "threshold" else tg_lasso(x, y, alpha).coefficients != 0
            mask = mask | {name: mask[name] & chosen.view_as(mask[name])}
        masks.append(mask)
    return masks


@pytest.mark.parametrize("rewind", [True, False])
@pytest.mark.parametrize("rule", ["tg_lasso", "threshold"])
@pytest.mark.parametrize(("loss_delta", "alpha"), [("cross_batch", ALPHA), ("same_batch", ALPHA_SAME)])
def test_causal_pruning_is_the_loop_by_hand(
    begun: Start, loss_delta: str, alpha: float, rule: str, rewind: bool
) -> None:
    run = causal_pruning(begun, alpha=alpha, loss_delta=loss_delta, n_iterations=3, rewind=rewind, rule=rule)
    for member in range(len(SEEDS)):
        expected = _by_hand(begun, member, alpha=alpha, loss_delta=loss_delta, rewind=rewind, rule=rule)
        for mask, other in zip(run.masks, expected, strict=True):
            assert all(torch.equal(mask[name][member], other[name]) for name in NAMES)
        assert 0.1 < 1 - torch.cat([m.flatten() for m in expected[-1].values()]).double().mean() < 0.9


def _sparsities(run: PruningRun) -> pd.Series[float]:
    return run.frame.set_index(["iteration", "seed"])["sparsity"]


def test_masks_shrink_and_the_table_counts_them(begun: Start) -> None:
    before = begun.ensemble.state_dict()
    run = causal_pruning(begun, alpha=[1e-9, 1e-7], n_iterations=3)
    for earlier, later in zip(run.masks, run.masks[1:], strict=False):
        assert earlier & later == later
    flat = [torch.cat([m[name].flatten(1) for name in NAMES], dim=1) for m in run.masks]
    expected = torch.cat([1 - each.double().mean(dim=1) for each in flat])
    assert torch.allclose(torch.tensor(run.frame["sparsity"].to_numpy()), expected)
    assert list(run.frame["alpha"]) == [1e-9, 1e-9, 1e-7, 1e-7] * 3
    assert list(run.frame["seed"]) == SEEDS * 6
    assert list(run.frame["iteration"]) == [1] * 4 + [2] * 4 + [3] * 4
    sizes = [32, 24]
    layers = run.frame[[f"sparsity {name}" for name in NAMES]].to_numpy() @ sizes / sum(sizes)
    assert layers == pytest.approx(run.frame["sparsity"].to_numpy())
    assert all(torch.equal(t, before[name]) for name, t in begun.ensemble.state_dict().items())


def test_alphas_together_are_alphas_alone_and_runs_repeat(begun: Start) -> None:
    both = causal_pruning(begun, alpha=[1e-10, ALPHA], n_iterations=2)
    again = causal_pruning(begun, alpha=[1e-10, ALPHA], n_iterations=2)
    assert both.masks == again.masks
    for i, alpha in enumerate((1e-10, ALPHA)):
        alone = causal_pruning(begun, alpha=alpha, n_iterations=2)
        for mask, other in zip(both.masks, alone.masks, strict=True):
            assert all(torch.equal(mask[name][2 * i : 2 * i + 2], other[name]) for name in NAMES)


def test_rows_on_disk_and_one_regression_for_all_layers(begun: Start) -> None:
    memory = causal_pruning(begun, alpha=ALPHA, n_iterations=2)
    assert causal_pruning(begun, alpha=ALPHA, n_iterations=2, store="disk").masks == memory.masks
    # the fit stays at zero, so that it hardly matters which columns it has beside
    together = causal_pruning(begun, alpha=ALPHA, n_iterations=2, scope="global")
    both, either = (together.masks[0] & memory.masks[0]).n_kept, (together.masks[0] | memory.masks[0]).n_kept
    assert both > 0.9 * either


def test_weights_that_no_signal_reaches_go_at_any_penalty(begun: Start) -> None:
    blind = tuple(replace(d, x_train=d.x_train * torch.tensor([0.0, 1.0, 1.0, 1.0])) for d in begun.datasets)
    for rule in ("tg_lasso", "threshold"):
        run = causal_pruning(replace(begun, datasets=blind), alpha=1e-300, n_iterations=1, rule=rule)
        first = run.masks[0]["1.weight"]
        assert not first[:, :, 0].any()
        assert first[:, :, 1:].double().mean() > 0.7  # the rest belongs to units that never fire


def test_a_lost_layer_is_told_and_the_loop_goes_on(begun: Start) -> None:
    largest = {
        name: max(float(_covariance(begun, i)[name].abs().max()) for i in range(len(SEEDS))) for name in NAMES
    }
    lost = min(largest, key=lambda name: largest[name])
    run = causal_pruning(begun, alpha=1.001 * largest[lost], n_iterations=3, rule="threshold")
    first = run.frame[run.frame["iteration"] == 1]
    assert (first[f"sparsity {lost}"] == 1).all()
    assert first["collapsed"].min() == 1
    assert first["sparsity"].min() < 1
    assert len(run.masks) == 3
    assert (run.frame["collapsed"] >= 1).all()


def _covariance(begun: Start, member: int) -> dict[str, Tensor]:
    network = begun.ensemble.member(member)
    rows, y, _ = _descend(network, begun.datasets[member], derived_seed(SEEDS[member], 1), {})
    return {name: y @ x / len(y) for name, x in rows.items()}


@pytest.mark.parametrize("rule", ["tg_lasso", "threshold"])
def test_a_network_without_weights_stops_and_others_go_on(begun: Start, rule: str) -> None:
    run = causal_pruning(begun, alpha=[1e3, ALPHA], n_iterations=2, rule=rule)
    gone = run.frame[run.frame["alpha"] == 1e3]
    assert (gone["sparsity"] == 1).all()
    assert (gone["collapsed"] == len(NAMES)).all()
    alone = causal_pruning(begun, alpha=ALPHA, n_iterations=2, rule=rule)
    for mask, other in zip(run.masks, alone.masks, strict=True):
        assert all(torch.equal(mask[name][2:], other[name]) for name in NAMES)
    nobody = causal_pruning(begun, alpha=1e3, n_iterations=2, rule=rule, rewind=False)
    assert [mask.n_kept for mask in nobody.masks] == [0, 0]


@pytest.mark.parametrize("amount", [0.1, 0.275, 0.6])
def test_magnitude_comes_to_the_sparsity_that_its_amount_says(begun: Start, amount: float) -> None:
    run = magnitude_pruning(begun, amount, 5)
    left = 56
    for iteration in range(1, 6):
        left -= round(amount * left)
        assert _sparsities(run)[iteration].to_numpy() == pytest.approx(1 - left / 56)
        assert abs(1 - left / 56 - (1 - (1 - amount) ** iteration)) <= iteration * 0.5 / 56
    for earlier, later in zip(run.masks, run.masks[1:], strict=False):
        assert earlier & later == later


@pytest.mark.parametrize("rewind", [True, False])
def test_magnitude_removes_what_torch_removes(begun: Start, rewind: bool) -> None:
    run = magnitude_pruning(begun, [0.3, 0.5], 2, rewind=rewind)
    for i, amount in enumerate((0.3, 0.3, 0.5, 0.5)):
        member = i % 2
        network = begun.ensemble.member(member)
        mask = {name: torch.ones_like(p) for name, p in _weights(network).items()}
        for iteration, got in enumerate(run.masks, start=1):
            if rewind:
                network = begun.ensemble.member(member)
            with torch.no_grad():
                for name, p in _weights(network).items():
                    p *= mask[name]
            _descend(network, begun.datasets[member], derived_seed(SEEDS[member], iteration), mask)
            layers = [(network.get_submodule(name.removesuffix(".weight")), "weight") for name in NAMES]
            for (layer, _), name in zip(layers, NAMES, strict=True):
                torch_prune.custom_from_mask(layer, "weight", mask[name])
            torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=amount)
            mask = {n: layer.weight_mask.clone() for (layer, _), n in zip(layers, NAMES, strict=True)}
            for layer, _ in layers:
                torch_prune.remove(layer, "weight")
            assert all(torch.equal(got[name][i], mask[name].bool()) for name in NAMES)


def test_bad_input_is_named(begun: Start) -> None:
    for alpha in (0, -1e-9, [1e-9, 0.0], [], float("nan"), float("inf"), [1e-9, 1e-9]):
        with pytest.raises(ValueError, match="alpha must be above 0 and finite"):
            causal_pruning(begun, alpha=alpha)
    for amount in (0, 1, -0.1, [], [0.5, 1.5], float("nan")):
        with pytest.raises(ValueError, match=r"amount is a share .* in \(0, 1\)"):
            magnitude_pruning(begun, amount)
    for name in ("loss_delta", "scope", "rule"):
        with pytest.raises(ValueError, match=f"{name} is .* got 'other'"):
            causal_pruning(begun, alpha=1e-9, **{name: "other"})  # type: ignore[arg-type]
    for number in (0, 1.5, True):
        with pytest.raises(ValueError, match="n_iterations must be a whole number"):
            causal_pruning(begun, alpha=1e-9, n_iterations=number)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="logging_epochs must be a whole number"):
            magnitude_pruning(begun, 0.5, logging_epochs=number)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_the_loop(begun: Start) -> None:
    wild = replace(begun, setting=replace(IRIS, logging_rate=1e30))
    with pytest.raises(TrainingDivergedError):
        causal_pruning(wild, alpha=1e-9)
    with pytest.raises(TrainingDivergedError, match="loss of all 2 members"):
        magnitude_pruning(wild, 0.5)
    first, second = begun.datasets
    half = replace(begun, datasets=(first, replace(second, x_train=second.x_train * 1e30)))
    with pytest.raises(TrainingDivergedError, match=r"loss of network 1 .* SGD before pruning"):
        magnitude_pruning(half, 0.5)


def test_a_mask_of_a_run_fits_the_networks(begun: Start) -> None:
    run = causal_pruning(begun, alpha=[1e-10, ALPHA], n_iterations=1)
    copies = begun.copy(2)
    run.masks[-1].apply(copies)
    assert run.masks[-1].holds(copies)
    assert isinstance(run.masks[-1], Mask)
    for name in set(copies.parameters) - set(NAMES):
        assert torch.equal(copies.parameters[name], torch.cat([begun.ensemble.parameters[name]] * 2))
