"""``facehall enhance``: the faces of photographs, restored patch by patch where they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console
from torch import Tensor

from facehall_env.benchmarks.apps.enhance_faces import Restored, build_player, restore
from facehall_env.benchmarks.apps.enhance_pictures import Look, animate, compare
from facehall_env.benchmarks.apps.enhance_report import ENDINGS, Entry, Report, gather
from facehall_env.benchmarks.apps.settings import EnhanceConfig
from facehall_env.benchmarks.tables import terminal
from facehall_env.data import protocols
from facehall_env.data.images import ImageArray, read_image, stretch
from facehall_env.errors import ConfigurationError, DatasetError, FacehallError, MissingExtraError
from facehall_env.files import atomic_path, sha256
from facehall_env.photos.alignment import Box
from facehall_env.photos.composite import (
    Place,
    added_detail,
    enlarge,
    find_faces,
    frames_of,
    low_resolution,
    paste,
)
from facehall_env.photos.detect import Detector, DlibDetector
from facehall_env.progress import progress
from facehall_env.rendering import Picture, save_gif

NOTE = "facehall"
"""Key of the text in a restored photograph (PNG) that says what it was made of, and how."""

LONGEST_SIDE = 32_766
"""Longest side of a photograph in pixels, out of which OpenCV can still cut."""
MOST_WAITING = 64_000_000
"""Pixels of photographs that are held until enough faces for a batch have come together."""


def run(
    config: EnhanceConfig, console: Console | None = None, detector: Detector | None = None
) -> Report:
    """Restores the faces of all photographs; prints what became of each, and returns it.

    The ``detector`` finds the faces; dlib by default.

    Raises:
        DatasetError: At the end, if there were no photographs or some have failed; names them.
        ConfigurationError: On settings that contradict each other, and without dlib.
        WeightsError: If weights are missing, damaged, or made for something else.
    """
    config.check()
    console = console or terminal()
    if config.crop == "faces" and detector is None:
        try:
            DlibDetector()
        except MissingExtraError as error:
            raise ConfigurationError(
                f"{error} Without it, --crop none takes every photograph for one face."
            ) from error
        detector = partial(find_faces, smallest=config.smallest_face)
    work = _Run(config, detector)
    report = gather(config.photos, config.out)
    if not report.entries:
        complaint = (
            f"There are no photographs in {' '.join(config.photos)}: give image files, folders "
            "with some, or patterns."
        )
        if report.results:
            complaint += f" {report.results:,} lie in --out {config.out} and are taken for results:"
            complaint += " name another."
        raise DatasetError(complaint)
    with progress(total=len(report.entries), desc="restoring", unit="photo") as bar:
        work.treat(report.entries, bar.update)
    for line in (*report.lines(), f"In {config.out}."):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    failed = report.of("failed")
    if failed:
        named = ", ".join(str(entry.file) for entry in failed[:3])
        more = ", ..." if len(failed) > 3 else ""
        raise DatasetError(
            f"{len(failed)} of {len(report.entries)} photographs failed: {named}{more}."
        )
    return report


@dataclass
class _Waiting:
    """A photograph whose faces wait for others, to be restored with them."""

    entry: Entry
    image: ImageArray
    places: list[Place]
    lr: Tensor
    source: str


class _Run:
    """Treats photographs one after the other, and their faces batch by batch."""

    def __init__(self, config: EnhanceConfig, detector: Detector | None) -> None:
        self.config = config
        self.detector = detector
        self.player = build_player(config)
        core = self.player.core
        self.up = protocols.get(config.protocol).up
        self.scale, self.face_size = core.scale, core.geometry.image_size
        self.lr_size = (self.face_size[0] // self.scale, self.face_size[1] // self.scale)
        names = ("steps", "initial", "protocol", "crop", "margin", "max_face", "smallest_face")
        # What decides how a restored photograph looks, JSON-serialisable.
        self.settings = {
            "enhancer": core.enhancer.name,
            "weights": config.weights and config.weights.name,
            "agent": Path(config.agent).name,
            "scale": self.scale,
            "face_size": self.face_size[0],
            **{name: getattr(config, name) for name in names},
            "seed": config.seed if config.agent == "random" else None,
        }

    def treat(self, entries: Sequence[Entry], advance: Callable[[], object]) -> None:
        """Fills in what becomes of each, and calls ``advance`` when it is done with one."""
        waiting: list[_Waiting] = []
        for entry in entries:
            opened: _Waiting | None = None
            with _named(entry):
                opened = self._open(entry)
            if opened is None:
                advance()
                continue
            waiting.append(opened)
            faces = sum(len(work.places) for work in waiting)
            pixels = sum(work.image[..., 0].size for work in waiting)
            if faces >= self.config.batch or pixels >= MOST_WAITING:
                self._finish(waiting, advance)
                waiting = []
        self._finish(waiting, advance)

    def _open(self, entry: Entry) -> _Waiting | None:
        """The photograph and its faces; None if there is nothing to restore."""
        source = sha256(entry.file)
        if not self.config.overwrite and self._keeps(entry, source):
            return None
        image = read_image(entry.file)
        frames = frames_of(entry.file)
        if frames > 1:
            entry.notes.append(f"only the first of its {frames} frames was taken")
        boxes: list[Box] | None = None  # all of the photograph is one face
        if self.config.crop == "faces" and self.detector is not None:
            found = [face.box for face in self.detector(image)]
            boxes = sorted(found, key=lambda box: box.area, reverse=True)
            if not boxes:
                entry.status, entry.reason = "no face", "none was found"
                return None
        image, places = self._made_smaller(image, boxes)
        places = self._worthwhile(entry, places)
        if not places:
            return None
        _check_size(image, self.scale, self.config.max_megapixels)
        lr = low_resolution(image, places, self.lr_size)
        return _Waiting(entry, image, places, lr, source)

    def _made_smaller(
        self, image: ImageArray, boxes: Sequence[Box] | None
    ) -> tuple[ImageArray, list[Place]]:
        """The photograph, as small as ``--max-face`` wants it, and the places of its faces."""

        def places() -> list[Place]:
            if boxes is None:
                return [Place.whole(image)]
            return [Place.around(box, self.config.margin) for box in boxes]

        largest = max(max(place.height, place.width) for place in places())
        if self.config.max_face is not None and largest > self.config.max_face:
            height, width = image.shape[:2]
            factor = self.config.max_face / largest
            size = max(1, round(height * factor)), max(1, round(width * factor))
            down, across = size[0] / height, size[1] / width
            boxes = boxes and [
                Box(box.top * down, box.left * across, box.bottom * down, box.right * across)
                for box in boxes
            ]
            image = stretch(image, size)
        return image, places()

    def _worthwhile(self, entry: Entry, places: Sequence[Place]) -> list[Place]:
        """The faces to which there is something to add."""
        side = self.lr_size[0]
        advice = f"--max-face {side} makes the photograph smaller first"
        kept = [place for place in places if place.times_larger_than(self.face_size) < 1]
        if not kept:
            least = min(max(place.height, place.width) for place in places)
            entry.status = "too large"
            entry.reason = (
                f"its faces have {least} pixels a side or more, as many as restored ones "
                f"({self.face_size[0]}): {advice}"
            )
            return kept
        if len(kept) < len(places):
            entry.notes.append(
                f"{len(places) - len(kept)} of {len(places)} faces have as many pixels as restored "
                f"ones and were only enlarged: {advice}"
            )
        large = [max(p.height, p.width) for p in kept if p.times_larger_than(self.lr_size) > 1]
        if large:
            entry.notes.append(
                f"{len(large)} of {len(places)} faces are larger, up to {max(large)} pixels a "
                f"side, than the {side} that the enhancer takes, so that less was added to them: "
                f"{advice}"
            )
        return kept

    def _finish(self, waiting: Sequence[_Waiting], advance: Callable[[], object]) -> None:
        """Restores all faces that wait and writes their photographs."""
        if not waiting:
            return
        batches = torch.cat([work.lr for work in waiting]).split(self.config.batch)
        restored = [
            face for lr in batches for face in restore(self.player, lr, self.up, self.config.gif)
        ]
        for work in waiting:
            faces, restored = restored[: len(work.places)], restored[len(work.places) :]
            with _named(work.entry):
                self._write(work, faces)
            advance()

    def _write(self, work: _Waiting, faces: Sequence[Restored]) -> None:
        scale, entry = self.scale, work.entry
        canvas = enlarge(work.image, scale)
        places = [place.enlarged(scale) for place in work.places]
        before = Look.at(canvas, places)
        details = [
            added_detail(face.added, place, scale, self.lr_size)
            for face, place in zip(faces, work.places, strict=True)
        ]
        paste(canvas, places, details)
        photograph, comparison, *animation = self._outputs(entry)
        films = [face.film for face in faces if face.film is not None]
        for path in animation:
            save_gif(list(animate(films, self.player.core.geometry.patch_size)), path)
        _save(compare(before, Look.at(canvas, places)), comparison)
        # Last: where it is, the others are.
        _save(canvas, photograph, {"source": work.source, "settings": self.settings})
        entry.status, entry.faces = "written", len(faces)
        entry.outputs = self._outputs(entry)

    def _outputs(self, entry: Entry) -> list[Path]:
        endings = ENDINGS if self.config.gif else ENDINGS[:2]
        return [self.config.out / f"{entry.name}{ending}" for ending in endings]

    def _keeps(self, entry: Entry, source: str) -> bool:
        """Whether an earlier run has made all there is to make; refuses another's outputs."""
        outputs = self._outputs(entry)
        if not outputs[0].is_file():
            return False
        note = _note(outputs[0])
        if note.get("source") != source:
            raise DatasetError(
                f"{outputs[0]} is there and was made of something else: choose another --out, or "
                "--overwrite it."
            )
        if not all(path.is_file() for path in outputs):
            return False
        before = dict(note.get("settings", {}))
        changed = [
            f"{name}={before.get(name)!r}, now {value!r}"
            for name, value in self.settings.items()
            if before.get(name) != value
        ]
        if changed:
            entry.notes.append(f"kept, though made with other settings ({'; '.join(changed)})")
        entry.status, entry.outputs = "kept", outputs
        return True


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """Gives what goes wrong with a photograph as its reason, so that the others are still done."""
    try:
        yield
    except FacehallError as error:
        entry.reason = str(error)
    except OSError as error:
        entry.reason = f"{error.filename or entry.file}: {error.strerror or error}"


def _check_size(image: ImageArray, scale: int, max_megapixels: float) -> None:
    """Refuses photographs that would become too large to be handled."""
    height, width = image.shape[:2]
    millions = height * width * scale**2 / 1e6
    if millions > max_megapixels:
        raise DatasetError(
            f"its {width}x{height} pixels would become {millions:,.0f} megapixels, more than "
            f"--max-megapixels {max_megapixels:g}: have it made smaller by --max-face, or raise "
            "that limit."
        )
    if max(height, width) > LONGEST_SIDE:
        raise DatasetError(
            f"it has {width}x{height} pixels, and a side may have {LONGEST_SIDE:,} at most: make "
            "it smaller, or cut it into pieces."
        )


def _save(picture: Picture, path: Path, note: Mapping[str, Any] | None = None) -> None:
    info = PngInfo()
    if note is not None:
        info.add_text(NOTE, json.dumps(note))
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=info)


def _note(path: Path) -> dict[str, Any]:
    """What a restored photograph says of itself; nothing if it is none of ours."""
    try:
        with Image.open(path) as image:
            note = json.loads(image.info[NOTE])
    # Pillow's decoders raise nearly anything on damaged data.
    except Exception:
        return {}
    return note if isinstance(note, dict) else {}
