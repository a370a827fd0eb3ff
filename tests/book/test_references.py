"""BibTeX of the book, its papers and its methods; and that the book says of itself the same everywhere."""

from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_string
from typer.testing import CliRunner

from repro.book.layout import Book
from repro.cli import app
from repro.head_to_head import METHODS

BOOK = Book(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("PILoT", "jacobs2025mask"),
        ("pilot", "jacobs2025mask"),
        ("granger-causal-sgd", "shah2024granger"),
        ("head-to-head", Book.key),
        ("book", Book.key),
    ],
)
def test_what_has_a_name_is_cited(name, key, monkeypatch):
    monkeypatch.chdir(BOOK.root)
    printed = CliRunner().invoke(app, ["cite", name]).stdout
    assert list(parse_string(printed, "bibtex").entries) == [key]
    assert printed.strip() in (BOOK.root / "book/references.bib").read_text("utf-8")


def test_a_name_that_is_none_is_quoted_with_those_that_are(monkeypatch):
    monkeypatch.chdir(BOOK.root)
    error = str(CliRunner().invoke(app, ["cite", "pilott"]).exception)
    assert "'pilott'; did you mean 'pilot'? Known: book, magnitude," in error
    assert "ewn-inductive-bias" in error


def test_every_method_with_a_paper_has_its_key():
    assert {method.source for method in METHODS.values()} - {""} <= set(BOOK.references())
    assert [label for label, method in METHODS.items() if not method.source] == ["L1", "random"]


def test_the_book_says_the_same_of_itself_everywhere():
    citation, config = (
        yaml.safe_load((BOOK.root / name).read_text("utf-8")) for name in ("CITATION.cff", "_config.yml")
    )
    entry = parse_string(BOOK.references()[Book.key], "bibtex").entries[Book.key].fields
    assert entry["title"] == citation["title"] == config["title"]
    assert entry["note"] == f"Version {citation['version']}"
    assert entry["howpublished"] == citation["repository-code"] == config["repository"]["url"]
    owner, name = config["repository"]["url"].split("/")[-2:]
    assert config["html"]["baseurl"] == f"https://{owner}.github.io/{name}/"
