"""The weights that come with the package do what they are for, on faces nobody trained on."""

from __future__ import annotations

import pytest
import torch

from facehall_env import agents, enhancers
from facehall_env.enhancers.weights import SHIPPED
from facehall_env.spec import build_from_keywords

NUMBER = 16


@pytest.fixture(scope="module")
def curves() -> dict[str, torch.Tensor]:
    dataset, protocol, core = build_from_keywords(
        dataset="synthetic", split="test", num_steps=5, action_stride=8
    )
    faces = protocol.degrade(dataset.batch(range(NUMBER)), core.scale)
    settings = {
        "random": {},
        "even": {},
        "rl": {"weights": "auto", "dataset": "synthetic"},
        "oracle": {"stride": 32},
    }
    return {
        name: agents.rollout(core, agents.make(name, core, **own), faces).psnr.mean(0)
        for name, own in settings.items()
    }


def test_who_looks_with_more_sense_restores_more(curves: dict[str, torch.Tensor]) -> None:
    final = {name: curve[-1].item() for name, curve in curves.items()}
    assert final["random"] < final["even"] < final["rl"] < final["oracle"], final


def test_the_area_orders_them_in_the_same_way(curves: dict[str, torch.Tensor]) -> None:
    area = {name: curve[1:].mean().item() for name, curve in curves.items()}
    assert sorted(area, key=area.__getitem__) == ["random", "even", "rl", "oracle"]


def test_the_enhancer_is_stable_on_its_own_output() -> None:
    """Twenty-five random patches, most of which overlap earlier ones, only help."""
    dataset, protocol, core = build_from_keywords(dataset="synthetic", split="test", num_steps=25)
    faces = protocol.degrade(dataset.batch(range(8)), core.scale)
    psnr = agents.rollout(core, agents.make("random", core), faces).psnr.mean(0)
    assert psnr[25] > psnr[0] + 1.5
    assert psnr[25] > psnr[12]


def test_provenance_says_how_they_were_trained() -> None:
    for path in SHIPPED.glob("*.safetensors"):
        settings = enhancers.load(path).provenance["settings"]
        trained = settings.get("enhancer") or settings["model"]  # of train enhancer, or of train sr
        made_by = "" if settings["protocol"] == "bicubic" else f"-{settings['protocol']}"
        scale = f"x{settings['scale']}"
        assert path.stem == f"{trained}-{settings['dataset']}{made_by}-{scale}"
