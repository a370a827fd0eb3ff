"""Lyapunov exponents of many series against nolds and against reading the data once, side by side in one run.

nolds takes one series at a time and is measured on a sample, whose exponents must agree to 1e-8. Times are processor
time: run with ``--benchmark-timer=time.process_time``.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from repro.series import LyapunovResult, lyapunov_rosenstein

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nolds

Array = NDArray[np.float64]

#: Series a call: what a series costs does not depend on it (see ``test_growth``); and for the peak memory.
N, MANY = 10_000, 100_000
SAMPLE = 50
SETTINGS = {
    "one step, dimension 2": {"emb_dim": 2, "lag": 1, "min_tsep": 0, "trajectory_len": 2},
    "eight steps, dimension 5": {"emb_dim": 5, "lag": 1, "min_tsep": 5, "trajectory_len": 8},
}
CASES = [(length, name) for length in (50, 160, 200) for name in SETTINGS]
#: How many times faster a series of 200 points than nolds, at least.
TARGET = 35


def walks(n: int, length: int) -> Array:
    return np.random.default_rng(0).standard_normal((n, length)).cumsum(axis=1)


def by_nolds(series: Array, parameters: dict[str, int]) -> list[float]:
    return [nolds.lyap_r(x, tau=1, fit="poly", **parameters) for x in series[:SAMPLE]]


def seconds(run: Callable[[], object]) -> float:
    start = process_time()
    run()
    return process_time() - start


@pytest.mark.parametrize(("length", "name"), CASES)
def test_against_nolds(benchmark: BenchmarkFixture, length: int, name: str) -> None:
    series, parameters = walks(N, length), SETTINGS[name]
    theirs: list[float] = []
    read: list[float] = []

    def others_between_rounds() -> None:
        theirs.append(seconds(lambda: by_nolds(series, parameters)) / SAMPLE)
        read.append(seconds(torch.from_numpy(series).sum) / N)

    run: Callable[[Array], LyapunovResult] = partial(lyapunov_rosenstein, **parameters)
    run(series[:2])  # compiles
    result = benchmark.pedantic(run, args=(series,), setup=others_between_rounds, rounds=3)
    ours = benchmark.stats.stats.min / N
    faster = min(theirs) / ours
    benchmark.extra_info.update(
        ours_us=round(ours * 1e6, 1),
        nolds_us=round(min(theirs) * 1e6),
        times_faster=round(faster),
        times_reading_once=round(ours / min(read)),
    )
    np.testing.assert_allclose(result.exponent[:SAMPLE], by_nolds(series, parameters), atol=1e-8)
    assert length < 200 or faster >= TARGET, f"{faster:.0f} times faster, wanted {TARGET}"


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def test_growth(benchmark: BenchmarkFixture, n: int) -> None:
    run = partial(lyapunov_rosenstein, **SETTINGS["one step, dimension 2"])
    benchmark.pedantic(run, args=(walks(n, 200),), rounds=2, warmup_rounds=1)
    benchmark.extra_info["us_a_series"] = round(benchmark.stats.stats.min / n * 1e6, 1)


MEMORY = """
import resource, numpy as np, psutil
from repro.series import lyapunov_rosenstein
series = np.random.default_rng(0).standard_normal(({n}, 200)).cumsum(axis=1)
lyapunov_rosenstein(series[:100], emb_dim=5, min_tsep=5, trajectory_len=8)
print(psutil.Process().memory_info().rss)
lyapunov_rosenstein(series, emb_dim=5, min_tsep=5, trajectory_len=8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_peak_memory(benchmark: BenchmarkFixture) -> None:
    def run() -> list[int]:
        command = [sys.executable, "-c", MEMORY.format(n=MANY)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    before, peak = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(before_mb=before >> 20, peak_mb=peak >> 20)
    assert peak < 2 * 2**30
