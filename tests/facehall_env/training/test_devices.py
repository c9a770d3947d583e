"""Several processes make the updates of one: arithmetic, both trainings, and real processes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facehall_env import data, enhancers
from facehall_env.agents.reinforce.training import ReinforceTrainer, train_agent
from facehall_env.agents.settings import TrainAgentConfig
from facehall_env.checkpoints import load_tensors, save_tensors, with_prefix
from facehall_env.data import FaceDataset
from facehall_env.errors import ConfigurationError, MissingExtraError, UnknownNameError
from facehall_env.nested import build
from facehall_env.training.distributed import Team, launch
from facehall_env.training.enhancer import EnhancerTrainer, train_enhancer
from facehall_env.training.loop import train_share
from facehall_env.training.settings import TrainEnhancerConfig


class Noise(FaceDataset):
    """Pictures that cost nothing to make."""

    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "noise", split, (128, 128)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(self.checked(index))
        coarse = rng.integers(0, 256, (16, 16, 3))
        return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))


@pytest.fixture(autouse=True)
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS._factories, "noise", Noise)


class ThreadTeam(Team):
    """Threads in the place of processes."""

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(slots)
        self._slots, self._barrier = slots, barrier

    def sum(self, tensor: Tensor) -> Tensor:
        self._slots[self.rank] = tensor.detach().clone()
        self._barrier.wait(60)
        total = torch.stack(self._slots).sum(0)
        self._barrier.wait(60)
        return total


def team_of(size: int) -> list[ThreadTeam]:
    slots: list[Any] = [None] * size
    barrier = threading.Barrier(size)
    return [ThreadTeam(rank, slots, barrier) for rank in range(size)]


def together(*works: Callable[[], Any]) -> list[Any]:
    """What functions return that run at the same time."""
    results: list[Any] = [None] * len(works)

    def run(place: int) -> None:
        results[place] = works[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestTeam:
    def test_rows_are_split_and_joined_in_order(self) -> None:
        drawn = torch.arange(12.0).view(6, 2)
        teams = team_of(3)
        assert [team.own(drawn)[:, 0].tolist() for team in teams] == [[0, 2], [4, 6], [8, 10]]
        joined = together(*(lambda team=team: team.joined(team.own(drawn)) for team in teams))
        assert all(rows.equal(drawn) for rows in joined)

    def test_a_balanced_loss_is_the_mean_over_all_pixels(self) -> None:
        errors = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]
        teams = team_of(2)

        def balanced(team: ThreadTeam) -> Tensor:
            own = errors[team.rank]
            return team.mean(team.balanced(own.mean(), torch.tensor(len(own))))

        values = together(*(lambda team=team: balanced(team) for team in teams))
        assert [value.item() for value in values] == [4.0, 4.0]

    def test_gradients_are_averaged_in_place(self) -> None:
        teams = team_of(2)
        networks = [nn.Linear(2, 1), nn.Linear(2, 1)]
        for network, slope in zip(networks, (1.0, 3.0), strict=True):
            network.weight.grad = torch.tensor([[slope, -slope]])
            network.bias.grad = torch.tensor([10 * slope])
        together(
            *(
                lambda pair=pair: pair[0].average_gradients(pair[1].parameters())
                for pair in zip(teams, networks, strict=True)
            )
        )
        for network in networks:
            assert network.weight.grad.tolist() == [[2.0, -2.0]]
            assert network.bias.grad.tolist() == [20.0]

    def test_unequal_shares_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="batch gives 6 faces, which 4 processes"):
            team_of(4)[0].check_shares(batch=6)


def enhancer_config(**changes: object) -> TrainEnhancerConfig:
    settings: dict[str, Any] = {
        "enhancer": "compact",
        "enhancer_settings": ("width=8", "blocks=1"),
        "dataset": "noise",
        "fresh_updates": 3,
        "fresh_batch": 4,
        "rollout_updates": 3,
        "rollout_envs": 4,
        "steps": 2,
        "validation_faces": 2,
        "checkpoint_every": 2,
        **changes,
    }
    return build(TrainEnhancerConfig, **settings)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)
        else:
            assert found[name].equal(tensor), name


def steady(optimizer: torch.optim.Optimizer) -> None:
    """Keeps Adam from blowing up the rounding errors of gradients that are zero to full steps."""
    for group in optimizer.param_groups:
        group["eps"] = 1e-4


@pytest.mark.parametrize("fresh_on", ["faces", "patches"])
def test_enhancers_learn_as_on_the_joined_batch(fresh_on: Any) -> None:
    config = enhancer_config(fresh_on=fresh_on)
    alone = EnhancerTrainer(config)
    start = {name: tensor.clone() for name, tensor in alone.enhancer.state_dict().items()}
    pair = [EnhancerTrainer(config, team) for team in team_of(2)]

    def train(trainer: EnhancerTrainer) -> tuple[list[float], dict[str, Tensor]]:
        steady(trainer.optimizers["enhancer"])
        losses = [trainer.update()["loss"] for _ in range(6)]
        return losses, trainer.state_tensors()

    losses, expected = train(alone)
    assert not expected["enhancer/network.head.weight"].equal(start["network.head.weight"])
    for found_losses, found in together(*(lambda one=one: train(one) for one in pair)):
        assert found_losses == pytest.approx(losses, abs=1e-6)
        assert_close(found, expected)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A small enhancer that changes something, so that there are rewards."""
    torch.manual_seed(0)
    enhancer = enhancers.make("compact", width=8, blocks=1)
    with torch.no_grad():
        enhancer.network.tail.weight.normal_(std=0.01)
    enhancers.save(enhancer, tmp_path / "enhancer.safetensors")
    return str(tmp_path / "enhancer.safetensors")


def agent_config(weights: str, **changes: object) -> TrainAgentConfig:
    settings: dict[str, Any] = {
        "weights": weights,
        "dataset": "noise",
        "steps": 2,
        "updates": 3,
        "batch": 8,
        "validation_faces": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
        **changes,
    }
    return build(TrainAgentConfig, **settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"joint": True},
        {"baseline": "group", "samples_per_face": 2, "normalise": "batch"},
        {"one_shot": True, "foresight": True},
        {"baseline": "ema", "mask_visited": True, "action_stride": 64},
    ],
)
def test_agents_learn_as_on_the_joined_batch(changes: dict[str, Any], weights: str) -> None:
    config = agent_config(weights, **changes)
    alone = ReinforceTrainer(config)
    pair = [ReinforceTrainer(config, team) for team in team_of(2)]

    def train(trainer: ReinforceTrainer) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
        for optimizer in trainer.learner.optimizers.values():
            steady(optimizer)
        return [trainer.update() for _ in range(config.updates)], trainer.state_tensors()

    scores, expected = train(alone)
    for found_scores, found in together(*(lambda one=one: train(one) for one in pair)):
        for score, expected_score in zip(found_scores, scores, strict=True):
            assert score == pytest.approx(expected_score, rel=1e-4, abs=1e-6)
        assert_close(found, expected)


def test_shares_that_do_not_come_out_are_refused(weights: str) -> None:
    with pytest.raises(ConfigurationError, match="batch gives 2 faces, which 4 processes"):
        ReinforceTrainer(agent_config(weights, batch=8, samples_per_face=4), team_of(4)[0])
    with pytest.raises(ConfigurationError, match="rollout_envs gives 4 faces, which 3 processes"):
        EnhancerTrainer(enhancer_config(fresh_batch=3), team_of(3)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 0}, "devices=0: give a whole number of 1 or more"),
        ({"devices": 2, "device": "cpu:0"}, "name their kind only, 'cpu'"),
        ({"devices": 3 + (os.cpu_count() or 1)}, "processor cores for .* processes"),
        ({"devices": 1 + torch.cuda.device_count(), "num_nodes": 2, "device": "cuda"}, "CUDA dev"),
    ],
)
def test_impossible_devices_are_refused(changes: dict[str, Any], message: str, tmp_path) -> None:
    pytest.importorskip("lightning_fabric")
    with pytest.raises(ConfigurationError, match=message):
        train_enhancer(enhancer_config(out=tmp_path / "run", **changes))


def test_without_lightning_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'facehall-env\[fabric\]'"):
        train_enhancer(enhancer_config(out=tmp_path / "run", devices=2))


def test_one_device_needs_no_lightning(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    seen: list[tuple[int, int, bool]] = []

    def train(config: TrainEnhancerConfig, team: Team) -> Path:
        seen.append((team.rank, team.size, team.leads))
        return Path("here")

    assert launch(train, enhancer_config()) == Path("here")
    assert seen == [(0, 1, True)]


def train_both(config: TrainAgentConfig, team: Team) -> Path:
    """Trains an enhancer and an agent, writes what each process ends with, and makes a run."""
    data.DATASETS._factories["noise"] = Noise
    enhancer = EnhancerTrainer(enhancer_config(device=config.device), team)
    agent = ReinforceTrainer(config, team)
    for optimizer in (*enhancer.optimizers.values(), *agent.learner.optimizers.values()):
        steady(optimizer)
    for _ in range(6):
        enhancer.update()
    for _ in range(config.updates):
        agent.update()
    tensors = {
        **with_prefix("enhancer", enhancer.state_tensors()),
        **with_prefix("agent", agent.state_tensors()),
    }
    path = config.out / f"{team.rank}-of-{team.size}.safetensors"
    save_tensors(path, tensors, {}, kind="training")
    shared = dataclasses.replace(config, out=config.out / str(team.size))
    return train_share(shared, team, trainer=ReinforceTrainer, directory=shared.out)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("one_thread")
class TestProcesses:
    """Two processes that talk over gloo."""

    def test_trainings_and_runs_are_those_of_one_process(self, weights, tmp_path, monkeypatch):
        pytest.importorskip("lightning_fabric")
        # The processes import what they run by its name.
        monkeypatch.syspath_prepend(str(Path(__file__).parent))
        work = importlib.import_module(Path(__file__).stem).train_both
        config = agent_config(weights, joint=True, out=tmp_path, devices=2)
        assert launch(work, config) == tmp_path / "2" / "best.safetensors"
        work(config, Team())
        expected, _ = load_tensors(tmp_path / "0-of-1.safetensors", "training")
        for rank in range(2):
            found, _ = load_tensors(tmp_path / f"{rank}-of-2.safetensors", "training")
            assert_close(found, expected)

        # One of the processes wrote a run like that of one process, which goes on as such.
        logs = [
            [json.loads(line) for line in (tmp_path / size / "log.jsonl").read_text().splitlines()]
            for size in "21"
        ]
        for found_entry, expected_entry in zip(*logs, strict=True):
            for entry in (found_entry, expected_entry):
                del entry["seconds"]
            assert found_entry == pytest.approx(expected_entry, rel=1e-3, abs=1e-5)
        again = dataclasses.replace(config, out=tmp_path / "2", devices=1, resume=True)
        assert train_agent(again) == tmp_path / "2" / "best.safetensors"

    @pytest.mark.slow
    def test_errors_come_back_as_they_are(self, weights, tmp_path) -> None:
        pytest.importorskip("lightning_fabric")
        config = agent_config(weights, dataset="nowhere", out=tmp_path / "run", devices=2)
        with pytest.raises(UnknownNameError, match="nowhere"):
            train_agent(config)

    @pytest.mark.slow
    def test_two_nodes_without_a_launcher(self, tmp_path) -> None:
        pytest.importorskip("lightning_fabric")
        config = enhancer_config(dataset="synthetic", limit=8, out=tmp_path / "one")
        expected = enhancers.load(train_enhancer(config)).state_dict()
        program = (
            "from pathlib import *\n"
            "from facehall_env.spec import *\n"
            "from facehall_env.training.settings import *\n"
            "from facehall_env.training.enhancer import train_enhancer\n"
            "if __name__ == '__main__':\n"
            "    train_enhancer({config!r})\n"
        )
        config = dataclasses.replace(config, out=tmp_path / "two", num_nodes=2)
        script = tmp_path / "train.py"
        script.write_text(program.format(config=config))
        nodes = [
            subprocess.Popen(
                [sys.executable, str(script)],
                env={
                    **os.environ,
                    "NODE_RANK": str(rank),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": "29533",
                },
                stderr=subprocess.DEVNULL,
            )
            for rank in range(2)
        ]
        assert [node.wait(300) for node in nodes] == [0, 0]
        found = enhancers.load(tmp_path / "two" / "enhancer.safetensors").state_dict()
        assert_close(found, expected)
