from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facehall_env import data, rewards
from facehall_env.data import catalog
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.patches import PatchGeometry
from facehall_env.spec import EpisodeSpec, FacesSpec, build_from_keywords


def test_fields_become_the_core() -> None:
    faces = FacesSpec(dataset_settings=("images_per_person=2",), scale=8, protocol="sisn")
    spec = EpisodeSpec(
        faces,
        enhancer="bicubic",
        steps=3,
        patch_size=(32, 16),
        border="inside",
        action_stride=8,
        action_offset=7,
        reward="delta_mse",
        precision="bf16",
    )
    dataset, protocol, core = spec.build("test")
    assert (dataset.split, dataset.image_size) == ("test", (128, 128))
    assert isinstance(dataset, data.SyntheticFaces)
    assert dataset.images_per_person == 2
    assert protocol is data.protocols.get("sisn")
    assert (core.scale, core.num_steps, core.precision) == (8, 3, "bf16")
    assert core.geometry == PatchGeometry((128, 128), (32, 16), "inside", 8, 7)
    assert str(core.reward) == "delta_mse"


def test_an_opened_dataset_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FacesSpec().open("test")
    monkeypatch.setattr(catalog, "make", _never)
    setup = EpisodeSpec(enhancer="bicubic").build(dataset=dataset)
    assert setup.dataset is dataset


def test_objects_take_the_place_of_names(sharpen: Enhancer) -> None:
    reward = rewards.make("coverage")
    protocol = data.protocols.get("sparnet")
    setup = EpisodeSpec(enhancer="nothing", weights="nowhere", reward="none").build(
        enhancer=sharpen, reward=reward, protocol=protocol, validate=False
    )
    assert setup.protocol is protocol
    assert setup.core.enhancer is sharpen
    assert setup.core.reward is reward
    assert setup.core.validate is False


def test_keywords_and_fields_give_the_same_process(sharpen: Enhancer) -> None:
    keywords: dict[str, Any] = {"scale": 4, "border": "inside", "action_stride": 4}
    own = build_from_keywords(num_steps=2, enhancer=sharpen, device=torch.device("cpu"), **keywords)
    spec = EpisodeSpec(FacesSpec(scale=4), border="inside", action_stride=4, steps=2)
    other = spec.build(enhancer=sharpen)
    assert own.core.geometry == other.core.geometry
    faces = own.protocol.degrade(own.dataset.batch([3]), 4)
    results = [
        core.step(core.reset(faces), torch.tensor([17]))[0].image for core in (own.core, other.core)
    ]
    assert torch.equal(*results)


def test_a_misspelt_keyword_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Unknown keyword 'num_step': did you mean 'num_st"):
        build_from_keywords(num_step=3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EpisodeSpec(FacesSpec(protocol="bicubik")), "Unknown protocol 'bicubik'"),
        (EpisodeSpec(reward="delta_mde"), "Unknown reward 'delta_mde'"),
        (EpisodeSpec(device="gpu"), "device='gpu' cannot be used here"),
    ],
)
def test_bad_names_are_refused_before_a_dataset_is_opened(
    spec: EpisodeSpec, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "make", _never)
    with pytest.raises((ConfigurationError, UnknownNameError), match=message):
        spec.build()


@pytest.mark.parametrize("module", ["spec", "limits", "literals"])
def test_settings_need_no_torch(module: str, root: Path) -> None:
    code = f"import sys, facehall_env.{module}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.stdout == "False\n", run.stderr


_never: Callable[..., Any] = pytest.fail
