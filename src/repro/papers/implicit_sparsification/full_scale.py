"""One-shot pruning at the paper's settings: a grid of methods, strengths and seeds, run by run; resumable."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd

from repro.learn import TrainingDivergedError
from repro.learn._progress import bar
from repro.learn.augmentation import random_crop_flip
from repro.learn.training import resolve_device
from repro.papers.implicit_sparsification._run_files import COLUMNS, Run, RunFiles, content
from repro.papers.implicit_sparsification.fitting import fit
from repro.papers.implicit_sparsification.methods import method
from repro.papers.implicit_sparsification.one_shot import PAPER_SPARSITIES, pruned_accuracy, sign_flips
from repro.papers.implicit_sparsification.settings import Setting, setting

__all__ = ["PAPER_GRID", "full_scale_run", "full_scale_table"]

PAPER_GRID: dict[str, tuple[float, ...]] = {
    "x": (0.0,),
    "mw": (0.0,),
    "pilot": (1e-4, 3e-4, 1e-3),
    "pilot_constant": (1e-4, 3e-4, 1e-3),
    "l1_x": (5e-5, 5e-4),
    "spred": (1e-4, 3e-4, 1e-3),
    "str": (3e-5, 1e-4, 3e-4),
    "powerprop": (2.0,),
    "continuous": (5e-5, 5e-4),
}
"""Strengths of the paper's first version; those of spred and STR, which it does not give, are our own choice.

Its L1 strengths, 1e-4 and 1e-3, are twice those of the grid: see ``Method.scale``. It does not say that PILoT's
strength is turned off during training, which its second version does: hence both ``pilot`` and
``pilot_constant``.
"""


def full_scale_run(
    chosen: str | Setting,
    grid: Mapping[str, Sequence[float]] = PAPER_GRID,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    folder: str | Path,
    sparsities: Sequence[float] = (0.0, *PAPER_SPARSITIES),
    only: Collection[str] | None = None,
    limit: int | None = None,
    max_networks: int = 9,
    device: str = "auto",
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> pd.DataFrame:
    r"""Train and prune each network of a grid once, each finished run written to a file and not repeated.

    A run is one network: a setting, method, strength and seed. Runs of one method are trained together, up to
    ``max_networks``; which ones were is kept in the file, since under augmentation the draws of an image depend
    on its place among them. A file that cannot be read is told of in a warning, and its run made again.

    Args:
        chosen: a setting or its name; a smaller one is a ``dataclasses.replace`` of it.
        grid: strengths of each method, as ``fit`` takes them.
        seeds: of the networks.
        folder: where the files are; made if it is not there.
        sparsities: shares of the weights to remove, in [0, 1].
        only: methods of the grid to run in this call; None for all.
        limit: networks to train in this call, None for all. A later call goes on from there.
        max_networks: how many are trained together; small ones leave a GPU idle one by one.
        device: as in ``learn.train``.
        mixed_precision: as in ``learn.train``.
        progress: as in ``learn.train``, counting networks.

    Returns:
        The finished runs of this grid, in the columns of ``full_scale_table``.

    Raises:
        ValueError: bad arguments; a file in the folder was made with other ones.
        DataNotFoundError: the data are not on this machine; says how to get them. What is finished stays, and
            ``full_scale_table`` reads it without the data.
    """
    chosen = setting(chosen) if isinstance(chosen, str) else chosen
    _check(grid, seeds, sparsities, only, limit, max_networks)
    files = RunFiles(Path(folder), chosen, sparsities, mixed_precision)
    runs = [
        Run(name, float(a), seed) for name, strengths in grid.items() for a in strengths for seed in seeds
    ]
    tables = {run: kept for run in runs if (kept := files.read(run)) is not None}
    wanted = [run for run in runs if run not in tables and (only is None or run.method in only)][:limit]
    with bar(len(wanted), progress) as shown:
        while batch := _together(wanted, max_networks):
            began = time.perf_counter()
            found = _train(chosen, batch, sparsities, device, mixed_precision)
            files.write(batch, found, time.perf_counter() - began)
            tables |= found
            wanted = [run for run in wanted if run not in found]
            shown.update(len(batch))
    return _tidy([(chosen.name, run, tables[run]) for run in runs if run in tables])


def full_scale_table(folder: str | Path) -> pd.DataFrame:
    """Return all finished runs that a folder keeps, of whatever settings; needs no data and no GPU.

    Args:
        folder: as ``full_scale_run`` left it.

    Returns:
        One row a run and sparsity: ``setting``, ``method``, ``strength``, ``seed``, ``sparsity`` (share
        removed), ``validation_accuracy`` and ``test_accuracy`` in [0, 1]; of the whole run, alike in its rows:
        ``dose`` $A$ at the end, ``flips`` as ``sign_flips`` says, ``diverged`` (the other numbers are NaN
        then). Without finished runs there are no rows, but these columns. A file that cannot be read is told
        of in a warning and left out.

    Raises:
        FileNotFoundError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; full_scale_run makes it")
    tables = []
    for path in sorted(folder.glob("*.json")):
        if (found := content(path, "it is left out; full_scale_run makes it again")) is not None:
            run = Run(**found["run"])
            tables.append((str(found["parameters"]["name"]), run, pd.DataFrame(found["rows"])))
    tables.sort(key=lambda table: (table[0], table[1].method, table[1].strength, table[1].seed))
    return _tidy(tables)


def _tidy(tables: list[tuple[str, Run, pd.DataFrame]]) -> pd.DataFrame:
    columns = ["setting", *(field.name for field in fields(Run)), *COLUMNS]
    labeled = [table.assign(setting=name, **asdict(run))[columns] for name, run, table in tables]
    return pd.concat(labeled, ignore_index=True) if labeled else pd.DataFrame(columns=columns)


def _together(wanted: list[Run], most: int) -> list[Run]:
    """The next runs to train as one: of one method, all its strengths with the same seeds."""
    if not wanted:
        return []
    seeds: dict[float, list[int]] = {}
    for run in wanted:
        if run.method == wanted[0].method:
            seeds.setdefault(run.strength, []).append(run.seed)
    first = seeds[wanted[0].strength][:most]
    strengths = [strength for strength, own in seeds.items() if own[:most] == first][: most // len(first)]
    return [Run(wanted[0].method, strength, seed) for strength in strengths for seed in first]


def _train(
    chosen: Setting, batch: list[Run], sparsities: Sequence[float], device: str, mixed_precision: bool
) -> dict[Run, pd.DataFrame]:
    """Train the networks of a batch and prune each; the rows of each."""
    strengths = list(dict.fromkeys(run.strength for run in batch))
    seeds = list(dict.fromkeys(run.seed for run in batch))
    lost = pd.DataFrame({"sparsity": sparsities}).reindex(columns=COLUMNS).assign(diverged=True)
    try:
        fitted = fit(
            chosen,
            batch[0].method,
            strengths,
            seeds=seeds,
            augment=random_crop_flip() if chosen.augmented else None,
            device=device,
            mixed_precision=mixed_precision,
            progress=False,
        )
    except TrainingDivergedError:  # all of them
        return dict.fromkeys(batch, lost)
    keys = ["strength", "seed"]
    doses = fitted.course.groupby(keys, as_index=False)["dose"].last()
    labels = sign_flips(fitted).merge(doses, on=keys).drop(columns="method")
    where = resolve_device(device)  # pruned_accuracy works where the networks and their data are
    moved = replace(
        fitted, networks=fitted.networks.to(where), datasets=[each.to(where) for each in fitted.datasets]
    )
    rows = pruned_accuracy(moved, sparsities).merge(labels, on=keys).assign(diverged=False)
    return {
        run: lost
        if (run.strength, run.seed) in fitted.diverged
        else rows.loc[(rows["strength"] == run.strength) & (rows["seed"] == run.seed), COLUMNS]
        for run in batch
    }


def _check(
    grid: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    sparsities: Sequence[float],
    only: Collection[str] | None,
    limit: int | None,
    max_networks: int,
) -> None:
    for name, strengths in grid.items():
        method(name)
        if not strengths or not all(0 <= each < float("inf") for each in strengths):
            raise ValueError(
                f"strengths are at least one number, 0 or above; got {list(strengths)} for {name!r}"
            )
    if isinstance(only, str) or [name for name in only or () if name not in grid]:
        raise ValueError(f"only takes methods of the grid, a list of {list(grid)}; got {only!r}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers; got {list(seeds)}")
    if not sparsities or not all(0 <= each <= 1 for each in sparsities):
        raise ValueError(
            f"sparsities are at least one share of the weights, in [0, 1]; got {list(sparsities)}"
        )
    for name, count in {"limit": 1 if limit is None else limit, "max_networks": max_networks}.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number, 1 or above; got {count!r}")
