"""Tests and verdicts as on other processors: ``make test-kernels``, or ``python tests/kernels.py NAME ...`` for some.

A setting is a few environment variables by which NumPy, SciPy, PyTorch and Numba choose the kernels of another
processor, or more threads. Under each run the tests that compute numbers (``tests/book`` computes none). Two settings
do other work: ``busy`` runs all tests beside an endless loop on each core, for load matters to those that wait;
``verdicts`` runs the chapters and compares their verdicts with the committed ones.

What a setting has chosen is asked of the libraries themselves; one that this processor cannot run is skipped with a
word. The output of each is kept in ``.repro/kernels``.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".repro" / "kernels"
CORES = os.cpu_count() or 1
PYTEST = ["-m", "pytest", "-q", "--dist", "loadfile"]
NUMBERS = [f"tests/{part}" for part in ("series", "learn", "prune", "papers", "test_base.py")]
WORK = {"busy": [*PYTEST, "-n", str(CORES), "tests"], "verdicts": ["-m", "repro", "build", "--no-cache"]}

SIMD = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in SIMD if "AVX512" in name or "V4" in name),
    "NUMBA_CPU_NAME": "haswell",
}
OLDEST = {
    "OPENBLAS_CORETYPE": "Prescott",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": " ".join(SIMD),
    "NUMBA_CPU_NAME": "generic",
}
SETTINGS = {"here": {}, "avx2": AVX2, "oldest": OLDEST, "two-threads": {"OMP_NUM_THREADS": "2"}}
SETTINGS |= {f"openblas-{core}": {"OPENBLAS_CORETYPE": core} for core in ("Zen", "SkylakeX", "Sandybridge")}
SETTINGS |= {"busy": {}, "verdicts": OLDEST}
PROBE = """
import numpy, torch
from threadpoolctl import threadpool_info
x = numpy.random.default_rng(0).normal(size=(99, 99))
torch.linalg.svd(torch.from_numpy(numpy.linalg.svd(numpy.sin(x @ x))[0]).float().exp())
chosen = {info.get("architecture") for info in threadpool_info()} - {None}
print(*chosen, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), "threads")
"""


def run(name, environment):
    """Do a setting's work, say how it ended, and return whether it failed."""
    probe = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True)
    if probe.returncode:
        print(f"{name:20} skipped: this processor cannot run it")
        return False
    n_workers = max(1, CORES // int(environment["OMP_NUM_THREADS"]))
    arguments = WORK.get(name, [*PYTEST, "-n", str(n_workers), *NUMBERS])
    log = LOGS / f"{name}.txt"
    with log.open("w") as out, ExitStack() as ends:
        for _ in range(CORES if name == "busy" else 0):
            ends.callback(subprocess.Popen([sys.executable, "-c", "while True: pass"]).kill)
        streams = {"stdout": out, "stderr": subprocess.STDOUT}
        failed = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, **streams).returncode
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    print(f"{name:20} {'FAILED' if failed else 'passed'} with {probe.stdout.strip()}: {said[-1]}", flush=True)
    if failed:
        print(*(line for line in said if line.startswith(("FAILED", "ERROR", "repro: "))), log, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    if unknown := [name for name in sys.argv[1:] if name not in SETTINGS]:
        sys.exit(f"no setting {unknown[0]!r}; there are {', '.join(SETTINGS)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    bare = {key: value for key, value in os.environ.items() if key not in set().union(*SETTINGS.values())}
    bare["OMP_NUM_THREADS"] = "1"
    sys.exit(sum(run(name, bare | SETTINGS[name]) for name in sys.argv[1:] or SETTINGS))
