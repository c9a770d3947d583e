"""Spatial policies in Stable-Baselines3, the agents that play them, and their files."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from facehall_env import agents
from facehall_env.agents.integrations.sb3_agents import SB3Agent, channels_first
from facehall_env.agents.integrations.sb3_policies import (
    OBSERVATION,
    SPATIAL,
    build_policy,
    hyperparameters,
    make_model,
)
from facehall_env.agents.reinforce.policies import ConvolutionalPolicy
from facehall_env.core import HallucinationCore
from facehall_env.data import FaceDataset, Faces, protocols
from facehall_env.errors import ConfigurationError, UnknownNameError, WeightsError
from facehall_env.observations import observation_space, observe
from facehall_env.rewards import Reward
from facehall_env.sb3 import FaceHallucinationVecEnv
from facehall_env.state import CoreState

ALGORITHMS = tuple(SPATIAL)
SIDE, STRIDE = 32, 8
STEPS = 640


class Spots(FaceDataset):
    """Grey images of 32x32 pixels, one of the 16 cells bright and another as much darker."""

    def __init__(self) -> None:
        self.name, self.split, self.image_size = "spots", "train", (SIDE, SIDE)

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> np.ndarray:
        image = np.full((SIDE, SIDE, 3), 128, np.uint8)
        for cell, value in ((self.checked(index), 228), ((index + 5) % 16, 28)):
            row, column = divmod(cell, 4)
            image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = value
        return image

    def key(self, index: int) -> str:
        return f"spot {index}"


class Spot(Reward):
    """1 for a patch on the bright (or the dark) cell, 0 elsewhere: 1/16 on average at random."""

    def __init__(self, bright: bool) -> None:
        self.bright = bright

    def terms(
        self, before: CoreState, after: CoreState, done: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        number = torch.arange(after.num_envs)
        pixel = after.hr[number, 0, after.location[:, 0], after.location[:, 1]]
        return {"spot": (pixel > 0.7 if self.bright else pixel < 0.3).double()}


def spots(num_envs: int = 8, **settings: Any) -> FaceHallucinationVecEnv:
    keywords: dict[str, Any] = {
        "dataset": Spots(),
        "enhancer": "bicubic",
        "patch_size": (8, 8),
        "reward": Spot(bright=True),
        "num_steps": 2,
        "action_stride": STRIDE,
        "observation": OBSERVATION,
        **settings,
    }
    return FaceHallucinationVecEnv(num_envs, **keywords)


def faces() -> Faces:
    return protocols.get("bicubic").degrade(Spots().batch(range(16)), 4)


def untrained(algorithm: str, envs: FaceHallucinationVecEnv, **settings: Any) -> BaseAlgorithm:
    small = {"dqn": {"buffer_size": 64}}.get(algorithm, {"n_steps": 4})
    batch = {} if algorithm in ("dqn", "a2c") else {"batch_size": 8}
    return make_model(algorithm, envs, **{"seed": 3, **small, **batch, **settings})


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class TestParameters:
    # Convolutions: inputs x outputs x kernel + bias; a map position for each of 16x16 cells.
    ENCODER = 6 * 24 * 16 + 24 + 24 * 32 * 9 + 32 + 32 * 32 * 9 + 32 + 32 * 16 * 16 + 32 * 8 + 8
    HEAD = 32 * 32 + (32 * 32 + 32) + (32 + 1)
    SUMMARY = 8 * 4 * 4 + 3
    CRITIC = SUMMARY * 64 + 64 + 64 + 1

    @pytest.mark.parametrize("stride", [1, 8])
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_the_head_costs_the_same_for_any_number_of_locations(
        self, algorithm: str, stride: int
    ) -> None:
        envs = FaceHallucinationVecEnv(1, enhancer="bicubic", action_stride=stride)
        space = channels_first(observation_space(envs.core, OBSERVATION))
        memory = {"lstm_hidden_size": 10, "shared_lstm": True, "enable_critic_lstm": False}
        kwargs = memory if algorithm == "recurrent_ppo" else {}
        policy = build_policy(algorithm, envs.core, space, policy_kwargs=kwargs)
        expected = self.ENCODER + self.HEAD + self.CRITIC
        if algorithm == "recurrent_ppo":
            expected += 4 * 10 * (self.SUMMARY + 10 + 2) + (10 * 32 + 32) + 10 * 64
        if algorithm == "dqn":
            expected *= 2  # the target network
        assert parameters(policy) == expected
        assert self.HEAD == 2113

    def test_both_lstms_read_the_summary_only(self) -> None:
        model = untrained("recurrent_ppo", spots(2), policy_kwargs={"lstm_hidden_size": 10})
        policy: Any = model.policy
        assert policy.lstm_actor.input_size == policy.lstm_critic.input_size == self.SUMMARY

    def test_a_critic_without_memory_is_refused(self) -> None:
        kwargs = {"shared_lstm": False, "enable_critic_lstm": False}
        with pytest.raises(ConfigurationError, match="shared_lstm and enable_critic_lstm"):
            untrained("recurrent_ppo", spots(1), policy_kwargs=kwargs)


def test_the_logits_are_those_of_our_own_network_with_the_same_weights() -> None:
    envs = spots(4, border="inside", patch_size=(12, 9))
    policy: Any = untrained("ppo", envs).policy
    own = ConvolutionalPolicy(envs.core.geometry, num_steps=2)
    own.load_state_dict(
        {
            **own.state_dict(),
            **dict(policy.features_extractor.named_parameters()),
            **dict(policy.action_net.named_parameters()),
        }
    )
    nn.init.zeros_(own.recollection.weight)
    nn.init.zeros_(own.recollection.bias)
    state = envs.core.step(envs.core.reset(faces()), torch.arange(16))[0]
    seen = observe(envs.core, state, OBSERVATION)
    expected, _, _ = own(seen)
    images = {key: seen[key].permute(0, 3, 1, 2) for key in ("image", "coverage")}
    found = policy.get_distribution({**seen, **images}).distribution.logits
    torch.testing.assert_close(found, expected.log_softmax(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_agent_plays_as_the_model_predicts(algorithm: str) -> None:
    envs = spots(16, num_steps=3)
    model = untrained(algorithm, envs)
    with torch.no_grad():  # so that the memory matters
        for name, parameter in model.policy.named_parameters():
            if "recollection" in name or "lstm" in name:
                parameter.mul_(8)
    agent = SB3Agent(envs.core, algorithm, policy=model.policy)
    wrapped = model.get_env()
    assert wrapped is not None
    wrapped.seed(0)
    theirs, ours = wrapped.reset(), None
    memory, state, starts = None, None, np.ones(16, bool)
    chosen = []
    for _ in range(2 * 3):
        extra = {"action_masks": envs.action_masks()} if algorithm == "maskable_ppo" else {}
        expected, memory = model.predict(
            theirs, memory, starts if memory is not None else None, deterministic=True, **extra
        )
        ours = observe(envs.core, envs.state, agent.observation_keys)
        action, state = agent.act(ours, state)
        assert action.tolist() == expected.tolist()
        chosen.append(action)
        theirs, _, starts, _ = wrapped.step(expected)
    if algorithm == "maskable_ppo":
        for episode in (chosen[:3], chosen[3:]):
            assert all(len(set(row)) == 3 for row in torch.stack(episode, 1).tolist())


LEARNING: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 32, "n_epochs": 4, "learning_rate": "lin_0.003"},
    "maskable_ppo": {"n_steps": 8, "batch_size": 32, "n_epochs": 4, "learning_rate": "lin_0.003"},
    "recurrent_ppo": {"n_steps": 8, "batch_size": 32, "n_epochs": 4, "learning_rate": "lin_0.003"},
    "a2c": {
        "n_steps": 4,
        "learning_rate": "lin_0.003",
        "use_rms_prop": False,
        "normalize_advantage": True,
        "ent_coef": 0.01,
    },
    "dqn": {
        "buffer_size": 2000,
        "learning_starts": 200,
        "train_freq": 1,
        "gradient_steps": 2,
        "learning_rate": "lin_0.003",
        "exploration_fraction": 0.7,
    },
}
MEMORY = {"lstm_hidden_size": 16, "shared_lstm": True, "enable_critic_lstm": False}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_learns_where_to_look(algorithm: str) -> None:
    kwargs = {"policy_kwargs": MEMORY} if algorithm == "recurrent_ppo" else {}
    settings = {"gamma": 0.0, "width": 16, "seed": 0, **kwargs, **LEARNING[algorithm]}
    # Untrained, both are the same network, which cannot be good at both.
    for bright in (True, False):
        # One step, or the mask would forbid to look at the spot again.
        envs = spots(16, num_steps=1, reward=Spot(bright))
        model = make_model(algorithm, envs, **settings)
        model.learn(STEPS)
        core, agent = envs.core, SB3Agent(envs.core, algorithm, policy=model.policy)
        _, found, _ = core.step(core.reset(faces()), agent.act(first_look(core, agent))[0])
        assert found.mean() >= 0.8


def first_look(core: HallucinationCore, agent: SB3Agent) -> dict[str, Any]:
    return observe(core, core.reset(faces()), agent.observation_keys)


class TestFiles:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_saved_and_loaded_it_plays_the_same(self, algorithm: str, tmp_path: Path) -> None:
        envs = spots(2)
        kwargs = {"policy_kwargs": MEMORY} if algorithm == "recurrent_ppo" else {}
        model = untrained(algorithm, envs, width=12, **kwargs)
        agent = SB3Agent(envs.core, algorithm, policy=model.policy)
        played = agents.rollout(envs.core, agent, faces()).actions
        path = tmp_path / "agent.safetensors"
        agent.save(path, {"trained": "not at all"})
        loaded = agents.load(path, envs.core)
        assert isinstance(loaded, SB3Agent)
        assert (loaded.name, loaded.provenance) == (algorithm, {"trained": "not at all"})
        assert torch.equal(agents.rollout(envs.core, loaded, faces()).actions, played)
        model.save(tmp_path / "model")
        foreign = agents.load(tmp_path / "model.zip", envs.core, allow_pickle=True)
        assert torch.equal(agents.rollout(envs.core, foreign, faces()).actions, played)

    def test_longer_episodes_count_as_in_training(self, tmp_path: Path) -> None:
        envs = spots(2)
        agent = SB3Agent(envs.core, "ppo", policy=untrained("ppo", envs).policy)
        agent.save(tmp_path / "agent.safetensors")
        longer = spots(2, num_steps=8).core
        loaded = agents.load(tmp_path / "agent.safetensors", longer)
        assert isinstance(loaded, SB3Agent)
        # Three of eight patches were half as many in episodes of two: one and a half.
        seen = loaded._entry({"step": torch.tensor([[3 / 8]])}, "step")
        assert seen.tolist() == [[1.5]]

    def test_a_stranger_is_read_with_a_flag_only(self, tmp_path: Path) -> None:
        envs = spots(2, observation=("last_action", "step"))
        PPO("MultiInputPolicy", envs, n_steps=2, batch_size=2).save(tmp_path / "theirs")
        with pytest.raises(WeightsError, match=r"pickles.*--trust-pickle"):
            agents.load(tmp_path / "theirs.zip", envs.core)
        agent = agents.load(tmp_path / "theirs.zip", envs.core, allow_pickle=True)
        assert agent.observation_keys == ("last_action", "step")
        assert agents.rollout(envs.core, agent, faces()).actions.shape == (16, 2)
        with pytest.raises(ConfigurationError, match="cannot be saved without a pickle"):
            agent.save(tmp_path / "x.safetensors")  # type: ignore[attr-defined]

    def test_nothing_is_run_without_the_flag(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "sprung",)

        trap = base64.b64encode(pickle.dumps(Trap())).decode()
        content = {"policy_class": {":type:": "x", ":serialized:": trap}}
        with zipfile.ZipFile(tmp_path / "trap.zip", "w") as archive:
            archive.writestr("data", json.dumps(content))
        core = spots(1).core
        with pytest.raises(WeightsError, match="pickles"):
            agents.load(tmp_path / "trap.zip", core)
        assert not (tmp_path / "sprung").exists()
        with pytest.raises(WeightsError, match=r"trap\.zip"):
            agents.load(tmp_path / "trap.zip", core, allow_pickle=True)
        assert (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("kind", ["safetensors", "zip"])
    def test_another_grid_is_refused_with_both_spaces(self, kind: str, tmp_path: Path) -> None:
        path = self.write(spots(1), kind, tmp_path)
        other = spots(1, action_stride=4).core
        with pytest.raises(WeightsError, match=r"Discrete\(16\).*Discrete\(64\)"):
            agents.load(path, other, allow_pickle=True)

    @pytest.mark.parametrize("kind", ["safetensors", "zip"])
    def test_another_observation_is_refused_with_both_spaces(
        self, kind: str, tmp_path: Path
    ) -> None:
        path = self.write(spots(1), kind, tmp_path)
        other = FaceHallucinationVecEnv(1, enhancer="bicubic", action_stride=32).core
        with pytest.raises(WeightsError, match=r"\(3, 32, 32\), uint8.*\(3, 128, 128\), uint8"):
            agents.load(path, other, allow_pickle=True)

    def test_other_patches_are_refused(self, tmp_path: Path) -> None:
        path = self.write(spots(1), "safetensors", tmp_path)
        with pytest.raises(WeightsError, match=r"patch_size 8x8.*patch_size 12x12"):
            agents.load(path, spots(1, patch_size=(12, 12)).core)

    def test_images_alone_are_no_observation_of_ours(self) -> None:
        core = spots(1).core
        policy: Any = untrained("ppo", spots(1)).policy
        policy.observation_space = spaces.Box(0, 255, (3, 32, 32), np.uint8)
        with pytest.raises(WeightsError, match=r"Box\(0, 255.*but the environment has Dict"):
            SB3Agent(core, "ppo", policy=policy)

    @pytest.mark.parametrize("kind", ["safetensors", "zip"])
    def test_locations_elsewhere_in_their_cells_are_refused(
        self, kind: str, tmp_path: Path
    ) -> None:
        path = self.write(spots(1, action_offset=1), kind, tmp_path)
        with pytest.raises(WeightsError, match=r"with offset 1, but the environment has offset 4"):
            agents.load(path, spots(1).core, allow_pickle=True)
        agents.load(path, spots(1, action_offset=1).core, allow_pickle=True)

    def test_what_is_no_archive(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"no archive")
        with pytest.raises(WeightsError, match=r"x\.zip is missing or no archive"):
            agents.load(tmp_path / "x.zip", spots(1).core)

    @staticmethod
    def write(envs: FaceHallucinationVecEnv, kind: str, folder: Path) -> Path:
        model = untrained("ppo", envs)
        if kind == "zip":
            model.save(folder / "model.zip")
            return folder / "model.zip"
        SB3Agent(envs.core, "ppo", policy=model.policy).save(folder / "agent.safetensors")
        return folder / "agent.safetensors"


class TestSettings:
    def test_every_algorithm_has_a_file_and_is_an_agent(self) -> None:
        assert agents.SB3_ALGORITHMS == ALGORITHMS
        assert set(ALGORITHMS) <= set(agents.available())
        core = spots(1).core
        for algorithm in ALGORITHMS:
            assert {"n_envs", "n_timesteps", "gamma"} <= set(hyperparameters(algorithm))
            assert agents.make(algorithm, core).name == algorithm

    def test_a_linear_schedule_ends_at_zero(self) -> None:
        model = untrained("ppo", spots(1), learning_rate="lin_0.004")
        assert [model.lr_schedule(left) for left in (1.0, 0.25, 0.0)] == [0.004, 0.001, 0.0]

    @pytest.mark.parametrize("rate", ["lin_x", "exp_0.1", "fast", "lin_-1"])
    def test_no_schedule(self, rate: str) -> None:
        with pytest.raises(ConfigurationError, match=r"lin_0\.001"):
            untrained("ppo", spots(1), learning_rate=rate)

    def test_unknown_names(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'ppo'"):
            make_model("pop", spots(1))
        with pytest.raises(ConfigurationError, match=r"ppo cannot be built.*n_setps"):
            make_model("ppo", spots(1), n_setps=4)
        with pytest.raises(ConfigurationError, match=r"'coverage'.*create the environment"):
            untrained("ppo", spots(1, observation=("image", "step", "last_action")))


def section(name: str) -> str:
    text = (Path(__file__).parents[2] / "docs" / "agents.md").read_text("utf-8")
    return text.partition(f"\n## {name}")[2].partition("\n## ")[0]


@pytest.mark.parametrize("number", [0, 1])
def test_example_of_the_documentation(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", section("Stable-Baselines3"), re.DOTALL | re.M)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code[number], "docs/agents.md", "exec"), {})
    assert printed.getvalue() == ("16\n" if number == 0 else "")
    assert (tmp_path / "agent.safetensors").exists() == (number == 1)
