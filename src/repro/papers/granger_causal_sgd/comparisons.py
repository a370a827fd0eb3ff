"""Accuracy of dense and pruned networks at equal sparsity, fine-tuned alike (claims G5, G6 and G7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from repro.learn import Ensemble, TrainingDivergedError, train
from repro.papers.granger_causal_sgd.arms import ARMS, arm_masks, collapsed
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.trace import Trace
from repro.prune import Mask

__all__ = ["SPARSITIES", "Tuned", "accuracy_runs", "paired", "tuned_arms"]

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""With the dense networks enough points for ``phase_shift``."""


@dataclass(frozen=True)
class Tuned:
    r"""Fine-tuned networks, as a table and as networks.

    Attributes:
        frame: as ``accuracy_runs`` returns it.
        ensembles: the networks in the order of the rows, some in each.
        masks: of each ensemble, entries ``(its size, *shape)``.
    """

    frame: pd.DataFrame
    ensembles: tuple[Ensemble, ...]
    masks: tuple[Mask, ...]


def accuracy_runs(
    start: Start,
    trace: Trace,
    arms: Sequence[str] = tuple(ARMS),
    sparsities: Sequence[float] = SPARSITIES,
    *,
    seed: int = 0,
    tune_epochs: int | None = None,
    max_networks: int = 40,
    device: str = "auto",
) -> pd.DataFrame:
    r"""Fine-tune dense networks and every arm at every sparsity from $\theta_0\odot m$, and measure them.

    Adam with the setting's rate, as many epochs for all; a network's batches are those of its seed, whatever
    its arm. Nothing is selected: networks are measured after the last epoch, and no mask has seen the
    validation or test part.

    Args:
        start: S networks at $\theta_0$, which stay as they are.
        trace: logged from them.
        arms: of ``ARMS``.
        sparsities: shares of weights removed, in [0, 1).
        seed: of the arms that draw.
        tune_epochs: None for the setting's.
        max_networks: how many are trained together, at least S. On one processor 40 perceptrons are fastest;
            all must have their data in memory at once.
        device: as in ``learn.train``.

    Returns:
        One row a network: ``seed``, ``arm`` (first ``"dense"``, with sparsity 0), ``sparsity``, ``train_loss``
        (mean cross-entropy of the whole training part), ``validation_accuracy``, ``test_accuracy`` (in [0, 1])
        and ``collapsed``, the number of layers without a weight left.

    Raises:
        ValueError: bad arguments, before any training.
        TrainingDivergedError: a loss is not finite; names arm, sparsity and seed where others are.
    """
    return tuned_arms(
        start, trace, arms, sparsities, seed=seed, tune_epochs=tune_epochs, max_networks=max_networks, device=device
    ).frame  # fmt: skip


def tuned_arms(
    start: Start,
    trace: Trace,
    arms: Sequence[str] = tuple(ARMS),
    sparsities: Sequence[float] = SPARSITIES,
    *,
    seed: int = 0,
    tune_epochs: int | None = None,
    max_networks: int = 40,
    device: str = "auto",
) -> Tuned:
    """Return what ``accuracy_runs`` measures, with the networks; arguments and errors are the same."""
    n_seeds = len(start.seeds)
    n_epochs = start.setting.tune_epochs if tune_epochs is None else tune_epochs
    for name, value, least in (("tune_epochs", n_epochs, 1), ("max_networks", max_networks, n_seeds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or above; got {value!r}")
    chosen = arm_masks(arms, trace, start, sparsities, seed=seed)
    conditions = [("dense", 0.0, start.dense())]
    conditions += [(arm, s, mask) for arm, some in chosen.items() for s, mask in some.items()]
    at_once = max_networks // n_seeds
    blocks = [
        _tune(start, conditions[i : i + at_once], n_epochs, device)
        for i in range(0, len(conditions), at_once)
    ]
    frames, ensembles, masks = zip(*blocks, strict=True)
    return Tuned(pd.concat(frames, ignore_index=True), ensembles, masks)


def paired(frame: pd.DataFrame, arm: str, other: str, *, value: str = "test_accuracy") -> pd.DataFrame:
    r"""Return the accuracy of one arm minus that of another, seed by seed at equal sparsity.

    $d = 100\,(a_\text{arm} - a_\text{other})$; what two networks of one seed share (data, $\theta_0$, batches)
    cancels. ``"dense"`` is compared with every sparsity.

    Args:
        frame: of ``accuracy_runs``.
        arm: name of the one arm, or ``"dense"``.
        other: name of the other.
        value: column, a share in [0, 1].

    Returns:
        One row a (sparsity, seed): ``seed``, ``sparsity``, ``difference`` in percentage points.

    Raises:
        ValueError: an arm or column that the frame lacks, an arm with one seed twice at one sparsity, or seeds
            and sparsities that only one of the two has.
    """
    for name in (arm, other):
        if value not in frame or name not in set(frame["arm"]):
            raise ValueError(
                f"no {value!r} of arm {name!r}; arms are {', '.join(frame['arm'].unique())}, columns "
                f"{', '.join(frame.columns)}"
            )
    here, there = (_side(frame, *names)[value] for names in ((arm, other), (other, arm)))
    if len(alone := here.index.symmetric_difference(there.index)):
        raise ValueError(
            f"{arm!r} and {other!r} must share seeds and sparsities; they differ in {alone.to_list()}"
        )
    return (100 * (here - there)).rename("difference").reset_index()[["seed", "sparsity", "difference"]]


def _side(frame: pd.DataFrame, arm: str, other: str) -> pd.DataFrame:
    """Return the rows of an arm by sparsity and seed; dense rows at the sparsities of the other arm."""
    keys = ["sparsity", "seed"]
    rows = frame[frame["arm"] == arm]
    if arm == "dense" != other:
        levels = frame.loc[frame["arm"] == other, keys].drop_duplicates()
        rows = rows.drop(columns="sparsity").merge(levels, on="seed")
    if rows.duplicated(keys).any():
        raise ValueError(f"arm {arm!r} has a seed twice at one sparsity")
    return rows.set_index(keys)


def _tune(
    start: Start, conditions: list[tuple[str, float, Mask]], n_epochs: int, device: str
) -> tuple[pd.DataFrame, Ensemble, Mask]:
    """Train S networks of each condition, all as one."""
    masks = [mask for _, _, mask in conditions]
    mask = Mask({name: torch.cat([each[name] for each in masks]) for name in masks[0]})
    rows = [(seed, arm, sparsity) for arm, sparsity, _ in conditions for seed in start.seeds]
    frame = pd.DataFrame(rows, columns=["seed", "arm", "sparsity"])
    ensemble = start.copy(len(masks))
    mask.apply(ensemble)
    history = train(
        ensemble,
        start.datasets * len(masks),
        optimizer=start.setting.adam(),
        n_epochs=n_epochs,
        batch_size=start.setting.batch_size,
        after_step=[mask],
        evaluate_every=n_epochs,
        seed=list(start.seeds) * len(masks),
        device=device,
        progress=False,
    )
    if history.diverged:
        first, (epoch, _) = next(iter(history.diverged.items()))
        seed, arm, sparsity = rows[first]
        raise TrainingDivergedError(
            f"the loss of arm {arm!r} at sparsity {sparsity}, seed {seed}, is not finite from epoch {epoch} on; "
            "a smaller learning rate may help"
        )
    measured = ("train_loss", "validation_accuracy", "test_accuracy")
    frame = frame.assign(
        **{column: history.last(column) for column in measured}, collapsed=collapsed(mask).sum(dim=1).numpy()
    )
    return frame, ensemble, mask
