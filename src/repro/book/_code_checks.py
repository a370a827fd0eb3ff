"""Checks of a notebook's code cells, by reading them: measured claims, long functions, figures without text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from repro.book.claim_models import ChapterClaims
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


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _measured(name: str, trees: list[tuple[int, ast.Module]], claims: ChapterClaims) -> Iterator[Problem]:
    """Claims that are measured but unknown, and claims that the code never names."""
    named: set[str] = set()
    for index, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("measure", "not_tested"):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            claim = _text(node.args[0] if node.args else given.get("claim"))
            test = _text(given.get("test")) if node.func.attr == "measure" else None
            try:
                if claim is not None:
                    found = claims.claim(claim)
                    _ = found.test(test) if test is not None else None
            except BookError as error:
                yield Problem(name, index, str(error))
    for one in claims.claims:
        if one.id not in named and any(test.profiles for test in one.tests):
            yield Problem(name, None, f"claim {one.id} is neither measured nor declared not tested")
