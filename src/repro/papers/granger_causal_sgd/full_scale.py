"""Causal pruning at the authors' settings, beside magnitude at equal sparsity and no pruning; resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from repro.learn._progress import bar
from repro.papers.granger_causal_sgd.fine_tuning import fine_tune
from repro.papers.granger_causal_sgd.pruning_loop import (
    LOSS_DELTAS,
    PruningRun,
    causal_pruning,
    magnitude_pruning,
)
from repro.papers.granger_causal_sgd.settings import Setting, Start, setting, start

__all__ = ["AUTHORS_ALPHAS", "full_scale_run"]

AUTHORS_ALPHAS = {"lenet-fashion": 1e-14, "lenet-cifar10": 1e-14, "resnet18-cifar10": 1e-15}
"""The penalty in the scripts of the authors' code of September 2024."""


def full_scale_run(
    chosen: str | Setting,
    seed: int,
    alphas: Sequence[float],
    *,
    folder: str | Path,
    loss_deltas: Sequence[str] = LOSS_DELTAS,
    n_iterations: int = 10,
    rule: str = "threshold",
    max_networks: int = 1,
    max_seconds: float = float("inf"),
    device: str = "auto",
    progress: bool | None = None,
) -> pd.DataFrame:
    r"""Prune and fine-tune one network in all arms, each finished run written to a file and not repeated.

    Arms, all from the same $\theta_0$ and fine-tuned by the same rule: ``"dense"``; ``"causal"`` for each loss
    change and penalty; ``"magnitude"``, for each of these, in as many iterations to the sparsity it came to (left
    out where that is 0 or 1). With ``rule="threshold"`` no trace is stored: 24 bytes a weight, whatever the
    number of steps. ``rule="tg_lasso"`` runs the regression itself on rows kept on disk, layer by layer, and needs
    memory for twice the largest layer's rows in float64: about 7 GB for LeNet on Fashion-MNIST.

    Args:
        chosen: a setting or its name; a smaller one is a ``dataclasses.replace`` of it.
        seed: of the network and of its split of the data.
        alphas: penalties; see ``AUTHORS_ALPHAS``.
        folder: where the files are, and $\theta_0$; made if it is not there.
        loss_deltas: of ``LOSS_DELTAS``.
        n_iterations: of logging (or training) and pruning.
        rule: as in ``causal_pruning``.
        max_networks: how many are trained together. Small networks leave a GPU idle one by one.
        max_seconds: after which no further run begins; a later call goes on from there.
        device: as in ``learn.train``.
        progress: as in ``learn.train``, counting runs.

    Returns:
        One row an iteration of a finished run: ``setting``, ``seed``, ``arm``, ``loss_delta``, ``alpha`` (for
        magnitude, of the run that it matches), the columns of ``PruningRun.frame`` (``amount`` is that of
        magnitude; dense has the one iteration 0) and, in the last row of each run, those of ``fine_tune``.

    Raises:
        ValueError: bad arguments; a file in the folder was made with other ones.
        MemoryError, TrainingDivergedError: as ``causal_pruning``.
    """
    chosen = setting(chosen) if isinstance(chosen, str) else chosen
    if isinstance(max_networks, bool) or not isinstance(max_networks, int) or max_networks < 1:
        raise ValueError(f"max_networks must be a whole number, 1 or above; got {max_networks!r}")
    if unknown := [each for each in loss_deltas if each not in LOSS_DELTAS]:
        raise ValueError(f"loss_deltas are of {LOSS_DELTAS}; got {unknown}")
    files = _Files(Path(folder), chosen, seed, n_iterations, rule)
    causal = [_Key("causal", loss_delta, float(alpha)) for loss_delta in loss_deltas for alpha in alphas]
    keys = [_Key("dense"), *causal, *(_Key("magnitude", key.loss_delta, key.alpha) for key in causal)]
    deadline = time.monotonic() + max_seconds
    rows = {key: read for key in keys if (read := files.read(key)) is not None}
    if len(rows) < len(keys):
        begun = files.same_start(start(chosen, [seed], device=device, progress=False))
        with bar(len(keys), progress) as shown:
            shown.update(len(rows))
            while time.monotonic() < deadline and (batch := _next(keys, rows, max_networks)):
                began = time.perf_counter()
                found = _run(begun, batch, rows, n_iterations, rule, device)
                seconds = (time.perf_counter() - began) / len(batch)
                for key, records in zip(batch, found, strict=True):
                    files.write(key, records, seconds)
                    rows[key] = records
                shown.update(len(batch))
    labels = {"setting": chosen.name, "seed": seed}
    return pd.DataFrame([labels | asdict(k) | row for k in keys for row in rows.get(k, [])])


@dataclass(frozen=True)
class _Key:
    """One run of a setting and seed."""

    arm: str
    loss_delta: str | None = None
    alpha: float | None = None


def _next(keys: Sequence[_Key], rows: dict[_Key, list[dict[str, Any]]], most: int) -> list[_Key]:
    """The next runs that can be made together: of one arm and one loss change."""
    left = [key for key in keys if key not in rows]
    alike = [key for key in left if (key.arm, key.loss_delta) == (left[0].arm, left[0].loss_delta)]
    return alike[:most]


def _run(
    begun: Start,
    batch: list[_Key],
    rows: dict[_Key, list[dict[str, Any]]],
    n_iterations: int,
    rule: str,
    device: str,
) -> list[list[dict[str, Any]]]:
    """Make the runs of a batch; the rows of each."""
    alphas = [key.alpha for key in batch if key.alpha is not None]
    if batch[0].arm == "dense":
        tuned = fine_tune(begun, [begun.dense()], device=device)
        return [[{"iteration": 0, "sparsity": 0.0, "collapsed": 0} | _only(tuned, 0)]]
    if batch[0].arm == "causal":
        run = causal_pruning(
            begun,
            alpha=alphas,
            loss_delta=str(batch[0].loss_delta),
            n_iterations=n_iterations,
            rule=rule,
            store="disk",
            device=device,
        )
        return _with_accuracy(begun, run, "alpha", alphas, device)
    reached = [rows[_Key("causal", key.loss_delta, key.alpha)][-1]["sparsity"] for key in batch]
    amounts = {s: 1 - (1 - s) ** (1 / n_iterations) for s in reached if 0 < s < 1}
    if not amounts:
        return [[] for _ in batch]
    run = magnitude_pruning(begun, list(amounts.values()), n_iterations, device=device)
    found = dict(
        zip(amounts, _with_accuracy(begun, run, "amount", list(amounts.values()), device), strict=True)
    )
    return [found.get(s, []) for s in reached]


def _with_accuracy(
    begun: Start, run: PruningRun, parameter: str, values: Sequence[float], device: str
) -> list[list[dict[str, Any]]]:
    """Fine-tune under the last masks; the rows of each value, what the tuning came to in the last."""
    tuned = fine_tune(begun, run.masks[-1:], device=device)
    found = []
    for i, value in enumerate(values):
        own = run.frame[run.frame[parameter] == value].drop(columns=["seed", "alpha"], errors="ignore")
        records = [_plain(record) for record in own.to_dict("records")]
        records[-1] |= _only(tuned, i)
        found.append(records)
    return found


def _only(tuned: pd.DataFrame, i: int) -> dict[str, Any]:
    return _plain(tuned.drop(columns="seed").iloc[i].to_dict())


def _plain(record: dict[Any, Any]) -> dict[str, Any]:
    """Python's own numbers, which JSON can write."""
    return {str(k): v.item() if hasattr(v, "item") else v for k, v in record.items()}


class _Files:
    """The files of one setting and seed."""

    def __init__(self, folder: Path, chosen: Setting, seed: int, n_iterations: int, rule: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._stem = folder, f"{chosen.name}-{seed}"
        told = {name: value for name, value in vars(chosen).items() if name != "build"}
        # as it reads back: JSON has no tuples
        self._parameters = json.loads(json.dumps(told | {"n_iterations": n_iterations, "rule": rule}))

    def _path(self, key: _Key) -> Path:
        words = [self._stem, key.arm, key.loss_delta, key.alpha and f"{key.alpha:g}"]
        return self._folder / ("-".join(str(word) for word in words if word) + ".json")

    def read(self, key: _Key) -> list[dict[str, Any]] | None:
        """Rows of a finished run, or None."""
        path = self._path(key)
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        if different := {n for n, v in self._parameters.items() if found["parameters"].get(n) != v}:
            raise ValueError(
                f"{path.name} was made with other values of {sorted(different)}; use another folder, or "
                "the same values"
            )
        rows: list[dict[str, Any]] = found["rows"]
        return rows

    def write(self, key: _Key, rows: list[dict[str, Any]], seconds: float) -> None:
        """Write a finished run, whole or not at all."""
        path = self._path(key)
        written = {"parameters": self._parameters, "seconds": round(seconds, 1), "rows": rows}
        path.with_suffix(".part").write_text(json.dumps(written, indent=1) + "\n")
        path.with_suffix(".part").replace(path)

    def same_start(self, begun: Start) -> Start:
        """Put the weights that earlier runs started from in, bit by bit; a GPU need not find them again."""
        path = self._folder / f"{self._stem}-theta0.pt"
        if path.exists():
            begun.ensemble.load_state_dict(torch.load(path, weights_only=True))
        else:
            torch.save(begun.ensemble.state_dict(), path)
        return begun
