"""Training of enhancers: the loss by hand, learning, exact resumption, errors."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from facehall_env import enhancers
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.nested import build
from facehall_env.training.enhancer import EnhancerTrainer, train_enhancer
from facehall_env.training.losses import patch_loss
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import TrainEnhancerConfig


@enhancers.register("tiny")
def make_tiny(scale: int) -> enhancers.Enhancer:
    return enhancers.Compact(scale, width=16, blocks=1)


def tiny(out: Path, **settings: object) -> TrainEnhancerConfig:
    defaults: dict[str, object] = {
        "out": out,
        "enhancer": "tiny",
        "fresh_updates": 6,
        "fresh_batch": 2,
        "rollout_updates": 6,
        "rollout_envs": 4,
        "steps": 3,
        "limit": 12,
        "validation_faces": 2,
        "log_every": 1,
        "validate_every": 4,
        "checkpoint_every": 1,
    }
    return build(TrainEnhancerConfig, **{**defaults, **settings})


@pytest.mark.parametrize(
    ("kind", "expected"), [("mse", (0.04 + 0.16) / 2), ("l1", (0.2 + 0.4) / 2)]
)
def test_the_loss_leaves_out_what_lies_outside(kind, expected) -> None:
    truth = torch.zeros(1, 3, 1, 3)
    restored = torch.tensor([0.2, 0.4, 9.0]).expand(1, 3, 1, 3).clone().requires_grad_()
    inside = torch.tensor([True, True, False]).reshape(1, 1, 1, 3)
    loss = patch_loss(restored, truth, inside, kind)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert restored.grad is not None
    assert restored.grad[..., 2].abs().sum() == 0
    assert restored.grad[..., :2].abs().min() > 0


def test_charbonnier_is_l1_that_is_smooth_at_zero() -> None:
    restored = torch.tensor([0.0, 0.3]).expand(1, 3, 1, 2).clone().requires_grad_()
    everywhere = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    loss = patch_loss(restored, torch.zeros_like(restored), everywhere, "charbonnier")
    assert loss.item() == pytest.approx(0.3 / 2, abs=1e-3)
    loss.backward()
    assert restored.grad is not None
    assert restored.grad[..., 0].abs().max() == 0


def test_an_unknown_loss_is_refused() -> None:
    ones = torch.ones(1, 3, 2, 2)
    with pytest.raises(ConfigurationError, match="loss='l2' is unknown"):
        patch_loss(ones, ones, ones[:, :1].bool(), "l2")  # type: ignore[arg-type]


def test_both_stages_learn(tmp_path: Path) -> None:
    config = tiny(
        tmp_path / "run",
        fresh_updates=80,
        fresh_batch=4,
        fresh_learning_rate=3e-3,
        rollout_updates=60,
        rollout_envs=8,
        steps=9,
        limit=40,
        validation_faces=4,
        validate_every=20,
        checkpoint_every=100,
    )
    path = train_enhancer(config)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = {entry["step"]: entry for entry in log if "psnr/random_patches" in entry}
    initial = scores[80]["psnr/initial"]
    assert scores[80]["psnr/whole_face"] > initial + 0.1
    assert scores[140]["psnr/random_patches"] > initial + 0.1
    provenance = enhancers.load(path).provenance
    assert provenance["settings"]["dataset"] == "synthetic"
    assert provenance["held_out"]["psnr/random_patches"] == pytest.approx(
        scores[140]["psnr/random_patches"], abs=1e-6
    )


def test_patches_are_drawn_on_the_grid_that_is_asked_for(tmp_path: Path) -> None:
    trainer = EnhancerTrainer(tiny(tmp_path, fresh_updates=0, action_stride=32, action_offset=5))
    drawn = trainer.core.geometry.centres(trainer._draw_actions(200))
    assert set(drawn.flatten().tolist()) == {5, 37, 69, 101}


@pytest.mark.parametrize(
    "learns_on",
    [
        {"fresh_on": "faces"},
        {"fresh_on": "patches"},
        {"fresh_on": "patches", "action_stride": 8, "action_offset": 7},
        {"enhancer": "compact", "enhancer_settings": ("width=8", "blocks=1", "base=start")},
    ],
)
def test_killed_and_resumed_runs_end_with_the_same_weights(
    learns_on, tmp_path, train_in_parts
) -> None:
    whole = train_enhancer(tiny(tmp_path / "whole", **learns_on))
    config = tiny(tmp_path / "parts", **learns_on)
    # Once in each stage, and once between them.
    parts = train_in_parts(EnhancerTrainer, train_enhancer, config, (2, 6, 9))
    expected, found = enhancers.load(whole).state_dict(), enhancers.load(parts).state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
        if "loss" in line
    ]
    assert steps == sorted(set(steps))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_process_killed_at_any_moment_can_be_resumed(tmp_path: Path) -> None:
    whole = train_enhancer(tiny(tmp_path / "whole", fresh_updates=8, rollout_updates=20))
    config = tiny(tmp_path / "parts", fresh_updates=8, rollout_updates=20)
    program = (
        "from pathlib import *\n"
        "from facehall_env import enhancers\n"
        "from facehall_env.spec import *\n"
        "from facehall_env.training.settings import *\n"
        "from facehall_env.training.enhancer import train_enhancer\n"
        "enhancers.register('tiny')(lambda scale: enhancers.Compact(scale, width=16, blocks=1))\n"
        f"train_enhancer({config!r})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.DEVNULL, start_new_session=True
    )
    checkpoint = tmp_path / "parts" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    parts = train_enhancer(
        tiny(tmp_path / "parts", fresh_updates=8, rollout_updates=20, resume=True)
    )
    expected, found = enhancers.load(whole).state_dict(), enhancers.load(parts).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, monkeypatch) -> None:
    config = tiny(tmp_path / "run")
    broken = torch.full((), float("nan"), requires_grad=True)
    loss = EnhancerTrainer._loss_at
    monkeypatch.setattr(
        EnhancerTrainer,
        "_loss_at",
        lambda trainer, *rest: broken if trainer.step == 8 else loss(trainer, *rest),
    )
    with pytest.raises(EnhancerError, match="At update 8, the loss is nan"):
        train_enhancer(config)
    with TrainingRun(config.out, config, resume=True) as run:
        restored = run.restore()
    assert restored is not None
    assert restored[0] == 8
    assert all(torch.isfinite(t).all() for t in restored[1].values() if t.is_floating_point())


def test_runs_are_not_mixed_up(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", fresh_updates=1, rollout_updates=1)
    train_enhancer(config)
    with pytest.raises(ConfigurationError, match="already holds a training run"):
        train_enhancer(config)
    with pytest.raises(ConfigurationError, match="run with seed=0, this command says 7"):
        train_enhancer(dataclasses.replace(config, resume=True, seed=7))
    with pytest.raises(ConfigurationError, match="no checkpoint to resume"):
        train_enhancer(dataclasses.replace(config, resume=True, out=tmp_path / "empty"))


def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", fresh_updates=1, rollout_updates=1)
    train_enhancer(config)
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    for name in ("beta1", "enhancer_settings", "devices"):
        del settings[name]
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigurationError, match=r"run with beta1=0\.9, this command says 0\.5"):
        train_enhancer(dataclasses.replace(config, resume=True, beta1=0.5))
    train_enhancer(dataclasses.replace(config, resume=True))
    assert json.loads(path.read_text())["beta1"] == 0.9


def test_networks_without_parameters_and_pools_too_small_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to train"):
        train_enhancer(tiny(tmp_path / "a", enhancer="bicubic"))
    with pytest.raises(ConfigurationError, match="'attention_fh' works on patches"):
        train_enhancer(tiny(tmp_path / "b", enhancer="attention_fh", fresh_on="faces"))
    with pytest.raises(ConfigurationError, match="3 faces cannot give 2 held-out"):
        train_enhancer(tiny(tmp_path / "c", limit=3))
    with pytest.raises(ConfigurationError, match="precision='bf16' would train rounded weights"):
        train_enhancer(tiny(tmp_path / "d", precision="bf16"))


def test_the_network_is_made_for_the_patches_of_the_episodes(tmp_path: Path) -> None:
    config = tiny(tmp_path, enhancer="compact", patch_size=(24, 16))
    trainer = EnhancerTrainer(dataclasses.replace(config, enhancer_settings=("blocks=1",)))
    assert trainer.enhancer.config["patch_size"] == (24, 16)
    assert trainer.core.geometry.patch_size == (24, 16)
    trainer.update()
