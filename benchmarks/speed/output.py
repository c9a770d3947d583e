"""What the commands of ``facehall profile`` do at the end: print tables and write one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facehall_env.benchmarks.provenance import Row, header, output_folder, write_json
from facehall_env.benchmarks.speed.contents import Speed
from facehall_env.benchmarks.speed.settings import ProfileConfig, UpdateConfig
from facehall_env.benchmarks.tables import say_written, terminal


def publish(
    config: ProfileConfig | UpdateConfig,
    command: str,
    content: Mapping[str, Any],
    kind: type[Speed],
    name: str | None = None,
) -> dict[str, Any]:
    """Prints results and writes them to a file; returns what was written.

    Args:
        config: The settings.
        command: What was typed.
        content: What was found: rows, or what JSON knows.
        kind: What the file holds, which makes the tables.
        name: Name of the file without its suffix; that of the benchmark by default.
    """
    console = terminal()
    results = header(kind.benchmark, config, command)
    for key, value in content.items():
        rows = isinstance(value, list) and all(isinstance(row, Row) for row in value)
        results[key] = [row.to_json() for row in value] if rows else value
    for table in kind.from_json(results).tables:
        console.print(table)
    path = output_folder(config.out, config.publish) / f"{name or kind.benchmark}.json"
    write_json(path, results)
    say_written(console, path)
    return results
