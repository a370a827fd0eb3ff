"""The glossary: its words lead to sections that are there, and a text is explained once."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

from docutils import nodes

from repro.book.sphinx_ext import _explained, _Links

BOOK = Path(__file__).resolve().parents[2] / "book"


def headings(path):
    """The anchors of a page's headings, as MyST makes them."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    titles = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_word_leads_to_a_section():
    text = (BOOK / "glossary.md").read_text("utf-8")
    found = re.findall(r"^    \[[^]]+\]\(([^)#]+)#([^)]+)\)$", text, re.MULTILINE)
    means = re.findall(r"^(?:\S.*\n)+    \S", text.partition("```{glossary}")[2], re.MULTILINE)
    assert len(found) == len(means) >= 25
    for page, anchor in found:
        assert anchor in headings(BOOK / page), f"{page} has no section #{anchor}"


def test_the_first_mention_is_explained_and_its_synonyms_with_it():
    left = dict.fromkeys(("mask", "zeros"), ("m", "which"))
    left |= {"magnitude pruning": ("p", "least"), "ewn": ("e", "x")}
    text = "Masks of magnitude pruning; a mask, unmasked, zeros."
    pieces = list(_explained(nodes.Text(text), left, "g.html"))
    links = [(each.astext(), each["refuri"]) for each in pieces if isinstance(each, nodes.reference)]
    assert links == [("Masks", "g.html#m"), ("magnitude pruning", "g.html#p")]
    assert "".join(each.astext() for each in pieces) == text
    assert list(left) == ["ewn"]


def test_the_name_of_a_method_is_one_link_and_not_two_in_each_other():
    objects = {name: SimpleNamespace(docname="api", node_id=name) for name in ("r.A", "r.A.of")}
    app = SimpleNamespace(
        env=SimpleNamespace(domaindata={"py": {"objects": objects}}),
        builder=SimpleNamespace(get_relative_uri=lambda page, other: f"{other}.html"),
    )
    links = _Links()
    links.names["toy"] = {"A": "r.A", "A.of": "r.A.of"}
    a, of, b = (f'<span class="n">{name}</span>' for name in ("A", "of", "b"))
    dot = '<span class="o">.</span>'
    context = {"body": f"{a}{dot}{of} {a} {b}{dot}{a}"}
    links.in_code(app, "toy", "", context, None)
    method, itself = (f'<a class="api" href="api.html#r.{name}">' for name in ("A.of", "A"))
    assert context["body"] == f"{method}{a}{dot}{of}</a> {itself}{a}</a> {b}{dot}{a}"
