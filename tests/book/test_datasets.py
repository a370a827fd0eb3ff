"""The table of data sets: what the reader sees and what the result records are the same."""

from types import SimpleNamespace

from repro.book import _notebooks, datasets

TOY = SimpleNamespace(name="toy<1>", source="made here", licence="CC0", checksum="ab" * 32)


def test_the_page_shows_source_licence_and_checksum_and_the_runner_reads_the_checksum_back(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    datasets.table(TOY)
    (bundle,) = shown
    for text in ("toy&lt;1&gt;", "made here", "CC0", "<code>abababababab</code>"):
        assert text in bundle["text/html"]
    notebook = {"cells": [{"cell_type": "code", "outputs": [{"data": bundle}]}]}
    assert _notebooks.data_shown(notebook) == {"toy<1>": "ab" * 32}
