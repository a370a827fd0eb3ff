"""A hundred small notebooks, eight at a time: every kernel finds its sockets, and nothing stays behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import faults_book
import nbformat
import pandas as pd
import psutil
import pytest

from repro.book import claims, parameters
from repro.book.sweep import engine, executors, grid

N_POINTS, N_WORKERS = 100, 8
WORK = """import json
from ipykernel.kernelapp import IPKernelApp
with open(IPKernelApp.instance().abs_connection_file) as file:
    connection = json.load(file)
print(seed, connection["transport"], connection["ip"])"""


@pytest.mark.slow
def test_a_hundred_notebooks_with_eight_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = faults_book.make(tmp_path / "book", WORK)
    profiles = claims.load(book.claims_file("toy")).profiles
    declared = parameters.declared(book.notebook("toy"))
    points = grid.points(declared, profiles, [f"seed=0..{N_POINTS - 1}"], where="toy.yml")
    with tempfile.TemporaryDirectory(prefix="crowd-") as place:  # a short path, as sockets need
        monkeypatch.setattr(tempfile, "tempdir", place)
        before = psutil.Process().num_fds()
        with executors.local(N_WORKERS) as pool:
            folder = tmp_path / "sweep"
            result = engine.sweep(
                book, "toy", points, executor=pool, workers=N_WORKERS, folder=folder, retries=0
            )
        assert not list(Path(place).iterdir())
        assert psutil.Process().num_fds() <= before + 2
    assert not [child for child in psutil.Process().children() if "repro.book.worker" in child.cmdline()]
    table = pd.read_parquet(result.table)
    assert table.error.dropna().tolist() == []
    assert table.status.tolist() == ["done"] * N_POINTS
    assert table.seed.tolist() == list(range(N_POINTS))
    said = []
    for name in table.notebook:
        (cell,) = [c for c in nbformat.read(result.folder / name, as_version=4).cells if c.get("outputs")]
        (printed,) = cell.outputs  # no warning beside it
        said.append(printed.text.split())
    assert [int(seed) for seed, _, _ in said] == list(range(N_POINTS))
    assert {transport for _, transport, _ in said} == {"ipc"}
    assert len({path for _, _, path in said}) == N_POINTS
