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
