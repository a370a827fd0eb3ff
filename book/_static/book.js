// The arrows that unfold the table of contents have no name of their own; give them one for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav details > summary")) {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages below ${link ? link.textContent.trim() : "this one"}`);
  }
});

// The scoreboard's filter. Without scripts its form stays hidden and the whole table is shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("scoreboard-filter");
  const table = document.querySelector("table.scoreboard");
  if (!form || !table) return;
  const rows = [...table.tBodies[0].rows];
  const columns = { chapter: 1, profile: 2 };
  const verdict = (row) => row.querySelector("td:last-child .verdict").className.replace(/^.*verdict-/, "");
  const value = (row, name) => (name in columns ? row.cells[columns[name]].textContent.trim() : verdict(row));
  const apply = () => {
    const selects = [...form.querySelectorAll("select")];
    const fits = (row) => selects.every(({ value: wanted, dataset: { filter } }) =>
      !wanted || value(row, filter) === (filter === "verdict" ? wanted.replace(/ /g, "-") : wanted));
    for (const row of rows) row.hidden = !fits(row);
    const shown = rows.filter((row) => !row.hidden).length;
    form.querySelector("[role=status]").textContent = `${shown} of ${rows.length} rows`;
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
});
