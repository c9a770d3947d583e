"""Cutting the faces out of a folder of photographs: ``facehall data prepare``.

SPARNet's training images are cut out so: faces are detected, the box is enlarged, what is smaller
than 128x128 is left out, and the rest is resized (section IV-A). The authors' boxes are lost; the
margin is a setting here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from facehall_env import limits
from facehall_env.data.images import images_below, read_image
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.files import atomic_path, write_text_atomic
from facehall_env.photos.detect import Detector, DlibDetector
from facehall_env.photos.settings import PrepareConfig
from facehall_env.progress import progress

REPORT = "report.json"

Status = Literal["written", "kept", "no face", "too small", "broken"]


@dataclass
class FileReport:
    """What became of one photograph.

    Attributes:
        file: Its path below the source, with forward slashes.
        status: ``"written"``, ``"kept"`` (made by an earlier run), ``"no face"``, ``"too small"``
            or ``"broken"``.
        faces: How many faces were found on it.
        outputs: The faces' files below the target.
        reason: Why a broken one cannot be used.
    """

    file: str
    status: Status
    faces: int = 0
    outputs: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass
class Report:
    """What became of all photographs.

    Attributes:
        settings: The settings that decide how a face looks.
        files: One entry for each photograph, by path.
    """

    settings: dict[str, Any]
    files: list[FileReport]

    def named(self, status: Status) -> list[str]:
        """The photographs with this outcome."""
        return [entry.file for entry in self.files if entry.status == status]

    def summary(self) -> str:
        """One sentence."""
        count = Counter(entry.status for entry in self.files)
        several = sum(entry.faces > 1 for entry in self.files)
        faces = sum(len(entry.outputs) for entry in self.files if entry.status == "written")
        parts = [
            f"{faces:,} faces written from {count['written']:,} of {len(self.files):,} photographs",
            f"{count['kept']:,} kept as they were",
            f"{count['no face']:,} without a face",
            f"{count['too small']:,} too small",
            f"{several:,} with several faces",
            f"{count['broken']:,} broken",
        ]
        broken = self.named("broken")
        more = ", ..." if len(broken) > 3 else ""
        return ", ".join(parts) + (f": {', '.join(broken[:3])}{more}." if broken else ".")


def prepare(config: PrepareConfig, detector: Detector | None = None) -> Report:
    """Cuts the faces out of every photograph below a folder.

    Faces are written one by one, each whole or not at all; what is there already is kept, so that
    an interrupted run goes on where it stopped. The report is written at the end and when the run
    is interrupted.

    Args:
        config: Source, target and how the faces are cut.
        detector: What finds the faces; dlib by default.

    Returns:
        What became of the photographs; also in ``report.json``.

    Raises:
        DatasetError: If the source is missing or has no images.
        ConfigurationError: If a setting lies outside its limits, or the target lies in the source
            or has faces made with other settings.
        MissingExtraError: If dlib is needed and not installed.
    """
    limits.check(config)
    keys = _sources(config)
    names = ("size", "margin", "align", "which", "min_side")
    settings = {name: getattr(config, name) for name in names}
    earlier = _earlier(config, settings)
    detector = detector or DlibDetector(config.upsample)
    report = Report(settings, [])
    ahead = dict(earlier)
    try:
        for key, name in progress(_named(keys), desc="cutting out faces", unit="image"):
            kept = None if config.overwrite else _kept(config, key, name, earlier)
            report.files.append(kept or _treated(config, detector, key, name))
            ahead.pop(key, None)
    finally:
        # After an interrupt, what is known of the photographs that were not reached stays known.
        known = Report(settings, [*report.files, *ahead.values()])
        content = {"summary": known.summary(), **asdict(known)}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        write_text_atomic(config.out / REPORT, f"{text}\n")
    return report


def _sources(config: PrepareConfig) -> list[str]:
    src, out = config.src.expanduser().resolve(), config.out.expanduser().resolve()
    if not src.is_dir():
        raise DatasetError(f"{config.src} is not a directory: expected one with photographs in it.")
    if out.is_relative_to(src):
        raise ConfigurationError(
            f"{config.out} lies in {config.src}, so that faces would be cut out of faces: choose "
            "a folder outside of it."
        )
    keys = images_below(config.src)
    if not keys:
        raise DatasetError(f"{config.src} has no images: expected photographs in it.")
    return keys


def _named(keys: Sequence[str]) -> list[tuple[str, str]]:
    """Each photograph with the name of its face, without the suffix.

    That is its own name without the suffix, unless two photographs differ in that alone.
    """
    stems = [Path(key).with_suffix("").as_posix() for key in keys]
    count = Counter([*stems, *keys])
    return [(key, stem if count[stem] == 1 else key) for key, stem in zip(keys, stems, strict=True)]


def _outputs(name: str, faces: int, which: str) -> list[str]:
    if which == "largest":
        return [f"{name}.png"]
    return [f"{name}-{number}.png" for number in range(1, faces + 1)]


def _kept(
    config: PrepareConfig, key: str, name: str, earlier: Mapping[str, FileReport]
) -> FileReport | None:
    """What an earlier run has made of a photograph."""
    outputs = _outputs(name, 1, config.which)
    if not (config.out / outputs[0]).is_file():
        return None
    known = earlier.get(key)
    found = known if known and known.outputs else FileReport(key, "kept", len(outputs), outputs)
    return replace(found, status="kept")


def _treated(config: PrepareConfig, detector: Detector, key: str, name: str) -> FileReport:
    try:
        image = read_image(config.src / key)
    except DatasetError as error:
        return FileReport(key, "broken", reason=str(error))
    found = sorted(detector(image), key=lambda face: face.box.area, reverse=True)
    if not found:
        return FileReport(key, "no face")
    chosen = found[:1] if config.which == "largest" else found
    windows = [face.box.square(config.margin) for face in chosen]
    if config.align == "eyes":
        windows = [w.turned(*face.eyes) for w, face in zip(windows, chosen, strict=True)]
    windows = [window for window in windows if window.height >= config.min_side]
    if not windows:
        return FileReport(key, "too small", len(found))
    outputs = _outputs(name, len(windows), config.which)
    # The first is written last: where it is, an interrupted run has left none out.
    for window, output in reversed(list(zip(windows, outputs, strict=True))):
        with atomic_path(config.out / output) as temporary:
            cut = window.cut(image, (config.size, config.size))
            Image.fromarray(cut).save(temporary)
    return FileReport(key, "written", len(found), outputs)


def _earlier(config: PrepareConfig, settings: Mapping[str, Any]) -> dict[str, FileReport]:
    """The entries of an earlier run's report, which must have had the same settings."""
    path = config.out / REPORT
    if config.overwrite or not path.is_file():
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        before = dict(report["settings"])
        entries = {entry["file"]: FileReport(**entry) for entry in report["files"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"{path} is no report of this command ({type(error).__name__}: {error}): remove it, or "
            "choose another folder."
        ) from error
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        said = ", ".join(f"{name}={before.get(name)!r}, now {settings[name]!r}" for name in changed)
        raise ConfigurationError(
            f"The faces in {config.out} were made with other settings ({said}): choose another "
            "folder, or --overwrite them."
        )
    return entries
