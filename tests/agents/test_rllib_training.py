"""Training by RLlib in one process; `tests/facehall_env/test_rllib.py` has the remote runners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facehall_env import agents, data
from facehall_env.agents import training
from facehall_env.agents.integrations.rllib_training import RLlibTrainer, train_rllib
from facehall_env.agents.settings import TrainRLlibConfig
from facehall_env.checkpoints import load_tensors
from facehall_env.data import FaceDataset
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.nested import build


class Grey(FaceDataset):
    """Faces that cost nothing to draw: the reward here is the area that patches cover."""

    name, split, image_size = "grey", "train", (128, 128)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return np.full((128, 128, 3), 100 + index, dtype=np.uint8)

    def key(self, index: int) -> str:
        return str(index)


def config(out: Path, **settings: Any) -> TrainRLlibConfig:
    """Two patches of 60x45, whose centres lie 32 pixels apart and may be too near to the edge."""
    toy: dict[str, Any] = {
        "enhancer": "bicubic",
        "reward": "coverage",
        "steps": 2,
        "action_stride": 32,
        "num_env_runners": 0,
        "envs_per_runner": 32,
        "batch": 64,
        "minibatch": 32,
        "learning_rate": 3e-3,
        "validation_faces": 2,
        "validate_every": 100,
        "checkpoint_every": 100,
    }
    return build(TrainRLlibConfig, out=out, **{**toy, **settings})


def returns(out: Path) -> list[float]:
    entries = map(json.loads, (out / "log.jsonl").read_text("utf-8").splitlines())
    return [entry["return"] for entry in entries if "return" in entry]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs RLlib: pip install 'facehall-env[rllib]'")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(autouse=True)
def _grey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "make", lambda name, split: Grey())


def test_it_learns_to_cover_more_than_chance(ray: Any, tmp_path: Path) -> None:
    settings = config(tmp_path / "run", updates=16)
    best = train_rllib(settings)
    curve = returns(settings.out)
    # Chance is twice the mean area of a patch, 53 x 41.75, less what two of them share; as good as
    # it gets are two whole patches, centred at (48, 48) and (80, 80), which share 28 x 13 pixels.
    chance, good = 0.25, (2 * 60 * 45 - 28 * 13) / 128**2
    assert curve[0] == pytest.approx(chance, abs=0.02)
    assert np.mean(curve[-3:]) > (chance + good) / 2
    # What it wrote plays without Ray, and no worse than it was sampled at the end.
    core = training.build(settings).core
    agent = agents.load(best, core)
    faces = data.protocols.get("bicubic").degrade(Grey().batch([0]), 4)
    covered = agents.rollout(core, agent, faces).state.coverage.double().mean().item()
    assert covered > curve[0]


def test_it_goes_on_from_a_checkpoint_that_is_trusted(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, update = tmp_path / "run", RLlibTrainer.update
    settings = config(out, updates=3, checkpoint_every=2, batch=4, minibatch=4, envs_per_runner=4)
    done: list[dict[str, Any]] = []

    def interrupted(trainer: RLlibTrainer) -> dict[str, float]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append({})
        return update(trainer)

    monkeypatch.setattr(RLlibTrainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_rllib(settings)
    assert [path.name for path in out.glob("rllib-*")] == ["rllib-000002"]
    settings.resume = True
    with pytest.raises(WeightsError, match=r"holds pickles.*--trust-pickle"):
        train_rllib(settings)

    def watched(trainer: RLlibTrainer) -> dict[str, float]:
        trainer.copy_policy()
        done.append(
            {key: value.clone() for key, value in trainer.agent.policy.state_dict().items()}
        )
        return update(trainer)

    monkeypatch.setattr(RLlibTrainer, "update", watched)
    settings.trust_pickle = True
    saved, _ = load_tensors(out / "checkpoint.safetensors", kind="training")
    assert train_rllib(settings) == out / "best.safetensors"
    assert len(done) == 3
    assert done[2].keys() == saved.keys()
    assert all((done[2][key] == tensor).all() for key, tensor in saved.items())
    assert len(returns(out)) == 3
    assert [path.name for path in out.glob("rllib-*")] == ["rllib-000003"]


def test_a_run_that_exists_is_not_overwritten(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").touch()
    with pytest.raises(ConfigurationError, match="already holds a training run"):
        train_rllib(config(tmp_path))


def test_held_out_faces_must_leave_some_to_train_on(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="20 faces cannot give 11 held-out ones"):
        train_rllib(config(tmp_path / "run", validation_faces=11))
