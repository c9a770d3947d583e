"""``facehall bench results``: the tables on disk as one page, and which orders hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facehall_env.benchmarks.papers import pages
from facehall_env.benchmarks.papers.pages import FAILS, HOLDS, OPEN, Content
from facehall_env.benchmarks.report.reading import Found, Result, read_results
from facehall_env.benchmarks.tables import Table, say_written, terminal
from facehall_env.files import write_text_atomic

TITLES = {
    HOLDS: "Orders that hold here",
    FAILS: "Orders that do not hold here",
    OPEN: "Orders that cannot be told here",
}


@dataclass
class ResultsPageConfig:
    """Settings of ``facehall bench results``."""

    results: Path = Path("benchmarks/results")
    """Folder of the results files."""
    out: Path = Path("benchmarks/RESULTS.md")
    """The page to write."""


def run(config: ResultsPageConfig, console: Console | None = None) -> str:
    """Writes the page and says what was left out.

    Returns:
        Its text.

    Raises:
        ConfigurationError: If there are no results.
    """
    console = console or terminal()
    found = read_results(config.results)
    text = page(found)
    write_text_atomic(config.out, text)
    for left in found.left_out:
        console.print(f"left out: {left.name} {left.reason}.", soft_wrap=True, highlight=False)
    for result in filter(_trial, found.of(pages.BENCHMARK)):
        console.print(f"left out: {result.name} is a trial (--small).", highlight=False)
    say_written(console, config.out)
    return text


def page(found: Found) -> str:
    """The page as Markdown.

    Args:
        found: The results of a folder.
    """
    tables = [result for result in found.of(pages.BENCHMARK) if not _trial(result)]
    tables.sort(key=lambda result: result.name)
    contents = [result.content for result in tables]
    sections = [
        "# Results\n\nMade by `facehall bench results` from the files in `benchmarks/results/`. "
        "Every number is a mean over test images, with the half width of its 95 % interval where "
        "one is given; differences are paired over images.\n",
        _orders(contents),
        *(_section(result) for result in tables),
        _others(found),
    ]
    return "\n".join(section for section in sections if section)


def _trial(result: Result) -> bool:
    """Whether small variants of the networks were compared."""
    return bool(result.content["settings"].get("small"))


def _orders(contents: Sequence[Content]) -> str:
    """What the papers find and whether it is so here."""
    lines = [(content, line) for content in contents for line in content["orderings"]]
    parts = []
    for verdict, title in TITLES.items():
        rows = [
            (
                f"{content['paper']} {content['kind']} {content['number']}",
                *row,
            )
            for content in contents
            for row in _rows(content, verdict)
        ]
        if rows:
            header = ("where", "order in the paper", "column", "the paper's difference", "ours")
            parts.append(f"### {title} ({len(rows)})\n\n{Table(title, header, rows).markdown()}")
    if not lines:
        return ""
    note = (
        "Neighbours in each column's order of the paper, among the rows that were measured here. "
        "An order holds where the paired difference exceeds its 95 % interval, and does not where "
        "it does so the other way round.\n"
    )
    return f"## The papers' orders\n\n{note}\n" + "\n".join(parts)


def _rows(content: Content, verdict: str) -> list[Sequence[str]]:
    table = pages.order_table(content)
    return [row[:-1] for row in table.rows if row[-1] == verdict]


def _section(result: Result) -> str:
    content = result.content
    notes = "".join(f"- {note}\n" for note in content["notes"])
    return (
        f"## {pages.heading(content)}\n\n{pages.summary(content).markdown()}\n{notes}\n"
        f"[In detail](results/{Path(result.name).with_suffix('.md').name}); "
        f"`{content['command']}`.\n"
    )


def _others(found: Found) -> str:
    """Links to the pages of other benchmarks."""
    names = [
        r.name
        for r in found.results
        if r.kind in ("patch-selection", "sr", "identity", "attributes")
    ]
    links = "".join(
        f"- [{Path(name).stem}](results/{Path(name).with_suffix('.md').name})\n" for name in names
    )
    return f"## Other benchmarks\n\n{links}" if links else ""
