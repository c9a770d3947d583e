"""Training runs of Stable-Baselines3's algorithms: what they leave on disk, and going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facehall_env import agents, data
from facehall_env.agents.integrations import sb3_training
from facehall_env.agents.integrations.sb3_training import (
    PoolFaces,
    SB3Trainer,
    train_sb3,
)
from facehall_env.agents.settings import TrainSB3Config
from facehall_env.agents.training import held_out_scores
from facehall_env.benchmarks.cli.program import main
from facehall_env.checkpoints import load_tensors
from facehall_env.data import FaceDataset
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.nested import build
from facehall_env.training.face_pool import FacePool

SMALL = {
    "ppo": ("n_steps=4", "batch_size=8", "n_epochs=1"),
    "maskable_ppo": ("n_steps=4", "batch_size=8", "n_epochs=1"),
    "recurrent_ppo": ("n_steps=4", "batch_size=8", "n_epochs=1"),
    "a2c": ("n_steps=4",),
    "dqn": ("buffer_size=64", "learning_starts=8", "batch_size=4", "train_freq=1"),
}


class Noise(FaceDataset):
    """Pictures of 64x64 pixels with edges everywhere."""

    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "noise", "train", (64, 64)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(self.checked(index))
        return np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(index)


@pytest.fixture(autouse=True)
def small_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS._factories, "noise", Noise)


def settings(out: Path, algo: str = "ppo", **changes: Any) -> TrainSB3Config:
    keywords: dict[str, Any] = {
        "algo": algo,
        "out": out,
        "dataset": "noise",
        "enhancer": "bicubic",
        "reward": "coverage",
        "steps": 2,
        "timesteps": 48,
        "hyperparameter": ("n_envs=2", *SMALL[algo]),
        "validation_faces": 3,
        "validate_every": 16,
        "checkpoint_every": 8,
        **changes,
    }
    return build(TrainSB3Config, **keywords)


def entries(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", agents.SB3_ALGORITHMS)
def test_a_run_leaves_log_checkpoint_and_weights(algorithm: str, tmp_path: Path) -> None:
    config = settings(tmp_path, algorithm)
    best = train_sb3(config)
    assert best == tmp_path / "best.safetensors"
    assert list(tmp_path.glob("events.out.tfevents.*")) != []
    measured = [entry for entry in entries(tmp_path) if "held_out/psnr" in entry]
    # Along the way, and once more at the end.
    assert [entry["step"] for entry in measured] == [16, 32, 48, 48]
    logged = [entry for entry in entries(tmp_path) if "train/n_updates" in entry]
    assert logged[-1]["train/n_updates"] > 0
    tensors, metadata = load_tensors(tmp_path / "checkpoint.safetensors", "training")
    assert metadata["step"] == 48
    policy = SB3Trainer(config).model.policy
    assert {f"policy/{name}" for name in policy.state_dict()} <= tensors.keys()
    assert any(name.startswith("optimizer/") for name in tensors)
    # The best weights are those of the best measurement.
    trainer = SB3Trainer(config)
    agent = agents.load(best, trainer.envs.core)
    scores = held_out_scores(trainer.envs.core, agent, trainer.pool.held_out())
    expected = max(entry["held_out/psnr_auc"] for entry in measured)
    assert scores["held_out/psnr_auc"] == pytest.approx(expected, abs=1e-9)
    assert agent.provenance["settings"]["algo"] == algorithm  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", ["recurrent_ppo", "dqn"])
def test_killed_it_goes_on_where_the_checkpoint_stands(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_step = sb3_training.Watch._on_step

    def fragile(self: sb3_training.Watch) -> bool:
        if self.num_timesteps > 26:
            raise KeyboardInterrupt
        return on_step(self)

    monkeypatch.setattr(sb3_training.Watch, "_on_step", fragile)
    with pytest.raises(KeyboardInterrupt):
        train_sb3(settings(tmp_path, algorithm))
    before, state = load_tensors(tmp_path / "checkpoint.safetensors", "training")
    assert state["step"] == 24
    with pytest.raises(ConfigurationError, match="--resume"):
        train_sb3(settings(tmp_path, algorithm))

    restored: dict[str, torch.Tensor] = {}

    def watch(self: sb3_training.Watch) -> bool:
        if not restored:
            assert self.num_timesteps == 26
            tensors = self._trainer.state_tensors()
            restored.update({name: tensor.clone() for name, tensor in tensors.items()})
        return on_step(self)

    monkeypatch.setattr(sb3_training.Watch, "_on_step", watch)
    train_sb3(settings(tmp_path, algorithm, resume=True))
    assert restored.keys() == before.keys()
    assert all(restored[name].equal(before[name]) for name in before)
    steps = [entry["step"] for entry in entries(tmp_path)]
    assert steps == sorted(steps)
    assert steps[-1] == 48
    after, end = load_tensors(tmp_path / "checkpoint.safetensors", "training")
    assert end["state"]["updates"] > state["state"]["updates"]
    assert end["state"]["best"] >= state["state"]["best"]
    moments = [name for name in before if name.startswith("optimizer/") and "step" in name]
    assert moments != []
    assert all(after[name] > before[name] for name in moments)
    assert sorted(path.suffix for path in tmp_path.iterdir() if "tfevents" not in path.name) == [
        ".json", ".jsonl", ".safetensors", ".safetensors", ".safetensors",
    ]  # fmt: skip


def test_faces_are_those_of_the_pool_and_mirrored_once() -> None:
    pool = FacePool(Noise(), data.protocols.get("bicubic"), 4, held_out=2, progress=False)
    faces = PoolFaces(pool, "noise", (64, 64), mirrored=True)
    assert len(faces) == 20
    assert np.array_equal(faces[9], Noise()[9])
    assert np.array_equal(faces[10], Noise()[0][:, ::-1])
    assert faces.batch([3, 13]).flip(3)[0].equal(faces.batch([13])[0])
    assert [faces.key(3), faces.key(13)] == ["train/00003", "mirrored/00003"]
    assert len(PoolFaces(pool, "noise", (64, 64), mirrored=False)) == 10


def test_hyperparameters_come_from_the_file_and_the_command_line(tmp_path: Path) -> None:
    changed = ("n_envs=3", "n_steps=5", "batch_size=15", "gamma=0.5", "learning_rate=lin_0.01")
    model: Any = SB3Trainer(settings(tmp_path, hyperparameter=changed)).model
    assert (model.n_envs, model.n_steps, model.gamma) == (3, 5, 0.5)
    assert model.lr_schedule(0.5) == 0.005
    assert model.n_epochs == 3  # the file's
    with pytest.raises(ConfigurationError, match="n_envs=0 is out of range"):
        SB3Trainer(settings(tmp_path, hyperparameter=("n_envs=0",)))


def test_an_unknown_hyperparameter_is_refused_before_any_face_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FacePool, "open", lambda *_: pytest.fail("faces were read"))
    with pytest.raises(UnknownNameError, match="hyperparameter 'gama': did you mean 'gamma'"):
        SB3Trainer(settings(tmp_path, hyperparameter=("gama=1",)))


class TestCommandLine:
    def test_each_algorithm_explains_itself(self, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, option, tuned in (
            (["dqn"], "--hyperparameter", "buffer_size=5000"),
            (["a2c"], "--hyperparameter", "use_rms_prop=False"),
            (["reinforce"], "--foresight", ""),
        ):
            with pytest.raises(SystemExit) as exit_:
                main(["train", "agent", *arguments, "--help"])
            assert exit_.value.code == 0
            printed = capsys.readouterr().out
            assert option in printed
            assert tuned in printed

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [(["ppo2"], "did you mean 'ppo'"), (["--algo", "ppo"], "--algo stands where a command is")],
    )
    def test_what_is_no_algorithm(
        self, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", "agent", *arguments]) == 2
        assert complaint in capsys.readouterr().err

    def test_it_trains(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = (
            f"train agent maskable_ppo --dataset noise --enhancer bicubic --steps 2 "
            f"--timesteps 16 --validation-faces 2 --out {tmp_path} "
            f"--hyperparameter n_envs=2 n_steps=4 batch_size=8"
        )
        assert main(line.split()) == 0
        assert capsys.readouterr().out == f"written: {tmp_path / 'best.safetensors'}\n"
        assert json.loads((tmp_path / "config.json").read_text())["algo"] == "maskable_ppo"
