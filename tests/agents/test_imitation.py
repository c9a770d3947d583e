"""DAgger: labels by hand, who plays which step, and that a policy takes the oracle's ways."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from facehall_env import enhancers
from facehall_env.agents.dagger import Imitation
from facehall_env.agents.play import rollout
from facehall_env.agents.reinforce.agent import ReinforceAgent, untrained_policy
from facehall_env.agents.settings import ImitationConfig
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.errors import ConfigurationError

SIZE = (16, 16)


@pytest.fixture
def best_first(plant) -> Tensor:
    """Four locations: most to win at the third, something at the second, nothing elsewhere."""
    return plant({(1, 0): 0.3, (0, 1): 0.2}, SIZE)


def learner(core: HallucinationCore, **settings) -> Imitation:
    config = ImitationConfig(**{"updates": 40, "batch": 8, "learning_rate": 5e-3, **settings})
    return Imitation(core, untrained_policy("conv", core, seed=0), config)


def test_labels_are_a_softmax_of_the_gains(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    imitation = learner(core, temperature=0.5)

    label = imitation.label(core.reset(flat_faces(best_first, 1)))[0].exp().tolist()

    # Gains are as 9 to 4, in units of half of the best one.
    weights = [1.0, math.exp(8 / 9), math.exp(2), 1.0]
    assert label == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-5)


def test_where_nothing_is_to_win_all_locations_are_alike(
    planted_core, flat_faces, best_first
) -> None:
    core = planted_core(torch.zeros_like(best_first))
    label = learner(core).label(core.reset(flat_faces(torch.zeros_like(best_first), 1)))

    assert label.exp()[0].tolist() == pytest.approx([0.25] * 4)


def test_patch_enhancers_are_judged_at_the_locations_tried(
    flat_faces: Callable[[Tensor, int], Faces],
) -> None:
    enhancer = enhancers.make("attention_fh", patch_size=(7, 7), image_size=(32, 32))
    with torch.no_grad():  # the same brightening everywhere, where half of the face wants it
        enhancer.convolutions[-1].bias.fill_(0.1)
    core = HallucinationCore(enhancer, image_size=(32, 32), action_stride=8, num_steps=1)
    change = torch.zeros(1, 1, 32, 32)
    change[..., 16:, :] = 0.1
    imitation = learner(core, stride=16)

    label = imitation.label(core.reset(flat_faces(change, 1)))[0].exp()

    tried = imitation.locations.tolist()
    assert len(tried) == 4
    assert label.sum().item() == pytest.approx(1.0)
    assert label[[action for action in range(16) if action not in tried]].sum() == 0
    assert label[tried[2:]].sum().item() == pytest.approx(1.0)
    assert label[tried[2]].item() == pytest.approx(label[tried[3]].item(), rel=1e-3)


def test_a_policy_comes_to_go_the_oracles_way(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    imitation = learner(core)
    for _ in range(40):
        scores = imitation.update(flat_faces(best_first, 8))

    agent = ReinforceAgent(core, imitation.policy)
    assert rollout(core, agent, flat_faces(best_first, 1)).actions[0].tolist() == [2, 1]
    assert scores["train/agreement"] == 1.0


def test_the_oracle_takes_fewer_and_fewer_steps(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    imitation = learner(core, oracle_steps=0.5)
    shares = []
    for updates in (0, 10, 20, 30):
        imitation.step = updates
        shares.append(imitation.oracle_share)
    assert shares == [1.0, 0.5, 0.0, 0.0]

    imitation.step = 0
    _, scores = imitation.play(flat_faces(best_first, 4))
    assert scores["train/psnr"] == pytest.approx(100.0)  # all that was planted is won in two steps


def test_it_goes_on_where_it_stood(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    one, other = learner(core), learner(core, seed=5)
    faces = flat_faces(best_first, 8)
    one.update(faces)
    saved = {name: value.clone() for name, value in one.state_tensors().items()}
    metadata = one.state_metadata()
    expected = one.update(faces)

    other.restore(1, saved, metadata)

    assert other.update(faces) == expected


def test_settings_out_of_range_are_named(planted_core, best_first) -> None:
    with pytest.raises(ConfigurationError, match="temperature=0: give a number above 0"):
        learner(planted_core(best_first), temperature=0)
