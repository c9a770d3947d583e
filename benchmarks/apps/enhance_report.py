"""Which photographs there are to enhance, and what became of each."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facehall_env.data.images import images_below

Status = Literal["written", "kept", "no face", "too large", "failed"]
ENDINGS = (".png", "-before-after.png", "-patches.gif")
"""Ends of the names of what is made of a photograph: the restored one, a comparison, a GIF."""


@dataclass
class Entry:
    """What became of one photograph.

    Attributes:
        file: Its path, as it was given or found in a folder.
        name: Name of its outputs below the target, without an ending.
        status: ``"kept"``: made by an earlier run; ``"too large"``: its faces are, so that nothing
            can be added to them.
        faces: Number of restored faces.
        outputs: Files that were written or kept.
        reason: Why nothing came of it.
        notes: Remarks, such as faces that were too large.
    """

    file: Path
    name: str
    status: Status = "failed"
    faces: int = 0
    outputs: list[Path] = field(default_factory=list)
    reason: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What became of all photographs.

    Attributes:
        entries: One for each, in the order in which they were given.
        passed_over: Number of other files in the folders.
        results: Number of images in the target, which are taken for results.
    """

    entries: list[Entry]
    passed_over: int = 0
    results: int = 0

    def of(self, status: Status) -> list[Entry]:
        """The photographs with this status."""
        return [entry for entry in self.entries if entry.status == status]

    def lines(self) -> Iterator[str]:
        """The summary: a sentence, and a line for each photograph of which there is more to say."""
        count = Counter(entry.status for entry in self.entries)
        faces = sum(entry.faces for entry in self.of("written"))
        others = f"; {self.passed_over:,} other files passed over" if self.passed_over else ""
        yield (
            f"{len(self.entries):,} photographs: {count['written']:,} written with {faces:,} "
            f"faces, {count['kept']:,} kept, {count['no face']:,} without a face, "
            f"{count['too large']:,} too large, {count['failed']:,} failed{others}."
        )
        for entry in self.entries:
            said = [f"{entry.status}: {entry.reason}"] if entry.reason else []
            for text in (*said, *entry.notes):
                yield f"  {entry.file}: {text}"


def gather(photos: Sequence[str], out: Path) -> Report:
    """Finds the photographs, each once, and names their outputs.

    Args:
        photos: Files, folders and patterns. What is none of these becomes an entry that has
            failed; of folders all images count, and what else they hold is counted.
        out: Folder for the outputs; images in it are not photographs.
    """
    report = Report([])
    taken: set[str] = set()
    seen: set[Path] = set()
    for word in photos:
        found, others = _expanded(word)
        report.passed_over += others
        for file, below in found:
            resolved = file.resolve()
            if resolved.is_relative_to(out.resolve()):
                report.results += 1
                continue
            if resolved in seen:
                continue
            seen.add(resolved)
            report.entries.append(Entry(file, _unused(file, below, taken)))
    return report


def _expanded(word: str) -> tuple[list[tuple[Path, Path]], int]:
    """The files that a word stands for, each with its path below the folder, and other files."""
    path = Path(word).expanduser()
    if path.is_dir():
        keys = images_below(path)
        others = sum(file.is_file() for file in path.rglob("*")) - len(keys)
        return [(path / key, Path(key)) for key in keys], others
    if path.exists() or not glob.has_magic(word):
        return [(path, Path(path.name))], 0
    files = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    chosen = [(file, Path(file.name)) for file in files if file.is_file()]
    # A pattern that matches nothing is named like a file that is not there.
    return chosen or [(path, Path(path.name))], 0


def _unused(file: Path, below: Path, taken: set[str]) -> str:
    """A name for what is made of a photograph that nothing else is called by."""
    parent = Path(file.resolve().parent.name)
    plain = [below.with_suffix(""), below, parent / below.with_suffix(""), parent / below]
    names = [path.as_posix() for path in plain]
    numbered = (f"{names[0]}-{number}" for number in range(2, len(taken) + 3))
    for name in (*names, *numbered):
        files = {f"{name}{ending}" for ending in ENDINGS}
        if not files & taken:
            break
    taken |= files
    return name
