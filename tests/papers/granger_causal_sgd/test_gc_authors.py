"""Runs at the authors' scale on a small stand-in: what the files keep, what is not repeated, against the loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from repro.learn import train
from repro.papers.granger_causal_sgd import authors
from repro.papers.granger_causal_sgd.authors import full_scale_runs
from repro.papers.granger_causal_sgd.method import causal_pruning
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.training import derived_seed, fine_tune
from repro.prune import Mask


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 10))


SMALL = Setting(
    "small", "digits", small_network, images=True, parts={"train": 200, "validation": 100, "test": 100},
    standardize=(5.0, 6.0), pretrain_epochs=2, logging_epochs=1, tune_epochs=2,
    alphas=(1e-7, 1e3),
)  # fmt: skip
N_WEIGHTS = 2 * 9 + 18 * 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "_SETTINGS", [SMALL])
    monkeypatch.setattr(authors, "_N_ITERATIONS", 2)


@pytest.fixture(scope="module")
def begun() -> Start:
    return start([1], SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def frame(folder: Path) -> pd.DataFrame:
    return full_scale_runs([1], folder)


def assert_tuned(rows: pd.DataFrame, begun: Start, mask: Mask) -> None:
    assert rows["train_loss"].isna().tolist() == [True] * (len(rows) - 1) + [False]
    wanted = fine_tune(begun, mask, 2)["train_loss"].item()
    assert rows["train_loss"].iloc[-1] == pytest.approx(wanted, rel=1e-4)


def test_the_arms_are_the_loops_themselves(frame, begun):
    for (target, alpha), rows in frame[frame["arm"] == "causal"].groupby(["loss_delta", "alpha"]):
        masks = causal_pruning(
            begun.ensemble, begun.datasets, alpha, seeds=[1], target=target, n_iterations=2, n_epochs=1,
            learning_rate=SMALL.logging_rate, batch_size=64, regress=False,
        )  # fmt: skip
        assert list(rows["iteration"]) == [1, 2]
        assert rows["sparsity"].tolist() == pytest.approx([mask.sparsity for mask in masks])
        assert_tuned(rows, begun, masks[-1])
    dense = frame[frame["arm"] == "dense"]
    assert dense["sparsity"].tolist() == [0]
    assert_tuned(dense, begun, begun.dense())


def by_torch(begun: Start, amount: float) -> list[Mask]:
    """Magnitude pruning after SGD, in two iterations, with the tools of ``torch.nn.utils.prune``."""
    mask, masks = {"0.weight": torch.ones(2, 1, 3, 3), "4.weight": torch.ones(10, 18)}, []
    for iteration in (1, 2):
        network = begun.ensemble.member(0)
        layers = [(network.get_submodule(name.removesuffix(".weight")), "weight") for name in mask]
        for (layer, _), kept in zip(layers, mask.values(), strict=True):
            torch_prune.custom_from_mask(layer, "weight", kept)  # its gradients stay masked, too
        seed = derived_seed(1, iteration)
        sgd = lambda parameters: torch.optim.SGD(parameters, lr=SMALL.logging_rate)  # noqa: E731
        train(network, begun.datasets[0], optimizer=sgd, n_epochs=1, batch_size=64, seed=seed)
        torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=amount)
        mask = {name: layer.weight_mask.clone() for (layer, _), name in zip(layers, mask, strict=True)}
        masks.append(Mask({name: kept.bool()[None] for name, kept in mask.items()}))
    return masks


def test_magnitude_comes_to_the_sparsity_of_its_counterpart_by_what_torch_removes(frame, begun):
    runs = dict(iter(frame.groupby(["arm", "loss_delta", "alpha"])))
    for target in ("cross_batch", "same_batch"):
        assert runs["causal", target, 1e3]["sparsity"].iloc[-1] == 1
        assert ("magnitude", target, 1e3) not in runs
        rows, wanted = (runs[arm, target, 1e-7] for arm in ("magnitude", "causal"))
        sparsity = wanted["sparsity"].iloc[-1]
        assert 0.1 < sparsity < 0.9
        assert abs(rows["sparsity"].iloc[-1] - sparsity) <= 2 / N_WEIGHTS  # two roundings to whole weights
        masks = by_torch(begun, 1 - (1 - sparsity) ** (1 / 2))
        assert rows["sparsity"].tolist() == pytest.approx([mask.sparsity for mask in masks])
        assert_tuned(rows, begun, masks[-1])


def test_what_is_finished_is_read_and_not_repeated(folder, frame, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(authors, "fine_tune", never)
    monkeypatch.setattr(authors.settings, "start", never)
    pd.testing.assert_frame_equal(full_scale_runs([1], folder), frame)


def test_a_run_that_was_broken_off_goes_on_where_it_was(tmp_path, frame, monkeypatch):
    calls = []

    def breaks(*arguments: Any) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fine_tune(*arguments)

    monkeypatch.setattr(authors, "fine_tune", breaks)
    with pytest.raises(KeyboardInterrupt):
        full_scale_runs([1], tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3
    pd.testing.assert_frame_equal(full_scale_runs([1], tmp_path), frame)
    assert len(calls) == 1 + len(list(tmp_path.glob("*.json")))


def test_files_of_other_settings_are_not_taken_for_these(folder, frame, monkeypatch):
    monkeypatch.setattr(authors, "_SETTINGS", [replace(SMALL, tune_epochs=3)])
    with pytest.raises(ValueError, match=r"small-1-dense\.json was made with other values of tune_epochs"):
        full_scale_runs([1], folder)


def test_all_arms_begin_at_the_weights_that_the_folder_keeps(tmp_path, begun, monkeypatch):
    monkeypatch.setattr(authors, "_SETTINGS", [replace(SMALL, alphas=())])
    state = {name: 0.5 * tensor for name, tensor in begun.ensemble.state_dict().items()}
    torch.save(state, tmp_path / "small-1-theta0.pt")
    halved = replace(begun, ensemble=begun.times(1).ensemble)
    halved.ensemble.load_state_dict(state)
    assert_tuned(full_scale_runs([1], tmp_path), halved, begun.dense())
