"""The authors' settings of September 2024, and runs at their scale that can be broken off and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from repro.base import Runs
from repro.learn import lenet5, resnet18, train
from repro.papers.granger_causal_sgd import settings
from repro.papers.granger_causal_sgd.method import causal_pruning
from repro.papers.granger_causal_sgd.settings import Setting, Start
from repro.papers.granger_causal_sgd.training import derived_seed, fine_tune
from repro.prune import Mask, select

__all__ = ["full_scale_runs"]

_N_ITERATIONS = 10

# What the authors' code does, for LeNet and ResNet-18; the paper's own settings are not known. Penalties: that of its
# scripts, in the middle, and the decades around it.
_LENET = Setting(
    "lenet-fashion", "fashion_mnist", lenet5, images=True, parts={"validation": 5000}, standardize=(0.2860, 0.3530),
    pretrain_epochs=10, logging_epochs=10, logging_rate=1e-3, tune_epochs=200, rate=5e-4, batch_size=512,
    alphas=(1e-15, 1e-14, 1e-13),
)  # fmt: skip
_CIFAR10 = replace(_LENET, dataset="cifar10", standardize="channel")
_SETTINGS = [
    _LENET,
    replace(_CIFAR10, name="lenet-cifar10", build=partial(lenet5, n_channels=3, image_size=32)),
    replace(
        _CIFAR10,
        name="resnet18-cifar10",
        build=partial(resnet18, batch_norm=False),
        alphas=(1e-16, 1e-15, 1e-14),
    ),
]


def full_scale_runs(seeds: Sequence[int], folder: str | Path) -> pd.DataFrame:
    r"""Prune and fine-tune networks in all arms, each finished run written to a file and not repeated.

    Settings are those of the authors' code: LeNet on Fashion-MNIST and CIFAR-10, ResNet-18 on CIFAR-10. Arms, all from
    the same $\theta_0$ and fine-tuned by the same rule: ``"dense"``; ``"causal"`` for each loss change and penalty;
    ``"magnitude"``, for each of these, in as many iterations to the sparsity it came to (left out where that is 0 or
    1). No rows of a trace are kept: causal pruning screens by covariance, which is what the regression does to features
    so small (claim G4).

    Args:
        seeds: of networks and of their splits of the data.
        folder: where the files are, and $\theta_0$; made if it is not there.

    Returns:
        One row an iteration of a run: ``setting``, ``seed``, ``arm``, ``loss_delta``, ``alpha`` (for magnitude, of the
        run that it matches), ``iteration``, ``sparsity``, ``collapsed`` (layers without a weight) and, in the last row
        of each run, the columns of ``training.fine_tune``.

    Raises:
        ValueError: a file in the folder was made with other values of the setting.
        TrainingDivergedError: a loss is not finite.
    """
    runs = [_runs(chosen, seed, Runs(Path(folder))) for chosen, seed in product(_SETTINGS, seeds)]
    return pd.concat(runs, ignore_index=True)


def _runs(chosen: Setting, seed: int, runs: Runs) -> pd.DataFrame:
    made_with = {k: v for k, v in vars(chosen).items() if k not in ("build", "alphas")}
    made_with |= {"n_iterations": _N_ITERATIONS}
    begun = cache(partial(_same_start, chosen, seed, runs.folder))
    frames = []

    def run(arm: str, prune: Callable[[Start], list[Mask]], **labels: Any) -> list[dict[str, Any]]:
        """The rows of a run, read or made."""
        file = "-".join(str(word) for word in (chosen.name, seed, arm, *labels.values()))
        rows = runs.get(file, made_with)
        if rows is None:
            began = time.perf_counter()
            rows = _rows(begun(), prune(begun()))
            runs.put(file, made_with, rows, seconds=round(time.perf_counter() - began, 1))
        frames.append(
            pd.DataFrame({"setting": chosen.name, "seed": seed, "arm": arm, **labels} | row for row in rows)
        )
        return rows

    run("dense", lambda start: [start.dense()])
    for target, alpha in product(("cross_batch", "same_batch"), chosen.alphas):
        labels = {"loss_delta": target, "alpha": alpha}
        pruned = run("causal", partial(_causal, target=target, alpha=alpha), **labels)[-1]["sparsity"]
        if 0 < pruned < 1:
            amount = 1 - (1 - pruned) ** (1 / _N_ITERATIONS)
            run("magnitude", partial(_magnitude_pruning, amount=amount), **labels)
    return pd.concat(frames, ignore_index=True)


def _same_start(chosen: Setting, seed: int, folder: Path) -> Start:
    """Begin at the weights that earlier runs started from, bit by bit; a GPU need not find them again."""
    begun, path = settings.start([seed], chosen), folder / f"{chosen.name}-{seed}-theta0.pt"
    if path.exists():
        begun.ensemble.load_state_dict(torch.load(path, weights_only=True))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(begun.ensemble.state_dict(), path)
    return begun


def _rows(begun: Start, masks: list[Mask]) -> list[dict[str, Any]]:
    """One row an iteration, what the tuning came to in the last."""
    rows: list[dict[str, Any]] = [
        {
            "sparsity": mask.sparsity,
            "collapsed": sum(not bool(kept.any()) for kept in mask.values()),
            "iteration": j,
        }
        for j, mask in enumerate(masks, start=1)
    ]
    tuned = fine_tune(begun, masks[-1], begun.setting.tune_epochs).drop(columns="seed")
    rows[-1] |= {str(k): v for k, v in tuned.to_dict("records")[0].items()}
    return rows


def _causal(begun: Start, target: str, alpha: float) -> list[Mask]:
    return causal_pruning(
        begun.ensemble,
        begun.datasets,
        alpha,
        seeds=begun.seeds,
        target=target,
        n_iterations=_N_ITERATIONS,
        regress=False,
        **begun.setting.sgd(),
    )


def _magnitude_pruning(begun: Start, amount: float) -> list[Mask]:
    r"""Prune the smallest of the remaining weights over all layers, after the same SGD as causal pruning, and rewind.

    The sparsity after J iterations is $1-(1-a)^J$, to within rounding to whole weights in each.

    Args:
        begun: one network at $\theta_0$.
        amount: share a of the remaining weights that each iteration removes, in (0, 1).

    Returns:
        After each of 10 iterations a mask.

    Source: the authors' code of September 2024.
    """
    mask, masks = Mask.dense(begun.ensemble.member(0)), []
    for j in range(1, _N_ITERATIONS + 1):
        network = begun.ensemble.member(0)
        mask.apply(network)
        train(
            network,
            begun.datasets[0],
            optimizer=partial(torch.optim.SGD, lr=begun.setting.logging_rate),
            n_epochs=begun.setting.logging_epochs,
            batch_size=begun.setting.batch_size,
            after_step=[mask],
            evaluate_every=begun.setting.logging_epochs,
            seed=derived_seed(begun.seeds[0], j),
        )
        n_pruned = mask.n_pruned + round(amount * mask.n_kept)
        sizes = {name: network.get_parameter(name).detach().abs() for name in mask}
        mask = select(sizes, n_pruned=n_pruned, within=mask)
        masks.append(Mask.stack([mask]))
    return masks
