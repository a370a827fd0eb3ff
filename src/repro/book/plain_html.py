"""An executed notebook as one plain HTML file that needs nothing else: its texts and outputs, without its code.

nbconvert would do more; its pages ask the network for their scripts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from repro.book.notebooks import source_of

__all__ = ["to_html"]

_STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0; }
figcaption, caption { text-align: left; font-size: 0.9rem; }
caption { font-weight: 600; padding: 0.3rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
pre { overflow-x: auto; }
.verdict { border: 1px solid var(--line); border-radius: 1em; padding: 0 0.5em; white-space: nowrap; }
"""


def to_html(notebook: Mapping[str, Any], title: str) -> str:
    """The page: Markdown cells and outputs in order; cells tagged ``remove-cell`` are left out.

    Pictures travel inside; HTML outputs go in as they are, so show no notebook that you would not run.
    """
    body = "\n".join(piece for cell in notebook["cells"] for piece in _cell(cell))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    if "remove-cell" in cell.get("metadata", {}).get("tags", []):
        return
    if cell.get("cell_type") == "markdown":
        yield _markdown(source_of(cell))
    for output in cell.get("outputs", []):
        yield _output(output)


def _markdown(text: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(text))


def _output(output: Mapping[str, Any]) -> str:
    """The richest of what an output offers that a page without scripts can show."""
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    if "text/markdown" in data:
        return _markdown("".join(data["text/markdown"]))
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}" alt="A picture without a text">'
    return f"<pre>{escape(''.join(output.get('text') or data.get('text/plain', '')))}</pre>"
