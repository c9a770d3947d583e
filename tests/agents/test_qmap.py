"""QMap: predicted gains against planted ones, its memory, and its state on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env import agents
from facehall_env.agents.lookahead import gain_map, mse_after_each, mse_after_everywhere
from facehall_env.agents.play import rollout
from facehall_env.agents.qmap.agent import QMapAgent
from facehall_env.agents.qmap.learner import QMapLearner, ReplayMemory, untrained_network
from facehall_env.agents.qmap.network import KEYS, GainNetwork
from facehall_env.agents.settings import QMapConfig
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.observations import observe
from facehall_env.patches import PatchGeometry, cover

SIZE = (16, 16)
QUICK = QMapConfig(
    updates=80,
    envs=6,
    tries=3,
    gradient_steps=2,
    learn_batch=8,
    memory=32,
    width=8,
    exploration=0.6,
)


@pytest.fixture
def best_first(plant) -> Tensor:
    """Four locations: most to win at the third, something at the second, nothing elsewhere."""
    return plant({(1, 0): 0.3, (0, 1): 0.2}, SIZE)


def drawing(flat_faces, change: Tensor) -> Callable[[int], Faces]:
    return lambda number: flat_faces(change, number)


def learner(core: HallucinationCore, draw: Callable[[int], Faces], **changes) -> QMapLearner:
    config = QMapConfig(**{**vars(QUICK), **changes})
    return QMapLearner(core, untrained_network(core, config), config, draw)


def test_visits_are_counted_pixel_by_pixel() -> None:
    geometry = PatchGeometry((16, 24), (5, 7), stride=4)
    network = GainNetwork(geometry, num_steps=3, width=4)
    history = torch.tensor([[3, 3, 14], [0, -1, -1], [-1, -1, -1]])

    visits = network.visits(history)

    wanted = torch.zeros(3, 1, 16, 24)
    for row, actions in enumerate(history.tolist()):
        for action in actions:
            if action >= 0:
                nothing = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
                corner = geometry.top_left(torch.tensor([action]))
                wanted[row] += cover(nothing, corner, geometry.patch_size)[0].float()
    assert torch.equal(visits, wanted)


def test_a_density_is_summed_over_exactly_the_patch() -> None:
    geometry = PatchGeometry((16, 16), (6, 10), border="centre", stride=2)
    network = GainNetwork(geometry, num_steps=1, width=4)
    density = torch.rand(1, 1, 4, 4)

    sums = network.sums(density).flatten()

    pixels = density.repeat_interleave(4, 2).repeat_interleave(4, 3)[0, 0]
    corners = geometry.top_left(torch.arange(geometry.num_locations)).tolist()
    for value, (top, left) in zip(sums.tolist(), corners, strict=True):
        inside = pixels[max(0, top) : top + 6, max(0, left) : left + 10]
        assert value == pytest.approx(inside.sum().item() / 60, abs=1e-6)


def test_the_gain_map_sums_to_the_measured_gain(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    state = core.reset(flat_faces(best_first, 2))

    gain = gain_map(core, state)

    # The face is grey 0.25 and the truth is grey + change: all of the error can be won.
    assert torch.allclose(gain, 3 * best_first[:, 0].square().expand(2, -1, -1), atol=1e-6)
    everywhere = mse_after_everywhere(core, state)
    each = mse_after_each(core, state, torch.arange(4))
    torch.testing.assert_close(everywhere, each)


def test_it_learns_the_planted_gains(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    faces = flat_faces(best_first, 1)
    trained = learner(core, drawing(flat_faces, best_first))
    while trained.step < QUICK.updates:
        trained.update()

    observation = observe(core, core.reset(faces), KEYS)
    gain, rest, _ = trained.network(observation)
    share = gain[0] * trained.network.scale[0]

    # Squared amounts over their sum: 0.09 and 0.04 of 0.13; it has seen the best one most.
    assert share[2].item() == pytest.approx(0.09 / 0.13, abs=0.1)
    assert 0.1 < share[1].item() < share[2].item()
    assert share[[0, 3]].abs().max() < 0.05
    assert torch.equal(rest, torch.zeros_like(rest))
    played = rollout(core, QMapAgent(core, trained.network), faces)
    assert played.actions[0].tolist() == [2, 1]


def test_the_next_state_is_valued_by_the_other_network(
    planted_core, flat_faces, best_first, monkeypatch
) -> None:
    core = planted_core(best_first, num_steps=3)
    trained = learner(core, drawing(flat_faces, best_first), gamma=0.5)
    for _ in range(2):
        trained.update()
    batch, successors = trained.memory.sample(4, trained.generator)
    batch["done"] = torch.tensor([False, True, False, False])
    trained.averaged.scale.copy_(torch.tensor([1.0, 10.0, 100.0]))

    def answers(gain: list[float], rest: list[float]) -> Callable[..., tuple[Tensor, ...]]:
        rows = [torch.tensor(values).expand(4, -1) for values in (gain, rest, gain)]
        return lambda _: tuple(rows)

    # The one likes location 3 best, of which the other thinks 0.5 + 2.
    monkeypatch.setattr(trained.network, "forward", answers([3, 0, 0, 2], [0, 0, 0, 2]))
    monkeypatch.setattr(trained.averaged, "forward", answers([9, 9, 9, 0.5], [9, 9, 9, 2]))

    unit = torch.tensor([1.0, 10.0, 100.0])[(successors["action_history"] >= 0).sum(1)]
    wanted = 0.5 * 2.5 * unit * torch.tensor([1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(trained._rest(batch, successors), wanted)


def test_the_rest_of_the_return_is_learned(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    trained = learner(core, drawing(flat_faces, best_first), gamma=0.5, averaging=0.2)
    while trained.step < QUICK.updates:
        trained.update()

    observation = observe(core, core.reset(flat_faces(best_first, 1)), KEYS)
    _, rest, _ = trained.network(observation)
    rest = rest[0] * trained.network.scale[0]

    # After the best location, which it takes most, the second best is left.
    assert rest[2].item() == pytest.approx(0.5 * 0.04 / 0.13, abs=0.1)


def test_nothing_is_expected_after_the_last_step(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first, num_steps=1)
    trained = learner(core, drawing(flat_faces, best_first), gamma=1.0)
    for _ in range(10):
        trained.update()
    batch, successors = trained.memory.sample(16, trained.generator)

    assert bool(batch["done"].all())
    assert torch.equal(trained._rest(batch, successors), torch.zeros(16))


def test_the_memory_gives_each_state_its_successor() -> None:
    memory = ReplayMemory(slots=4)
    for step in range(7):
        memory.add({"step": torch.tensor([[step], [100 + step]])})

    batch, after = memory.sample(200, torch.Generator().manual_seed(0))

    assert len(memory) == 4
    assert torch.equal(after["step"], batch["step"] + 1)
    assert sorted(batch["step"].flatten().unique().tolist()) == [3, 4, 5, 103, 104, 105]


def test_environments_are_spread_over_the_episode(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first, num_steps=4)
    spread = learner(core, drawing(flat_faces, best_first))._spread_episodes()

    assert sorted(spread.step.unique().tolist()) == [0, 1, 2]
    assert torch.equal((spread.actions >= 0).sum(1), spread.step)


def test_it_goes_on_where_it_stood(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    draw = drawing(flat_faces, best_first)
    one, other = learner(core, draw), learner(core, draw, seed=3)
    for _ in range(5):
        one.update()
    saved = {key: value.clone() for key, value in one.state_tensors().items()}
    metadata = one.state_metadata()
    expected = [one.update() for _ in range(3)]

    other.restore(5, saved, metadata)

    assert [other.update() for _ in range(3)] == expected
    for name, value in one.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name


def test_saved_agents_act_the_same(planted_core, flat_faces, best_first, tmp_path: Path) -> None:
    core = planted_core(best_first)
    trained = learner(core, drawing(flat_faces, best_first))
    for _ in range(20):
        trained.update()
    agent = QMapAgent(core, trained.network)
    agent.save(tmp_path / "agent.safetensors", {"by": "hand"})

    loaded = agents.load(tmp_path / "agent.safetensors", core)

    faces = flat_faces(best_first, 3)
    assert isinstance(loaded, QMapAgent)
    assert loaded.provenance == {"by": "hand"}
    assert torch.equal(rollout(core, loaded, faces).actions, rollout(core, agent, faces).actions)


def test_weights_for_another_grid_are_refused(planted_core, best_first, tmp_path: Path) -> None:
    core = planted_core(best_first)
    QMapAgent(core).save(tmp_path / "agent.safetensors")

    with pytest.raises(WeightsError, match="grid 2x2, but the environment has grid 4x4"):
        agents.load(tmp_path / "agent.safetensors", planted_core(best_first, action_stride=4))


def test_sampled_actions_follow_the_seed_and_the_temperature(
    planted_core, flat_faces, best_first
) -> None:
    core = planted_core(best_first)
    network = untrained_network(core, QUICK)
    observation = observe(
        core, core.reset(flat_faces(best_first, 400)), QMapAgent(core).observation_keys
    )

    def sample(temperature: float, seed: int) -> Tensor:
        agent = QMapAgent(core, network, temperature=temperature, seed=seed)
        return agent.act(observation, deterministic=False)[0]

    assert torch.equal(sample(1.0, 1), sample(1.0, 1))
    assert not torch.equal(sample(1.0, 1), sample(1.0, 2))
    # An untrained network expects nothing anywhere.
    assert torch.bincount(sample(1.0, 1), minlength=4).min() > 60
    with torch.no_grad():  # now as much again in the lower row
        network.density.bias.fill_(1.0)
        network.row_patch.mul_(torch.tensor([[1.0], [2.0]]))
    assert set(sample(0.01, 1).tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tries": 1}, "tries=1: give a whole number of 2 or more"),
        ({"memory": 1}, "memory=1: give a whole number of 2 or more"),
        ({"gamma": 1.5}, "gamma=1.5: give a number from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_named(
    planted_core, flat_faces, best_first, setting, message
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learner(planted_core(best_first), drawing(flat_faces, best_first), **setting)


def test_faces_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="got faces of 20x16: use sides that are"):
        GainNetwork(PatchGeometry((20, 16), (7, 7)), num_steps=2)


def test_a_network_and_weights_are_one_too_many(planted_core, best_first) -> None:
    core = planted_core(best_first)
    with pytest.raises(ConfigurationError, match="a network and weights: give one of them"):
        QMapAgent(core, untrained_network(core, QUICK), weights="auto")


def test_the_averaged_network_follows_the_other(planted_core, flat_faces, best_first) -> None:
    core = planted_core(best_first)
    trained = learner(core, drawing(flat_faces, best_first), averaging=0.25)
    trained.step = 50
    with torch.no_grad():
        trained.averaged.density.bias.fill_(2.0)
        trained.network.density.bias.fill_(4.0)
        trained.network.scale.fill_(7.0)

    trained._average()

    assert trained.averaged.density.bias.item() == 2.5
    assert trained.averaged.scale.tolist() == [7.0, 7.0]
    trained.step = 0
    trained._average()
    assert trained.averaged.density.bias.item() == 4.0
