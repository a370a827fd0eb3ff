"""What the paper prints and its authors publish, and their rows once more, with their split, weights and masks.

Numbers in the tables beside this module are theirs, none is a result of this library. Where nothing is known, there is
none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repro.papers._pictures import where
from repro.papers.chaos_causality_pruning.method import WindowRecorder, _Array, decide
from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons
from repro.papers.chaos_causality_pruning.settings import load_table
from repro.papers.chaos_causality_pruning.training import _laid_out, _random_masks
from repro.prune import jaccard

# --- published ------------------------------------------------------------------------------------------------


def _read(name: str, **options: Any) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name(f"authors_{name}.csv"), **options)


_RECIPES: dict[Any, dict[Any, Any]] = _read("recipes", index_col="table").to_dict("index")
"""Network and training of one set a row, from the authors' code.

Columns: widths from input to output; the constant learning rate; the training accuracy at which retraining stops; what
FT and PT look at, passes and rows in a window, and with how many forward steps and up to which lag; and which of the
five initialisations, counted from 1, the paper's Tables 1 and 2 print (vowel's is unknown). What FT and PT look at
leads to the published masks: FT's of cancer, Titanic and iris, PT's of iris. Where that is unknown, it is as in the
authors' code, or of sets whose masks come out; banknote's PT comes out nearly. Banknote's 51 passes of FT were found by
a scan, for they lead to all five masks; the authors' code has 100. MNIST takes 128 examples an update, the others one.
"""

_MASKS = _read("masks", keep_default_na=False)
"""The weights that the published masks remove, one row a set, variant (``"ft"``, ``"pt"``) and trial.

Indices from 0 in the flat order: all of the first layer row by row, then the second. Those of Banknote PT are not
the mask of the printed row, which removes three weights.
"""

_PRINTED = _read("rows", index_col="table")
"""The paper's Tables 1 (dense, LEGCNet-FT) and 2 (LEGCNet-PT), one row a set.

Columns: ``kept``, the number of weights left, which the paper calls FLOPs (without biases; not operations of a
pass); ``epochs``, the first, counted from 0, that ends at the benchmark; ``accuracy`` and macro ``F1`` on the test
part after that epoch. Table 2 prints another F1 of FT for Cancer (0.8656) and Iris (0.9124).
"""

TABLE_4 = _read("spectra", index_col="table")
"""Power-law exponents of the MNIST network's layers in the paper's Table 4, one row a mask."""


def _removed(name: str, variant: str) -> list[list[int]]:
    """The weights that a published mask removes, for each of the five trials."""
    return [list(map(int, row.split())) for row in where(_MASKS, table=name, variant=variant)["removed"]]


# --- their data and initial weights ---------------------------------------------------------------------------

# two rows of the file that the authors took: scikit-learn has other values there
_IRIS_ROWS, _IRIS_VALUES = [34, 37], {"iris": [4.9, 3.1, 1.5, 0.1], "iris_3f": [4.9, 1.5, 0.1]}

# Of their legacy stream: examples shuffled before the weights are drawn, normals skipped. Vowel's weights cannot be
# drawn again: their generator is unknown.
_STREAMS = {
    "iris": (150, 0),
    "iris_3f": (150, 0),
    "cancer": (871, 0),
    "titanic": (891, 749),
    "banknote": (1372, 661),
}


def theorem_conditions() -> pd.DataFrame:
    """Return the widths of the paper's networks, one row a set, and whether its theorem's conditions hold.

    The theorem (3.1) asks that every hidden layer be wider than the input and the output, ``wide_enough``, and that
    initial weights be uniform: those of MNIST are, by PyTorch's default; those of the tables are normal.
    """
    table = pd.DataFrame({"sizes": {name: _sizes(name) for name in _RECIPES}}).rename_axis("table")
    wide_enough = [min(s[1:-1]) > max(s[0], s[-1]) for s in table["sizes"]]
    table = table.assign(wide_enough=wide_enough, uniform=table.index == "mnist")
    return table.assign(both=table["wide_enough"] & table["uniform"])


def _sizes(name: str) -> tuple[int, ...]:
    return tuple(map(int, _RECIPES[name]["sizes"].split("-")))


def _split(name: str) -> tuple[tuple[_Array, NDArray[np.int64]], ...]:
    """Split and scale a table as the authors' code does it, faults included; for reruns of their numbers only.

    The rows are shuffled by ``RandomState(42).permutation(n)``; the first 80 % are for training.
    Titanic's training part alone is shuffled, its test part is Kaggle's. Iris: two rows have the values of the
    authors' file; each feature is standardised, training and test part each with its own mean and population
    deviation. Cancer, Titanic, Banknote: each *example* is standardised over its features; one whose features
    are all equal becomes zero.

    Args:
        name: of one of the paper's tables: iris, iris_3f, cancer, banknote, titanic.

    Returns:
        Inputs ``(n, features)`` and classes ``(n,)`` for training, and for testing.
    """
    table = load_table(name)
    n = len(table.y) if table.test else int(0.8 * len(table.y))
    order = np.random.RandomState(42).permutation(len(table.y))
    x = table.x.copy()
    if name in _IRIS_VALUES:
        x[_IRIS_ROWS] = _IRIS_VALUES[name]
    x, y = x[order], table.y[order]
    x_test, y_test = table.test or (x[n:], y[n:])
    return (_scaled(name, x[:n]), y[:n]), (_scaled(name, x_test), y_test)


def _scaled(name: str, x: _Array) -> _Array:
    axis = 0 if name in _IRIS_VALUES else 1
    deviation = np.where(np.ptp(x, axis, keepdims=True) == 0, 1, x.std(axis, keepdims=True))
    return (x - x.mean(axis, keepdims=True)) / deviation


def _initial_weights(name: str) -> _Perceptrons:
    r"""Draw the authors' five initial weights again, $0.1\,z$ with $z$ from the legacy stream of seed 42.

    The stream goes on where their shuffle left it (for Titanic and Banknote some normals later), trial after trial,
    and gives $W_1$, $b_1$, $W_2$, $b_2$.
    """
    shuffled, skipped = _STREAMS[name]
    n_inputs, n_hidden, n_outputs = _sizes(name)
    shapes = ((n_hidden, n_inputs), (n_hidden, 1), (n_outputs, n_hidden), (n_outputs, 1))
    stream = np.random.RandomState(42)
    stream.permutation(shuffled)
    stream.randn(skipped)
    trials = [[0.1 * stream.randn(*shape) for shape in shapes] for _ in range(5)]
    w1, b1, w2, b2 = (torch.tensor(np.stack(same)) for same in zip(*trials, strict=True))
    return _Perceptrons([w1, w2], [b1, b2])


# --- their runs, made again -----------------------------------------------------------------------------------

_LEAST_CAP, _EXTRA_EPOCHS = 150, 50
"""Epochs that every network may take, and those beyond dense training; the authors' curves of cancer go to 150."""


def regenerate(n_random: int, *, with_files: bool = False) -> pd.DataFrame:
    r"""Train the authors' five networks of a set again, under their masks and random ones, and choose masks anew.

    Masks are chosen by the paper's rule, with the set's windows, from the dense networks' training; as the authors
    do it, by the error on the *test* part, $y_t=1-\text{acc}_\text{test}$.

    Args:
        n_random: random masks a published mask, at least 1.
        with_files: whether those of cancer, Titanic and banknote, too; else of the two sets of iris alone.

    Returns:
        One row a (data, trial, variant, arm, draw), trials from 1, with the columns of ``retrained``. Arms:
        ``"dense"``; for ``"ft"`` and ``"pt"`` the ``"published"`` masks, and ``"random"`` ones that remove as many
        weights of each layer. ``printed``: whether the trial is the one of the paper's tables. And one row a mask
        chosen anew, ``"noncausal"``, which is not retrained: ``jaccard``, the Jaccard index of the sets of weights
        removed by it and by the published one (1 for two empty ones).

    Raises:
        DataNotFoundError: a set's files are not on this machine.
    """
    names = [name for name in _STREAMS if with_files or name in _IRIS_VALUES]
    return pd.concat([_regenerated(name, n_random) for name in names], ignore_index=True)


def _regenerated(name: str, n_random: int) -> pd.DataFrame:
    known, start = _RECIPES[name], _initial_weights(name)
    train, test = (_Examples.of(*part, _sizes(name)[-1]) for part in _split(name))
    whole = np.ones((len(start), 1, len(start.layer_of)), bool)
    keeps, recorders = {("dense", "dense"): whole}, {}
    for i, variant in enumerate(("ft", "pt")):
        keep, drawn = whole.copy(), []
        for trial, removed in enumerate(_removed(name, variant)):
            keep[trial, 0, removed] = False
            rng = np.random.default_rng([0, trial, i])
            drawn.append(_random_masks(~keep[trial, 0], start.layer_of, whole[0, 0], n_random, rng))
        keeps |= {(variant, "published"): keep, (variant, "random"): np.stack(drawn)}
        last, steps = known[f"{variant}_epochs"] * len(train), known[f"{variant}_steps"]
        recorders[variant] = WindowRecorder(known[f"{variant}_window"], last_update=last, forward_steps=steps)
    runs, keep = _laid_out(keeps, range(1, len(start) + 1))
    dense = np.flatnonzero(runs["arm"] == "dense")

    def look(networks: _Perceptrons) -> None:
        weights = networks.flat()[dense]
        for recorder in recorders.values():
            recorder(weights, lambda: 1 - networks.accuracy(test)[dense])

    how = {"learning_rate": known["learning_rate"], "benchmark": known["benchmark"]}
    how |= {"budget": known["ft_epochs"], "cap": max(_LEAST_CAP, known["ft_epochs"] + _EXTRA_EPOCHS)}
    measured, _ = start.pick(runs.pop("network")).retrained(keep, train, test, look=look, **how)
    chosen = []
    for variant, seen in recorders.items():
        for i, (y, x) in enumerate(zip(seen.errors, seen.exponents, strict=True)):
            ours = decide(y, x, max_lag=known[f"{variant}_lag"]).non_causal
            same = jaccard(ours, ~keeps[variant, "published"][i, 0])
            chosen.append({"seed": i + 1, "variant": variant, "arm": "noncausal", "jaccard": same})
    table = pd.concat([runs.join(measured), pd.DataFrame(chosen)]).rename(columns={"seed": "trial"})
    return table.assign(data=name, printed=table["trial"] == known["printed_trial"])


# --- their rows beside ours -----------------------------------------------------------------------------------


def beside_printed(runs: pd.DataFrame) -> pd.DataFrame:
    """Set the printed trial's networks beside what the paper prints for them.

    Args:
        runs: of ``regenerate``.

    Returns:
        One row a (data, network): epochs (from 0), accuracy and F1 of the paper and of the run, and whether all
        three ``matches``: the epochs exactly, the others to the four printed digits. ``own_mask``: whether the
        published mask removes as many weights as the row says; another mask cannot lead to the row.
    """
    is_row = runs["printed"] & runs["arm"].isin(["dense", "published"])
    ours = runs[is_row].rename(columns={"variant": "network", "test_accuracy": "accuracy", "macro_f1": "F1"})
    by_network = _PRINTED.set_axis(_PRINTED.columns.str.split("_", expand=True), axis=1).stack()
    printed = by_network.rename_axis(["data", "network"])
    both = ours.merge(printed, on=["data", "network"], suffixes=(", here", ", paper"))
    both = both.astype({"epochs, here": int, "epochs, paper": int})
    # the paper cuts or rounds the fourth digit
    within = {"epochs": 0, "accuracy": 1.001e-4, "F1": 1.001e-4}
    near = [(both[f"{m}, here"] - both[f"{m}, paper"]).abs() <= most for m, most in within.items()]
    columns = [f"{metric}, {whose}" for metric in within for whose in ("paper", "here")]
    own_mask = both["kept, here"] == both["kept, paper"]
    found = both[["data", "trial", "network", *columns]]
    return found.assign(matches=np.all(near, axis=0), own_mask=own_mask)
