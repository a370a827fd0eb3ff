"""Full-scale runs on a small stand-in: what the files keep, what is not repeated, against the loops themselves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from repro.learn import small_cnn
from repro.papers.granger_causal_sgd import full_scale
from repro.papers.granger_causal_sgd.fine_tuning import fine_tune
from repro.papers.granger_causal_sgd.full_scale import AUTHORS_ALPHAS, full_scale_run
from repro.papers.granger_causal_sgd.pruning_loop import causal_pruning
from repro.papers.granger_causal_sgd.settings import SETTINGS, Setting, start

SMALL = Setting(
    "small", "digits", partial(small_cnn, width=2), images=True, parts=(300, 100, 200), standardize=(5.0, 6.0),
    pretrain_epochs=2, logging_epochs=1, tune_epochs=2, batch_size=64,
)  # fmt: skip
ALPHAS = [1e-12, 1e-9, 1e3]
N_RUNS = 1 + 2 * 3 + 2 * 3


def _run(folder: Path, **options: Any) -> pd.DataFrame:
    return full_scale_run(
        SMALL, 1, ALPHAS, **{"folder": folder, "n_iterations": 2, "max_networks": 3} | options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return _run(folder)


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["test_accuracy"].notna()]


def test_the_arms_are_the_loops_themselves(frame: pd.DataFrame) -> None:
    begun = start(SMALL, [1], progress=False)
    for loss_delta in ("cross_batch", "same_batch"):
        run = causal_pruning(begun, alpha=ALPHAS, loss_delta=loss_delta, n_iterations=2, rule="threshold")
        for alpha in ALPHAS:
            chosen = frame[(frame["arm"] == "causal") & (frame["alpha"] == alpha)]
            chosen = chosen[chosen["loss_delta"] == loss_delta]
            expected = run.frame[run.frame["alpha"] == alpha]
            assert list(chosen["sparsity"]) == list(expected["sparsity"])
            assert list(chosen["iteration"]) == [1, 2]
        tuned = fine_tune(begun, run.masks[-1:])
        got = _last(frame)[(_last(frame)["arm"] == "causal") & (_last(frame)["loss_delta"] == loss_delta)]
        assert got["train_loss"].to_numpy() == pytest.approx(tuned["train_loss"].to_numpy(), rel=1e-4)
    dense = frame[frame["arm"] == "dense"]
    alone = fine_tune(begun, [begun.dense()])
    assert dense["train_loss"].to_numpy() == pytest.approx(alone["train_loss"].to_numpy(), rel=1e-4)
    assert list(dense["sparsity"]) == [0]


def test_magnitude_comes_to_the_sparsity_of_its_counterpart(frame: pd.DataFrame) -> None:
    last = _last(frame).set_index(["loss_delta", "alpha"])
    causal, other = (last[last["arm"] == arm]["sparsity"] for arm in ("causal", "magnitude"))
    assert (causal.xs(1e3, level="alpha") == 1).all()
    assert set(other.index) == {key for key, s in causal.items() if 0 < s < 1}
    assert len(other) >= 3
    n_weights = 18 + 72 + 640
    assert (other - causal[other.index]).abs().max() <= 2 / n_weights  # two roundings to whole weights


def test_what_is_finished_is_read_and_not_repeated(
    folder: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(folder.glob("*.json"))) == N_RUNS
    assert not list(folder.glob("*.part"))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was repeated")

    for name in ("start", "causal_pruning", "magnitude_pruning", "fine_tune"):
        monkeypatch.setattr(full_scale, name, never)
    pd.testing.assert_frame_equal(_run(folder), frame)


def test_a_run_that_was_broken_off_goes_on_where_it_was(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(tmp_path, max_seconds=0.0).empty
    calls = []

    def breaks(*arguments: Any, **options: Any) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fine_tune(*arguments, **options)

    monkeypatch.setattr(full_scale, "fine_tune", breaks)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 1 + 3
    monkeypatch.setattr(full_scale, "fine_tune", fine_tune)
    pd.testing.assert_frame_equal(_run(tmp_path), frame)


def test_networks_together_are_networks_alone(tmp_path: Path, frame: pd.DataFrame) -> None:
    alone = _run(tmp_path, max_networks=1)
    assert alone["sparsity"].to_numpy() == pytest.approx(frame["sparsity"].to_numpy(), abs=2 / 730)
    assert _last(alone)["train_loss"].to_numpy() == pytest.approx(
        _last(frame)["train_loss"].to_numpy(), rel=1e-2
    )


def test_the_regression_from_disk_agrees_with_the_threshold(tmp_path: Path, frame: pd.DataFrame) -> None:
    solved = _run(tmp_path, rule="tg_lasso", loss_deltas=["same_batch"], n_iterations=1)
    first = frame[
        (frame["arm"] == "causal") & (frame["loss_delta"] == "same_batch") & (frame["iteration"] == 1)
    ]
    causal = solved[solved["arm"] == "causal"]
    assert causal["sparsity"].to_numpy() == pytest.approx(first["sparsity"].to_numpy(), abs=0.05)


def test_files_of_other_runs_are_not_taken_for_these(folder: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(
        ValueError, match=r"small-1-dense\.json was made with other values of \['n_iterations'\]"
    ):
        _run(folder, n_iterations=3)
    with pytest.raises(ValueError, match=r"\['tune_epochs'\]"):
        full_scale_run(replace(SMALL, tune_epochs=3), 1, ALPHAS, folder=folder, n_iterations=2)


def test_all_arms_begin_at_the_weights_that_the_folder_keeps(tmp_path: Path) -> None:
    _run(tmp_path, max_seconds=0.0)
    path = tmp_path / "small-1-theta0.pt"
    state = {name: 0.5 * tensor for name, tensor in torch.load(path, weights_only=True).items()}
    torch.save(state, path)
    begun = start(SMALL, [1], progress=False)
    begun.ensemble.load_state_dict(state)
    got = full_scale_run(SMALL, 1, [], folder=tmp_path, n_iterations=2)
    assert got["train_loss"].item() == pytest.approx(fine_tune(begun, [begun.dense()])["train_loss"].item())


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown setting 'lenet'"):
        full_scale_run("lenet", 0, [1e-14], folder=tmp_path)
    with pytest.raises(ValueError, match="max_networks must be a whole number, 1 or above; got 0"):
        _run(tmp_path, max_networks=0)
    with pytest.raises(ValueError, match=r"got \['both'\]"):
        _run(tmp_path, loss_deltas=["both"])
    with pytest.raises(ValueError, match="alpha must be above 0"):
        full_scale_run(SMALL, 0, [0.0], folder=tmp_path, n_iterations=1)
    assert set(AUTHORS_ALPHAS) < set(SETTINGS)
