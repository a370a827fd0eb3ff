"""Flatness of trained networks: against explicit Hessians, and what does and does not change it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from repro.learn import Ensemble, evaluate, perceptron
from repro.papers.granger_causal_sgd import flatness
from repro.papers.granger_causal_sgd.association import MEASURES, flatness_accuracy, per_seed
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.stopping import Stopped, train_to_stops
from repro.prune import Mask, random, select

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
    drawn = [[random(member, generator=generator) for member in begun.ensemble] for _ in range(2)]
    return {
        arm: {s: Mask.stack([select(one, sparsity=s) for one in some]) for s in (0.25, 0.5, 0.75)}
        for arm, some in zip(("one", "other"), drawn, strict=True)
    }


@pytest.fixture(scope="module")
def stopped(begun: Start, masks: dict[str, dict[float, Mask]]) -> Stopped:
    return train_to_stops(begun, masks, target_loss=TARGET, max_epochs=MAX_EPOCHS)


@pytest.fixture(scope="module")
def frame(stopped: Stopped) -> pd.DataFrame:
    return flatness.flatness(stopped, n_probes=2000)


def _explicit(stopped: Stopped, stopping: str, i: int, which: str) -> Tensor:
    """Hessian of one network in its weights, from second derivatives of the whole."""
    x, y = stopped.part("train")
    network = stopped.networks[stopping].member(i).double()
    values = {name: p.detach() for name, p in network.named_parameters()}
    names = list(stopped.mask)
    sizes = [values[name].numel() for name in names]

    def loss(vector: Tensor) -> Tensor:
        parts = dict(zip(names, vector.split(sizes), strict=True))
        weights = {name: part.view(values[name].shape) for name, part in parts.items()}
        return nn.functional.cross_entropy(functional_call(network, values | weights, (x[i].double(),)), y[i])

    matrix: Tensor = hessian(loss)(torch.cat([values[name].flatten() for name in names]))
    if which == "all":
        return matrix
    kept = torch.cat([stopped.mask[name][i].flatten() for name in names])
    return matrix[kept][:, kept]


def test_curvatures_are_those_of_explicit_hessians(stopped: Stopped, frame: pd.DataFrame) -> None:
    size = len(stopped.labels())
    for (stopping, which), rows in frame.groupby(["stopping", "hessian"]):
        assert len(rows) == size
        for i in (0, 1, 5, size - 1):
            matrix = _explicit(stopped, str(stopping), i, str(which))
            row = rows.iloc[i]
            assert row["largest"] == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=2e-3)
            assert row["trace"] == pytest.approx(float(matrix.trace()), rel=0.15)


def test_spectra_are_those_of_explicit_hessians(stopped: Stopped, frame: pd.DataFrame) -> None:
    spectra = flatness.spectra(stopped, 5)
    keys = ["seed", "arm", "sparsity", "stopping", "hessian"]
    assert len(spectra) == 5 * len(frame)
    one = spectra[(spectra["stopping"] == "loss") & (spectra["hessian"] == "all")]
    i = len(stopped.labels()) - 1
    expected = torch.linalg.eigvalsh(_explicit(stopped, "loss", i, "all")).flip(0)[:5]
    assert one["eigenvalue"].tail(5).tolist() == pytest.approx(expected.tolist(), rel=1e-2, abs=1e-3)
    top = spectra[spectra["rank"] == 1].merge(frame, on=keys, validate="one_to_one")
    assert top["eigenvalue"].tolist() == pytest.approx(top["largest"].tolist(), rel=2e-3)


def test_the_table_says_which_network_each_row_is(stopped: Stopped, frame: pd.DataFrame) -> None:
    keys = ["seed", "arm", "sparsity", "stopping", "hessian"]
    assert not frame.duplicated(keys).any()
    assert len(frame) == 4 * len(stopped.arms) * len(SEEDS)
    assert frame[frame["arm"] == "dense"]["sparsity"].eq(0).all()
    row = frame[
        (frame["seed"] == 3)
        & (frame["arm"] == "other")
        & (frame["sparsity"] == 0.5)
        & (frame["stopping"] == "loss")
    ]
    i = 2 * stopped.arms.index(("other", 0.5)) + 1
    network = stopped.networks["loss"].member(i)
    x, y = stopped.part("test")
    assert row["train_loss"].tolist() == pytest.approx(
        2 * [float(evaluate(network, *(part[i] for part in stopped.part("train")))[0])], rel=1e-5
    )
    assert row["test_accuracy"].tolist() == pytest.approx(2 * [float(evaluate(network, x[i], y[i])[1])])
    assert row["epoch"].tolist() == 2 * [int(stopped.epochs["loss"][i])]
    assert row["reached"].tolist() == 2 * [bool(stopped.reached[i])]


def test_fewer_coordinates_are_never_sharper_and_dense_networks_have_one_hessian(frame: pd.DataFrame) -> None:
    keys = ["seed", "arm", "sparsity", "stopping"]
    both = frame[frame["hessian"] == "kept"].merge(frame[frame["hessian"] == "all"], on=keys)
    assert (both["largest_x"] <= both["largest_y"] * 1.002 + 1e-6).all()
    dense, pruned = both[both["arm"] == "dense"], both[both["sparsity"] == 0.75]
    assert dense["largest_x"].tolist() == pytest.approx(dense["largest_y"].tolist(), rel=1e-6)
    assert (pruned["largest_x"] < 0.99 * pruned["largest_y"]).any()
    # noise in proportion to a weight leaves a pruned one where it is
    assert both["noise_relative_x"].tolist() == pytest.approx(both["noise_relative_y"].tolist(), rel=1e-6)
    assert (pruned["noise_absolute_x"] != pruned["noise_absolute_y"]).any()


def test_small_noise_costs_half_its_variance_times_the_trace(stopped: Stopped, frame: pd.DataFrame) -> None:
    sigma = 0.02
    table = flatness.flatness(stopped, absolute_noise=sigma, n_draws=400, n_probes=2)
    chosen = table["stopping"] == "loss"
    expected = 0.5 * sigma**2 * frame[chosen]["trace"]
    ratio = table[chosen]["noise_absolute"] / expected
    assert ratio.median() == pytest.approx(1, abs=0.15)


def test_rescaling_layers_changes_curvature_and_not_proportional_noise(
    stopped: Stopped, frame: pd.DataFrame
) -> None:
    rescaled = {}
    for stopping, networks in stopped.networks.items():
        rescaled[stopping] = Ensemble(list(networks))
        state = networks.state_dict()
        first, bias, second = list(state)[:3]
        rescaled[stopping].load_state_dict(
            state | {first: 8 * state[first], bias: 8 * state[bias], second: state[second] / 8}
        )
    other = flatness.flatness(replace(stopped, networks=rescaled), n_probes=2)
    assert other["train_loss"].tolist() == pytest.approx(frame["train_loss"].tolist(), rel=1e-5)
    assert other["noise_relative"].tolist() == pytest.approx(
        frame["noise_relative"].tolist(), rel=1e-3, abs=1e-6
    )
    assert (other["largest"] / frame["largest"]).median() > 5


def test_the_same_seed_gives_the_same_table(begun: Start, masks: dict[str, dict[float, Mask]]) -> None:
    some = {"one": {0.5: masks["one"][0.5]}}
    first, second = (
        flatness.flatness_runs(begun, some, n_epochs=2, target_loss=TARGET, max_epochs=2) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, second)


def test_the_table_is_what_the_association_takes(frame: pd.DataFrame) -> None:
    table = flatness_accuracy(frame, n_resamples=20)
    assert set(table["protocol"]) == {"epochs-kept", "epochs-all", "loss-kept", "loss-all"}
    assert len(table) == 4 * len(MEASURES)
    assert len(per_seed(frame)) == 4 * len(MEASURES) * len(SEEDS)
