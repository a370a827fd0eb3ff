"""A new chapter passes all checks as it is, and the page that fills one is followed word for word."""

import json
import re

import pytest
from checkout import ROOT, Checkout, copied

from repro.book._files import write_atomically
from repro.book.errors import BadInput
from repro.book.layout import Book
from repro.book.new import new

PAGE = (ROOT / "book/adding-a-paper.md").read_text(encoding="utf-8")
FENCE = re.compile(
    r"""^(`{3,})(?:\{code-block\} )?(\w+)\n(?::caption: "?([^\n]+?)"?\n\n)?(.*?)^\1$""",
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def copy(tmp_path):
    return Checkout(tmp_path)


def state(folder):
    """All files but those of git, by their place."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.notebook
def test_the_page_is_followed_word_for_word(copy):
    chapter, said = "optimal-brain-damage", ""
    for _, language, caption, content in FENCE.findall(PAGE):
        if language == "bash":
            said = ""
            for command in content.splitlines():
                if command == "repro build":
                    copy.only(chapter)
                said += copy.run(command)
        elif language == "text":
            for line in content.splitlines():
                wanted = r"[^\n]*".join(map(re.escape, line.split("…"))).replace(r"\ ", r"[\s│]*")
                assert re.search(wanted, said), f"{line!r} is not in\n{said}"
        else:
            assert caption, content
            write(copy.root, chapter, caption, content)
    words = json.loads((copy.root / f"book/results/{chapter}.quick.json").read_text())["claims"]
    assert {claim: found["verdict"] for claim, found in words.items()} == {"E1": "reproduced", "K1": "passed"}
    page = (copy.root / f"_build/html/book/chapters/{chapter}.html").read_text(encoding="utf-8")
    assert "which weight does the error miss least?" in page


def write(root, chapter, caption, content):
    """Do one edit of the page: a whole file, an entry of a file, or a cell of the notebook, named by its first line."""
    if caption.startswith("the cell "):
        path = root / f"book/chapters/{chapter}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        named = caption.removeprefix("the cell ")
        (cell,) = (c for c in notebook["cells"] if "".join(c["source"]).splitlines()[0] == named)
        cell["source"] = content.rstrip("\n").splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif ", the entry " in caption:
        place, _, entry = caption.partition(", the entry ")
        text = (root / place).read_text(encoding="utf-8")
        old = text[re.search(rf"^@\w+\{{{entry},$", text, re.MULTILINE).start() :]
        (root / place).write_text(text.replace(old[: old.index("\n}") + 3], content), encoding="utf-8")
    else:
        assert (root / caption).is_file(), caption
        (root / caption).write_text(content, encoding="utf-8")


@pytest.mark.notebook
def test_a_new_chapter_passes_all_checks_as_it_is(copy):
    assert "next: repro run my-paper" in copy.run("repro new my-paper")
    copy.run("make lint")
    assert copy.run("repro check") == "the sources are in order\n"
    copy.run("pytest -q tests/papers/my_paper")
    copy.only("my-paper")
    copy.run("repro build --profile smoke")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return Book(copied(tmp_path_factory.mktemp("book")))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../paper", "cannot be called '../paper'; accepted: small letters"),
        ("lambda", "no word of Python's"),
        ("head-to-head", "there is a chapter 'head-to-head' already"),
        ("learn", "book/api/learn.md is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_written(book, name, told):
    before = state(book.root)
    with pytest.raises(BadInput, match=re.escape(told)):
        new(book, name)
    assert state(book.root) == before


def test_what_was_interrupted_is_taken_up(book, monkeypatch):
    contents = (book.root / "_toc.yml").read_text()

    def interrupted(path, text):
        if path.name == "_toc.yml":  # the last that lists the chapter
            raise KeyboardInterrupt
        write_atomically(path, text)

    with monkeypatch.context() as patched:
        patched.setattr("repro.book.new.write_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            new(book, "my-paper")
    assert (book.root / "_toc.yml").read_text() == contents
    new(book, "my-paper")
    assert "my-paper" in Book(book.root).chapters()
    assert (book.root / "book/api.md").read_text().count("api/my-paper.md") == 1
    assert (book.root / "book/references.bib").read_text().count("{my-paper,") == 1
