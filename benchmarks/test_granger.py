"""Granger tests of 100,000 pairs against statsmodels and against reading the data once, side by side in one run.

statsmodels takes one pair at a time and is measured on a sample, whose F and p-values must agree to 1e-8. Times are on
the wall, because both cores work: for ``granger_test`` on as many threads as ``torch.get_num_threads()`` says.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from statsmodels.tsa.stattools import grangercausalitytests

from repro.series import granger_test

Array = NDArray[np.float64]

N, T = 100_000, 200
SAMPLE = 100
CASES: dict[str, int | range] = {"lag 1": 1, "lag 5": 5, "lags 1 to 14": range(1, 15)}
#: How many times faster a pair than statsmodels, at least.
TARGETS = {"lag 1": 1000, "lag 5": 400, "lags 1 to 14": 400}
KINDS = ("one effect for all", "an effect each")


@pytest.fixture(scope="module")
def pairs() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, T)), rng.standard_normal((N, T)).cumsum(axis=1)


def effects(pairs: tuple[Array, Array], kind: str) -> Array:
    return pairs[0][0] if kind == KINDS[0] else pairs[0]


def by_statsmodels(effect: Array, cause: Array, lag: int | Sequence[int]) -> Array:
    """F and p-values of the sample, ``(SAMPLE, n_lags, 2)``."""
    lags = [lag] if isinstance(lag, int) else list(lag)
    results = [
        grangercausalitytests(np.column_stack([effect if effect.ndim == 1 else effect[i], cause[i]]), lags)
        for i in range(SAMPLE)
    ]
    return np.array([[result[each][0]["ssr_ftest"][:2] for each in lags] for result in results])


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_against_statsmodels(
    benchmark: BenchmarkFixture, pairs: tuple[Array, Array], case: str, kind: str
) -> None:
    effect, cause, lag = effects(pairs, kind), pairs[1], CASES[case]
    theirs: list[float] = []
    read: list[float] = []

    def others_between_rounds() -> None:
        theirs.append(seconds(lambda: by_statsmodels(effect, cause, lag)) / SAMPLE)
        read.append(seconds(torch.from_numpy(cause).sum) / N)

    result = benchmark.pedantic(
        granger_test, args=(effect, cause, lag), setup=others_between_rounds, rounds=4, warmup_rounds=1
    )
    ours = benchmark.stats.stats.min / N
    benchmark.extra_info.update(
        threads=torch.get_num_threads(),
        ours_us=round(ours * 1e6, 2),
        statsmodels_us=round(min(theirs) * 1e6),
        times_faster=round(min(theirs) / ours),
        times_reading_once=round(ours / min(read)),
    )

    found = np.stack([result.f, result.p_value], axis=-1).reshape(N, -1, 2)[:SAMPLE]
    np.testing.assert_allclose(found, by_statsmodels(effect, cause, lag), rtol=1e-8)
    faster = min(theirs) / ours
    assert faster >= TARGETS[case], f"{faster:.0f} times faster, wanted {TARGETS[case]}: are both cores idle?"


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("case", CASES)
def test_growth(benchmark: BenchmarkFixture, pairs: tuple[Array, Array], case: str, n: int) -> None:
    benchmark.pedantic(
        granger_test, args=(pairs[0][:n], pairs[1][:n], CASES[case]), rounds=3, warmup_rounds=1
    )
    benchmark.extra_info["us_a_pair"] = round(benchmark.stats.stats.min / n * 1e6, 2)


MEMORY = """
import resource, numpy as np, psutil
from repro.series import granger_test
rng = np.random.default_rng(0)
effect, cause = rng.standard_normal(({n}, {t})), rng.standard_normal(({n}, {t}))
granger_test(effect[:1000], cause[:1000], range(1, 15))
print(psutil.Process().memory_info().rss)
granger_test(effect{shared}, cause, range(1, 15))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_peak_memory(benchmark: BenchmarkFixture, kind: str) -> None:
    program = MEMORY.format(n=N, t=T, shared="[0]" if kind == KINDS[0] else "")

    def run() -> list[int]:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    before, peak = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(before_mb=before >> 20, peak_mb=peak >> 20)
    assert peak < 2 * 2**30
