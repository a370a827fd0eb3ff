"""The scoreboard's filter: plain HTML controls and a few lines of JavaScript, no library, no network.

Without JavaScript the controls stay hidden and the whole table is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["SCRIPT", "controls"]


def _select(name: str, label: str, options: Sequence[str]) -> str:
    listed = "".join(f'<option value="{escape(option)}">{escape(option)}</option>' for option in options)
    return (
        f'<label>{label} <select data-filter="{name}"><option value="">all</option>{listed}</select></label>'
    )


def controls(chapters: Sequence[str], verdicts: Sequence[str], profiles: Sequence[str]) -> str:
    """The form above the table, one line of HTML; a live region says how many claims are shown."""
    selects = " ".join(
        [
            _select("chapter", "Chapter", chapters),
            _select("verdict", "Verdict", verdicts),
            _select("profile", "Profile", profiles),
        ]
    )
    return (
        '<form id="scoreboard-filter" aria-label="Filter the claims" hidden>'
        f'{selects} <button type="reset">Show all</button> <span role="status"></span></form>\n'
    )


SCRIPT = """<script>
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("scoreboard-filter");
  const table = document.querySelector("table.scoreboard");
  if (!form || !table) return;
  const rows = [...table.tBodies[0].rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const verdict = (row) => row.querySelector("td:last-child .verdict").className.replace(/^.*verdict-/, "");
  const apply = () => {
    const wanted = {};
    form.querySelectorAll("select").forEach((select) => { wanted[select.dataset.filter] = select.value; });
    let shown = 0;
    for (const row of rows) {
      const fits = (!wanted.chapter || text(row, 1) === wanted.chapter)
        && (!wanted.verdict || verdict(row) === wanted.verdict.replace(/ /g, "-"))
        && (!wanted.profile || text(row, 2) === wanted.profile);
      row.hidden = !fits;
      shown += fits;
    }
    form.querySelector("[role=status]").textContent = `${shown} of ${rows.length} rows`;
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
});
</script>
"""
