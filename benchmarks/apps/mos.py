"""Mean opinion scores: a page on which people rate faces blindly, and what their ratings say.

IPFH's authors (Table IV) had 20 raters give each restored face a whole number from 1 (bad) to
5 (excellent). ``facehall mos build`` writes one HTML file that shows the faces of all methods in
a random order without saying which is whose, and a key; ``facehall mos score`` reads the files
that raters send back.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from torch import Tensor

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.provenance import write_json
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.patch_selection import first_images, fixed_order
from facehall_env.benchmarks.statistics import Estimate, mean_ci
from facehall_env.benchmarks.tables import Table
from facehall_env.core import Precision
from facehall_env.data.images import images_below, read_image
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.files import write_text_atomic
from facehall_env.photos.landmarks import as_arrays

PAGE, KEY = "index.html", "key.json"
KEY_FORMAT, RATINGS_FORMAT = "facehall-mos-key-1", "facehall-mos-1"
LARGEST_PAGE = 64 << 20
"""Bytes; browsers get slow with more."""
WORST, BEST = 1, 5
TRUTH = "truth"


@dataclass
class MosBuildConfig:
    """Settings of ``facehall mos build``."""

    folders: tuple[str, ...] = ()
    """Results that are there already, as NAME=FOLDER: images of the same file name show the same
    face. Faces that are not in all folders are left out."""
    models: tuple[str, ...] = ()
    """Networks that restore faces of the dataset, as for `facehall bench sr`: NAME, NAME=PATH."""
    agents: tuple[str, ...] = ()
    """Agents that do so, as for `facehall bench sr`: ROW=ENHANCER,AGENT[,INITIAL]."""
    truth: bool = True
    """With --models or --agents: show the true faces, too."""
    dataset: str = "synthetic"
    """Where the faces of --models and --agents come from; its test split."""
    scale: int = 8
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made."""
    steps: int = 25
    """Patches of an agent, T."""
    limit: int = 20
    """Number of faces; each is shown once by every method."""
    title: str = "Rate these faces"
    """Heading of the page."""
    seed: int = 0
    """Draws the names under which the page hides who made what."""
    device: str = "cpu"
    """Where to compute."""
    precision: Precision = "fp32"
    """Of the networks: fp32 or bf16."""
    out: Path = Path("mos")
    """Folder for index.html, which goes to the raters, and key.json, which does not."""

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If there is nothing to rate, or folders and models are mixed.
        """
        if self.limit < 1:
            raise ConfigurationError(f"--limit {self.limit}: give 1 or more.")
        restored = bool(self.models or self.agents)
        if restored == bool(self.folders):
            raise ConfigurationError(
                "Give either --folders NAME=FOLDER ... or --models and --agents: the same faces "
                "have to be shown by all."
            )


@dataclass
class MosScoreConfig:
    """Settings of ``facehall mos score``."""

    key: Annotated[Path, tyro.conf.Positional]
    """key.json, which `facehall mos build` wrote beside the page."""
    ratings: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files that raters have saved."""
    out: Path | None = None
    """Folder for mos.json and mos.md; printed only by default."""


@dataclass(frozen=True)
class Item:
    """An image to rate.

    Attributes:
        method: Who made it.
        face: What it shows.
        png: The file.
    """

    method: str
    face: str
    png: bytes


@dataclass(frozen=True)
class Opinions:
    """What usable files of raters hold.

    Attributes:
        ratings: For each rater the ratings by the hidden name of the image.
        left_out: Files that could not be used, and why.
    """

    ratings: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, str]


def build(config: MosBuildConfig, console: Console | None = None) -> list[Path]:
    """Writes the page and its key.

    Args:
        config: The settings.
        console: Where to print; the standard output by default.

    Returns:
        Paths of the page and of the key.

    Raises:
        FacehallError: If there are no images, or they cannot be read or made.
    """
    config.check()
    items = _from_folders(config) if config.folders else _restored(config)
    size = sum(len(item.png) for item in items) * 4 // 3
    if size > LARGEST_PAGE:
        raise ConfigurationError(
            f"{len(items)} images make a page of {size >> 20} MiB, more than {LARGEST_PAGE >> 20}: "
            "lower --limit."
        )
    names = _hidden_names(items, config.seed)
    page, key = config.out / PAGE, config.out / KEY
    identity = hashlib.sha256("".join(sorted(names)).encode()).hexdigest()[:16]
    if key.is_file() and read_key(key)[0] != identity:
        raise ConfigurationError(
            f"{key} belongs to another page, whose ratings cannot be read without it: give another "
            "--out, or move it away."
        )
    write_text_atomic(page, _page(config.title, identity, names, items))
    hidden = {
        name: {"method": item.method, "face": item.face}
        for name, item in zip(names, items, strict=True)
    }
    write_json(key, {"format": KEY_FORMAT, "page": identity, "items": hidden})
    methods = dict.fromkeys(item.method for item in items)
    console = console or tables.terminal()
    console.print(
        f"{len(items)} images, {len(items) // len(methods)} faces by {', '.join(methods)}: send "
        f"{PAGE} to the raters and keep {KEY}."
    )
    tables.say_written(console, page, key)
    return [page, key]


def score(config: MosScoreConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Prints the mean opinion score of every method; names files that are left out.

    Args:
        config: The settings.
        console: Where to print; the standard output by default.

    Returns:
        A row for each method, the best first: ``method``, ``mos``, ``mos_ci`` (half width of the
        95 % interval over faces), ``mos_ci_raters`` (over raters), ``ratings``, ``raters``,
        ``faces``, and ``counts`` of the ratings 1 to 5.

    Raises:
        DatasetError: If the key cannot be used or no file of ratings can.
    """
    identity, items = read_key(config.key)
    opinions = read_ratings(config.ratings, identity, items)
    console = console or tables.terminal()
    for path, reason in opinions.left_out.items():
        console.print(f"left out: {path}: {reason}", soft_wrap=True, highlight=False)
    if not opinions.ratings:
        raise DatasetError(
            f"None of the {len(config.ratings)} files of ratings can be used: have the raters save "
            "them on the page that belongs to this key."
        )
    rows = mean_opinions(opinions.ratings, items)
    table = _table(rows, len(opinions.ratings))
    console.print(table.rich())
    if config.out is not None:
        content = {"benchmark": "mos", "rows": rows, "left_out": opinions.left_out}
        paths = config.out / "mos.json", config.out / "mos.md"
        write_json(paths[0], content)
        write_text_atomic(paths[1], f"# {table.title}\n\n{table.markdown()}")
        tables.say_written(console, *paths)
    return rows


def mean_opinions(
    ratings: Mapping[str, Mapping[str, int]], items: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """The mean opinion scores, the best first; see `score`.

    Args:
        ratings: By the rater, then by the hidden name of the image.
        items: Method and face of the images by their hidden names.
    """
    given: dict[str, list[tuple[str, str, int]]] = {}
    for rater, own in ratings.items():
        for name, rating in own.items():
            method, face = items[name]
            given.setdefault(method, []).append((rater, face, rating))
    rows = [_scored(method, opinions) for method, opinions in given.items()]
    return sorted(rows, key=lambda row: -row["mos"])


def read_key(path: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    """The page that a key belongs to, and method and face of its images by their hidden names.

    Raises:
        DatasetError: If it is missing or is no key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != KEY_FORMAT:
            raise ValueError(f"format {content['format']!r}")
        items = {
            str(name): (str(item["method"]), str(item["face"]))
            for name, item in content["items"].items()
        }
        return str(content["page"]), items
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): give {KEY}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not the key of a page ({error}): give the {KEY} that `facehall mos build` "
            "wrote."
        ) from error


def read_ratings(
    paths: Sequence[Path], page: str, items: Mapping[str, tuple[str, str]]
) -> Opinions:
    """The ratings in the files that raters have saved; what cannot be used is left out.

    Of several files of one rater that with the most ratings counts.

    Args:
        paths: The files.
        page: The page that they have to be of.
        items: Its images by their hidden names.
    """
    ratings: dict[str, Mapping[str, int]] = {}
    source: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        try:
            rater, own = _one_file(path, page, items)
        except DatasetError as error:
            left_out[str(path)] = str(error)
            continue
        other = source.get(rater)
        if other is not None:
            older, newer = (path, other) if len(own) <= len(ratings[rater]) else (other, path)
            left_out[str(older)] = f"{newer} has as many ratings of the same rater, or more."
            if newer == other:
                continue
        ratings[rater], source[rater] = own, path
    return Opinions(ratings, left_out)


def _one_file(
    path: Path, page: str, items: Mapping[str, tuple[str, str]]
) -> tuple[str, dict[str, int]]:
    """A rater and the ratings.

    Raises:
        DatasetError: If they cannot be used; says why.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"it cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DatasetError(f"it is damaged ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != RATINGS_FORMAT:
        raise DatasetError("it is no file of ratings.")
    if content.get("page") != page:
        raise DatasetError("it is of another page.")
    given, rater = content.get("ratings"), content.get("rater")
    if not isinstance(given, dict) or not isinstance(rater, str) or not given:
        raise DatasetError("it has no ratings or no rater.")
    for name, rating in given.items():
        if name not in items:
            raise DatasetError(f"it rates an image {name!r} that the page does not have.")
        # True is an int to Python.
        if type(rating) is not int or not WORST <= rating <= BEST:
            raise DatasetError(f"it has the rating {rating!r}, not one of {WORST} to {BEST}.")
    return rater, given


def _scored(method: str, opinions: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    ratings = [rating for _, _, rating in opinions]
    over_faces = _interval([(face, rating) for _, face, rating in opinions])
    over_raters = _interval([(rater, rating) for rater, _, rating in opinions])
    return {
        "method": method,
        "mos": float(np.mean(ratings)),
        "mos_ci": over_faces.half_width,
        "mos_ci_raters": over_raters.half_width,
        "ratings": len(ratings),
        "raters": len({rater for rater, _, _ in opinions}),
        "faces": len({face for _, face, _ in opinions}),
        "counts": [ratings.count(value) for value in range(WORST, BEST + 1)],
    }


def _interval(ratings: Sequence[tuple[str, int]]) -> Estimate:
    """Of the mean over faces, or raters, each with the mean of its ratings."""
    own: dict[str, list[int]] = {}
    for name, rating in ratings:
        own.setdefault(name, []).append(rating)
    return mean_ci([float(np.mean(values)) for values in own.values()])


def _from_folders(config: MosBuildConfig) -> list[Item]:
    folders: dict[str, Path] = {}
    for text in config.folders:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise ConfigurationError(f"--folders {text!r} is not NAME=FOLDER.")
        if name in folders:
            raise ConfigurationError(f"--folders has {name!r} twice: give each a name of its own.")
        if not Path(folder).is_dir():
            raise DatasetError(f"--folders {text}: {folder} is not a directory.")
        folders[name] = Path(folder)
    images = {
        name: {str(Path(key).with_suffix("")): key for key in images_below(folder)}
        for name, folder in folders.items()
    }
    common = sorted(set.intersection(*(set(own) for own in images.values())))
    if not common:
        counts = ", ".join(f"{name} {len(own)}" for name, own in images.items())
        raise DatasetError(
            f"No image has the same name in all folders ({counts} images): give folders with "
            "results on the same faces."
        )
    faces = [common[place] for place in fixed_order(len(common), config.limit)]
    return [
        Item(name, face, _png(read_image(folder / images[name][face])))
        for name, folder in folders.items()
        for face in faces
    ]


def _restored(config: MosBuildConfig) -> list[Item]:
    restoring = sr.SRBenchConfig(
        dataset=config.dataset,
        scale=config.scale,
        protocol=config.protocol,
        models=config.models,
        agents=config.agents,
        steps=config.steps,
        limit=config.limit,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )
    restoring.check()
    setup = sr.still_setup(restoring)
    entries = sr.gather(restoring, setup)
    if TRUTH in [entry.name for entry in entries]:
        raise ConfigurationError(f"A row is called {TRUTH!r}, as the true faces are: rename it.")
    truth = first_images(setup, config.limit)
    places = fixed_order(len(setup.dataset), config.limit)
    keys = [setup.dataset.key(place) for place in places]
    batch = setup.protocol.degrade(truth.to(setup.core.device), config.scale)
    shown: dict[str, Tensor] = {
        entry.name: sr.restored(entry.contestant, batch) for entry in entries
    }
    if config.truth:
        shown[TRUTH] = batch.hr
    return [
        Item(name, key, _png(image))
        for name, faces in shown.items()
        for key, image in zip(keys, as_arrays(faces), strict=True)
    ]


def _png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Without whatever the original file said of itself."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _hidden_names(items: Sequence[Item], seed: int) -> list[str]:
    """A name for each image that tells nothing; depends on the seed and on all images."""
    content = hashlib.sha256(str(seed).encode())
    for item in items:
        content.update(hashlib.sha256(item.png).digest())
    salt = content.digest()
    return [
        hashlib.sha256(salt + f"{item.method}/{item.face}".encode()).hexdigest()[:12]
        for item in items
    ]


def _page(title: str, identity: str, names: Sequence[str], items: Sequence[Item]) -> str:
    shown = [
        {"id": name, "src": f"data:image/png;base64,{base64.b64encode(item.png).decode()}"}
        for name, item in zip(names, items, strict=True)
    ]
    # In the order of the hidden names, which is as good as random, for the source can be read.
    shown.sort(key=lambda item: item["id"])
    content = json.dumps({"page": identity, "items": shown}).replace("<", "\\u003c")
    template = resources.files("facehall_env.benchmarks").joinpath("templates/mos.html")
    text = template.read_text(encoding="utf-8")
    return text.replace("@TITLE@", html.escape(title)).replace("@CONTENT@", content)


def _table(rows: Sequence[Mapping[str, Any]], raters: int) -> Table:
    lines = [
        [
            row["method"],
            f"{row['mos']:.2f}",
            tables.number(row["mos_ci"], ".2f"),
            tables.number(row["mos_ci_raters"], ".2f"),
            str(row["ratings"]),
            *(str(count) for count in row["counts"]),
        ]
        for row in rows
    ]
    scale = ("1 bad", "2", "3", "4", "5 excellent")
    header = ("method", "MOS", "± over faces", "± over raters", "ratings", *scale)
    return Table(
        f"Mean opinion scores of {raters} raters",
        header,
        lines,
        caption="±: half width of the 95 % interval.",
    )
