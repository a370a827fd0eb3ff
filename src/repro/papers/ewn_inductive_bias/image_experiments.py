r"""Training on images to vanishing loss, then pruning neurons (E13 to E18).

The paper's settings are those of MNIST and CIFAR-10; digits and the 5,000 MNIST images are small versions of
them that need no download. Two layers of the authors' networks break the theory's assumptions (a bias in the
hidden layer, an output layer that is not normalised), and so do ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn.data import load
from repro.learn.ensembles import Ensemble
from repro.learn.seeding import initialization
from repro.papers.ewn_inductive_bias.descent import Descent, descend, squared_lengths
from repro.papers.ewn_inductive_bias.image_settings import ImageSetting, image_setting
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import METHODS, lengths, normalize_weights
from repro.papers.ewn_inductive_bias.pruning import pruned_accuracy
from repro.papers.ewn_inductive_bias.relations import gini

__all__ = ["ImageTables", "image_pruning", "learning_rate_control"]


@dataclass(frozen=True, eq=False)
class ImageTables:
    """What ``image_pruning`` measured.

    Attributes:
        runs: one row a method, seed and target: method, seed, z, status (of the whole run), reached, steps
            (or epochs), seconds (of the method's whole ensemble), accuracy (unpruned, test, per cent), gini
            (of the lengths, averaged over layers), NaN where the target was not reached.
        lengths: one row a neuron at the start (z is NaN) and at each target reached: method, seed, z, layer,
            neuron, length.
        accuracy: method, seed, z, score, pruned_percent, n_removed, accuracy; see
            ``pruning.pruned_accuracy``.
    """

    runs: pd.DataFrame
    lengths: pd.DataFrame
    accuracy: pd.DataFrame


def image_pruning(
    dataset: str | ImageSetting,
    seeds: Iterable[int],
    methods: Iterable[str] = METHODS,
    targets: Sequence[float] = (10.0, 100.0),
    *,
    device: str = "auto",
    **changes: Any,
) -> ImageTables:
    r"""Train with each method to given losses $e^{-z}$, then remove the shortest neurons (E13 to E18).

    All methods start from the same network for a seed. Mean cross-entropy, step $k/\mathcal L$, kept only if
    the loss did not rise; hidden layers are normalised and pruned, the output layer never.

    Args:
        dataset: a name in ``SETTINGS``, or a setting.
        seeds: of splits, initial weights and batch orders.
        methods: ``"plain"``, ``"swn"``, ``"ewn"``, and ``"control"``: plain training in which the gradient of
            each hidden neuron's incoming weights is multiplied by $\|w_u\|^2$ (E18).
        targets: loss levels z, rising.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
        **changes: fields of ``ImageSetting`` to set otherwise, for example ``batch_size=20``.

    Returns:
        ``ImageTables``.

    Raises:
        ValueError: unknown data set, method or field.

    Explained in chapter ``ewn-inductive-bias``.
    """
    setting, seeds, methods = image_setting(dataset, changes), list(seeds), list(methods)
    known = (*METHODS, "control")
    if unknown := [method for method in methods if method not in known]:
        raise ValueError(f"unknown method {unknown[0]!r}: accepted are {', '.join(known)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    splits = seeds if setting.split_by_seed else seeds[:1]
    sets = [load(setting.dataset, seed=seed, **setting.data) for seed in splits]
    x, y, x_test, y_test = (
        _together([getattr(own, part) for own in sets], setting.split_by_seed)
        for part in ("x_train", "y_train", "x_test", "y_test")
    )
    n_inputs = x.shape[-1] if setting.n_hidden else x.shape[-3]
    runs, all_lengths, accuracy = [], [], []
    for method in methods:
        ensemble, layers = _ensemble(setting, seeds, method, n_inputs, sets[0].n_classes)
        multipliers: dict[str, Callable[[Tensor], Tensor]] = {}
        if method == "control":
            multipliers = {f"{layer}.weight": squared_lengths for layer in layers}
        descent = descend(
            ensemble,
            x,
            y,
            log_loss=LogLoss("cross-entropy", "mean"),
            targets=targets,
            grow=setting.grow,
            shrink=setting.shrink,
            window=setting.window,
            batch_size=setting.batch_size,
            max_steps=setting.max_steps,
            seeds=seeds,
            per_member=setting.split_by_seed,
            gradient_multiplier=multipliers,
            chunk=setting.chunk,
            device=device,
        )
        pruned = pruned_accuracy(
            ensemble,
            descent,
            x_test,
            y_test,
            layers=layers,
            levels=setting.levels,
            scores=setting.scores,
            seeds=seeds,
            per_member=setting.split_by_seed,
            chunk=setting.chunk,
            device=device,
        ).assign(method=method)
        own_lengths = _lengths(descent, seeds, layers).assign(method=method)
        runs.append(_runs(descent, seeds, own_lengths, pruned).assign(method=method))
        all_lengths.append(own_lengths)
        accuracy.append(pruned)
    tables = (pd.concat(frames, ignore_index=True) for frames in (runs, all_lengths, accuracy))
    return ImageTables(*(table[["method", *table.columns.drop("method")]] for table in tables))


def _together(parts: list[Tensor], per_member: bool) -> Tensor:
    return torch.stack(parts) if per_member else parts[0]


def _ensemble(
    setting: ImageSetting, seeds: Sequence[int], method: str, n_inputs: int, n_classes: int
) -> tuple[Ensemble, list[str]]:
    """The networks at the start, and the names of their hidden layers."""
    networks = []
    for seed in seeds:
        with initialization(seed):
            networks.append(setting.network(n_inputs, n_classes))
    layers = [n for n, layer in networks[0].named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]
    form = "plain" if method == "control" else method
    return Ensemble([normalize_weights(network, form, layers) for network in networks]), layers


def _lengths(descent: Descent, seeds: Sequence[int], layers: Sequence[str]) -> pd.DataFrame:
    """Lengths of all hidden neurons at the start (z NaN) and at the targets reached."""
    frames = []
    for z in (None, *descent.targets):
        weights = descent.weights(z)
        for layer in layers:
            own = lengths(weights[layer], batched=True).double()
            index = pd.MultiIndex.from_product([list(seeds), range(own.shape[1])], names=["seed", "neuron"])
            frame = pd.DataFrame({"length": own.numpy().ravel()}, index=index).dropna().reset_index()
            frames.append(frame.assign(z=float("nan") if z is None else z, layer=layer))
    return pd.concat(frames, ignore_index=True)[["seed", "z", "layer", "neuron", "length"]]


def _runs(descent: Descent, seeds: Sequence[int], table: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    by_layer = table.groupby(["seed", "z", "layer"])["length"].apply(gini)
    sparsity = by_layer.groupby(["seed", "z"]).mean()
    whole = pruned[pruned["pruned_percent"] == 0].groupby(["seed", "z"])["accuracy"].first()
    rows = []
    for i, seed in enumerate(seeds):
        for j, z in enumerate(descent.targets):
            row = {"seed": seed, "z": z, "status": descent.status[i], "reached": bool(descent.reached(z)[i])}
            row |= {"steps": descent.attempts_to[i, j], "seconds": descent.seconds_to[i, j]}
            row |= {"accuracy": whole.get((seed, z), float("nan"))}
            rows.append(row | {"gini": sparsity.get((seed, z), float("nan"))})
    return pd.DataFrame(rows)


def learning_rate_control(
    tables: ImageTables, z: float, percent: float = 90.0, score: str = "length"
) -> pd.DataFrame:
    r"""Is EWN's effect that of its learning rate alone (E18)? The control against EWN and plain training.

    Args:
        tables: of ``image_pruning`` with the methods ``"plain"``, ``"ewn"`` and ``"control"``.
        z: the loss level.
        percent: of neurons removed.
        score: by which.

    Returns:
        One row a seed: seed, accuracy_control, accuracy_ewn, accuracy_plain, gini_control, gini_ewn,
        gini_plain, control_minus_ewn, control_minus_plain (points of accuracy), gini_control_minus_ewn.
    """
    a = tables.accuracy
    chosen = a[(a["z"] == z) & (a["pruned_percent"] == percent) & (a["score"] == score)]
    accuracy = chosen.pivot(index="seed", columns="method", values="accuracy")
    spread = tables.runs[tables.runs["z"] == z].pivot(index="seed", columns="method", values="gini")
    if missing := [m for m in ("plain", "ewn", "control") if m not in accuracy.columns]:
        raise ValueError(f"the control needs plain, ewn and control; {missing[0]!r} has no result at z = {z}")
    table = pd.concat(
        [
            accuracy[["control", "ewn", "plain"]].add_prefix("accuracy_"),
            spread[["control", "ewn", "plain"]].add_prefix("gini_"),
        ],
        axis=1,
    )
    table["control_minus_ewn"] = table["accuracy_control"] - table["accuracy_ewn"]
    table["control_minus_plain"] = table["accuracy_control"] - table["accuracy_plain"]
    table["gini_control_minus_ewn"] = table["gini_control"] - table["gini_ewn"]
    return table.reset_index()
