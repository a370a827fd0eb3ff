"""Checks of a book's sources that need no run: ``run(book)`` lists what is wrong, each with file and cell."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from repro.base import nearest
from repro.book._markup import document
from repro.book._notebooks import read_notebook, source_of
from repro.book.claims import ChapterClaims, load
from repro.book.errors import BookError
from repro.book.layout import PROFILES, Book
from repro.book.parameters import declared, fill
from repro.book.planning import check_seeds
from repro.book.prose import numbers_typed
from repro.book.results import read

_HEADINGS = (
    *("What the paper claims", "Why it might be true", "Parameters", "The method in code", "Experiments"),
    *("Controls", "Result against the paper", "Differences from the paper", "What would change our mind"),
    *("Exercises", "References"),
)
_HEADINGS_OF_A_QUESTION = (
    *("The answer", "What we ask", "Parameters", "The methods in code", "Experiments", "Controls"),
    *("Result", "Differences from the papers", "What would change our mind", "Exercises", "References"),
)
_CITE = re.compile(r"\{(?:cite|footcite)(?::\w+)*\}\[(.+)\]", re.DOTALL)  # a role as ``document`` has it
_LONGEST_FUNCTION = 8
_References = Mapping[str, str] | None
_Found = Iterator[tuple[int | None, str]]  # a cell, or None for the whole file, and what is wrong there


def run(book: Book) -> list[str]:
    """Everything that is wrong with the sources of a book, chapter by chapter; empty when all is well.

    For each chapter: the fixed headings in order; a cell of parameters that begins with ``profile``; the
    kernel ``python3``; no outputs; no number typed into the prose (the rule stands in ``repro.book.prose``);
    alternative text on every image; each deciding test measured or its claim declared not tested, and nothing that
    the file of claims does not have; seeds enough to decide; no long function; committed results that fit their
    claims. For other notebooks: the same as far as it does not concern claims and headings. For all pages: citations
    that exist, images with alternative text.
    """
    problems: list[str] = []

    def look(file: Path, check: Callable[..., Any], *given: Any) -> Any:
        """Note what a check finds; a file that cannot be read is one problem, and then there is no content."""
        name = file.relative_to(book.root).as_posix()
        try:
            found = check(*given)
            if isinstance(found, Iterator):
                for cell, message in found:
                    problems.append(f"{name}{'' if cell is None else f', cell {cell}'}: {message}")
            return found
        except BookError as error:
            problems.append(f"{name}: {error}")

    path = book.root / "book" / "references.bib"
    references = look(path, book.references)
    for chapter in book.chapters():
        path = book.claims_file(chapter)
        claims = look(path, load, path)
        if claims is not None:
            look(path, _claims, claims, references)
            for file in (book.results_file(chapter, profile) for profile in PROFILES):
                look(file, _results, claims, file)
        look(book.notebook(chapter), _notebook, book, chapter, claims, references)
    for page in book.pages():
        look(book.notebook(page), _notebook, book, page, None, references)
    for file in sorted((book.root / "book").glob("*.md")):
        look(file, _markdown, None, file.read_text(encoding="utf-8"), references)
    return problems


def _unknown(key: str, what: str, references: _References) -> _Found:
    """A key that is not among the references, if these could be read."""
    if references is not None and key not in references:
        yield None, f"{key!r} is {what}, but is not in references.bib; {nearest(key, references)}"


def _claims(claims: ChapterClaims, references: _References) -> _Found:
    if claims.paper:
        yield from _unknown(claims.paper.key, "the key of the paper", references)
    check_seeds(claims)


def _results(claims: ChapterClaims, path: Path) -> _Found:
    if path.is_file():
        result = read(path)
        name = f"{result.chapter}.{result.profile}.json"
        wrong = f"holds the result of {result.chapter}, {result.profile}; it should be called {name}"
        for message in result.disagreements(claims) if path.name == name else [wrong]:
            yield None, message


def _notebook(book: Book, name: str, claims: ChapterClaims | None, references: _References) -> _Found:
    """What holds for every notebook, and for chapters the headings, and parameters that every profile fills."""
    path, of_a_chapter = book.notebook(name), name not in book.pages()
    notebook = read_notebook(path)
    if of_a_chapter:
        yield from _headings(notebook, _HEADINGS_OF_A_QUESTION if claims and claims.question else _HEADINGS)
    # every machine has this kernel, and nbconvert asks for the ending
    wanted = (("kernelspec", "name", "python3"), ("language_info", "file_extension", ".py"))
    for part, key, accepted in wanted:
        if (found := notebook.get("metadata", {}).get(part, {}).get(key)) != accepted:
            yield None, f"{part}.{key} is {found!r}; accepted: {accepted!r}"
    for index, cell in enumerate(notebook["cells"]):
        if cell.get("cell_type") == "markdown":
            for typed in numbers_typed(source_of(cell), _quotable(claims)):
                told = "is typed by hand: it is neither quoted in the claims file nor a threshold there"
                yield index, f"{typed.text} {told} (“{typed.context}”)"
            yield from _markdown(index, source_of(cell), references)
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield index, "outputs are committed; clear them: a run writes them"
        for attached in cell.get("attachments", ()):
            yield index, f"attachment {attached!r}: put the file beside the book"
    yield from _code(notebook, claims)
    parameters, profiles = declared(path, of_a_chapter), claims.profiles if claims else {}
    for profile in profiles:
        fill(parameters, {"profile": profile}, profiles, f"{name}.yml")


def _quotable(claims: ChapterClaims | None) -> set[float]:
    if claims is None:
        return set()
    tests = [test for _, test in claims.deciding()]
    margins = {test.margin for test in tests if test.margin}
    return {bound for test in tests for bound in test.criterion.bounds} | margins | set(claims.quoted)


def _markdown(index: int | None, text: str, references: _References) -> _Found:
    """Images without a text, and citations of what is not among the references."""
    page = document(text)
    for image in page("img"):
        if not str(image.get("alt", "")).strip():
            yield index, f"the image {str(image.get('src', ''))[:60]!r} has no alternative text"
    cited = filter(None, (_CITE.fullmatch(role.get_text()) for role in page.select("code.role")))
    for part in ",".join(match[1] for match in cited).split(","):
        if key := re.sub(r".*<([^<>]+)>\s*$", r"\1", part).strip():
            yield from ((index, message) for _, message in _unknown(key, "cited", references))


def _headings(notebook: dict[str, Any], headings: Sequence[str]) -> _Found:
    """One title, and the fixed headings in their order at the second level; "Differences" holds a numbered list."""
    titles, second, numbered = list[int](), list[tuple[int, str]](), set[str]()
    for index, cell in enumerate(notebook["cells"]):
        prose = document(source_of(cell) if cell.get("cell_type") == "markdown" else "")
        for part in prose.find_all(["h1", "h2", "ol"], recursive=False):
            if part.name == "h1":
                titles.append(index)
            elif part.name == "h2":
                second.append((index, part.get_text().strip()))
            elif second:
                numbered.add(second[-1][1])
    if len(titles) != 1:
        yield (titles[1] if titles else None), f"{len(titles)} titles (# ...); accepted: one"
    before = "the title"
    for found, wanted in zip_longest(second, headings):
        at, title = found or (None, "nothing")
        if title != wanted:
            yield at, f"after {before!r} comes {title!r}; accepted: {wanted or 'nothing'!r}"
            break
        before = title
    differences = next(title for title in headings if title.startswith("Differences"))
    if differences not in numbered:
        yield None, f"{differences!r} holds no numbered list"


# --- code, by reading it ------------------------------------------------------------------------------------------


def _code(notebook: dict[str, Any], claims: ChapterClaims | None) -> _Found:
    """Code that is not Python, long functions, figures without text, and what is measured."""
    nodes: list[tuple[int, ast.AST]] = []
    for index, cell in enumerate(notebook["cells"]):
        # the lines that only IPython understands are left out; they keep their place
        lines = source_of(cell).splitlines() if cell.get("cell_type") == "code" else []
        if lines and not lines[0].lstrip().startswith("%%"):
            source = "\n".join("pass" if line[:1] in ("%", "!", "?") else line for line in lines)
            try:
                nodes += [(index, node) for node in ast.walk(ast.parse(source))]
            except SyntaxError as error:
                yield index, f"not Python: {error.msg} (line {error.lineno})"
    for index, node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > _LONGEST_FUNCTION:
                told = f"accepted: up to {_LONGEST_FUNCTION}, longer ones live in the library"
                yield index, f"function {node.name} has {length} lines; {told}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("plt.show", "pyplot.show"):
            yield index, "plt.show() gives a figure without text; use figures.show"
    if claims is not None:
        yield from _measured(nodes, claims)


def _measured(nodes: Iterable[tuple[int, ast.AST]], claims: ChapterClaims) -> _Found:
    """Claims and tests that only the code knows, and deciding tests that it neither measures nor declares not tested.

    Names may be put together: ``test=f"{variant}-masks"`` measures every test whose name ends so, and a variable may
    hold any name.
    """
    calls: list[tuple[str, str]] = []
    for index, node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in ("measure", "not_tested"):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        claim, test = node.args[0] if node.args else given.get("claim"), given.get("test")
        calls.append((_pattern(claim), _pattern(test)))
        try:
            if isinstance(claim, ast.Constant):
                found = claims.claim(str(claim.value))
                _ = found.test(str(test.value)) if isinstance(test, ast.Constant) else None
        except BookError as error:
            yield index, str(error)
    for one, deciding in claims.deciding():
        means = (re.fullmatch(c, one.id) and re.fullmatch(t, deciding.name) for c, t in calls)
        if deciding.profiles and not any(means):
            accepted = f'ledger.measure("{one.id}", test="{deciding.name}", values=...), or ledger.not_tested'
            told = f"its deciding test {deciding.name} is never measured; accepted: {accepted}"
            yield None, f"claim {one.id}: {told}"


def _pattern(node: ast.AST | None) -> str:
    """What a text in the code can be, as a regular expression."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    return "".join(map(_pattern, node.values)) if isinstance(node, ast.JoinedStr) else ".*"
