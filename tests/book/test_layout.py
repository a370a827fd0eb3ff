"""A book is found from inside it, by its name, and from anywhere by a library that was installed from it."""

import subprocess
import sys
from pathlib import Path

import ledger_book
import pytest

from repro.book import layout
from repro.book.errors import BadInput
from repro.book.layout import Book

ROOT = Path(__file__).resolve().parents[2]


def test_from_anywhere_it_is_the_checkout_that_the_library_was_installed_from(tmp_path):
    code = "from repro.book.layout import Book; print(Book.find().root); Book.find()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{ROOT}\n"
    (note,) = done.stderr.splitlines()  # once
    assert note.startswith(f"note: no book at or above {tmp_path}; using {ROOT}")
    assert "papermill --cwd" in note


def test_the_book_around_the_working_directory_and_the_one_named_come_first(tmp_path, monkeypatch, capsys):
    another = ledger_book.make(tmp_path / "another")
    monkeypatch.chdir(another.root / "book" / "chapters")
    assert Book.find() == another
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRO_BOOK", str(another.root))
    assert Book.find() == another
    assert capsys.readouterr().err == ""


def test_without_any_book_the_error_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "_CHECKOUT", tmp_path)  # as where the library lies in site-packages
    with pytest.raises(BadInput, match=rf"no book at or above {tmp_path}: .* REPRO_BOOK .* papermill --cwd"):
        Book.find()
