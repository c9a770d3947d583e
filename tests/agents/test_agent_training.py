"""Training runs of agents: resuming after a kill, and what they leave on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from facehall_env import agents, data, enhancers, patches
from facehall_env.agents import training
from facehall_env.agents.dagger import DaggerTrainer, train_dagger
from facehall_env.agents.fixed.static_training import train_static
from facehall_env.agents.qmap.training import QMapTrainer, train_qmap
from facehall_env.agents.reinforce.training import ReinforceTrainer, train_agent
from facehall_env.agents.settings import (
    TrainAgentConfig,
    TrainDaggerConfig,
    TrainQMapConfig,
    TrainStaticConfig,
)
from facehall_env.checkpoints import load_tensors
from facehall_env.errors import ConfigurationError
from facehall_env.nested import build


@pytest.fixture(scope="module")
def enhancer_weights(tmp_path_factory) -> Path:
    """A small enhancer that changes something, so that there are rewards."""
    torch.manual_seed(0)
    enhancer = enhancers.make("compact", width=8, blocks=1)
    with torch.no_grad():
        enhancer.network.tail.weight.normal_(std=0.01)
    path = tmp_path_factory.mktemp("enhancer") / "enhancer.safetensors"
    enhancers.save(enhancer, path)
    return path


def settings(out: Path, weights: Path, **changes: object) -> dict[str, object]:
    return {
        "out": out,
        "weights": str(weights),
        "steps": 2,
        "updates": 6,
        "batch": 4,
        "limit": 12,
        "validation_faces": 3,
        "validate_every": 2,
        "checkpoint_every": 2,
        **changes,
    }


def configured(out: Path, weights: Path, **changes: object) -> TrainAgentConfig:
    return build(TrainAgentConfig, **settings(out, weights, **changes))


def entries(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    # A temporary file whose writer was killed may be left; its name begins with a dot.
    weights = sorted(path.name for path in one.glob("[!.]*.safetensors"))
    assert weights == sorted(path.name for path in other.glob("[!.]*.safetensors"))
    for name in weights:
        kind = {"checkpoint": "training", "enhancer": "enhancer"}.get(Path(name).stem, "agent")
        first, _ = load_tensors(one / name, kind)
        second, _ = load_tensors(other / name, kind)
        assert first.keys() == second.keys()
        assert all(first[key].equal(second[key]) for key in first), name
    assert entries(one) == entries(other)


@pytest.mark.parametrize("changes", [{"joint": True}, {"baseline": "ema", "flip": False}])
def test_killed_at_any_update_and_resumed_it_ends_with_the_same_bits(
    changes, tmp_path, enhancer_weights, monkeypatch
) -> None:
    train_agent(configured(tmp_path / "whole", enhancer_weights, **changes))
    update = ReinforceTrainer.update
    calls = {"left": 0}

    def fragile(self):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(ReinforceTrainer, "update", fragile)
    killed, resume = tmp_path / "killed", False
    for survives in (3, 2, 10):
        calls["left"] = survives
        config = build(
            TrainAgentConfig, **settings(killed, enhancer_weights, **changes), resume=resume
        )
        if survives < 10:
            with pytest.raises(KeyboardInterrupt):
                train_agent(config)
        else:
            train_agent(config)
        resume = True
    assert_same_run(tmp_path / "whole", killed)


@pytest.mark.parametrize(
    ("train", "config_class", "trainer", "changes"),
    [
        (train_qmap, TrainQMapConfig, QMapTrainer, {"envs": 4, "tries": 2, "lookahead": True}),
        (train_qmap, TrainQMapConfig, QMapTrainer, {"envs": 4, "tries": 2, "gamma": 0.5}),
        (train_dagger, TrainDaggerConfig, DaggerTrainer, {"batch": 4}),
    ],
)
def test_the_other_learners_resume_with_the_same_bits(
    train, config_class, trainer, changes, tmp_path, enhancer_weights, monkeypatch
) -> None:
    quick = {**settings(tmp_path / "whole", enhancer_weights, action_stride=16), **changes}
    if "batch" not in changes:
        del quick["batch"]
        quick |= {"gradient_steps": 1, "learn_batch": 4, "width": 8, "memory": 4}
    train(build(config_class, **quick))
    update, calls = trainer.update, {"left": 3}

    def fragile(self):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(trainer, "update", fragile)
    quick["out"] = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(build(config_class, **quick))
    calls["left"] = 10
    train(build(config_class, **quick, resume=True))

    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    core = training.build(build(config_class, **quick)).core
    assert agents.load(tmp_path / "whole" / "best.safetensors", core).provenance["updates"] > 0


def test_killed_process_resumes_with_the_same_bits(tmp_path, enhancer_weights) -> None:
    changes = {"updates": 12, "validate_every": 12, "checkpoint_every": 1}
    program = (
        "import json, sys, torch\n"
        "from pathlib import Path\n"
        "from facehall_env.agents.reinforce.training import train_agent\n"
        "from facehall_env.agents.settings import TrainAgentConfig\n"
        "from facehall_env.nested import build\n"
        "torch.set_num_threads(int(sys.argv[1]))\n"
        "settings = json.loads(sys.argv[2])\n"
        "train_agent(build(TrainAgentConfig, **{**settings, 'out': Path(settings['out'])}))\n"
    )
    killed = settings(tmp_path / "killed", enhancer_weights, **changes)
    command = [
        sys.executable,
        "-c",
        program,
        str(torch.get_num_threads()),
        json.dumps(killed, default=str),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as victim:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "checkpoint.safetensors").exists():
            assert victim.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        victim.kill()
    _, metadata = load_tensors(tmp_path / "killed" / "checkpoint.safetensors", "training")
    assert metadata["step"] < 12
    train_agent(build(TrainAgentConfig, **killed, resume=True))
    train_agent(configured(tmp_path / "whole", enhancer_weights, **changes))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_best_weights_are_those_of_the_best_measurement(tmp_path, enhancer_weights) -> None:
    config = build(
        TrainAgentConfig, **settings(tmp_path / "run", enhancer_weights, validate_every=1)
    )
    best = train_agent(config)
    measured = {
        entry["step"]: entry["held_out/psnr_auc"]
        for entry in entries(tmp_path / "run")
        if "held_out/psnr_auc" in entry
    }
    assert sorted(measured) == [1, 2, 3, 4, 5, 6]
    trainer = ReinforceTrainer(config)
    agent = agents.load(best, trainer.core)
    scores = trainer.measure(agent)
    assert scores["held_out/psnr_auc"] == pytest.approx(max(measured.values()), abs=1e-9)
    assert agent.provenance["held_out"]["held_out/psnr"] == pytest.approx(scores["held_out/psnr"])


def test_init_starts_from_other_weights(tmp_path, enhancer_weights) -> None:
    first = train_agent(configured(tmp_path / "a", enhancer_weights, updates=2))
    config = configured(tmp_path / "b", enhancer_weights, init=first)
    tensors, _ = load_tensors(first, "agent")
    for name, tensor in ReinforceTrainer(config).learner.policy.state_dict().items():
        assert tensor.equal(tensors[name])
    with pytest.raises(ConfigurationError, match=r"'conv' policy.*'fc'"):
        ReinforceTrainer(
            build(
                TrainAgentConfig,
                **settings(tmp_path / "c", enhancer_weights, init=first, policy="fc"),
            )
        )


def test_one_shot_pastes_pieces_of_the_whole_face(tmp_path, enhancer_weights) -> None:
    config = configured(tmp_path, enhancer_weights, one_shot=True)
    trainer = ReinforceTrainer(config)
    faces = trainer.pool.held_out()
    state = trainer.core.reset(faces)
    whole = enhancers.load(enhancer_weights).whole_face()(faces.initial).clamp(0, 1)
    after, _, _ = trainer.core.step(state, torch.tensor([0, 100, 255]))
    expected = torch.where(after.coverage, whole, faces.initial)
    torch.testing.assert_close(after.image, expected)


def test_one_shot_of_patches_alone_restores_tiles() -> None:
    task = {"enhancer": "ipfh", "weights": None, "scale": 8, "one_shot": True}
    config = build(TrainAgentConfig, **task, action_stride=1)
    core = training.build(config).core
    torch.nn.init.normal_(core.enhancer.network.enhancer.leave.weight, std=0.1)
    faces = core.begin(data.protocols.get("bicubic").degrade(torch.rand(1, 3, 128, 128), 8))
    state = core.reset(faces)
    assert state.restored is not None
    action = torch.tensor([core.geometry.nearest_action(47, 79)])
    own = core.enhancer.network.enhancer
    top_left = core.geometry.top_left(action)
    patch = patches.crop(faces.initial, top_left, (32, 32))
    expected = own(patch, faces.initial, core.geometry.location(action))
    # A patch that is a tile is exactly what the network makes of it.
    torch.testing.assert_close(core.propose(state, action), expected)


def test_static_run_writes_a_sequence_that_loads_again(tmp_path, enhancer_weights) -> None:
    config = build(
        TrainStaticConfig,
        out=tmp_path / "static.safetensors",
        weights=str(enhancer_weights),
        limit=4,
        steps=3,
        stride=32,
    )
    path = train_static(config)
    core = training.build(config).core
    agent = agents.load(path, core)
    assert agent.provenance["settings"]["limit"] == "4"
    assert len(agent.centres) == 3
    with pytest.raises(ConfigurationError, match="limit=0: give a whole number of 1 or more"):
        train_static(TrainStaticConfig(out=tmp_path / "x", limit=0))
