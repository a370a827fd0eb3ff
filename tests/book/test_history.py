"""Proof from git, on repositories made here: the clean case passes, and each way to cheat is caught."""

import subprocess

import pytest
from ledger_book import make, result
from typer.testing import CliRunner

from repro.book import results
from repro.book._history import changes, doubts
from repro.book.errors import BookError
from repro.book.layout import Book
from repro.cli import app

FIRST = 500_000


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(book, *changes):
    """Commit all there is, after ``changes``, texts to replace in the file of claims; returns the commit."""
    path = book.claims_file("toy")
    for old, new in changes:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    git(book.root, "add", ".")
    git(book.root, "commit", "-q", "--allow-empty", "-m", "x")
    return git(book.root, "rev-parse", "HEAD")


def run(book, profile="quick", seed=FIRST, **provenance):
    """A committed result of a run, by default at the last commit."""
    about = {"commit": git(book.root, "rev-parse", "HEAD"), "dirty": False}
    about["parameters"] = {"n": {"quick": 10, "full": 20, "paper": 20}[profile], "seed": seed}
    found = result(book, profile=profile, provenance=about | provenance)
    results.write(book.results_file("toy", profile), found)
    commit(book)
    return found


@pytest.fixture
def book(tmp_path):
    book = make(tmp_path / "book")
    git(book.root, "init", "-q")
    commit(book)
    return book


def checked(book, monkeypatch):
    monkeypatch.chdir(book.root)
    done = CliRunner().invoke(app, ["check", "--history"])
    return done.stdout.strip(), done.exception


def test_the_clean_case_passes(book, monkeypatch):
    assert doubts(book, run(book)) == {}
    # what says nothing of it
    commit(book, ("why: it is fixed", "why: it always was"), ("full: {n: 20", "full: {n: 30"))
    again = run(book)  # the same claims by the same seeds once more
    proved = f"toy.quick.json: proved: {again.provenance['commit'][:10]} is clean, and came after its claims"
    assert checked(book, monkeypatch) == (proved, None)


@pytest.mark.parametrize(
    ("old", "new", "claim", "changed"),
    [
        ("claim: below 0.5", "claim: below 0.6", "T1", "test falls"),
        ("margin: 0.2\n", "margin: 0.1\n", "T1", "test falls"),
        ("The loss falls", "The loss sinks", "T1", "statement"),
        ("kind: theory", "kind: empirical", "T1", "kind"),
        ("name: share,", "name: part,", "T3", "test share"),
        ("id: T3", "id: T4", "T4", "the claim is new"),
    ],
)
def test_a_claim_that_changed_after_the_run(book, old, new, claim, changed):
    at = git(book.root, "rev-parse", "HEAD")
    found = run(book)
    commit(book, (old, new))
    told = doubts(book, found)
    assert list(told) == [claim]
    assert told[claim].startswith(f"not as at its run at {at[:10]}: {changed}")


def test_a_test_that_the_profile_no_longer_has(book):
    """Nobody gets rid of a no by sending its test to another profile, or makes the correction milder by it."""
    commit(book, ("kind: theory", "kind: empirical"))
    found = run(book)
    name = "{name: second, metric: gain, "
    commit(book, (name, name + "profiles: [paper], otherwise: no time, "))
    told = doubts(book, found)
    assert told["T2"].endswith(": test second")
    assert told["T1"].endswith(": the correction over all tests was stricter, with T2 second")
    assert list(told) == ["T1", "T2"]


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"dirty": None}, "not made from a clean tree"),
        ({"commit": None}, "it names no commit"),
        ({"commit": "HEAD"}, "it names no commit"),
        ({"seed": 10_000}, "seeds from 10000 are not for quick; accepted: 500000 to 1000000"),
        ({"seed": FIRST + 1}, f"seed was {FIRST + 1}, not as in the file of claims"),
        ({"parameters": {"n": 500, "seed": FIRST}}, "n was 500, not as in the file of claims"),
    ],
)
def test_a_run_that_proves_nothing(book, monkeypatch, about, reason):
    told = doubts(book, run(book, **about))
    assert list(told) == ["T1", "T2", "T3"]
    assert reason in told["T1"]
    out, error = checked(book, monkeypatch)
    assert out.startswith("toy.quick.json: T1, T2, T3: ")
    assert isinstance(error, BookError)
    assert str(error) == "1 reason why committed results may not count"


def test_a_commit_that_is_no_ancestor(book):
    git(book.root, "checkout", "-q", "-b", "aside")
    elsewhere = commit(book)
    git(book.root, "checkout", "-q", "-")
    assert "is no ancestor" in doubts(book, run(book, commit=elsewhere))["T1"]


def test_planning_seeds_are_said_and_no_failure(book, monkeypatch):
    assert doubts(book, run(book, seed=7))["T2"] == "seeds from 7 are for planning"
    assert checked(book, monkeypatch) == ("toy.quick.json: T1, T2, T3: seeds from 7 are for planning", None)


@pytest.mark.parametrize("dirty", [False, True])
def test_seeds_that_another_form_of_the_claim_has_seen(book, dirty):
    first = run(book, dirty=dirty)
    commit(book, ("claim: below 0.5", "claim: below 0.6"))
    told = doubts(book, run(book))
    assert list(told) == ["T1"]
    assert f"a committed run with these seeds, {first.provenance['commit'][:10]}: test falls" in told["T1"]
    # a block further on, as far as the file of claims says so, proves anew; one that overlaps does not
    for before, start, claims in ((FIRST, FIRST + 5, ["T1"]), (FIRST + 5, FIRST + 40, [])):
        commit(book, (f"seed: {before}", f"seed: {start}"))
        assert list(doubts(book, run(book, seed=start))) == claims


def test_seeds_seen_by_another_profile_on_a_branch(book):
    commit(book, ("paper: {n: 20, seed: 10000}", "paper: {n: 20, seed: 10005}"))
    git(book.root, "checkout", "-q", "-b", "aside")
    run(book, profile="full", seed=10_000)
    git(book.root, "checkout", "-q", "-")
    commit(book, ("margin: 0.2\n", "margin: 0.1\n"))
    found = run(book, profile="paper", seed=10_005)
    assert doubts(book, found) == {}
    git(book.root, "merge", "-q", "-s", "ours", "aside")
    assert list(doubts(book, found)) == ["T1"]


def test_claims_that_cannot_be_read(book):
    good = book.claims_file("toy").read_text()
    book.claims_file("toy").write_text(good.replace("deciding:", "tests:"))
    at = commit(book)
    book.claims_file("toy").write_text(good)
    told = doubts(book, run(book, commit=at))
    assert told["T3"].startswith(f"at commit {at[:10]} the claims cannot be read: toy.yml: claims.T1.tests")


def test_where_git_cannot_look(book, tmp_path, monkeypatch):
    run(book)
    commit(book, ("claim: below 0.5", "claim: below 0.6"))
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{book.root}", "shallow")
    shallow = Book(tmp_path / "shallow")
    out, error = checked(shallow, monkeypatch)
    assert (out.startswith("cannot look: this is a shallow clone"), error) == (True, None)
    stored = results.read(shallow.results_file("toy", "quick"))
    assert doubts(shallow, stored) == {}
    assert len(doubts(book, stored)) == 1
    monkeypatch.setenv("PATH", "")
    out, error = checked(book, monkeypatch)
    assert (out, error) == ("cannot look: there is no git, or no repository", None)


def test_the_feed_tells_how_answers_changed(book):
    run(book)
    worse = result(book, t1=[0.7 + 0.01 * k for k in range(10)])
    same = worse.model_copy(update={"run": {"finished": "2026-12-01T00:00:00"}})
    for found in (worse, same):
        results.write(book.results_file("toy", "quick"), found)
        commit(book)
    latest, first = changes(book, [worse])
    assert latest["words"] == {"T1": ("reproduced", "not reproduced")}
    assert first["words"]["T1"] == ("", "reproduced")
    assert (first["first"], latest["first"], latest["profile"]) == (True, False, "quick")
    assert latest["when"] == git(book.root, "log", "-1", "--format=%cI", "HEAD~1")


def test_without_git_the_feed_tells_what_is_there(tmp_path):
    (only,) = changes(make(tmp_path), [result(make(tmp_path / "other"))])
    assert (only["when"], only["first"]) == ("2026-11-21T04:05:06", True)
    assert only["words"]["T3"] == ("", "not tested")
