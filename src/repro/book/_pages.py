"""Pages made from the results: scoreboard, status, a chapter's first screen, the answers on the landing page, README.

A claim is shown with the answer of the strongest committed profile that tested it: paper, full, quick; exploratory
values only where there is nothing better. The same claims and results give the same bytes: nothing here asks for
the time, the machine or the network.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from repro.book._environment import repository_url
from repro.book._files import write_atomically
from repro.book._history import doubts
from repro.book._markup import anchor, badge, details, html_table, inline_html, paper_value
from repro.book._notebooks import read_notebook, source_of
from repro.book._ruler import ruler
from repro.book.answers import CONTROL_VERDICTS, VERDICTS, JudgedClaim, tally
from repro.book.claims import ChapterClaims, Claim, load
from repro.book.errors import BadInput
from repro.book.layout import PROFILES, Book
from repro.book.results import Results, again, read

_PROFILES = PROFILES[:0:-1]  # the strongest first
_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
_NOTICE = "% Made by `repro build` from book/claims and book/results. Changes made here are lost.\n"
_TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
_NEVER = JudgedClaim(verdict="not tested", sentence="Not run yet.", deciding={}, supporting={})

_WORDS = (*dict.fromkeys((*VERDICTS, *CONTROL_VERDICTS)), "exploratory")

_AllResults = Mapping[tuple[str, str], Results]


def all_results(book: Book) -> dict[tuple[str, str], Results]:
    """The committed results of all chapters, by chapter and profile, in reading order, the strongest first."""
    paths = {(c, profile): book.results_file(c, profile) for c in book.chapters() for profile in _PROFILES}
    return {key: read(path) for key, path in paths.items() if path.is_file()}


# --- which answer is shown ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A claim with the answer that pages show, the profile it comes from, and why it is exploratory, if it is."""

    claim: Claim
    judged: JudgedClaim
    profile: str = "not run"
    doubt: str = ""


@dataclass(frozen=True)
class _Chapter:
    """What the pages show of a chapter: its results, the strongest first, and the answer to each claim."""

    name: str
    title: str
    claims: ChapterClaims
    results: list[Results]
    shown: list[_Shown]

    @property
    def page(self) -> str:
        """The address of its page, from the pages beside the folder of chapters."""
        return f"chapters/{self.name}.html"

    @property
    def headlines(self) -> list[_Shown]:
        """The answers that it is about; where the file marks none, the first one."""
        return [each for each in self.shown if each.claim.headline] or self.shown[:1]

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """How many claims and controls have each word."""
        return tally(self.claims, {each.claim.id: each.judged for each in self.shown})

    @property
    def used(self) -> list[Results]:
        """The results from which answers are shown."""
        return [run for run in self.results if run.profile in {each.profile for each in self.shown}]


def _answers(book: Book, results: Results) -> dict[str, _Shown]:
    """A result judged anew, exploratory where there is a doubt."""
    claims, doubted = load(book.claims_file(results.chapter)), doubts(book, results)
    wanted = {each.id in doubted for each in claims.claims}
    judged = {exploratory: again(claims, results, exploratory) for exploratory in wanted}
    return {
        each.id: _Shown(each, judged[each.id in doubted][each.id], results.profile, doubted.get(each.id, ""))
        for each in claims.claims
    }


def chapters(book: Book, results: _AllResults) -> list[_Chapter]:
    """All chapters in reading order, with the answer to each claim from the strongest of the results."""
    found = []
    for name in book.chapters():
        claims = load(book.claims_file(name))
        runs = [results[name, profile] for profile in _PROFILES if (name, profile) in results]
        answers = [_answers(book, run) for run in runs]
        shown = [_strongest([a[claim.id] for a in answers], claim) for claim in claims.claims]
        cells = [c for c in read_notebook(book.notebook(name))["cells"] if c["cell_type"] == "markdown"]
        title = _TITLE.search("\n".join(map(source_of, cells)))
        found.append(_Chapter(name, title[1] if title else name, claims, runs, shown))
    return found


def _strongest(offered: list[_Shown], claim: Claim) -> _Shown:
    worth = {"not tested": 2, "exploratory": 1}
    return min(offered, key=lambda each: worth.get(each.judged.word, 0), default=_Shown(claim, _NEVER))


# --- pieces ---------------------------------------------------------------------------------------------------------


def _in_short(shown: _Shown) -> str:
    """The answer without what was asked, in Markdown; of several tests, each with its name."""
    tests = {name: test for name, test in shown.judged.deciding.items() if test.estimate is not None}
    if not tests:
        return shown.judged.sentence
    return "; ".join(f"{name}: {test.words}" * (len(tests) > 1) or test.words for name, test in tests.items())


def _link(shown: _Shown, page: str = "", text: str = "") -> str:
    return f'<a href="{page}#{anchor(shown.claim.id)}">{text or escape(shown.claim.id)}</a>'


def _page(chapter: str) -> str:
    return f'<a href="chapters/{chapter}.html">{chapter}</a>'


def _badge(shown: _Shown) -> str:
    return badge(shown.judged.word, shown.judged.scale)


def _told(answers: Iterable[tuple[_Shown, str]]) -> str:
    """Answers as a list in HTML, each with its badge."""
    return f'<ul class="answers">{"".join(f"<li>{_badge(each)} {text}</li>" for each, text in answers)}</ul>'


def _drawn(chapter: _Chapter, title: str = "") -> tuple[str, str, list[tuple[Claim, JudgedClaim]]]:
    """What the ruler takes."""
    return title, chapter.page * bool(title), [(each.claim, each.judged) for each in chapter.shown]


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(f"{found[word]} {word}" for word in _WORDS if found.get(word)) or "none"


# --- a chapter's first screen ---------------------------------------------------------------------------------------


def with_first_screen(chapter: _Chapter, notebook: dict[str, Any], profile: str) -> dict[str, Any]:
    """The executed notebook with what the paper says, what we found and how sure that is right after its title."""
    told = f"\n\n{_first_screen(chapter, profile)}\n"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and _TITLE.search(text := source_of(cell)):
            cell["source"] = _TITLE.sub(lambda title: title[0] + told, text, count=1)
            break
    return notebook


def _first_screen(chapter: _Chapter, profile: str) -> str:
    paper, asked = chapter.claims.paper, " ".join(each.claim.statement for each in chapter.headlines)
    who, says = (
        ("The paper says", paper.says or asked) if paper else ("We ask", chapter.claims.question or "")
    )
    found = _told((each, f"{_link(each)}: {inline_html(each.judged.sentence)}") for each in chapter.headlines)
    return (
        '<section class="in-short" aria-label="In short">'
        f"<p><strong>{who}.</strong> {inline_html(says)}</p><p><strong>We found.</strong></p>{found}"
        f"<p><strong>How sure?</strong> {_how_sure(chapter, profile)}</p>{ruler([_drawn(chapter)])}</section>"
    )


def _how_sure(chapter: _Chapter, profile: str) -> str:
    """Where the answers come from, how many there are, what is open, and what is only exploratory."""
    if not chapter.results:
        return "This chapter has not run yet."
    told, shown = [], chapter.shown
    for run in chapter.used:
        group = [each for each in shown if each.profile == run.profile]
        tests = [test for each in group for test in each.judged.deciding.values() if test.values]
        n, paper = sorted(len(test.values) for test in tests), sum(test.scale == "paper" for test in tests)
        told.append(f"{len(group)} of {len(shown)} answers from the profile <em>{run.profile}</em>")
        scale = f"{paper} of {len(n)} tests at the paper’s scale" if paper else "small scale"
        told[-1] += f" ({n[0]} to {n[-1]} seeds, {scale})." if n else "."
    told += [f"{kind.capitalize()}: {_listed(words)}." for kind, words in chapter.counts.items()]
    unanswered = [_link(each) for each in shown if each.judged.word in ("undecided", "open", "not tested")]
    told += [f"Without an answer: {', '.join(unanswered)}."] * bool(unanswered)
    explored: dict[str, list[str]] = {}
    for each in shown:
        if each.judged.verdict is None:
            explored.setdefault(each.doubt, []).append(_link(each))
    for doubt, ids in explored.items():
        which = "all" if len(ids) == len(shown) else ", ".join(ids)
        told.append(f"Exploratory ({escape(doubt)}): {which}.")
    if any(each.judged.verdict not in (None, "not tested") for each in shown):
        told.append("What was asked was fixed before the run: <code>repro check --history</code> proves it.")
    told.append(f"The figures below are of this page’s own run, profile <em>{profile}</em>.")
    return " ".join(told)


# --- the landing page -----------------------------------------------------------------------------------------------


def landing(text: str, found: Iterable[_Chapter]) -> str:
    """The first page with the answers of each chapter (``<!-- answers: CHAPTER -->``) and the ``<!-- ruler -->``."""
    found = list(found)
    for chapter in found:
        links = [_link(each, chapter.page, inline_html(each.claim.statement)) for each in chapter.headlines]
        answers = _told(zip(chapter.headlines, links, strict=True))
        text = text.replace(f"<!-- answers: {chapter.name} -->", answers)
    return text.replace("<!-- ruler -->", _all_rulers(found))


def _all_rulers(found: Iterable[_Chapter]) -> str:
    """The ruler of all chapters, a column each."""
    names = ((each, inline_html(each.title.partition(":")[0])) for each in found)
    return ruler([_drawn(each, f'<a href="{each.page}">{name}</a>') for each, name in names], dense=True)


# --- the scoreboard -------------------------------------------------------------------------------------------------


def scoreboard(found: Iterable[_Chapter]) -> str:
    """The page of all claims of all chapters, a line a claim, as MyST Markdown."""
    found = list(found)
    counted = [(_page(c.name), *map(_listed, c.counts.values())) for c in found]
    parts = [
        "# Scoreboard",
        _NOTICE,
        "Every claim of every paper with its answer, from the strongest profile that was run. A click on a line shows "
        "what was asked, with which margin and why, and what was found. What the words mean is in the "
        "{doc}`reading guide <reading-guide>`.",
        html_table("Answers by chapter", ("Chapter", "Claims", "Controls"), counted, name="counts"),
        _all_rulers(found),
        _filter({"chapter": [chapter.name for chapter in found], "verdict": _WORDS}),
    ]
    for chapter in found:
        lines = "".join(_line(chapter.page, each) for each in chapter.shown)
        parts += [f"## {chapter.title}", f'<ul class="scoreboard" data-chapter="{chapter.name}">{lines}</ul>']
    return "\n\n".join(parts) + "\n"


def _line(page: str, shown: _Shown) -> str:
    claim, judged = shown.claim, shown.judged
    about = f"{escape(claim.kind)}; {inline_html(claim.where)}. Paper’s value: {inline_html(paper_value(claim))}. "
    about += f"Profile {shown.profile}." + f" Exploratory: {escape(shown.doubt)}." * bool(shown.doubt)
    return (
        f'<li data-verdict="{judged.word}">{_link(shown, page)} {_badge(shown)} '
        f"<details><summary>{inline_html(claim.statement)} <small>{inline_html(_in_short(shown))} "
        f"<em>({shown.profile})</em></small></summary>"
        f"<p>{inline_html(judged.sentence)}</p>{details(claim, judged)}<p><small>{about}</small></p></details></li>"
    )


def _filter(offered: Mapping[str, Iterable[str]]) -> str:
    """The form above the lists, one line of HTML; ``book.js`` shows it, and without scripts the lists are whole."""
    selects = ""
    for name, options in offered.items():
        each = "".join(f'<option value="{escape(one)}">{escape(one)}</option>' for one in options)
        selects += (
            f'<label>{name.capitalize()} <select data-filter="{name}"><option value="">all</option>{each}'
        )
        selects += "</select></label> "
    return (
        '<form id="scoreboard-filter" aria-label="Filter the claims" hidden>'
        f'{selects}<button type="reset">Show all</button> <span role="status"></span></form>'
    )


# --- the status page ----------------------------------------------------------------------------------------------


def status(book: Book, results: _AllResults) -> str:
    """The page that says when each chapter ran, on what, with which versions, and what it cost."""
    url = repository_url(book.root)
    head = ["Chapter", "Profile", "Result", "Seconds, of budget", "Peak MB, of budget"]
    head += ["Commit", "Date", "Machine"]
    rows = [_run_row(book, result, url) for result in results.values()]
    ran = {chapter for chapter, _ in results}
    rows += [[_page(c), "–", "not run yet", *["–"] * 5] for c in book.chapters() if c not in ran]
    versions = {
        f"{c}, {profile}": run.provenance.get("versions") or {} for (c, profile), run in results.items()
    }
    packages = sorted({package for held in versions.values() for package in held})
    of_packages = [[p, *(str(held.get(p, "–")) for held in versions.values())] for p in packages]
    parts = [
        "# Status",
        _NOTICE,
        "The last committed run of each chapter and profile that ended well, with its date. Seconds and "
        "memory stand beside what the profile allows.",
        html_table("Runs", head, rows),
        "## Versions",
        html_table("Versions", ["Package", *versions], of_packages),
    ]
    return "\n\n".join(parts) + "\n"


def _run_row(book: Book, result: Results, url: str | None) -> list[str]:
    budget, run = load(book.claims_file(result.chapter)).budget[result.profile], result.run
    told = _listed(Counter(each.judged.word for each in _answers(book, result).values()))
    commit = str(result.provenance.get("commit") or "")
    short = f"<code>{commit[:10]}</code>" if commit else "–"
    linked = f'<a href="{url}/commit/{commit}">{short}</a>' if url and commit else short
    machine = run.get("machine") or {}
    parts = [machine.get("system"), machine.get("architecture")]
    parts += [f"{machine['cores']} cores"] if "cores" in machine else []
    parts += machine.get("accelerators", [])
    return [
        _page(result.chapter),
        result.profile,
        told,
        f"{run['seconds']:.0f} of {budget.seconds:.0f}" if "seconds" in run else "–",
        f"{run['peak_memory_mb']:.0f} of {budget.memory_mb:.0f}" if "peak_memory_mb" in run else "–",
        linked + " with local changes" * bool(result.provenance.get("dirty")),
        str(run.get("finished") or "–")[:10],
        escape(", ".join(filter(None, parts))) or "–",
    ]


# --- the README ---------------------------------------------------------------------------------------------------


def readme_table(book: Book) -> str:
    """One row a chapter: what the strongest profiles answer, and the commands that make them."""
    lines = ["| Chapter | Paper | Profile | Claims | Controls | Command |", "|---|---|---|---|---|---|"]
    for chapter in chapters(book, all_results(book)):
        paper = chapter.claims.paper
        arxiv = (
            f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
            if paper
            else "a question of our own"
        )
        cells = [f"[{chapter.name}](book/chapters/{chapter.name}.ipynb)"]
        cells += [paper.title if paper and not paper.arxiv else arxiv]
        cells += [", ".join(run.profile for run in chapter.used) or "not run yet"]
        cells += [_listed(words) for words in chapter.counts.values()]
        cells += ["<br>".join(f"`{_command(chapter, run)}`" for run in chapter.used) or "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _command(chapter: _Chapter, run: Results) -> str:
    """What makes this result; it names the parameters in which it differs from its profile."""
    used = run.provenance.get("parameters") or {}
    own = [
        f" -p {name}={json.dumps(used[name])}"
        for name, size in chapter.claims.profiles[run.profile].items()
        if used.get(name, size) != size
    ]
    return f"repro run {chapter.name} --profile {run.profile}{''.join(own)}"


def write_readme(book: Book) -> None:
    """Put the table between the two markers of the README and leave the rest as it is.

    Raises ``BadInput`` when the README does not hold each marker once, the first before the second.
    """
    path = book.root / "README.md"
    if not path.is_file():
        raise BadInput(f"{path.name} is missing: the table of results stands in it")
    text = path.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise BadInput(f"{path.name} must hold the lines {_BEGIN} and {_END} once each, in this order")
    before, rest = text.split(_BEGIN)
    write_atomically(path, f"{before}{_BEGIN}\n\n{readme_table(book)}\n{_END}{rest.split(_END)[1]}")
