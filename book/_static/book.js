// The arrows that unfold the table of contents have no name of their own; give them one for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav details > summary")) {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages below ${link ? link.textContent.trim() : "this one"}`);
  }
});

// The scoreboard's filter. Without scripts its form stays hidden and all lines are shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("scoreboard-filter");
  if (!form) return;
  const lists = [...document.querySelectorAll("ul.scoreboard")];
  const lines = lists.flatMap((list) => [...list.children]);
  const apply = () => {
    const [chapter, verdict] = ["chapter", "verdict"].map((name) => form.querySelector(`[data-filter=${name}]`).value);
    for (const line of lines) {
      line.hidden = (chapter && line.parentElement.dataset.chapter !== chapter)
        || (verdict && line.dataset.verdict !== verdict);
    }
    for (const list of lists) list.closest("section").hidden = !list.querySelector("li:not([hidden])");
    const shown = lines.filter((line) => !line.hidden).length;
    form.querySelector("[role=status]").textContent = `${shown} of ${lines.length} claims`;
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
});

// Tables that say so can be sorted by the first number of a column, or by its words. Without scripts they are as they came.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number.parseFloat(text.replace("−", "-"));
    return Number.isNaN(number) ? text : number;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead tr:first-child > *")];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim() || "name";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") !== "descending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => (value(a, column) < value(b, column) ? -1 : 1));
        table.tBodies[0].append(...(falling ? rows.reverse() : rows));
      });
    });
  }
});

// An address that names a claim opens what stands folded in its row.
const unfold = () => {
  const origin = document.querySelector(`tr[id="${CSS.escape(location.hash.slice(1))}"] > td > details.origin`);
  if (origin) origin.open = true;
};
document.addEventListener("DOMContentLoaded", unfold);
window.addEventListener("hashchange", unfold);
