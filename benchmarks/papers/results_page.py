"""``facehall report --out RESULTS.md``: the tables on disk as one page, and which orders hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from facehall_env.benchmarks.papers import pages
from facehall_env.benchmarks.papers.results import FAILS, HOLDS, OPEN, PaperResult, read
from facehall_env.benchmarks.tables import Table, say_written, terminal
from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic

TITLES = {
    HOLDS: "Orders that hold here",
    FAILS: "Orders that do not hold here",
    OPEN: "Orders that cannot be told here",
}


def run(folder: Path, out: Path, console: Console | None = None) -> str:
    """Writes the page and says what was left out.

    Args:
        folder: Folder of the results files.
        out: The page to write.
        console: Where messages go; the standard output by default.

    Returns:
        Its text.

    Raises:
        ConfigurationError: If there are no results.
    """
    console = console or terminal()
    found: dict[Path, PaperResult] = {}
    others: list[Path] = []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            result = read(path)
        except ConfigurationError as error:
            console.print(f"left out: {error}", soft_wrap=True, highlight=False)
            continue
        if result is None:
            others += [path.with_suffix(".md")] if path.with_suffix(".md").is_file() else []
        elif result.settings.get("small"):
            console.print(f"left out: {path.name} is a trial (--small).", highlight=False)
        else:
            found[path] = result
    if not found and not others:
        raise ConfigurationError(
            f"There are no results in {folder}: run `facehall bench paper sparnet-IV` "
            "first, or give another folder as --results."
        )
    text = page(found, others)
    write_text_atomic(out, text)
    say_written(console, out)
    return text


def page(found: dict[Path, PaperResult], others: Sequence[Path] = ()) -> str:
    """The page as Markdown.

    Args:
        found: The results by their files.
        others: Pages of other benchmarks.
    """
    sections = [
        "# Results\n\nMade by `facehall report --out benchmarks/RESULTS.md` from the files in "
        "`benchmarks/results/`. Every number is a mean over test images, with the half width of "
        "its 95 % interval where one is given; differences are paired over images.\n",
        _orders(list(found.values())),
        *(_section(path, result) for path, result in found.items()),
        _others(others),
    ]
    return "\n".join(section for section in sections if section)


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


def _section(path: Path, result: PaperResult) -> str:
    notes = "".join(f"- {note}\n" for note in result.notes)
    if result.differences:
        notes += f"\n<details><summary>{pages.DIFFERENCES}</summary>\n\n"
        notes += f"{pages.differences(result)}\n</details>\n"
    return (
        f"## {result.heading}\n\n{pages.summary(result).markdown()}\n{notes}\n"
        f"[In detail](results/{path.stem}.md); `facehall bench paper {result.name}`.\n"
    )


def _others(paths: Sequence[Path]) -> str:
    """Links to the pages of other benchmarks."""
    links = "".join(f"- [{path.stem}](results/{path.name})\n" for path in paths)
    return f"## Other benchmarks\n\n{links}" if links else ""
