"""What a notebook costs besides its own work: ``repro sweep``, papermill in a loop, nbclient in a loop.

Two notebooks: one that computes nothing, and one that imports what a chapter imports (PyTorch, pandas, Matplotlib). All
ways must print the same numbers. Papermill and nbclient run in one process that starts once, so their own import is
paid once; ``repro sweep`` also watches the memory of each and writes its row.

Seconds are of the wall; ``processor`` counts all processes that took part. REPRO_MANY=1 adds 200 notebooks.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from pytest_benchmark.fixture import BenchmarkFixture

NOTEBOOKS = {
    "nothing": "print(seed)",
    "imports": "import torch, pandas, matplotlib.pyplot\nprint(seed)",
}
PARAMETERS = """profile: str = "quick"  # {smoke, quick, full, paper} how much to run
seed: int = 0  # [0, 999] the number of the run"""
CLAIMS = """
chapter: toy
paper: {title: A toy, authors: "A. Nobody", key: nobody2020}
budget: {smoke: &b {seconds: 100, memory_mb: 900}, quick: *b, full: *b, paper: *b}
profiles: {smoke: {seed: 0}, quick: {seed: 500000}, full: &f {seed: 10000}, paper: *f}
claims:
  - id: T1
    statement: None.
    where: nowhere
    kind: theory
    deciding: [{name: low, metric: m, unit: none, claim: below 1, statistic: worst, why: fixed, scale: small}]
"""
PAPERMILL = """
import sys, logging, papermill
logging.disable()
for seed in range(int(sys.argv[1])):
    papermill.execute_notebook("book/chapters/toy.ipynb", f"out/{seed}.ipynb", {"seed": seed},
                               progress_bar=False, log_output=False)
"""
NBCLIENT = """
import sys, nbclient, nbformat
for seed in range(int(sys.argv[1])):
    notebook = nbformat.read("book/chapters/toy.ipynb", as_version=4)
    notebook.cells[0].source += f"\\nseed = {seed}"
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    nbformat.write(notebook, f"out/{seed}.ipynb")
"""
WAYS = {
    "papermill in a loop": [sys.executable, "-c", PAPERMILL],
    "nbclient in a loop": [sys.executable, "-c", NBCLIENT],
    **{
        f"repro sweep, {n} worker{'s' * (n > 1)}": [
            *(sys.executable, "-m", "repro.cli", "sweep", "toy", "--output", "out"),
            *("--workers", str(n)),
        ]
        for n in (1, 2)
    },
}
COUNTS = (10, 50, *([200] if os.environ.get("REPRO_MANY") else []))


def book(place: Path, code: str) -> None:
    for part in ("book/chapters", "book/claims", "out"):
        (place / part).mkdir(parents=True)
    (place / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/chapters/toy\n"
    )
    (place / "book/index.md").write_text("# Toy\n")
    (place / "book/claims/toy.yml").write_text(CLAIMS)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), place / "book/chapters/toy.ipynb")


def printed(place: Path) -> list[int]:
    """The numbers that the executed notebooks printed."""
    notebooks = [nbformat.read(path, as_version=4) for path in (place / "out").rglob("*.ipynb")]
    texts = [o.text for n in notebooks for c in n.cells for o in c.get("outputs", []) if o.name == "stdout"]
    return sorted(map(int, texts))


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_notebooks", COUNTS)
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_overhead(
    benchmark: BenchmarkFixture, tmp_path: Path, notebook: str, n_notebooks: int, way: str
) -> None:
    if notebook == "imports" and n_notebooks > 10:
        pytest.skip("ten show it: the imports cost the same each time")
    book(tmp_path, NOTEBOOKS[notebook])
    last = [str(n_notebooks)] if "loop" in way else ["-p", f"seed=0..{n_notebooks - 1}"]

    def run() -> None:
        subprocess.run([*WAYS[way], *last], cwd=tmp_path, check=True, capture_output=True)

    before, began = processor_seconds(), time.perf_counter()
    benchmark.pedantic(run, rounds=1)
    found = {"seconds": time.perf_counter() - began, "processor": processor_seconds() - before}
    assert printed(tmp_path) == list(range(n_notebooks))
    benchmark.extra_info |= {name: value / n_notebooks for name, value in found.items()}
    print(json.dumps({"way": way, "n": n_notebooks, "notebook": notebook} | benchmark.extra_info))
