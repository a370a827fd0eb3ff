"""Every chapter runs, in its smoke profile, as for a reader who knows papermill and not us, and with no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from repro.book import _notebooks, claims
from repro.book.layout import Book

BOOK = Book(Path(__file__).resolve().parents[1])

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module", params=BOOK.chapters())
def chapter(request):
    return request.param


@pytest.fixture(scope="module")
def notebook(chapter, tmp_path_factory):
    """As plain papermill leaves it, in a folder outside the book; proxies that lead nowhere stand for no network."""
    folder = tmp_path_factory.mktemp("executed")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    papermill = str(Path(sys.executable).with_name("papermill"))
    done = subprocess.run(
        [papermill, str(BOOK.notebook(chapter)), "out.ipynb", "-p", "profile", "smoke", "--no-progress-bar"],
        cwd=folder,
        env=os.environ | nowhere | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))


def test_a_chapter_measures_every_test_that_its_profile_can(chapter, notebook):
    ledger = _notebooks.ledger_shown(notebook)
    assert ledger is not None
    assert (ledger["chapter"], ledger["profile"]) == (chapter, "smoke")
    measured = {(entry["claim"], entry["test"]) for entry in ledger["measurements"]}
    # smoke does the work of quick on fewer seeds: what quick judges must be measured
    wanted = {
        (claim.id, test.name)
        for claim in claims.load(BOOK.claims_file(chapter)).claims
        if claim.id not in ledger["not_tested"]
        for test in claim.tests
        if "quick" in test.profiles
    }
    assert measured >= wanted  # an unknown test is refused by the ledger itself
    loads = any("data_sets(" in _notebooks.source_of(cell) for cell in _notebooks.code_cells(notebook))
    assert bool(_notebooks.data_shown(notebook)) == loads


def test_an_executed_chapter_is_clean(notebook):
    nbformat.validate(notebook)
    _notebooks.clean(notebook)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    said = [output for output in outputs if output.get("name") == "stderr"]
    # which book is used is said once to whom starts a chapter outside of it
    assert all("".join(output["text"]).startswith("note: no book at or above") for output in said)
    # no complaint of the tools, no path of the machine
    text = json.dumps([output for output in outputs if output not in said], ensure_ascii=False)
    assert str(Path.home()) + os.sep not in text
    assert str(BOOK.root) not in text
