"""Nothing between the first face and the last gradient of an update passes through the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facehall_env.agents.reinforce.learner import play_episode
from facehall_env.agents.reinforce.training import ReinforceTrainer
from facehall_env.agents.settings import TrainAgentConfig
from facehall_env.nested import build

TO_HOST = ("aten::_local_scalar_dense", "aten::nonzero", "aten::multinomial")
"""What waits for a device: item() and bool(), shapes that depend on values, and what looks at its
own input on the host."""
FROM_HOST = "aten::lift_fresh"
"""What torch.tensor() does with its numbers; the device is waited for, too."""


class HostWatch(TorchDispatchMode):
    """Notes what a GPU would have to be waited for; processors show the same operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.name() in (*TO_HOST, FROM_HOST):
            self.seen.append(function.name())
        return function(*args, **(kwargs or {}))


def make_trainer(device: str = "cpu", **settings: Any) -> ReinforceTrainer:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "weights": None,
        "steps": 2,
        "batch": 2,
        "limit": 4,
        "validation_faces": 1,
        "device": device,
    }
    return ReinforceTrainer(build(TrainAgentConfig, **{**defaults, **settings}))


SETTINGS: list[dict[str, Any]] = [
    {},
    {"joint": True, "border": "inside", "samples_per_face": 2, "baseline": "group"},
    {"foresight": True, "mask_visited": True},
    {"one_shot": True, "foresight": True, "policy": "fc", "baseline": "ema"},
    {"enhancer": "attention_fh", "reward": "delayed_mse + 4*coverage"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_update_waits_for_nothing(settings: dict[str, Any], monkeypatch) -> None:
    trainer = make_trainer(**settings)
    faces = trainer.pool.held_out().rows(torch.zeros(2, dtype=torch.int64))
    # Adam counts its steps on the host, where they stay.
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer: None)
    with HostWatch() as watch:
        trainer.learner.update(faces)
    assert watch.seen == []


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (lambda reward: reward.sum().item(), TO_HOST[0]),
        (lambda reward: bool((reward > 0).any()), TO_HOST[0]),
        (lambda reward: reward.nonzero(), TO_HOST[1]),
        (lambda reward: reward * torch.tensor([0.5]), FROM_HOST),
    ],
)
def test_the_watch_sees_who_looks(look: Callable[[torch.Tensor], Any], expected: str) -> None:
    trainer = make_trainer()
    learner = trainer.learner

    def advance(state, action):
        after, reward, done = trainer.core.step(state, action)
        look(reward)
        return after, reward, done

    with HostWatch() as watch:
        play_episode(
            trainer.core,
            learner.policy,
            trainer.pool.held_out(),
            learner.generator,
            advance=advance,
        )
    assert watch.seen == [expected] * 2


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_gpu_is_not_waited_for(settings: dict[str, Any]) -> None:
    trainer = make_trainer("cuda", **settings)
    learner = trainer.learner
    config = trainer.config
    faces = trainer.pool.held_out().rows(torch.zeros(2, dtype=torch.int64)).to("cuda")
    learner.update(faces)  # tunes kernels, which may wait
    with waiting_is_an_error():
        episode = play_episode(
            trainer.core,
            learner.policy,
            faces,
            learner.generator,
            config.mask_visited,
            learner._enhance_and_learn if config.joint else None,
            learner._foresee if config.foresight else None,
        )
        policy_loss, value_loss = learner.losses(episode)
        (policy_loss + value_loss).backward()
    assert episode.log_prob.device.type == "cuda"
