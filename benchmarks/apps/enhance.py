"""``facehall enhance``: the faces of photographs, restored patch by patch where they are."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env import agents, enhancers
from facehall_env.agents.storage import grid_of, load_agent, shipped
from facehall_env.benchmarks.apps.enhance_pictures import Film, Look, animate, compare
from facehall_env.benchmarks.players import LEARNED
from facehall_env.benchmarks.tables import terminal
from facehall_env.core import HallucinationCore
from facehall_env.data import protocols
from facehall_env.data.images import ImageArray, images_below, read_image, stretch
from facehall_env.data.resize import Kernel
from facehall_env.enhancers import Enhancer
from facehall_env.errors import (
    ConfigurationError,
    DatasetError,
    FacehallError,
    MissingExtraError,
)
from facehall_env.files import atomic_path, sha256
from facehall_env.observations import STATE_KEY, to_uint8
from facehall_env.photos.alignment import Box
from facehall_env.photos.composite import (
    Place,
    added_detail,
    enlarge,
    faces_without_truth,
    find_faces,
    frames_of,
    low_resolution,
    paste,
)
from facehall_env.photos.detect import Detector, DlibDetector
from facehall_env.rendering import Picture, save_gif
from facehall_env.spec import BICUBIC, check_device, load_initial
from facehall_env.state import CoreState

Status = Literal["written", "kept", "no face", "too large", "failed"]

FACE_SIDE = 128
NOTE = "facehall"
"""Key of the text in a restored photograph (PNG) that says what it was made of, and how."""

LONGEST_SIDE = 32_766
"""Of a photograph, in pixels: more than that OpenCV cannot cut out of."""
MOST_WAITING = 64_000_000
"""Pixels of photographs that are held until enough faces for a batch have come together."""


@dataclass
class EnhanceConfig:
    """Settings of ``facehall enhance``."""

    photos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Photographs, folders of them (with their sub-folders), or patterns such as 'party/*.jpg'."""
    out: Path = Path("facehall-enhanced")
    """Folder for what is made of each photograph: NAME.png, NAME-before-after.png and
    NAME-patches.gif."""
    enhancer: str | None = None
    """Network that restores the patches; by default that of --weights, or compact."""
    weights: Path | None = None
    """File with the enhancer's weights; by default those that come with the project."""
    agent: str | None = None
    """Who chooses the patches; by default that of --policy, or rl."""
    policy: Path | None = None
    """File with the agent; by default the one that comes with the project, if it is a learned
    one."""
    scale: int | None = None
    """Factor by which photographs are enlarged; by default that of --weights, or 4."""
    num_steps: int = 25
    """Patches for each face."""
    initial: str = BICUBIC
    """What episodes start from: bicubic, or a network that restores whole faces, by its name or
    its file."""
    protocol: str = "bicubic"
    """How the faces that the weights were trained on were enlarged."""
    face_size: int | None = None
    """Side of a restored face in pixels; by default the agent's own, or 128. For larger faces, with
    an agent that is not bound to a size: --face-size 256 --agent saliency."""
    crop: Literal["faces", "none"] = "faces"
    """faces finds them (extra faces); none takes every photograph for one face, as it is."""
    margin: float = 1.3
    """Side of the square that is restored, in units of the detected box, which has the features
    only."""
    max_face: int | None = None
    """Make photographs smaller first, until the square of their largest face has so many pixels a
    side."""
    smallest_face: float | None = None
    """Side of the smallest faces to look for, from the brows to the chin, in pixels; by default
    about 20 in small photographs, and 4 % of the longer side in large ones."""
    max_megapixels: float = 256
    """Refuse photographs that would become larger than that."""
    gif: bool = True
    """Whether to animate the patches being chosen."""
    overwrite: bool = False
    """Make again what is there already."""
    device: str = "cpu"
    """Where the networks run."""
    batch: int = 32
    """Most faces to restore at once, whichever photographs they are on."""
    seed: int = 0
    """Of the agent random."""

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise ConfigurationError(f"margin must be positive, got {self.margin}.")
        positive = (
            "batch",
            "num_steps",
            "max_megapixels",
            "max_face",
            "face_size",
            "smallest_face",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be positive, got {value}.")


@dataclass
class Entry:
    """What became of one photograph.

    Attributes:
        file: As it was given, or found in a folder.
        name: Of its outputs below the target, without an ending.
        status: ``"written"``, ``"kept"`` (made by an earlier run), ``"no face"``,
            ``"too large"`` (its faces; there was nothing to add), or ``"failed"``.
        faces: How many were restored.
        outputs: Files that were written or kept.
        reason: Why nothing came of it.
        notes: What else is to be known.
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
        passed_over: How many other files the folders held.
        results: How many images lie in the target, and are no photographs.
    """

    entries: list[Entry]
    passed_over: int = 0
    results: int = 0

    def of(self, status: Status) -> list[Entry]:
        """The photographs of which that became."""
        return [entry for entry in self.entries if entry.status == status]

    def told_results(self, out: Path) -> str:
        """A sentence, with a space before it, if images in the target were not taken."""
        if not self.results:
            return ""
        return f" {self.results:,} lie in --out {out} and are taken for results: name another."

    def lines(self) -> Iterator[str]:
        """The summary: a sentence, and a line for each photograph of which there is more to say."""
        count = Counter(entry.status for entry in self.entries)
        faces = sum(entry.faces for entry in self.of("written"))
        parts = [
            f"{count['written']:,} written with {faces:,} faces",
            f"{count['kept']:,} kept",
            f"{count['no face']:,} without a face",
            f"{count['too large']:,} too large",
            f"{count['failed']:,} failed",
        ]
        others = f"; {self.passed_over:,} other files passed over" if self.passed_over else ""
        yield f"{len(self.entries):,} photographs: {', '.join(parts)}{others}."
        for entry in self.entries:
            said = [f"{entry.status}: {entry.reason}"] if entry.reason else []
            for text in (*said, *entry.notes):
                yield f"  {entry.file}: {text}"


def run(
    config: EnhanceConfig, console: Console | None = None, detector: Detector | None = None
) -> Report:
    """Restores the faces of all photographs and prints what became of each.

    Args:
        config: Photographs, networks and target.
        console: Where to print; the terminal by default.
        detector: What finds the faces; dlib by default.

    Returns:
        What became of the photographs.

    Raises:
        DatasetError: At the end, if there were no photographs or some have failed; names them.
        ConfigurationError: On settings that contradict each other, and without dlib.
        WeightsError: If weights are missing, damaged, or made for something else.
    """
    console = console or terminal()
    if config.crop == "faces" and detector is None:
        detector = _dlib(config.smallest_face)
    restorer = build_restorer(config)
    report = gather(config.photos, config.out)
    if not report.entries:
        raise DatasetError(
            f"There are no photographs in {' '.join(config.photos)}: give image files, folders "
            f"with some, or patterns.{report.told_results(config.out)}"
        )
    with tqdm(total=len(report.entries), desc="restoring", unit="photo") as bar:
        _Run(config, restorer, detector, bar).treat(report.entries)
    for line in report.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(f"In {config.out}.", soft_wrap=True, highlight=False, markup=False)
    failed = report.of("failed")
    if failed:
        named = ", ".join(str(entry.file) for entry in failed[:3])
        more = ", ..." if len(failed) > 3 else ""
        raise DatasetError(
            f"{len(failed)} of {len(report.entries)} photographs failed: {named}{more}."
        )
    return report


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
        files = {f"{name}{ending}" for ending in _ENDINGS}
        if not files & taken:
            break
    taken |= files
    return name


_ENDINGS = (".png", "-before-after.png", "-patches.gif")


# Restoring


@dataclass(frozen=True)
class Restored:
    """One face after its episode.

    Attributes:
        added: (3, H, W), the restored face minus the up-sampled one, on the CPU.
        film: The episode; None if it was not recorded.
    """

    added: Tensor
    film: Film | None


@dataclass(frozen=True)
class Restorer:
    """Plays episodes of faces whose truth nobody knows.

    Attributes:
        core: The process.
        agent: Who chooses the patches.
        up: Kernel that enlarges the faces.
        batch: Most faces at once.
        record: Whether to keep the steps in between.
    """

    core: HallucinationCore
    agent: agents.Agent
    up: Kernel = "bicubic"
    batch: int = 32
    record: bool = True

    @property
    def face_size(self) -> tuple[int, int]:
        """Height and width of restored faces."""
        return self.core.geometry.image_size

    @property
    def lr_size(self) -> tuple[int, int]:
        """Height and width of low-resolution faces."""
        height, width = self.face_size
        return height // self.core.scale, width // self.core.scale

    def restore(self, lr: Tensor) -> list[Restored]:
        """Restores (N, 3, h, w) low-resolution faces in [0, 1], batch by batch."""
        return [face for some in lr.split(self.batch) for face in self._together(some)]

    def _together(self, lr: Tensor) -> Iterator[Restored]:
        faces = faces_without_truth(lr.to(self.core.device), self.core.scale, self.up)
        steps: list[Sequence[Picture]] = []

        def keep(state: CoreState) -> None:
            steps.append(list(to_uint8(state.image).cpu().numpy()))

        played = agents.rollout(self.core, self.agent, faces, on_step=keep if self.record else None)
        added = (played.state.image - faces.initial).cpu()
        for row, actions in enumerate(played.actions):
            film = None
            if self.record:
                corners = self.core.geometry.top_left(actions).tolist()
                film = Film([images[row] for images in steps], [(y, x) for y, x in corners])
            yield Restored(added[row], film)


def build_restorer(config: EnhanceConfig) -> Restorer:
    """The enhancer and the agent that the settings name.

    Raises:
        FacehallError: As `facehall_env.enhancers.make` and `facehall_env.agents.load` do, and if
            the agent needs the truth.
    """
    enhancer = _enhancer(config)
    make_core = partial(
        HallucinationCore,
        enhancer,
        num_steps=config.num_steps,
        device=check_device(config.device),
        initial=load_initial(config.initial, enhancer.scale),
    )
    core, agent = _agent(config, make_core)
    if STATE_KEY in agent.observation_keys:
        raise ConfigurationError(
            f"The agent {agent.name!r} needs the truth, which nobody knows of a photograph: "
            "choose another."
        )
    if any(side % enhancer.scale for side in core.geometry.image_size):
        raise ConfigurationError(
            f"Scale {enhancer.scale} does not divide --face-size {core.geometry.image_size[0]}: "
            "choose one that it divides."
        )
    up = protocols.get(config.protocol).up
    return Restorer(core, agent, up, config.batch, config.gif)


def _enhancer(config: EnhanceConfig) -> Enhancer:
    if config.weights is None:
        name = config.enhancer or "compact"
        return enhancers.make(name, scale=config.scale or 4, weights="auto")
    enhancer = enhancers.load(config.weights)
    if config.scale in (None, enhancer.scale) and config.enhancer in (None, enhancer.name):
        return enhancer
    # Says which of the two it is not.
    return enhancers.make(
        config.enhancer or enhancer.name, config.scale or enhancer.scale, config.weights
    )


def _agent(
    config: EnhanceConfig, make_core: Callable[..., HallucinationCore]
) -> tuple[HallucinationCore, agents.Agent]:
    """The agent, and a process with the locations that it chooses among."""
    side = config.face_size or FACE_SIDE
    core = make_core(image_size=(side, side))
    name, path = config.agent or "rl", config.policy
    if path is None and name in LEARNED:
        path = shipped(LEARNED[name], core)
    if path is None:
        seed = {"seed": config.seed} if name == "random" else {}
        return core, agents.make(name, core, **seed)
    if path.suffix == ".zip":
        raise ConfigurationError(
            f"--policy {path} is an archive of Stable-Baselines3, which could run any code when it "
            "is loaded: give a .safetensors file of ours."
        )
    geometry = load_agent(path, config.agent)[1]["geometry"]
    height, width = geometry["image_size"]
    stride, offset = grid_of(geometry)
    core = make_core(
        image_size=(side, side) if config.face_size else (height, width),
        border=geometry["border"],
        action_stride=stride,
        action_offset=offset,
    )
    return core, agents.load(path, core)


def _dlib(smallest: float | None) -> Detector:
    try:
        DlibDetector()
    except MissingExtraError as error:
        raise ConfigurationError(
            f"{error} Without it, --crop none takes every photograph for one face."
        ) from error
    return partial(find_faces, smallest=smallest)


# Photographs


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

    def __init__(
        self, config: EnhanceConfig, restorer: Restorer, detector: Detector | None, bar: tqdm[Any]
    ) -> None:
        self.config = config
        self.restorer = restorer
        self.detector = detector
        self.bar = bar
        self.waiting: list[_Waiting] = []
        self.settings = _settings(config, restorer)

    def treat(self, entries: Sequence[Entry]) -> None:
        """Fills in what becomes of each."""
        for entry in entries:
            opened: _Waiting | None = None
            with _named(entry):
                opened = self._open(entry)
            if opened is None:
                self.bar.update()
                continue
            self.waiting.append(opened)
            faces = sum(len(work.places) for work in self.waiting)
            pixels = sum(work.image[..., 0].size for work in self.waiting)
            if faces >= self.config.batch or pixels >= MOST_WAITING:
                self._finish()
        self._finish()

    def _open(self, entry: Entry) -> _Waiting | None:
        """The photograph and its faces; None if there is nothing to restore."""
        source = sha256(entry.file)
        if not self.config.overwrite and self._keeps(entry, source):
            return None
        image = read_image(entry.file)
        frames = frames_of(entry.file)
        if frames > 1:
            entry.notes.append(f"only the first of its {frames} frames was taken")
        boxes = self._boxes(image)
        if boxes is not None and not boxes:
            entry.status, entry.reason = "no face", "none was found"
            return None
        image, places = self._made_smaller(image, boxes)
        places = self._worthwhile(entry, places)
        if not places:
            return None
        _check_size(image, self.restorer.core.scale, self.config.max_megapixels)
        lr = low_resolution(image, places, self.restorer.lr_size)
        return _Waiting(entry, image, places, lr, source)

    def _boxes(self, image: ImageArray) -> list[Box] | None:
        """The faces, the largest first; None if the photograph is one."""
        if self.config.crop == "none" or self.detector is None:
            return None
        boxes = [face.box for face in self.detector(image)]
        return sorted(boxes, key=lambda box: box.area, reverse=True)

    def _places(self, image: ImageArray, boxes: Sequence[Box] | None) -> list[Place]:
        if boxes is None:
            return [Place.whole(image)]
        return [Place.around(box, self.config.margin) for box in boxes]

    def _made_smaller(
        self, image: ImageArray, boxes: Sequence[Box] | None
    ) -> tuple[ImageArray, list[Place]]:
        """The photograph, as small as ``--max-face`` wants it, and the places of its faces."""
        places = self._places(image, boxes)
        largest = max(max(place.height, place.width) for place in places)
        if self.config.max_face is None or largest <= self.config.max_face:
            return image, places
        height, width = image.shape[:2]
        factor = self.config.max_face / largest
        size = max(1, round(height * factor)), max(1, round(width * factor))
        down, across = size[0] / height, size[1] / width
        boxes = boxes and [
            Box(box.top * down, box.left * across, box.bottom * down, box.right * across)
            for box in boxes
        ]
        image = stretch(image, size)
        return image, self._places(image, boxes)

    def _worthwhile(self, entry: Entry, places: Sequence[Place]) -> list[Place]:
        """The faces to which there is something to add."""
        side = self.restorer.lr_size[0]
        advice = f"--max-face {side} makes the photograph smaller first"
        kept = [place for place in places if place.times_larger_than(self.restorer.face_size) < 1]
        if not kept:
            least = min(max(place.height, place.width) for place in places)
            entry.status = "too large"
            entry.reason = (
                f"its faces have {least} pixels a side or more, as many as restored ones "
                f"({self.restorer.face_size[0]}): {advice}"
            )
            return kept
        if len(kept) < len(places):
            entry.notes.append(
                f"{len(places) - len(kept)} of {len(places)} faces have as many pixels as restored "
                f"ones and were only enlarged: {advice}"
            )
        large = [
            max(p.height, p.width) for p in kept if p.times_larger_than(self.restorer.lr_size) > 1
        ]
        if large:
            entry.notes.append(
                f"{len(large)} of {len(places)} faces are larger, up to {max(large)} pixels a "
                f"side, than the {side} that the enhancer takes, so that less was added to them: "
                f"{advice}"
            )
        return kept

    def _finish(self) -> None:
        """Restores all faces that wait and writes their photographs."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        restored = iter(self.restorer.restore(torch.cat([work.lr for work in waiting])))
        for work in waiting:
            faces = [next(restored) for _ in work.places]
            with _named(work.entry):
                self._write(work, faces)
            self.bar.update()

    def _write(self, work: _Waiting, faces: Sequence[Restored]) -> None:
        scale, entry = self.restorer.core.scale, work.entry
        canvas = enlarge(work.image, scale)
        places = [place.enlarged(scale) for place in work.places]
        before = Look.at(canvas, places)
        paste(
            canvas,
            places,
            [
                added_detail(face.added, place, scale, self.restorer.lr_size)
                for face, place in zip(faces, work.places, strict=True)
            ],
        )
        photograph, comparison, *animation = self._outputs(entry)
        films = [face.film for face in faces if face.film is not None]
        for path in animation:
            save_gif(list(animate(films, self.restorer.core.geometry.patch_size)), path)
        _save(compare(before, Look.at(canvas, places)), comparison)
        # Last: where it is, the others are.
        _save(canvas, photograph, {"source": work.source, "settings": self.settings})
        entry.status, entry.faces = "written", len(faces)
        entry.outputs = self._outputs(entry)

    def _outputs(self, entry: Entry) -> list[Path]:
        endings = _ENDINGS if self.config.gif else _ENDINGS[:2]
        return [self.config.out / f"{entry.name}{ending}" for ending in endings]

    def _keeps(self, entry: Entry, source: str) -> bool:
        """Whether an earlier run has made all there is to make of a photograph.

        Raises:
            DatasetError: If the outputs are another photograph's.
        """
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
    """Refuses photographs that would become too large to be handled.

    Raises:
        DatasetError: Says how large, and what to do.
    """
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


def _settings(config: EnhanceConfig, restorer: Restorer) -> dict[str, Any]:
    """What decides how a restored photograph looks, JSON-serialisable."""
    names = ("num_steps", "initial", "protocol", "crop", "margin", "max_face", "smallest_face")
    enhancer, agent = restorer.core.enhancer, restorer.agent
    return {
        "enhancer": enhancer.name,
        "weights": config.weights and config.weights.name,
        "agent": agent.name,
        "policy": config.policy and config.policy.name,
        "scale": enhancer.scale,
        "face_size": restorer.face_size[0],
        **{name: getattr(config, name) for name in names},
        "seed": config.seed if agent.name == "random" else None,
    }


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
