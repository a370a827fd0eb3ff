"""Checks of a notebook's code cells, by reading them: measured claims, long functions, figures without text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from repro.book.claims import ChapterClaims
from repro.book.errors import BookError
from repro.book.notebooks import source_of

__all__ = ["Problem", "code_problems"]

_LONGEST_FUNCTION = 8


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file; ``cell`` counts from 0, None where the whole file is meant."""

    file: str
    cell: int | None
    message: str

    def __str__(self) -> str:
        where = self.file if self.cell is None else f"{self.file}, cell {self.cell}"
        return f"{where}: {self.message}"


def code_problems(name: str, notebook: dict[str, Any], claims: ChapterClaims | None) -> Iterator[Problem]:
    """What is wrong with the code cells of a notebook; what needs ``claims``, which a page has not, is left out."""
    trees = []
    for index, cell in enumerate(notebook["cells"]):
        # the lines that only IPython understands are left out; they keep their place
        lines = source_of(cell).splitlines() if cell.get("cell_type") == "code" else []
        if lines and not lines[0].lstrip().startswith("%%"):
            source = "\n".join("pass" if line[:1] in ("%", "!", "?") else line for line in lines)
            try:
                trees.append((index, ast.parse(source)))
            except SyntaxError as error:
                yield Problem(name, index, f"not Python: {error.msg} (line {error.lineno})")
    yield from _style(name, trees)
    if claims is not None:
        yield from _measured(name, trees, claims)


def _style(name: str, trees: list[tuple[int, ast.Module]]) -> Iterator[Problem]:
    """Long functions, and figures without text."""
    for index, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > _LONGEST_FUNCTION:
                    message = f"function {node.name} has {length} lines; accepted: up to {_LONGEST_FUNCTION}"
                    yield Problem(name, index, f"{message}, longer ones live in the library")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("plt.show", "pyplot.show"):
                yield Problem(name, index, "plt.show() gives a figure without text; use figures.show")


def _measured(name: str, trees: list[tuple[int, ast.Module]], claims: ChapterClaims) -> Iterator[Problem]:
    """Claims and tests that only the code knows, and deciding tests that it neither measures nor declares not tested.

    Names may be put together: ``test=f"{variant}-masks"`` measures every test whose name ends so, and ``test=name``
    those whose names the code gives anywhere.
    """
    nodes = [(index, node) for index, tree in trees for node in ast.walk(tree)]
    texts = [_pattern(node) for _, node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    calls: list[tuple[str, str]] = []
    for index, node in nodes:
        method = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        if not isinstance(node, ast.Call) or method not in ("measure", "not_tested"):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        claim, test = node.args[0] if node.args else given.get("claim"), given.get("test")
        calls.append((_pattern(claim), _pattern(test) if method == "measure" else ".*"))
        try:
            if isinstance(claim, ast.Constant):
                found = claims.claim(str(claim.value))
                _ = found.test(str(test.value)) if isinstance(test, ast.Constant) else None
        except BookError as error:
            yield Problem(name, index, str(error))

    def means(pattern: str, what: str) -> bool:
        return any(re.fullmatch(each, what) for each in (texts if pattern == _NAMED else [pattern]))

    for one, deciding in claims.deciding():
        if deciding.profiles and not any(
            means(claim, one.id) and means(test, deciding.name) for claim, test in calls
        ):
            accepted = f'ledger.measure("{one.id}", test="{deciding.name}", values=...), or ledger.not_tested'
            message = (
                f"claim {one.id}: its deciding test {deciding.name} is never measured; accepted: {accepted}"
            )
            yield Problem(name, None, message)


_NAMED = ".+"


def _pattern(node: ast.AST | None) -> str:
    """What a text in the code can be, as a regular expression: what a variable holds, any text there; a call, all."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    return ".*" if isinstance(node, ast.Call | ast.FormattedValue) else _NAMED
