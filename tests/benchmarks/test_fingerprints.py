"""Fingerprints change with code, weights and settings; nothing stale is printed."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facehall_env import agents, enhancers
from facehall_env.benchmarks.fingerprint import fingerprint
from facehall_env.benchmarks.quality.patch_selection import measure_all
from facehall_env.benchmarks.quality.settings import PatchSelectionConfig
from facehall_env.photos.detect import DlibDetector
from facehall_env.photos.landmarks import DlibLandmarks
from facehall_env.recognition.embed import DlibRecogniser
from facehall_env.spec import FacesSpec

AGENT = """
import torch
from facehall_env.agents import Agent

class Constant(Agent):
    name = "constant"

    def act(self, observation, state=None, deterministic=True):
        rows = len(self.steps_taken(observation))
        place = int(SHARE * self.geometry.num_locations)
        return torch.full((rows,), place, dtype=torch.int64), state
"""
ENHANCER = """
from facehall_env.enhancers import Enhancer

class Same(Enhancer):
    name = "same"

    def __init__(self, scale=4, patch_size=(16, 12)):
        super().__init__(scale, patch_size)

    def forward(self, patch, image, location):
        return VALUE
"""


@dataclass
class Settings:
    """A plain dataclass."""

    weights: dict[str, list[float]]


class Base:
    """Holds anything."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def scaled(factor: float) -> Callable[[float], float]:
    return lambda value: factor * value


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": [1, (2.0, {"b"})]}, {"a": [1, (2.0, {"c"})]}),
        (np.arange(4), np.arange(4.0)),
        (np.array([{"a": 1}], dtype=object), np.array([{"a": 2}], dtype=object)),
        (torch.ones(2), torch.ones(2, 1)),
        (Settings({"a": [1.0]}), Settings({"a": [1.5]})),
        (scaled(1.0), scaled(2.0)),
        (functools.partial(scaled, 1.0), functools.partial(scaled, 2.0)),
        (Base(deep=Base(array=np.ones(3))), Base(deep=Base(array=np.zeros(3)))),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
        (OrderedDict(a=1), OrderedDict(a=2)),
        (deque([1, 2]), deque([2, 1])),
        (Base(method=Base(a=1).__init__), Base(method=Base(a=2).__init__)),
        (1, True),
        (Path("a"), "a"),
    ],
)
def test_parts_of_any_type_count(first: Any, second: Any) -> None:
    assert fingerprint(first) is not None
    assert fingerprint(first) != fingerprint(second)


def test_equal_things_have_equal_fingerprints() -> None:
    def make() -> Base:
        own = Base(table={"x": np.arange(3)}, function=scaled(3.0), names={"b", "a", "c"})
        own.itself = own  # type: ignore[attr-defined]
        return own

    assert fingerprint(make()) == fingerprint(make()) is not None


@pytest.mark.parametrize("kind", ["file", "lock", "prompt"])
def test_what_cannot_be_read_has_none(kind: str, tmp_path: Path) -> None:
    typed: dict[str, Any] = {"__name__": "nowhere"}
    exec("double = lambda value: 2 * value", typed)  # As at a prompt: its source is nowhere.
    with (tmp_path / "open").open("w") as file:
        hidden = {"file": file, "lock": threading.Lock(), "prompt": typed["double"]}[kind]
        assert fingerprint(Base(deep=[hidden])) is None


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """Writes a module of someone else's and imports it, anew if it was there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in ("their_agent", "their_enhancer"):
        sys.modules.pop(name, None)


def final(settings: dict[str, Any], agent: str, enhancer: str) -> float:
    settings = {**settings, "agents": (agent,), "policy": (), "enhancer": enhancer}
    del settings["dataset"]
    return measure_all(PatchSelectionConfig(faces=FacesSpec("tiny"), **settings)).rows[-1].psnr


def test_a_changed_agent_is_measured_anew(
    settings: dict[str, Any], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for share in ("0.4", "0.4", "0.1"):
        text = AGENT.replace("SHARE", share)
        monkeypatch.setitem(
            agents.AGENTS._factories, "constant", module("their_agent", text).Constant
        )
        found.append(final(settings, "constant", "tiny"))
    assert found[0] == found[1]
    assert found[2] == final({**settings, "fresh": True}, "constant", "tiny")
    assert abs(found[2] - found[0]) > 1e-3


def test_a_changed_enhancer_is_measured_anew(
    settings: dict[str, Any], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for value in ("patch", "0.5 * patch"):
        text = ENHANCER.replace("VALUE", value)
        monkeypatch.setitem(
            enhancers.ENHANCERS._factories, "same", module("their_enhancer", text).Same
        )
        found.append(final(settings, "even", "same"))
    assert found[1] < found[0] - 1


def test_a_helper_beside_the_class_counts(module: Any) -> None:
    text = "def help(): return {}\nclass Own: pass\n"
    first = fingerprint(module("their_agent", text.format(1)).Own())
    assert first == fingerprint(module("their_agent", text.format(1)).Own())
    assert first != fingerprint(module("their_agent", text.format(2)).Own())


def test_markers_and_recognisers_of_dlib_have_one() -> None:
    # As they are with dlib installed, whose own objects cannot be pickled.
    def marker(threshold: float) -> DlibLandmarks:
        detector, own = DlibDetector.__new__(DlibDetector), DlibLandmarks.__new__(DlibLandmarks)
        detector._upsample, detector._max_side, detector._threshold = 1, 1024, threshold
        detector._find = own._mark = threading.Lock()  # type: ignore[assignment]
        own._detectors = [detector]
        return own

    def recogniser(version: str) -> DlibRecogniser:
        own = DlibRecogniser.__new__(DlibRecogniser)
        own.alignment, own._marker, own.version = "landmarks", marker(0.0), version
        own._network = threading.Lock()
        return own

    assert fingerprint(marker(0.0)) == fingerprint(marker(0.0)) is not None
    assert fingerprint(marker(0.0)) != fingerprint(marker(-1.0))
    assert fingerprint(recogniser("19")) == fingerprint(recogniser("19")) is not None
    assert fingerprint(recogniser("19")) != fingerprint(recogniser("20"))
