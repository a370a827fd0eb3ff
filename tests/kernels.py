"""Tests and verdicts as on other processors: ``make test-kernels``, or ``python tests/kernels.py NAME ...`` for some.

A setting is a few environment variables by which NumPy, SciPy and PyTorch choose other kernels, or more threads. Under
each run the tests that compute numbers (``tests/book`` computes none). Two settings do other work: ``busy`` runs all
tests beside an endless loop on each core, for load matters to those that wait; ``verdicts`` runs the chapters and
compares their verdicts with the committed ones.

What a setting has chosen is asked of the libraries themselves. A setting that this processor cannot run, or that
chooses what another has chosen before, is skipped with a word. The output of each is kept in ``.repro/kernels``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".repro" / "kernels"
NUMBERS = ("series", "learn", "prune", "papers", "test_base.py")
CORES = os.cpu_count() or 1
PYTEST = ["-m", "pytest", "-q", "--dist", "loadfile"]
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
SETTINGS: dict[str, dict[str, str]] = {
    "here": {},
    "avx2": AVX2,
    "oldest": OLDEST,
    **{
        f"openblas-{core.lower()}": {"OPENBLAS_CORETYPE": core}
        for core in ("Haswell", "Zen", "SkylakeX", "Sandybridge", "Prescott")
    },
    **{f"aten-{name}": {"ATEN_CPU_CAPABILITY": name} for name in ("avx2", "default")},
    "mkl-sse4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "onednn-sse4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "numpy-baseline": {"NPY_DISABLE_CPU_FEATURES": " ".join(SIMD)},
    "two-threads": {"OMP_NUM_THREADS": "2"},
    "busy": {},
    "verdicts": OLDEST,
}
PROBE = """
import numpy as np, scipy.linalg, torch
from threadpoolctl import threadpool_info
x = np.random.default_rng(0).normal(size=(100, 100))
scipy.linalg.svd(np.sin(np.exp(x @ x)))
image = torch.from_numpy(x).float().view(1, 1, 100, 100)
torch.linalg.svd(torch.nn.functional.conv2d(image, image[..., :9, :9]).exp().view(92, 92))
simd = np.show_config(mode="dicts")["SIMD Extensions"]
print("chose: OpenBLAS", *sorted({i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"}))
print("chose: NumPy", (simd["baseline"] + simd.get("found", []))[-1])
print("chose: ATen", torch.backends.cpu.get_cpu_capability())
print("chose: threads", torch.get_num_threads())
"""
SAID = {  # and what these two say of themselves where they are asked to be verbose
    "": r"^chose: (.+)$",
    "MKL ": r"^MKL_VERBOSE .* 64 architecture (.+?)(?: with.*)?, Lnx",
    "oneDNN ": r"^onednn_verbose.*,cpu,isa:(.+?)(?: with.*)?$",
}


def chosen(environment: dict[str, str]) -> list[str]:
    """What the libraries choose under these variables; nothing where the processor cannot run it."""
    verbose = environment | {"MKL_VERBOSE": "1", "ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", PROBE], env=verbose, capture_output=True, text=True)
    said = done.stdout.replace("Intel(R) ", "").replace("Intel ", "")
    found = [name + text for name, line in SAID.items() for text in re.findall(line, said, re.MULTILINE)]
    return sorted(set(found)) if done.returncode == 0 else []


def run(name: str, environment: dict[str, str]) -> bool:
    """Do a setting's work and say in a line how it went, then what failed."""
    n_workers = max(1, CORES // int(environment["OMP_NUM_THREADS"]))
    arguments = WORK.get(name, [*PYTEST, "-n", str(n_workers), *(f"tests/{part}" for part in NUMBERS)])
    log, start = LOGS / f"{name}.txt", time.monotonic()
    loops = [[sys.executable, "-c", "while True: pass"]] * (CORES if name == "busy" else 0)
    with log.open("w") as out, ExitStack() as ends:
        for loop in map(subprocess.Popen, loops):
            ends.callback(loop.kill)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    counts = ", ".join(re.findall(r"\d+ (?:failed|passed|skipped|errors?)\b", lines[-1]))
    verdict = "passed" if done.returncode == 0 else f"FAILED (exit code {done.returncode}, {log})"
    print(f"{name:22}{time.monotonic() - start:6.0f} s  {verdict}  {counts}", flush=True)
    for line in lines:
        if done.returncode and re.match(r"FAILED|ERROR|repro: ", line):
            print("   ", line, flush=True)
    return done.returncode == 0


def main(names: list[str]) -> int:
    for name in names:
        if name not in SETTINGS:
            print(f"no setting {name!r}; there are {', '.join(SETTINGS)}", file=sys.stderr)
            return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    bare = {key: value for key, value in os.environ.items() if key not in set().union(*SETTINGS.values())}
    bare["OMP_NUM_THREADS"] = "1"
    usual = chosen(bare)
    print(f"{'':22}{', '.join(usual)}")
    before: dict[tuple[str, ...], str] = {}
    failed = 0
    for name in names or SETTINGS:
        environment = bare | SETTINGS[name]
        found = chosen(environment)
        new = ", ".join(one for one in found if one not in usual)
        if not found:
            print(f"{name:22}skipped: this processor cannot run it")
        elif (same := before.setdefault((name * (name in WORK), *found), name)) != name:
            print(f"{name:22}skipped: chooses what {same} did")
        else:
            print(f"{name:22}{new}", flush=True) if new else None
            failed += not run(name, environment)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
