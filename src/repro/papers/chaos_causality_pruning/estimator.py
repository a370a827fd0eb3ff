"""What the paper's exponent says of processes whose exponent is known, and of weights beside their surrogates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.descent import descend
from repro.papers.chaos_causality_pruning.processes import PROCESSES
from repro.papers.chaos_causality_pruning.settings import Setting
from repro.papers.chaos_causality_pruning.windows import WindowRecorder, paper_exponents
from repro.series.lyapunov import lyapunov_rosenstein
from repro.series.surrogates import phase_randomized_increments, same_increments_walk

__all__ = ["known_processes", "weights_and_surrogates"]


def known_processes(n_series: int, lengths: Sequence[int] = (50, 200), seed: int = 0) -> pd.DataFrame:
    """Estimate exponents of ``n_series`` series of each process.

    Returns:
        One row a (process, length, series): the paper's exponent, and Rosenstein's with an embedding and a range
        that are usual for it (dimension 5, neighbours at least 5 steps apart, a line through 8 steps).
    """
    if n_series < 1:
        raise ValueError(f"n_series must be at least 1; got {n_series}")
    rng = np.random.default_rng(seed)
    frames = []
    for length in lengths:
        for name, process in PROCESSES.items():
            series = process(n_series, length, rng)
            usual = lyapunov_rosenstein(series, emb_dim=5, lag=1, min_tsep=5, trajectory_len=8)
            frame = {"paper": paper_exponents(series), "usual": usual.exponent, "series": range(n_series)}
            frames.append(pd.DataFrame(frame).assign(process=name, length=length))
    return pd.concat(frames, ignore_index=True)


def weights_and_surrogates(
    setting: Setting, seeds: Sequence[int], *, epochs: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """Estimate FT exponents of a network's weights, and of surrogates made from every window of them.

    Returns:
        Exponents ``(S, P, T)`` by name: ``"weights"``; ``"walks"``, random walks with increments of the same
        size; ``"linear"``, the same series with the phases of their increments randomized.
    """
    if setting.full is None:
        raise ValueError(f"{setting.name} has no FT windows; choose one of the tables")
    parts = setting.load(seeds)
    networks = setting.initial(parts, seeds)
    rng = np.random.default_rng([*seeds, 5])
    made = {
        "weights": paper_exponents,
        "walks": lambda windows: paper_exponents(same_increments_walk(windows, rng)),
        "linear": lambda windows: paper_exponents(phase_randomized_increments(windows, rng)),
    }
    recorders = {name: WindowRecorder(setting.full, {}, exponent=exponent) for name, exponent in made.items()}
    descend(
        networks,
        parts.train,
        learning_rate=setting.learning_rate,
        n_epochs=epochs or setting.epochs,
        order=setting.order,
        after_update=list(recorders.values()),
    )
    return {name: recorder.result().exponents for name, recorder in recorders.items()}
