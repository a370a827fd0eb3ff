"""The page about sweeps: its commands are ones that work, its table of axes says what they give."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from repro.book import parameters
from repro.book.layout import Book
from repro.book.sweep import grid
from repro.cli import app

BOOK = Book.find(__file__)
PAGE = (BOOK.root / "book/sweeps.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^repro (sweep .*)$", PAGE, flags=re.MULTILINE)
AXES = re.findall(r"^\| `(\w+)=(.+?)` \| ([\d., ]+?)(?::.*)? \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BOOK.root)
    done = CliRunner().invoke(app, [*shlex.split(command), "--dry-run"])
    assert done.exit_code == 0, done.output


def test_the_first_command_is_as_many_runs_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BOOK.root)
    counts = [
        int(match[1])
        for command in (COMMANDS[0], next(c for c in COMMANDS if "--zip" in c))
        if (match := re.search(r": (\d+) points", _dry(command)))
    ]
    assert "This is twenty runs" in PAGE
    assert "This is three runs" in PAGE
    assert counts == [20, 3]


def _dry(command: str) -> str:
    return CliRunner().invoke(app, [*shlex.split(command), "--dry-run"]).output


def test_the_axes_of_the_table_give_the_values_beside_them() -> None:
    declared = {p.name: p for p in parameters.declared(BOOK.notebook("ewn-inductive-bias"))}
    assert len(AXES) == 4
    for name, text, values in AXES:
        assert list(grid.axis_values(declared[name], text)) == [float(value) for value in values.split(",")]


def test_every_option_of_the_command_that_the_page_names_exists() -> None:
    known = set(
        re.findall(r"--[\w-]+", CliRunner().invoke(app, ["sweep", "--help"], terminal_width=300).output)
    )
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert {"--zip", "--points", "--resume", "--cluster"} <= named <= known


def test_every_file_that_the_page_names_is_one_the_sweep_writes() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(grid.__file__).parent.glob("*.py"))
    for name in ("table.parquet", "table.csv", "notebooks", "runs", "sweep.json", "report.html"):
        assert f"`{name}" in PAGE
        assert name in source
