"""Notebooks of the book that are no chapters: found, checked, run, cached, built."""

import nbformat
import pytest
import running_book
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from repro.book import build
from repro.book.layout import Book

KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "file_extension": ".py"},
}
PARAMETERS = """table: str = "book/results/numbers.csv"  # the numbers to add
times: int = 1  # [1, 9] how often"""
WORK = """from pathlib import Path
path = Path("..", table)
print("the sum is", times * sum(map(float, path.read_text().split())))"""


@pytest.fixture
def book(tmp_path):
    book = running_book.make(tmp_path / "book")
    contents = book.root / "_toc.yml"
    contents.write_text(contents.read_text() + "- file: book/adding\n")
    (book.root / "book/results/numbers.csv").write_text("1 2 3")
    write(book)
    return Book(book.root)


def write(book, text="# Adding", parameters=PARAMETERS, work=WORK):
    cells = [
        new_markdown_cell(text, id="a"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="b"),
        new_code_cell(work, id="c"),
    ]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), book.root / "book/adding.ipynb")


def test_a_build_runs_a_page_once_and_again_when_its_table_changes(book, monkeypatch):
    monkeypatch.setattr(build, "_render", lambda _, files, *__: files)  # the pages need not be rendered here
    staged = {}
    told = []

    def built():
        told.clear()
        staged.update(build.build(book, accept=True, say=told.append))
        return staged["book/adding.ipynb"].decode()

    assert "the sum is 6.0" in built()
    assert any(line.startswith("book/adding: ran in") for line in told)
    assert b"The paper says" in staged["book/chapters/toy.ipynb"]
    assert "the sum is 6.0" in built()
    assert "book/adding: unchanged, taken from the cache" in told
    write(book, text="# Summing")
    assert "Summing" in built()
    assert "book/adding: unchanged, taken from the cache" in told
    (book.root / "book/results/numbers.csv").write_text("1 2 4")
    assert "the sum is 7.0" in built()
    assert "toy: unchanged, taken from the cache" in told
