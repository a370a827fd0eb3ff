"""Traces: against the training loop's own records, placebos, masks, storage, moments, bad input."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.learn import Dataset, Ensemble, Record, TrainingDivergedError, evaluate, perceptron, train
from repro.learn.seeding import streams
from repro.papers.granger_causal_sgd import trace as trace_module
from repro.papers.granger_causal_sgd.moments import stream_moments
from repro.papers.granger_causal_sgd.settings import Setting, Start, setting, start
from repro.papers.granger_causal_sgd.trace import Trace, gram, log_trace
from repro.prune import Mask, magnitude, select

IRIS = Setting("iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, rate=0.02, batch_size=25)
SEEDS = [0, 3]
RATE = 0.05
WEIGHTS = ["1.weight", "3.weight"]


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


def _log(begun: Start, **changed: Any) -> Trace:
    arguments: dict[str, Any] = {"learning_rate": RATE, "n_epochs": 3, "batch_size": 25, "seeds": SEEDS}
    return log_trace(begun.ensemble, begun.datasets, **(arguments | changed))


def _recorded(begun: Start, n_steps: int, momentum: float = 0.0, masks: Mask | None = None) -> Any:
    """What the training loop records of the same run."""
    ensemble = begun.copy()
    if masks is not None:
        masks.apply(ensemble)
    history = train(
        ensemble,
        begun.datasets,
        optimizer=partial(torch.optim.SGD, lr=RATE, momentum=momentum),
        n_steps=n_steps,
        batch_size=25,
        after_step=[] if masks is None else [masks],
        record=Record(what=("weights", "gradients", "loss")),
        seed=SEEDS,
        progress=False,
    )
    return history.recording


def _flat(by_name: dict[str, Tensor], n_rows: int) -> Tensor:
    """Records ``(T, S, *shape)`` of the weights as ``(S, T, p)``."""
    flat = torch.cat([by_name[name].flatten(2) for name in WEIGHTS], dim=2)
    return flat[:n_rows].transpose(0, 1)


def _half(begun: Start) -> Mask:
    return Mask.stack([select(magnitude(member), sparsity=0.5) for member in begun.ensemble])


# Agreement with the training loop and with a slow loop


def test_steps_and_losses_are_those_of_the_training_loop(begun: Start) -> None:
    trace = _log(begun, n_epochs=None, n_steps=9, drop_last=False)  # batches of 25, 25, 25, 15 examples
    recording = _recorded(begun, n_steps=9)
    assert list(trace.shapes) == WEIGHTS
    assert (trace.n_networks, trace.n_rows, trace.n_weights) == (2, 8, 4 * 8 + 8 * 3)
    assert torch.equal(trace.steps, _flat(recording.gradients, 8))
    losses = recording.loss.T
    torch.testing.assert_close(trace.batch_losses, losses[:, :8], rtol=1e-6, atol=0)
    torch.testing.assert_close(trace.loss_changes["cross_batch"], losses.diff(dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_stored_changes_are_differences_of_the_training_loops_weights(begun: Start, momentum: float) -> None:
    trace = _log(begun, n_epochs=None, n_steps=9, drop_last=False, changes="stored", momentum=momentum)
    weights = _flat(_recorded(begun, 9, momentum).weights, 9)
    assert torch.equal(trace.steps, weights.diff(dim=1))
    torch.testing.assert_close(trace.squares(1), weights[1].diff(dim=0).double() ** 2)


def test_loss_changes_rest_and_cross_are_those_of_a_slow_loop(begun: Start) -> None:
    trace = _log(begun, momentum=0.5, full_loss=True)
    for i, (member, data) in enumerate(zip(begun.ensemble, begun.datasets, strict=True)):
        slow = _slow_rows(member.double(), data, streams(SEEDS[i]).shuffle, momentum=0.5, n_rows=trace.n_rows)
        assert trace.cross is not None
        found = {**trace.loss_changes, "rest": trace.rest, "cross": trace.cross, "energy": trace.energy()}
        for name, values in found.items():
            torch.testing.assert_close(values[i], slow[name], rtol=1e-4, atol=1e-7, msg=name)


def _slow_rows(
    network: nn.Module, data: Dataset, generator: torch.Generator, momentum: float, n_rows: int
) -> dict[str, Tensor]:
    """One network in float64, one parameter at a time, with whole batches only."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=momentum)
    x, y = data.x_train.double(), data.y_train
    orders = [torch.randperm(len(y), generator=generator) for _ in range(n_rows)]
    batches = [order[k : k + 25] for order in orders for k in range(0, len(y) - 24, 25)]

    def loss(rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x[rows]), y[rows])

    everything = torch.arange(len(y))
    rows: dict[str, list[float]] = {
        n: [] for n in ("cross_batch", "same_batch", "full_loss", "rest", "cross", "energy")
    }
    last = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for now, following in pairwise(batches[: n_rows + 1]):
        old = {name: p.detach().clone() for name, p in network.named_parameters()}
        before, before_all = loss(now).item(), loss(everything).item()
        optimizer.zero_grad()
        loss(now).backward()
        optimizer.step()
        moved = {name: p.detach() - old[name] for name, p in network.named_parameters()}
        rows["same_batch"].append(loss(now).item() - before)
        rows["cross_batch"].append(loss(following).item() - before)
        rows["full_loss"].append(loss(everything).item() - before_all)
        rows["rest"].append(sum(float((m**2).sum()) for name, m in moved.items() if name.endswith("bias")))
        rows["energy"].append(sum(float((m**2).sum()) for m in moved.values()))
        rows["cross"].append(sum(float((m * last[name]).sum()) for name, m in moved.items()))
        last = moved
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}


def test_full_loss_changes_add_up_to_the_whole_way(begun: Start) -> None:
    trace = _log(begun, full_loss=True)
    ensemble = begun.copy()
    x, y = (torch.stack([getattr(d, f"{v}_train") for d in begun.datasets]) for v in "xy")
    before = evaluate(ensemble, x, y, per_member=True)[0]
    weights = _recorded(begun, 3).weights  # the first epoch: its whole batches are those of the trace
    ensemble.load_state_dict({name: weight[3] for name, weight in weights.items()})
    after = evaluate(ensemble, x, y, per_member=True)[0]
    torch.testing.assert_close(
        trace.loss_changes["full_loss"][:, :3].sum(dim=1), after - before, rtol=0, atol=1e-6
    )


def test_convolutions_are_flattened_in_the_order_of_shapes(begun: Start) -> None:
    network = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(2, 3))
    trace = log_trace(
        Ensemble([network]), begun.datasets[0], learning_rate=0.1, n_steps=2, batch_size=None, seeds=0
    )
    x, y = begun.datasets[0].x_train, begun.datasets[0].y_train
    nn.functional.cross_entropy(network(x), y).backward()
    assert trace.shapes == {"1.weight": (2, 1, 2, 2), "3.weight": (3, 2)}
    for name, columns in trace.layers.items():
        gradient = network.get_parameter(name).grad
        torch.testing.assert_close(trace.steps[0, 0, columns].view(trace.shapes[name]), gradient)
        assert trace.squares(0, name).shape == (1, trace.shapes[name].numel())


# Placebo, masks, rewinding


def test_a_placebo_moves_nothing_and_steps_are_gradients_at_the_start(begun: Start) -> None:
    state = begun.ensemble.state_dict()
    trace = _log(begun, placebo=True, full_loss=True)
    assert not trace.loss_changes["same_batch"].any()
    assert not trace.loss_changes["full_loss"].any()
    assert all(torch.equal(tensor, state[name]) for name, tensor in begun.ensemble.state_dict().items())
    generator = streams(SEEDS[1]).shuffle
    orders = torch.cat([torch.randperm(90, generator=generator)[:75] for _ in range(3)])
    network, data = begun.ensemble.member(1), begun.datasets[1]
    losses = []
    for t, rows in enumerate(orders.split(25)):
        network.zero_grad()
        loss = nn.functional.cross_entropy(network(data.x_train[rows]), data.y_train[rows])
        loss.backward()
        losses.append(loss.item())
        if t < trace.n_rows:
            gradient = torch.cat([network.get_parameter(name).grad.flatten() for name in WEIGHTS])
            torch.testing.assert_close(trace.steps[1, t], gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(trace.loss_changes["cross_batch"][1], np.diff(losses), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_masks_are_held(begun: Start, momentum: float) -> None:
    masks = _half(begun)
    trace = _log(begun, n_epochs=None, n_steps=8, drop_last=False, masks=masks, momentum=momentum)
    kept = torch.cat([masks[name].flatten(1) for name in WEIGHTS], dim=1)
    assert not trace.steps[(~kept)[:, None].expand_as(trace.steps)].any()
    assert trace.steps[kept[:, None].expand_as(trace.steps)].any()
    weights = _flat(_recorded(begun, 8, momentum, masks).weights, 8)
    torch.testing.assert_close(-RATE * trace.steps, weights.diff(dim=1), rtol=1e-3, atol=1e-6)


def test_networks_are_left_as_they_were_and_the_same_seed_gives_the_same_trace(begun: Start) -> None:
    state = begun.ensemble.state_dict()
    first, second = _log(begun), _log(begun)
    assert torch.equal(first.steps, second.steps)
    assert all(torch.equal(tensor, state[name]) for name, tensor in begun.ensemble.state_dict().items())
    assert not torch.equal(first.steps, _log(begun, seeds=[1, 2]).steps)


def test_a_network_has_the_trace_it_has_alone(begun: Start) -> None:
    both = _log(begun)
    alone = log_trace(
        Ensemble([begun.ensemble.member(1)]), begun.datasets[1], learning_rate=RATE, n_epochs=3, batch_size=25,
        seeds=SEEDS[1],
    )  # fmt: skip
    torch.testing.assert_close(alone.steps[0], both.steps[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(alone.energy()[0], both.energy()[1], rtol=1e-4, atol=0)


# Exact and stored changes


def test_stored_changes_are_quantized_and_exact_ones_are_not(begun: Start) -> None:
    weights = torch.cat([begun.ensemble.parameters[name].flatten(1) for name in WEIGHTS], dim=1)
    digit = torch.from_numpy(np.spacing(weights.abs().detach().numpy())).double()
    steps = {
        c: _log(begun, n_epochs=None, n_steps=2, learning_rate=1e-6, changes=c) for c in ("exact", "stored")
    }
    exact, stored = -1e-6 * steps["exact"].steps[:, 0].double(), steps["stored"].steps[:, 0].double()
    halves = 2 * stored / digit  # a step across a power of 2 counts in the smaller weight's digits
    assert torch.equal(halves, halves.round())
    assert ((stored == 0) & (exact != 0)).any()
    assert bool(((stored - exact).abs() <= digit * 0.51).all())
    assert not torch.equal(2 * exact / digit, (2 * exact / digit).round())


def test_the_last_short_batch_is_left_out_or_kept(begun: Start) -> None:
    assert _log(begun, n_epochs=2).n_rows == 2 * 3 - 1
    assert _log(begun, n_epochs=2, drop_last=False).n_rows == 2 * 4 - 1
    assert _log(begun, n_epochs=5, batch_size=None).n_rows == 4


# Storage and sums


def test_disk_holds_what_memory_holds(begun: Start) -> None:
    memory, disk = _log(begun), _log(begun, store="disk", max_bytes=1)
    assert torch.equal(memory.steps, disk.steps)
    assert torch.equal(memory.squares(1, "3.weight"), disk.squares(1, "3.weight"))


def test_a_trace_that_does_not_fit_says_how_much_it_needs(
    begun: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 8 * 56 * 4
    assert _log(begun, max_bytes=needed).steps.nbytes == needed
    with pytest.raises(MemoryError, match=rf"take {needed:,} bytes.*store='disk'.*stream_moments"):
        _log(begun, max_bytes=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 50, 50))  # type: ignore[attr-defined]
    with pytest.raises(MemoryError, match=r"more than the 50 free in .*TMPDIR"):
        _log(begun, store="disk")


@pytest.mark.parametrize("how", [{}, {"changes": "stored"}, {"placebo": True}, {"momentum": 0.9}])
def test_streamed_moments_are_those_of_the_trace(begun: Start, how: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"learning_rate": RATE, "n_epochs": 3, "batch_size": 25, "seeds": SEEDS}
    streamed = stream_moments(begun.ensemble, begun.datasets, full_loss=True, **arguments, **how)
    kept = _log(begun, full_loss=True, **how).moments()
    assert (streamed.shapes, streamed.n_rows) == (kept.shapes, kept.n_rows)
    assert streamed.covariance.keys() == kept.covariance.keys() == {"cross_batch", "same_batch", "full_loss"}
    scale = {"rtol": 1e-13, "atol": 1e-15 * float(kept.mean_square.max())}
    torch.testing.assert_close(streamed.mean_square, kept.mean_square, **scale)
    for name, covariance in streamed.covariance.items():
        torch.testing.assert_close(covariance, kept.covariance[name], **scale)


@given(st.integers(0, 99), st.integers(1, 40), st.sampled_from(["exact", "stored"]))
def test_sums_by_blocks_are_plain_sums(seed: int, block: int, changes: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(2, 5, 7, generator=generator)
    change, rest = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    shapes = {"a": torch.Size([2, 2]), "b": torch.Size([3])}
    trace = Trace(steps, {"same_batch": change}, change, rest.abs(), shapes, 0.1, 0.0, False, changes)
    squares = ((-0.1 if changes == "exact" else 1.0) * steps.double()) ** 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_module, "_BLOCK", block)
        moments = trace.moments()
        torch.testing.assert_close(trace.energy(), squares.sum(dim=2) + rest.abs())
        torch.testing.assert_close(gram(trace, 1), squares[1] @ squares[1].T)
    torch.testing.assert_close(moments.mean_square, squares.mean(dim=1))
    product = (change[:, :, None] * squares).mean(dim=1)
    torch.testing.assert_close(moments.covariance["same_batch"], product)
    torch.testing.assert_close(torch.cat([trace.squares(0, n) for n in shapes], dim=1), squares[0])


# Bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate must be above 0 and finite, got 0.0.*placebo=True"),
        ({"learning_rate": float("inf")}, "got inf"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, "got -0.1"),
        ({"momentum": 0.9, "placebo": True}, "momentum must be 0, got 0.9"),
        ({"changes": "stored", "placebo": True}, "changes must be 'exact', got 'stored'"),
        ({"changes": "rounded"}, "'exact' or 'stored', got 'rounded'"),
        ({"n_epochs": None, "n_steps": 1}, "at least 2 steps.*got 1"),
        ({"n_epochs": None, "n_steps": 0}, "n_steps must be a whole number, 1 or above; got 0"),
        ({"n_epochs": 1, "batch_size": None}, r"at least 2 steps.*got 1 \(1 an epoch\)"),
        ({"n_steps": 5}, "either n_epochs or n_steps"),
        ({"seeds": [0, 1, 2]}, "one seed or 2, one a member; got 3"),
        ({"store": "tape"}, "'memory' or 'disk', got 'tape'"),
    ],
)
def test_bad_arguments_are_named(begun: Start, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _log(begun, **changed)


def test_networks_that_cannot_be_logged_are_refused(begun: Start) -> None:
    def log(network: nn.Module, **changed: Any) -> Trace:
        return _log(replace(begun, ensemble=Ensemble([network] * 2)), **changed)

    with pytest.raises(ValueError, match=r"no nn\.Linear or nn\.Conv2d to prune"):
        log(nn.Sequential(nn.Flatten(), nn.LayerNorm(4)))
    with pytest.raises(ValueError, match=r"buffers.*1\.running_mean"):
        log(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    frozen = perceptron((4, 8, 3))
    frozen.get_parameter("1.weight").requires_grad_(False)
    with pytest.raises(ValueError, match=r"'1\.weight' is frozen"):
        log(frozen)
    with pytest.raises(ValueError, match="one data set or 2, one a member; got 3"):
        log_trace(
            begun.ensemble, begun.datasets + begun.datasets[:1], learning_rate=0.1, n_steps=3, batch_size=9, seeds=0
        )  # fmt: skip
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        log(perceptron((5, 3)))


def test_masks_that_keep_nothing_or_do_not_fit_are_refused(begun: Start) -> None:
    kept = {name: mask.clone() for name, mask in begun.dense().items()}
    for mask in kept.values():
        mask[1] = False
    with pytest.raises(ValueError, match="keeps no weight of network 1"):
        _log(begun, masks=Mask(kept))
    one_layer_gone = Mask({"1.weight": kept["1.weight"]})
    assert not _log(begun, masks=one_layer_gone).squares(1, "1.weight").any()
    with pytest.raises(ValueError, match="has shape"):
        _log(begun, masks=Mask({"1.weight": torch.ones(3, 3, dtype=torch.bool)}))


def test_a_loss_that_is_not_finite_is_named_with_its_step(begun: Start) -> None:
    with pytest.raises(TrainingDivergedError, match=r"network [01] is not finite after step [1-9]"):
        _log(begun, learning_rate=1e30)
    broken = begun.copy()
    broken.parameters["3.bias"].data[1] = torch.nan
    with pytest.raises(TrainingDivergedError, match="network 1 is not finite after step 1"):
        _log(replace(begun, ensemble=broken))


def test_unknown_layers_and_networks_are_named(begun: Start) -> None:
    trace = _log(begun)
    with pytest.raises(ValueError, match=r"no layer '2\.weight'; there are 1\.weight, 3\.weight"):
        trace.squares(0, "2.weight")
    for call in (trace.squares, partial(gram, trace)):
        with pytest.raises(ValueError, match="members 0 to 1; got 2"):
            call(2)


def test_the_chapters_own_setting_has_79_rows_of_17024_weights() -> None:
    begun = start(replace(setting("digits"), pretrain_epochs=1), [0], progress=False)
    trace = log_trace(begun.ensemble, begun.datasets, learning_rate=1e-2, n_epochs=5, batch_size=64, seeds=0)
    assert (trace.n_weights, trace.n_rows) == (17_024, 79)
