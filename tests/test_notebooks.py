"""Every chapter runs: through our runner and through plain papermill, in its smoke profile, with no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from repro.book import claims, executed, runner
from repro.book.layout import Book

BOOK = Book.find(Path(__file__).parents[1])
CHAPTERS = BOOK.chapters()

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module", params=CHAPTERS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> runner.RunResult:
    folder = tmp_path_factory.mktemp("executed")
    # that it runs is the question here, not how fast this machine is
    options = {"use_cache": False, "timeout": 1700}
    return runner.run(BOOK, request.param, {"profile": "smoke"}, output=folder, **options)


def test_a_chapter_measures_every_test_that_its_profile_can(run: runner.RunResult) -> None:
    assert run.ledger is not None
    measured = {(entry["claim"], entry["test"]) for entry in run.ledger["measurements"]}
    # smoke does the work of quick on fewer seeds: what quick judges must be measured
    wanted = {
        (claim.id, test.name)
        for claim in claims.load(BOOK.claims_file(run.chapter)).claims
        if claim.id not in run.ledger["not_tested"]
        for test in claim.tests
        if "quick" in test.profiles
    }
    assert measured == wanted


def test_an_executed_chapter_is_clean(run: runner.RunResult) -> None:
    notebook = nbformat.read(run.notebook, as_version=4)
    nbformat.validate(notebook)
    text = run.notebook.read_text(encoding="utf-8")
    # no path of the machine that ran it, no complaint of the tools
    assert str(Path.home()) + os.sep not in text
    assert str(BOOK.root) not in text
    streams = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert [o.text for o in streams if o.name == "stderr"] == []


def test_an_executed_chapter_says_where_it_comes_from(run: runner.RunResult) -> None:
    about = nbformat.read(run.notebook, as_version=4).metadata["repro"]
    assert about["parameters"]["profile"] == "smoke"
    assert set(about["provenance"]) == {
        "commit",
        "dirty",
        "code",
        "data",
        "library",
        "parameters",
        "settings",
        "versions",
    }
    assert about["provenance"]["data"]
    budget = claims.load(BOOK.claims_file(run.chapter)).budget["smoke"]
    assert about["run"]["peak_memory_mb"] < budget.memory_mb


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_plain_papermill_runs_a_chapter_without_a_network(chapter: str, tmp_path: Path) -> None:
    """The way of a reader who knows papermill and not us, from any folder; proxies that lead nowhere stand for a
    missing network."""
    out = tmp_path / "out.ipynb"
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    papermill = str(Path(sys.executable).with_name("papermill"))
    done = subprocess.run(
        [papermill, str(BOOK.notebook(chapter)), str(out), "-p", "profile", "smoke", "--no-progress-bar"],
        cwd=tmp_path,
        env=os.environ | nowhere | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ledger = executed.ledger_shown(nbformat.read(out, as_version=4))
    assert ledger is not None
    assert ledger["profile"] == "smoke"
