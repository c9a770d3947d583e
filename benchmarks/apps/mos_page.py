"""The page on which people rate faces blindly, and the key that says who made which face.

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
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from facehall_env.benchmarks import restorers, tables
from facehall_env.benchmarks.apps.settings import MosBuildConfig
from facehall_env.benchmarks.provenance import write_json
from facehall_env.benchmarks.scoring import CHUNK, TestFaces, fixed_order
from facehall_env.data.images import images_below, read_image
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.files import write_text_atomic
from facehall_env.photos.landmarks import as_arrays

PAGE, KEY = "index.html", "key.json"
KEY_FORMAT = "facehall-mos-key-1"
LARGEST_PAGE = 64 << 20
"""Bytes; browsers get slow with more."""
TRUTH = "truth"


class Item(NamedTuple):
    """An image to rate: the method that made it, the face's key, and the content of the file."""

    method: str
    face: str
    png: bytes


def build(config: MosBuildConfig, console: Console | None = None) -> list[Path]:
    """Writes the page and its key, and returns their paths.

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
    specs: list[restorers.Spec] = [restorers.parse_model(word) for word in config.models]
    specs += [restorers.parse_agent(word, steps=config.steps) for word in config.agents]
    if TRUTH in [spec.name for spec in specs]:
        raise ConfigurationError(f"A row is called {TRUTH!r}, as the true faces are: rename it.")
    dataset, scale = config.faces.open("test"), config.faces.scale
    place = restorers.Conditions(
        dataset.image_size, scale, config.faces.dataset, config.device, config.precision
    )
    who = restorers.build(specs, place)
    places = fixed_order(len(dataset), config.limit)
    images = torch.cat([dataset.batch([index]) for index in places])
    faces = TestFaces(images, config.faces.degradation, scale, config.device)
    shown = {}
    for each in who:
        batch = each.most_at_once or CHUNK
        firsts = range(0, len(faces), batch)
        restored = [each.restore(faces.rows(slice(n, n + batch)), n).cpu() for n in firsts]
        shown[each.name] = as_arrays(torch.cat(restored))
    if config.truth:
        shown[TRUTH] = images.permute(0, 2, 3, 1).numpy()
    return [
        Item(name, dataset.key(index), _png(image))
        for name, own in shown.items()
        for index, image in zip(places, own, strict=True)
    ]


def _png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The image as a file, without the metadata of the original."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _hidden_names(items: Sequence[Item], seed: int) -> list[str]:
    """A name for each image that tells nothing; depends on the seed and on all images."""
    images = b"".join(hashlib.sha256(item.png).digest() for item in items)
    salt = hashlib.sha256(str(seed).encode() + images).digest()
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
    template = resources.files("facehall_env.benchmarks.apps").joinpath("templates/mos.html")
    text = template.read_text(encoding="utf-8")
    return text.replace("@TITLE@", html.escape(title)).replace("@CONTENT@", content)
