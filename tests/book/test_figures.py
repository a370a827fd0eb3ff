"""Figures: text for everyone, colours that can be told apart, bands that say what they are, equal bytes."""

import base64
import re
import subprocess

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pytest
from bs4 import BeautifulSoup
from ledger_book import make

from repro.base import t_interval
from repro.book import figures
from repro.book.errors import BadInput


@pytest.fixture(autouse=True)
def _clean():
    yield
    plt.close("all")
    mpl.rcdefaults()
    figures.theme()


def draw(scale=1.0):
    figure, ax = plt.subplots()
    ax.plot([0, 1, 2], [0, scale, 4 * scale], label="a")
    ax.legend()
    return figure


def html_of(figure=None, **changes):
    given = {"caption": "A *rising* line, $x<y$.", "alt": 'A line "rises"', "source": t_interval} | changes
    return figures._figure_html(figure or draw(), **given)


@pytest.mark.parametrize("changes", [{"alt": " "}, {"alt": None}, {"caption": ""}, {"source": "x"}])
def test_a_figure_needs_its_texts(changes):
    with pytest.raises(BadInput, match="a figure needs"):
        html_of(**changes)


def test_the_html():
    page = BeautifulSoup(html_of(), "html.parser")
    assert page.img["alt"] == 'A line "rises"'
    image = BeautifulSoup(base64.b64decode(page.img["src"].split(",", 1)[1]), "html.parser").svg
    sides = map(float, image["viewbox"].split()[2:])
    assert [int(page.img[side]) * 0.72 for side in ("width", "height")] == pytest.approx([*sides], abs=0.5)
    assert page.img["loading"] == "lazy"
    assert "background:var(--repro-figure, #fff)" in page.img["style"]
    caption = page.figcaption
    assert caption.em.text == "rising"
    assert r"\(x<y\)" in caption.text
    assert "repro.base.t_interval" in caption.text


def test_the_same_figure_gives_the_same_bytes():
    assert html_of() == html_of()
    assert html_of() != html_of(draw(2.0))
    image = base64.b64decode(BeautifulSoup(html_of(), "html.parser").img["src"].split(",", 1)[1])
    assert b"metadata" not in image
    assert not re.search(rb' d="[^"]*\.\d\d', image)


def test_show_displays_once_and_closes(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = draw()
    figures.show(figure, caption="c", alt="a", source=t_interval)
    assert len(shown) == 1
    assert plt.get_fignums() == []
    with pytest.raises(BadInput):
        figures.show(draw(), caption="", alt="a", source=t_interval)
    assert plt.get_fignums() == []


def test_the_source_names_chapter_function_lines_and_commit(tmp_path, monkeypatch):
    book = make(tmp_path)
    module = tmp_path / "toy_science.py"
    module.write_text("# one\n\ndef measure():\n    return 1\n")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -q -m x"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True)
    head = subprocess.check_output(["git", "-C", tmp_path, "rev-parse", "HEAD"], text=True).strip()
    monkeypatch.setenv("REPRO_BOOK", str(book.root))
    monkeypatch.syspath_prepend(tmp_path)
    import toy_science

    figures.theme("toy")
    caption = BeautifulSoup(html_of(source=toy_science.measure), "html.parser").figcaption
    assert caption.a["href"] == f"https://example.org/toy/blob/{head}/toy_science.py#L3-L4"
    assert caption.details.summary.text == "Source"
    assert f" chapter toy, toy_science.measure, commit {head[:10]}" in caption.details.text
