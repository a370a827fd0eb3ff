"""``repro sweep`` as typed, without a run: what is refused, what a dry run says, and what its page promises."""

import re
import shlex
from pathlib import Path

import pytest
import running_book
from typer.testing import CliRunner

from repro.book import parameters
from repro.book.errors import BadInput
from repro.book.layout import Book
from repro.book.sweep import grid
from repro.cli import app

BOOK = Book(Path(__file__).resolve().parents[3])
PAGE = (BOOK.root / "book/sweeps.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^repro (sweep .*)$", PAGE, flags=re.MULTILINE)
AXES = re.findall(r"^\| `(\w+)=(.+?)` \| ([\d., ]+?)(?::.*)? \|$", PAGE, flags=re.MULTILINE)


def _dry(command):
    done = CliRunner().invoke(app, [*shlex.split(command), "--dry-run"])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_understood(command, monkeypatch):
    monkeypatch.chdir(BOOK.root)
    _dry(command)


def test_the_axes_of_the_table_give_the_values_beside_them():
    declared = {p.name: p for p in parameters.declared(BOOK.notebook("ewn-inductive-bias"))}
    assert len(AXES) == 4
    for name, text, values in AXES:
        assert list(grid._axis_values(declared[name], text)) == [float(value) for value in values.split(",")]


@pytest.fixture
def book(tmp_path, monkeypatch):
    book = running_book.make(tmp_path)
    monkeypatch.chdir(book.root)
    return book


def test_bad_input_is_told_before_anything_is_done(book):
    done = CliRunner().invoke(app, ["sweep", "toy", "-p", "profile=quick", "--profile", "smoke"])
    assert isinstance(done.exception, BadInput)
    assert "profile is given twice" in str(done.exception)
    assert not book.build_dir.exists()


def test_a_dry_run_shows_the_points_and_what_they_will_take(book):
    """Closed form: 27 runs of 40 seconds, two at a time."""
    command = "sweep toy -p n=1..9,3 -p level=0.25,0.75,0.5 --workers 2"
    shown = _dry(command)
    assert "note: 3 of 30 points repeat another and are run once" in shown
    assert "27 points, the first 20 of them" in shown
    assert shown.count("0.75") == 7
    assert "expected cost: unknown" in shown
    book.results_file("toy", "quick").write_text('{"run": {"seconds": 40}}')
    assert "expected cost: 0:18:00 of computing, 0:09:00 with 2 at a time" in _dry(command)
    (book.build_dir / "notebooks").mkdir(parents=True)
    ran = '{"metadata": {"repro": {"run": {"seconds": 20}}}}'
    (book.build_dir / "notebooks/toy.quick.ipynb").write_text(ran)
    assert "expected cost: 0:09:00 of computing" in _dry(command)
