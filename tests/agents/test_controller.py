"""IPFH's policy controller."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from facehall_env import agents
from facehall_env.agents import Controller, ReinforceAgent, rollout
from facehall_env.agents.ipfh.controller import OneHotLinear, last_action
from facehall_env.agents.reinforce.learner import Reinforce
from facehall_env.agents.reinforce.policies import make_policy
from facehall_env.agents.settings import ReinforceConfig
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Bicubic
from facehall_env.observations import observe
from facehall_env.patches import PatchGeometry

GEOMETRY = PatchGeometry((32, 32), (7, 7), "centre", 8)
LOCATIONS = 16


def observation(number: int = 3, steps: int = 4) -> dict[str, Tensor]:
    """Faces that have had 0, 1, 2, ... patches."""
    draws = torch.Generator().manual_seed(0)
    taken = torch.arange(number) % steps
    history = torch.randint(LOCATIONS, (number, steps), generator=draws)
    return {
        "image": torch.randint(0, 256, (number, 32, 32, 3), generator=draws, dtype=torch.uint8),
        "last_patch": torch.randint(0, 256, (number, 7, 7, 3), generator=draws, dtype=torch.uint8),
        "action_history": history.where(torch.arange(steps) < taken[:, None], -1),
        "step": taken[:, None] / steps,
    }


def controller(**config: int) -> Controller:
    torch.manual_seed(0)
    return Controller(GEOMETRY, **{"num_steps": 4, "hidden": 48, "width": 4, **config})


class TestOneHot:
    def test_equals_the_product_with_explicit_one_hot_vectors(self) -> None:
        layer = OneHotLinear(LOCATIONS, 5)
        index = torch.tensor([3, -1, 0, 15, 3])
        one_hot = torch.zeros(5, LOCATIONS)
        for row, column in enumerate(index.tolist()):
            if column >= 0:
                one_hot[row, column] = 1
        torch.testing.assert_close(layer(index), one_hot @ layer.weight + layer.bias)

    def test_has_the_gradient_of_that_product(self) -> None:
        layer, upstream = OneHotLinear(LOCATIONS, 5), torch.rand(3, 5)
        index = torch.tensor([3, -1, 3])
        (layer(index) * upstream).sum().backward()
        expected = torch.zeros(LOCATIONS, 5)
        expected[3] = upstream[0] + upstream[2]
        torch.testing.assert_close(layer.weight.grad, expected)
        torch.testing.assert_close(layer.bias.grad, upstream.sum(0))

    def test_the_last_action_is_that_of_the_environment(self) -> None:
        core = HallucinationCore(Bicubic(4, (9, 9)), image_size=(32, 32), num_steps=3)
        grey = torch.full((2, 3, 32, 32), 0.5)
        state = core.reset(Faces(grey, grey[..., ::4, ::4], grey))
        for action in ([-1, -1], [5, 1000], [0, 7], [1023, 1]):
            if action[0] >= 0:
                state, _, _ = core.step(state, torch.tensor(action))
            seen = observe(core, state, ("action_history",))
            assert last_action(seen["action_history"]).tolist() == action


class TestNetwork:
    def test_has_the_papers_features(self) -> None:
        policy = make_policy("ipfh", PatchGeometry((128, 128), (32, 32)))
        assert policy.encode_image[-1][-1].out_features == 512
        context = policy.encode_patch[-1][-1].out_features + len(policy.encode_action.bias)
        assert context == 256
        assert (policy.locations.in_features, policy.locations.out_features) == (768, 128 * 128)

    @pytest.mark.parametrize("key", ["image", "last_patch", "action_history"])
    def test_every_part_of_the_state_moves_its_own_row_alone(self, key: str) -> None:
        policy, seen = controller(), observation()
        before, _, _ = policy(seen)
        other = seen[key].clone()
        other[1] = 0 if key == "action_history" else 255 - other[1]
        after, _, _ = policy({**seen, key: other})
        assert not torch.allclose(before[1], after[1])
        torch.testing.assert_close(before[[0, 2]], after[[0, 2]])

    def test_starts_close_to_the_uniform_policy(self) -> None:
        logits, _, _ = make_policy("ipfh", GEOMETRY)(observation(8))
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        assert (entropy > 0.99 * torch.tensor(LOCATIONS).log()).all()

    def test_every_weight_learns_and_the_value_head_only_from_its_own_loss(self) -> None:
        policy = controller()
        logits, value, _ = policy(observation(4))
        functional.cross_entropy(logits, torch.arange(4)).backward()
        assert all(p.grad is not None and p.grad.any() for p in policy.policy_parameters())
        assert all(p.grad is None for p in policy.value_head.parameters())
        policy.zero_grad()
        _, value, _ = policy(observation(4))
        value.square().sum().backward()
        assert all(p.grad is None for p in policy.policy_parameters())
        assert all(p.grad is not None for p in policy.value_head.parameters())

    def test_hands_the_memory_back(self) -> None:
        policy, memory = controller(), {"visited": torch.ones(3, 2)}
        _, _, after = policy(observation(), memory)
        assert after == memory
        assert after is not memory
        assert policy(observation())[2] == {}


def textured_faces(change: Tensor, number: int) -> Faces:
    initial = torch.full((number, 3, *change.shape[-2:]), 0.25)
    return Faces(hr=initial + change, lr=initial[..., ::4, ::4], initial=initial)


def test_finds_the_one_rewarding_location(planted_core, plant) -> None:
    change = plant({(2, 1): 0.3}, (32, 32))
    core = planted_core(change, num_steps=1)
    policy = controller(num_steps=1)
    learner = Reinforce(core, policy, ReinforceConfig(updates=40, batch=16, learning_rate=3e-3))
    faces = textured_faces(change, 16)
    for _ in range(40):
        learner.update(faces)
    logits, _, _ = policy(observe(core, core.reset(faces), policy.observation_keys))
    assert logits.softmax(1)[0, 2 * 4 + 1] > 0.9


def test_learns_where_to_go_after_what_it_did(planted_core, plant) -> None:
    """Two places are worth a visit, the second visit to either nothing: memory is needed."""
    change = plant({(0, 0): 0.3, (1, 1): 0.3}, (16, 16))
    core = planted_core(change, num_steps=2)
    torch.manual_seed(0)
    policy = Controller(core.geometry, num_steps=2, hidden=48, width=4)
    learner = Reinforce(core, policy, ReinforceConfig(updates=60, batch=16, learning_rate=3e-3))
    faces = textured_faces(change, 16)
    for _ in range(60):
        learner.update(faces)
    played = rollout(core, ReinforceAgent(core, policy), faces.rows(slice(1)))
    assert sorted(played.actions[0].tolist()) == [0, 3]


@pytest.mark.parametrize("mask_visited", [False, True])
def test_saved_and_loaded_it_plays_the_same(mask_visited, tmp_path, planted_core, plant) -> None:
    change = plant({(0, 0): 0.1, (1, 1): 0.3}, (16, 16))
    core = planted_core(change, num_steps=3)
    torch.manual_seed(1)
    policy = Controller(core.geometry, num_steps=3, hidden=48, width=4)
    agent = ReinforceAgent(core, policy, mask_visited=mask_visited)
    agent.save(tmp_path / "agent.safetensors", {"updates": 7})
    loaded = agents.load(tmp_path / "agent.safetensors", core)
    faces = textured_faces(change, 2)
    played = [rollout(core, player, faces).actions for player in (agent, agent, loaded)]
    assert played[0].equal(played[1])
    assert played[0].equal(played[2])
    assert (loaded.policy.name, loaded.mask_visited) == ("ipfh", mask_visited)
    assert loaded.provenance == {"updates": 7}
    if mask_visited:
        assert all(len(set(row)) == 3 for row in played[2].tolist())
