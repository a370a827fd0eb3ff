"""How flat the minima of dense and pruned networks are: equal epochs or equal loss, surviving or all weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.geometry.curvature import Hessian, eigenvalues, trace
from repro.geometry.noise import noise_sensitivity
from repro.learn import Ensemble, evaluate
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.stopping import Masks, Stopped, train_to_stops

__all__ = ["flatness", "flatness_runs", "spectra"]

#: Networks whose graph is in memory at once. A small graph stays in the processor's cache: 5 at once take a seventh
#: less time than 20, and 300 MB less.
_AT_ONCE = 5


def flatness_runs(
    start: Start,
    masks: Masks,
    *,
    n_epochs: int | None = None,
    target_loss: float = 0.05,
    max_epochs: int = 60,
    seed: int = 0,
    device: str = "auto",
) -> pd.DataFrame:
    """Train dense and pruned networks and measure how flat they lie, in four protocols (claim G8).

    The training of ``train_to_stops`` and the measures of ``flatness``; arguments, columns and errors are
    theirs.
    """
    stopped = train_to_stops(
        start, masks, n_epochs=n_epochs, target_loss=target_loss, max_epochs=max_epochs, device=device
    )
    return flatness(stopped, seed=seed)


def flatness(
    stopped: Stopped,
    *,
    absolute_noise: float = 0.02,
    relative_noise: float = 0.2,
    n_probes: int = 10,
    n_draws: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Measure curvature and noise sensitivity of the training loss, in four protocols.

    $H_{kl} = \partial^2 L/\partial w_k\partial w_l$ of the mean cross-entropy over the whole training part,
    over weights only (biases are left out): those that survive (``"kept"``), or all of them with pruned ones
    at zero (``"all"``). $\lambda_{\max}$ over a subset can only be smaller (Cauchy's interlacing), and a trace
    has fewer terms: pruning looks flattening over surviving weights for that reason alone.

    None of the curvatures belongs to the function that a network computes: scaling the weights into a
    rectified unit by c and those out of it by 1/c changes no output and makes $\lambda_{\max}$ as large as one
    likes (Dinh et al. 2017). Only ``noise_relative`` stays the same under it. Conclude from no single column.

    Args:
        stopped: the networks.
        absolute_noise: standard deviation of Gaussian noise on every weight.
        relative_noise: the same, as a share of the weight's size.
        n_probes: random vectors for each trace.
        n_draws: of the noise.
        seed: of the probes and the noise.

    Returns:
        One row a (seed, arm, sparsity, stopping, hessian): epoch, reached (the target loss; True for stopping
        by epochs), train_loss, test_accuracy in [0, 1], largest (algebraically largest eigenvalue), trace,
        noise_absolute and noise_relative (mean rise of the training loss). ``stopping`` is ``"epochs"`` or
        ``"loss"``, ``hessian`` ``"kept"`` or ``"all"``.
    """
    x, y = stopped.part("train")
    rows = []
    for stopping, networks in stopped.networks.items():
        reached = torch.ones_like(stopped.reached) if stopping == "epochs" else stopped.reached
        common = stopped.labels().assign(
            stopping=stopping,
            epoch=stopped.epochs[stopping].numpy(),
            reached=reached.numpy(),
            train_loss=evaluate(networks, x, y, per_member=True)[0].numpy(),
            test_accuracy=evaluate(networks, *stopped.part("test"), per_member=True)[1].numpy(),
        )
        for name, kept in _subspaces(stopped):
            curvature = [
                (eigenvalues(each).values[:, 0], trace(each, n_probes=n_probes, seed=seed)[0])
                for each in _hessians(networks, x, y, kept)
            ]
            largest, traces = (torch.cat(parts).numpy() for parts in zip(*curvature, strict=True))
            noise: dict[str, Any] = {"kept": kept, "n_draws": n_draws, "seed": seed, "per_member": True}
            rows.append(
                common.assign(
                    hessian=name,
                    largest=largest,
                    trace=traces,
                    noise_absolute=noise_sensitivity(networks, x, y, [absolute_noise], **noise)[:, 0].numpy(),
                    noise_relative=noise_sensitivity(
                        networks, x, y, [relative_noise], relative=True, **noise
                    )[:, 0].numpy(),
                )
            )
    return pd.concat(rows, ignore_index=True)


def spectra(stopped: Stopped, n: int = 20) -> pd.DataFrame:
    """Return the n algebraically largest eigenvalues of the Hessians of ``flatness``.

    Args:
        stopped: the networks.
        n: how many eigenvalues.

    Returns:
        One row a (seed, arm, sparsity, stopping, hessian, rank): eigenvalue; rank 1 is the largest.
    """
    x, y = stopped.part("train")
    parts = []
    for stopping, networks in stopped.networks.items():
        for name, kept in _subspaces(stopped):
            values = torch.cat(
                [eigenvalues(each, n).values for each in _hessians(networks, x, y, kept)]
            ).numpy()
            labels = stopped.labels().assign(stopping=stopping, hessian=name)
            repeated = labels.loc[np.repeat(labels.index, n)].reset_index(drop=True)
            ranks = np.tile(np.arange(1, n + 1), len(labels))
            parts.append(repeated.assign(rank=ranks, eigenvalue=values.ravel()))
    return pd.concat(parts, ignore_index=True)


def _hessians(networks: Ensemble, x: Tensor, y: Tensor, kept: dict[str, Tensor]) -> Iterator[Hessian]:
    """The Hessians of some networks after the other: the graph of all of them at once would fill the memory."""
    members = list(networks)
    for first in range(0, len(members), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        masks = {name: entries[some] for name, entries in kept.items()}
        yield Hessian(
            Ensemble(members[some]), x[some], y[some], parameters=list(kept), kept=masks, per_member=True
        )


def _subspaces(stopped: Stopped) -> Iterator[tuple[str, dict[str, Tensor]]]:
    kept = dict(stopped.mask)
    yield "kept", kept
    yield "all", {name: torch.ones_like(entries) for name, entries in kept.items()}
