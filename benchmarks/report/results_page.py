"""``facehall report --out RESULTS.md``: the tables on disk as one page, and which orders hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facehall_env.benchmarks.papers import pages
from facehall_env.benchmarks.papers.results import FAILS, HOLDS, OPEN, PaperResult
from facehall_env.benchmarks.report.reading import Found, LeftOut, Result
from facehall_env.benchmarks.tables import Table

TITLES = {
    HOLDS: "Orders that hold here",
    FAILS: "Orders that do not hold here",
    OPEN: "Orders that cannot be told here",
}


def render(found: Found) -> tuple[str, list[LeftOut]]:
    """The page as Markdown, and the files that are left out."""
    results = [own for own in found.of(PaperResult) if not own.content.settings.get("small")]
    trials = [own for own in found.of(PaperResult) if own.content.settings.get("small")]
    others = [
        f"- [{own.path.stem}](results/{own.path.stem}.md)\n"
        for own in found.results
        if not isinstance(own.content, PaperResult) and own.path.with_suffix(".md").is_file()
    ]
    sections = [
        "# Results\n\nMade by `facehall report --out benchmarks/RESULTS.md` from the files in "
        "`benchmarks/results/`. Every number is a mean over test images, with the half width of "
        "its 95 % interval where one is given; differences are paired over images.\n",
        _orders([own.content for own in results]),
        *map(_section, results),
        f"## Other benchmarks\n\n{''.join(others)}" if others else "",
    ]
    left_out = [*found.left_out, *(LeftOut(own.name, "is a trial (--small)") for own in trials)]
    return "\n".join(section for section in sections if section), left_out


def _orders(results: Sequence[PaperResult]) -> str:
    """What the papers find and whether it is so here."""
    parts = []
    for verdict, title in TITLES.items():
        rows = [
            (f"{result.paper} {result.kind} {result.number}", *row[:-1])
            for result in results
            for row in pages.order_table(result).rows
            if row[-1] == verdict
        ]
        if rows:
            header = ("where", "order in the paper", "column", "the paper's difference", "ours")
            table = Table.of_text(title, header, rows)
            parts.append(f"### {title} ({len(rows)})\n\n{table.markdown()}")
    if not parts:
        return ""
    note = (
        "Neighbours in each column's order of the paper, among the rows that were measured here. "
        "An order holds where the paired difference exceeds its 95 % interval, and does not where "
        "it does so the other way round.\n"
    )
    return f"## The papers' orders\n\n{note}\n" + "\n".join(parts)


def _section(own: Result[Any]) -> str:
    result = own.content
    notes = "".join(f"- {note}\n" for note in result.notes)
    if result.differences:
        notes += f"\n<details><summary>{pages.DIFFERENCES}</summary>\n\n"
        notes += f"{pages.differences(result)}\n</details>\n"
    return (
        f"## {result.heading}\n\n{pages.summary(result).markdown()}\n{notes}\n"
        f"[In detail](results/{own.path.stem}.md); `facehall bench paper {result.name}`.\n"
    )
