"""Chapters that run, fail, hang, are killed: real kernels, real processes, the real command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import filelock
import nbformat
import psutil
import pytest
import running_book
import yaml

from repro import cli
from repro.book import build, claims, results, runner
from repro.book._environment import key_parts
from repro.book._files import Locked, hash_of
from repro.book._notebooks import LEDGER
from repro.book._process import ProcessTree
from repro.book.errors import BadInput, BookError, RunFailed
from repro.book.layout import Book


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return running_book.make(tmp_path_factory.mktemp("running"))


@pytest.fixture(scope="module")
def good(book):
    """The last good run, which no failure may touch."""
    return runner.run(book, "toy")


@pytest.fixture
def no_process(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))


def test_a_target_that_cannot_be_written_is_told_before_the_run(book, no_process, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "toy.quick.ipynb").mkdir()
    for output in (tmp_path / "file", tmp_path):
        with pytest.raises(BookError, match="could not write"):
            runner.run(book, "toy", output=output, use_cache=False)
    monkeypatch.setattr(type(book), "results_file", lambda *_: tmp_path / "file" / "toy.json")
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("it ran"))
    monkeypatch.setenv("REPRO_BOOK", str(book.root))
    with pytest.raises(BookError, match="could not write"):
        cli._run(["toy"], ["profile=quick"], accept=True)
    with pytest.raises(BookError, match="could not write"):
        build.build(book, accept=True)


def repro(book, *arguments):
    command = [sys.executable, "-m", "repro", *arguments]
    return subprocess.run(command, cwd=book.root, capture_output=True, text=True, timeout=600)


def test_a_run_leaves_notebook_ledger_and_provenance(good):
    assert len(good.results.claims["T1"].deciding["low"].values) == 7
    used = {"profile": "quick", "seed": 500_000, "n": 7, "level": 0.1, "mode": "fine"}
    assert good.results.provenance["parameters"] == used
    assert good.run["peak_memory_mb"] > 10
    notebook = nbformat.read(good.notebook, as_version=4)
    # what the chapter itself says stays; what the tools say goes
    errors = [o.text for c in notebook.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert errors == ["working\n"]


def test_an_unchanged_run_comes_from_the_cache_and_a_changed_one_does_not(book, good):
    again = runner.run(book, "toy")
    assert again.cached
    assert again.run == good.run
    parts = [book.cache_dir / "parts" / name for name in ("toy", "another")]
    for part in parts:
        part.mkdir(parents=True)
    assert not runner.run(book, "toy", {"level": 0.2}).cached
    assert [part.exists() for part in parts] == [False, True]  # what is kept whole needs no parts


def test_without_a_cache_a_run_is_only_not_kept(tmp_path, capsys):
    book = running_book.make(tmp_path / "book")
    book.cache_dir.write_text("a file in the place of the folder")
    done = runner.run(book, "toy")
    assert done.notebook.is_file()
    said = capsys.readouterr().err
    assert re.fullmatch(r"note: the run is not kept for another time: could not write .*\n", said)


def test_a_run_whose_place_cannot_be_written_any_more_is_not_lost(book, good, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "check_writable", lambda path: None)  # it could, when the run began
    (tmp_path / "out").write_text("no folder")
    given = {"level": 0.15}
    with pytest.raises(BookError, match=r"could not write .*/toy\.quick\.ipynb: "):
        runner.run(book, "toy", given, output=tmp_path / "out")
    assert runner.run(book, "toy", given).cached


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("raise", "ValueError: the flux capacitor is empty (at 'Experiments'); see "),
        ("magic", "toy: UsageError: Line magic function `%nonsense` not found."),
    ],
)
def test_a_run_that_fails_is_kept_beside_the_last_good_one(book, good, mode, said):
    before = good.notebook.read_bytes()
    with pytest.raises(RunFailed) as caught:
        runner.run(book, "toy", {"mode": mode})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert good.notebook.read_bytes() == before
    wreck = caught.value.notebook
    assert wreck.name == "toy.quick.failed.ipynb"
    outputs = [o for c in nbformat.read(wreck, as_version=4).cells for o in c.get("outputs", [])]
    assert any(o.output_type == "error" for o in outputs)


@pytest.mark.parametrize(("seconds", "times"), [(0.5, 1), (3, 2)])
def test_a_child_that_has_just_been_forked_holds_no_memory_and_one_that_lasts_does(seconds, times):
    hoard = f"""
import os, time
hoard = b"x" * 200_000_000
if not os.fork():
    time.sleep({seconds})
    os._exit(0)
os.wait()
"""
    program, tree = subprocess.Popen([sys.executable, "-c", hoard]), ProcessTree()
    while program.poll() is None:
        tree.sample(program.pid)
        time.sleep(0.05)
    assert times * 200 < tree.peak_mb < times * 200 + 100


def test_more_seconds_than_the_limit(book, good):
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RunFailed, match="3 seconds of its budget"):
        runner.run(book, "toy", {"mode": "sleep"}, timeout=3)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


def test_wrong_parameters_and_claims_are_refused_before_a_kernel_starts(tmp_path, no_process):
    broken = running_book.make(tmp_path)
    for given, said in (({"lvel": 1}, "did you mean 'level'"), ({"n": 0}, r"\[1, 9\], got 0")):
        with pytest.raises(BadInput, match=said):
            runner.run(broken, "toy", given)
    broken.claims_file("toy").write_text(running_book.CLAIMS.replace("below", "beneath"))
    with pytest.raises(BadInput, match=r"toy\.yml.*T1.*beneath"):
        runner.run(broken, "toy")


def edited(notebook, index, **change):
    """The notebook with one cell changed."""
    cells = [cell | (change if place == index else {}) for place, cell in enumerate(notebook["cells"])]
    return notebook | {"cells": cells}


def test_a_key_covers_what_a_run_depends_on_and_no_words(book):
    source = json.loads(book.notebook("toy").read_text())

    def key(notebook=source, n=1, replaced=("", "")):
        text = running_book.CLAIMS.replace(*replaced) if replaced[0] else running_book.CLAIMS
        found = claims.ChapterClaims.model_validate(yaml.safe_load(text))
        return hash_of(key_parts(notebook, {"n": n}, found, {}))

    words = (("the value", "x"), ("fixed", "why"), ("600", "700"), ("theory", "control"))
    words += (("below 0.5", "above 0.4"), ("margin: 0.1", "margin: 0.2"))
    same = {key(edited(source, 2, id="other")), *(key(replaced=pair) for pair in words)}
    assert same == {key()}
    others = [key(replaced=pair) for pair in (("id: T1", "id: T2"), ("name: low", "name: lower"))]
    others.append(key(edited(source, 2, source="print()")))
    others.append(key(edited(source, 2, metadata={"tags": ["raises-exception"]})))
    others.append(key(n=2))
    assert len({key(), *others}) == 1 + len(others)


def test_prose_tags_and_words_show_without_a_run(tmp_path, request):
    book = running_book.make(tmp_path)
    path, source = book.notebook("toy"), json.loads(book.notebook("toy").read_text())
    first = runner.run(book, "toy")
    request.getfixturevalue("no_process")
    words = edited(edited(source, 0, source="# Another title"), 2, metadata={"tags": ["hide-input"]})
    words["cells"].append(nbformat.v4.new_markdown_cell("The end."))
    path.write_text(json.dumps(words))
    before = nbformat.read(first.notebook, as_version=4)
    book.claims_file("toy").write_text(running_book.CLAIMS.replace("one half", "a dozen"))
    again = runner.run(book, "toy")
    assert again.cached
    assert again.results == first.results
    now = nbformat.read(again.notebook, as_version=4)
    nbformat.validate(now)
    tags = [cell.metadata.get("tags") for cell in now.cells]
    injected = ["injected-parameters", "remove-cell"]
    assert tags == [None, ["parameters"], injected, ["hide-input"], None, None]
    assert (now.cells[0].source, now.cells[5].source) == ("# Another title", "The end.")
    assert [cell.get("execution_count") for cell in now.cells] == [None, 1, 2, 3, 4, None]
    # the table of the ledger in the words of today
    was, table = (n.cells[4].outputs[0].data["text/html"] for n in (before, now))
    assert was != table == was.replace("one half", "a dozen")


def test_a_ledger_that_the_claims_do_not_know_is_a_failure(book):
    about = {"chapter": "toy", "profile": "quick"}
    job = SimpleNamespace(about=about, claims_of=claims.load(book.claims_file("toy")))

    def found(**changed):
        shown = {**about, "seed": 500_000, "measurements": [], "not_tested": {}} | changed
        cell = {"cell_type": "code", "outputs": [{"data": {LEDGER: shown}}]}
        made = {"provenance": {}, "run": {}}
        return runner._found(job, {"cells": [cell], "metadata": {"repro": made}})

    assert found().claims["T1"].word == "not tested"
    for changed, said in (
        ({"profile": "smoke"}, "its ledger is that of 'toy', profile 'smoke'"),
        ({"not_tested": {"T2": "no time"}}, "called 'T2'; did you mean 'T1'"),
    ):
        with pytest.raises(BadInput, match=said):
            found(**changed)


def test_the_command_line_says_one_line_and_an_exit_code(book, good, monkeypatch):
    for arguments, said in (
        (["run", "toy", "-p", "n"], "name=value"),
        (["claims", "--profile", "paper"], "toy.paper.json is missing: a result, which a run"),
    ):
        done = repro(book, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("repro: ")
        assert said in done.stderr
    monkeypatch.setenv("PYTHONWARNINGS", "error")  # of a file that is left open, too
    done = repro(book, "run", "toy", "--no-cache")
    assert (done.returncode, done.stderr) == (0, "")
    assert "reproduced" in done.stdout
    assert done.stdout.rstrip().endswith("toy.quick.ipynb")
    done = repro(book, "sweep", "toy", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_nobody_takes_ends_without_a_traceback(book):
    taken, given = os.pipe()
    os.close(taken)  # as in `repro params toy | true`
    command = [sys.executable, "-m", "repro", "params", "toy"]
    with open("/dev/full", "w") as full, open(given, "w") as left:
        told = "repro: could not write the output: No space left on device\n"
        for output, said in ((full, told), (left, "")):
            done = subprocess.run(command, cwd=book.root, stdout=output, stderr=subprocess.PIPE, text=True)
            assert (done.returncode, done.stderr) == (1, said)


def test_ctrl_c_stops_the_kernel_and_keeps_the_last_good_run(book, good):
    before = good.notebook.read_bytes()
    asleep = book.notebook("toy").with_name("asleep")
    asleep.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "repro", "run", "toy", "-p", "mode=sleep"],
        cwd=book.root, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and their children with them
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 600
    while not asleep.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    _, alive = psutil.wait_procs(family, timeout=600)
    assert not alive
    assert good.notebook.read_bytes() == before


def test_what_pages_are_made_of_is_known_to_the_last_file(tmp_path):
    book = running_book.make(tmp_path)
    seen = {build._made_of(book, {}, profile) for profile in ("quick", "full")}
    places = book.claims_file("toy"), book.results_file("toy", "quick"), book.root / "_toc.yml"
    for path in (*places, book.root / "book" / "without-a-dot"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("another")
        seen.add(build._made_of(book, {}, "quick"))
    assert len(seen) == 6


def test_build_renders_judges_compares_and_locks(tmp_path):
    book = running_book.make(tmp_path, running_book.PARAMETERS, running_book.WORK, running_book.REAL_LEDGER)
    first = repro(book, "build", "--accept")
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.rstrip().endswith("_build/html/index.html")
    page = book.build_dir / "html/book/chapters/toy.html"
    assert "verdict-reproduced" in page.read_text()
    assert "repro run toy --profile quick" in (book.root / "README.md").read_text()
    said = []
    build.build(book, say=said.append)
    assert said[1:] == ["toy: unchanged, taken from the cache", "pages: unchanged"]

    # a heading is rendered from what Sphinx has read, and shows on every page
    (book.root / "book/reading-guide.md").write_text("# Signposts\n")
    read = book.build_dir / "rendering/_build/.doctrees/book/chapters/toy.doctree"
    before = read.stat().st_mtime_ns
    build.build(book)
    assert "Signposts" in page.read_text()
    assert read.stat().st_mtime_ns == before

    with filelock.FileLock(book.cache_dir / "build.lock"), pytest.raises(Locked, match=r"^another build"):
        build.build(book)

    # the chapter now measures something else: that contradicts the committed answer, loudly, and the old pages stay
    notebook, html = book.notebook("toy"), page.read_bytes()
    kept = results.read(book.results_file("toy", "quick"))
    notebook.write_text(notebook.read_text().replace("level: float = 0.1", "level: float = 0.9"))
    turned = repro(book, "build")
    assert turned.returncode == 3
    assert "T1: low: was yes, 0.1030 [0.1010, 0.1050]; is now no, the opposite: 0.9030" in turned.stderr
    assert results.read(book.results_file("toy", "quick")) == kept
    assert page.read_bytes() == html

    # a page that does not render fails the build and leaves the last good pages; what has been read is not forgiven
    notebook.write_text(notebook.read_text().replace("level: float = 0.9", "level: float = 0.1"))
    (book.root / "book/index.md").write_text("# Toy\n\n{ref}`nowhere`\n")
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"^the pages did not render \(1 warnings\), first: .*nowhere"):
            build.build(book)
    assert page.read_bytes() == html


def page(book, text="# Adding"):
    """Write a notebook that is no chapter: it adds the numbers of a file."""
    declared = (
        'table: str = "book/results/numbers.csv"  # the numbers to add\ntimes: int = 1  # [1, 9] how often'
    )
    adds = 'print("the sum is", times * sum(map(float, open("../" + table).read().split())))'
    cells = [
        nbformat.v4.new_markdown_cell(text, id="a"),
        nbformat.v4.new_code_cell(declared, metadata={"tags": ["parameters"]}, id="b"),
        nbformat.v4.new_code_cell(adds, id="c"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), book.root / "book/adding.ipynb")


def test_a_build_runs_a_page_once_and_again_when_its_table_changes(tmp_path, monkeypatch):
    book = running_book.make(tmp_path)
    contents, numbers = book.root / "_toc.yml", book.root / "book/results/numbers.csv"
    contents.write_text(contents.read_text() + "- file: book/adding\n")
    numbers.write_text("1 2 3")
    page(book)
    book = Book(book.root)
    monkeypatch.setattr(build, "_render", lambda _, files, *__: files)  # the pages need not be rendered here
    told = []

    def built():
        told.clear()
        staged = build.build(book, accept=True, say=told.append)
        assert b"The paper says" in staged["book/chapters/toy.ipynb"]
        return staged["book/adding.ipynb"].decode()

    assert "the sum is 6.0" in built()
    assert any(line.startswith("book/adding: ran in") for line in told)
    page(book, "# Summing")
    assert "Summing" in built()
    assert "book/adding: unchanged, taken from the cache" in told
    numbers.write_text("1 2 4")
    assert "the sum is 7.0" in built()
    assert "toy: unchanged, taken from the cache" in told
