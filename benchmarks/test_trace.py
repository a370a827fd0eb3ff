"""Memory and time of a trace: rows in memory, rows on disk, and means only, each in a process of its own.

LeNet with 430,500 prunable weights on random images of 28x28 pixels, 100 steps of 32 examples, float32.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

N_STEPS = 100
RUN = """
import json, sys, time
from pathlib import Path
import torch
from repro.learn import Dataset, Ensemble, initialization, lenet5
from repro.papers.granger_causal_sgd.moments import stream_moments
from repro.papers.granger_causal_sgd.trace import log_trace
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
x = torch.randn(320, 1, 28, 28, generator=generator)
y = torch.randint(0, 10, (320,), generator=generator)
data = Dataset(x, y, x[:0], y[:0], x[:0], y[:0], 10, "random")
with initialization(0):
    ensemble = Ensemble([lenet5()])

def anonymous():
    '''MB of this process's own memory, without files that are mapped into it.'''
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("RssAnon"))

shared = {"learning_rate": 1e-3, "batch_size": 32, "seeds": [0]}
log_trace(ensemble, [data], n_steps=2, **shared)  # what any run needs
before = anonymous()
began = time.perf_counter()
if sys.argv[1] == "means":
    found = stream_moments(ensemble, [data], n_steps=N_STEPS, **shared)
    more = anonymous() - before
else:
    trace = log_trace(ensemble, [data], n_steps=N_STEPS, store=sys.argv[1], **shared)
    more = anonymous() - before
    found = trace.moments()
seconds = time.perf_counter() - began
check = float(found.covariance["same_batch"].abs().sum())
print(json.dumps({"seconds": seconds, "more_mb": more, "check": check}))
"""
checks: dict[str, float] = {}


@pytest.mark.benchmark(group="trace")
@pytest.mark.parametrize("store", ["memory", "disk", "means"])
def test_trace(benchmark: BenchmarkFixture, store: str) -> None:
    def run() -> dict[str, float]:
        code = RUN.replace("N_STEPS", str(N_STEPS))
        done = subprocess.run([sys.executable, "-c", code, store], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    found = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(found)
    checks[store] = found["check"]
    assert found["check"] == pytest.approx(next(iter(checks.values())), rel=1e-6)
