"""The identity: exact on quadratic losses, first order elsewhere, with and without momentum."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.learn import Dataset, Ensemble, perceptron
from repro.papers.granger_causal_sgd.identity import (
    explicit_identity,
    identity,
    identity_runs,
    momentum_identity,
    momentum_runs,
)
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.trace import Trace, log_trace

IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, rate=0.02, batch_size=25, logging_epochs=5
)  # fmt: skip
SEEDS = [0, 3]
RATES = (1e-4, 1e-2, 1.0)


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def frame(begun: Start) -> pd.DataFrame:
    return identity_runs(begun, RATES)


def _quadratic(momentum: float = 0.0) -> tuple[Trace, Tensor]:
    r"""Linear networks on four orthogonal inputs under the squared error, and the diagonal of their Hessian.

    With $\frac1n\sum_i x_{ik}x_{il} = \delta_{kl}s_k^2/n$ and the mean over 3 outputs, $H = 2s_k^2/(3n)$ for each
    weight from input k, and 0 off the diagonal.
    """
    scales = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    x, y = scales.diag(), torch.tensor([0, 1, 2, 0])
    none = (x[:0], y[:0])
    data = Dataset(x, y, *none, *none, n_classes=3, name="orthogonal")
    generator = torch.Generator().manual_seed(0)
    networks = []
    for _ in range(2):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double()
        network[1].weight.data.normal_(generator=generator)
        networks.append(network)
    trace = log_trace(
        Ensemble(networks), data, learning_rate=0.1, momentum=momentum, n_steps=12, batch_size=None,
        loss="squared_error", seeds=0, full_loss=True,
    )  # fmt: skip
    return trace, (2 * scales**2 / (3 * 4)).expand(2, 3, 4).flatten(1)


def test_on_a_quadratic_loss_with_diagonal_hessian_one_coefficient_a_weight_is_exact() -> None:
    trace, diagonal = _quadratic()
    for target in ("same_batch", "full_loss", "cross_batch"):
        torch.testing.assert_close(
            explicit_identity(trace, diagonal), trace.loss_changes[target], rtol=0, atol=1e-10
        )
    first_order = explicit_identity(trace, torch.zeros_like(diagonal))
    torch.testing.assert_close(first_order, -trace.energy() / 0.1)
    assert (first_order - trace.loss_changes["same_batch"]).abs().max() > 1e-3


def test_under_momentum_the_cross_product_leaves_curvature_alone() -> None:
    trace, diagonal = _quadratic(momentum=0.9)
    assert trace.cross is not None
    squares = torch.stack([trace.squares(i) for i in range(2)])
    first_order = (0.9 * trace.cross - trace.energy()) / 0.1
    curvature = (squares * diagonal[:, None]).sum(dim=2) / 2
    torch.testing.assert_close(first_order + curvature, trace.loss_changes["same_batch"], rtol=0, atol=1e-10)


@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(-5, 5))
def test_slope_and_r2_are_those_of_a_line_through_zero(seed: int, scale: float, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(1, 12, 3, generator=generator)
    change = scale * torch.randn(1, 12, generator=generator, dtype=torch.float64) + offset
    trace = _fake(steps, change)
    row = identity(trace, "same_batch").iloc[0]
    x, y = -(0.1 * steps[0].double().numpy() ** 2).sum(axis=1), change[0].numpy()
    (slope,), residual, *_ = np.linalg.lstsq(x[:, None], y, rcond=None)
    assert row["slope"] == pytest.approx(slope)
    assert row["r2"] == pytest.approx(1 - residual[0] / (len(y) * y.var()))
    assert row["r2_identity"] <= row["r2"] + 1e-12


def _fake(steps: Tensor, change: Tensor) -> Trace:
    shapes = {"0.weight": torch.Size([steps.shape[2]])}
    rest = torch.zeros(*change.shape, dtype=torch.float64)
    return Trace(steps, {"same_batch": change}, change, rest, shapes, 0.1, 0.0, placebo=False)


def test_what_the_steps_alone_decide_is_explained_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(1, 2000, 3, generator=generator)
    energy = _fake(steps, torch.zeros(1, 2000, dtype=torch.float64)).energy()
    whole = identity(_fake(steps, -energy / 0.1), "same_batch").iloc[0]
    assert whole[["slope", "r2", "r2_identity"]].tolist() == pytest.approx([1, 1, 1])
    noise = torch.randn(1, 2000, generator=generator, dtype=torch.float64)
    assert identity(_fake(steps, noise), "same_batch").loc[0, "r2"] < 0.01


def test_a_constant_loss_change_has_no_r2(begun: Start) -> None:
    trace = log_trace(
        begun.ensemble, begun.datasets, learning_rate=0.1, n_steps=6, batch_size=25, seeds=0, placebo=True
    )
    found = identity(trace, "same_batch")
    assert found["slope"].tolist() == [0, 0]
    assert found[["r2", "r2_identity"]].isna().all(axis=None)


def test_smaller_rates_come_closer_to_the_identity(frame: pd.DataFrame) -> None:
    for target in ("same_batch", "full_batch"):
        for _, rows in frame[frame["target"] == target].groupby("seed"):
            miss = (rows.sort_values("learning_rate")["slope"] - 1).abs().tolist()
            assert miss == sorted(miss)
            assert miss[0] < 1e-3
    # successive full-batch steps hardly differ, and one crossing of a rectifier's kink is what is left of R2
    assert (frame.loc[frame["target"] == "same_batch"].groupby("seed")["r2"].max() > 0.9999).all()
    assert (frame.loc[frame["target"] == "full_batch"].groupby("seed")["r2"].max() > 0.99).all()


def test_the_loss_of_the_next_batch_does_not_obey_it(frame: pd.DataFrame) -> None:
    small = frame[frame["learning_rate"] == RATES[0]].pivot(
        index="seed", columns="target", values="r2_identity"
    )
    assert (small["same_batch"] > 0.999).all()
    assert (small["cross_batch"] < 0.1).all()


def test_tables_name_seeds_and_conditions(begun: Start, frame: pd.DataFrame) -> None:
    assert len(frame) == len(SEEDS) * len(RATES) * 3
    assert not frame.duplicated(["seed", "learning_rate", "target"]).any()
    again = identity_runs(begun, RATES[1:2])
    pd.testing.assert_frame_equal(
        again, frame[frame["learning_rate"] == RATES[1]].reset_index(drop=True), check_exact=True
    )
    other = identity_runs(begun, RATES[1:2], n_steps=4)
    assert not np.allclose(other["slope"], again["slope"])


def test_momentum_needs_the_cross_product(begun: Start) -> None:
    found = momentum_runs(begun, learning_rate=1e-3).pivot(index="seed", columns="features")
    assert (found["r2"]["squares and cross"] > 0.999).all()
    assert (found["r2"]["squares"] < 0.9).all()
    assert (found["slope"]["squares and cross"] - 1).abs().max() < 0.05


def test_without_much_momentum_squares_are_enough(begun: Start) -> None:
    found = momentum_runs(begun, 1e-9, learning_rate=1e-3)
    assert (found["r2"] > 0.999).all()


def test_bad_input_is_named() -> None:
    plain, diagonal = _quadratic()
    with_momentum, _ = _quadratic(momentum=0.5)
    with pytest.raises(ValueError, match=r"momentum 0\.5.*use momentum_identity"):
        identity(with_momentum, "same_batch")
    with pytest.raises(ValueError, match=r"momentum 0\.5"):
        explicit_identity(with_momentum, diagonal)
    with pytest.raises(ValueError, match=r"must be \(2, 12\), got \(2, 11\)"):
        explicit_identity(plain, diagonal[:, 1:])
    with pytest.raises(ValueError, match="without momentum"):
        momentum_identity(plain)
    with pytest.raises(ValueError, match="no target 'loss'; it has cross_batch, same_batch, full_loss"):
        identity(plain, "loss")
