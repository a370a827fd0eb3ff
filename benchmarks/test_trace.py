"""Memory and processor time of a trace, with rows and with means only, each in a process of its own.

LeNet with 430,500 prunable weights on random images of 28x28 pixels, 100 steps of 32 examples, float32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

N_EPOCHS = 10  # of ten steps
RUN = """
import json, sys, time
from pathlib import Path
import torch
from repro.learn import Dataset, Ensemble, initialization, lenet5
from repro.papers.granger_causal_sgd import log
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

how = {"learning_rate": 1e-3, "batch_size": 32, "seeds": [0], "rows": sys.argv[1] == "rows"}
log(ensemble, [data], n_epochs=1, **how)  # what any run needs
before, began = anonymous(), time.process_time()
found = log(ensemble, [data], n_epochs=N_EPOCHS, **how)
seconds, more = time.process_time() - began, anonymous() - before
check = float(found.covariance["same_batch"].abs().sum())
print(json.dumps({"seconds": seconds, "more_mb": more, "check": check}))
"""
checks: dict[str, float] = {}


@pytest.mark.benchmark(group="trace")
@pytest.mark.parametrize("kept", ["rows", "means"])
def test_trace(benchmark: BenchmarkFixture, kept: str) -> None:
    def run() -> dict[str, float]:
        code = RUN.replace("N_EPOCHS", str(N_EPOCHS))
        # large blocks go back to the system at once: what is counted is in use, not kept by the allocator
        env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "500000"}
        command = [sys.executable, "-c", code, kept]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        return json.loads(done.stdout)

    found = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(found)
    checks[kept] = found["check"]
    assert found["check"] == pytest.approx(next(iter(checks.values())), rel=1e-6)
