"""QMap from a guess of the truth: gains by hand, when the guess is made, and where it is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facehall_env import agents, enhancers
from facehall_env.agents.lookahead import errors_by_guess
from facehall_env.agents.play import rollout
from facehall_env.agents.qmap.agent import QMapAgent
from facehall_env.agents.qmap.learner import QMapLearner, load_guess, untrained_network
from facehall_env.agents.qmap.network import remember_guess
from facehall_env.agents.settings import QMapConfig
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError

SIZE = (16, 16)
LOOKS = QMapConfig(
    updates=6,
    envs=4,
    tries=3,
    gradient_steps=1,
    learn_batch=4,
    memory=8,
    width=8,
    lookahead=True,
    guess="given as an object",
)


class Adds(Enhancer):
    """Adds a fixed map to whole faces, and its pieces to patches; counts the whole faces."""

    name = "adds"

    def __init__(self, change: Tensor) -> None:
        super().__init__(4, (7, 7))
        self.change = change
        self.restored = 0

    def whole_face(self) -> nn.Module:
        return _Whole(self)

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        whole = (image + self.change).clamp(0, 1)
        corners = location - 3
        return torch.stack(
            [
                face[:, y : y + 7, x : x + 7]
                for face, (y, x) in zip(whole, corners.tolist(), strict=True)
            ]
        )


class _Whole(nn.Module):
    def __init__(self, owner: Adds) -> None:
        super().__init__()
        self.owner = [owner]

    def forward(self, image: Tensor) -> Tensor:
        self.owner[0].restored += len(image)
        return image + self.owner[0].change


@pytest.fixture
def looking_core():
    def build(change: Tensor, num_steps: int = 2) -> HallucinationCore:
        return HallucinationCore(
            Adds(change), image_size=SIZE, action_stride=8, num_steps=num_steps
        )

    return build


def test_error_and_gain_by_a_guess_by_hand() -> None:
    image = torch.full((1, 3, 8, 8), 0.5)
    change = torch.full_like(image, 0.1)
    guess = torch.full_like(image, 0.7)
    low = torch.full((1, 3, 2, 2), 0.6)

    error, gain = errors_by_guess(image, change, low, guess)[0].float()

    # In units of 0.1 squared: the error is 0.2 squared, of which 0.1 squared would be left.
    torch.testing.assert_close(error, torch.full((8, 8), 4.0), rtol=2e-3, atol=0)
    torch.testing.assert_close(gain, torch.full((8, 8), 3.0), rtol=2e-3, atol=0)


def test_untrained_it_goes_where_the_guess_says(looking_core, flat_faces, plant) -> None:
    """The enhancer does most at the third place and harm there, by the guess, which is right."""
    change = plant({(1, 0): 0.3, (0, 1): 0.1, (1, 1): 0.05}, SIZE)
    truth = plant({(1, 0): 0.1, (0, 1): 0.1, (1, 1): 0.05}, SIZE)
    core = looking_core(change)
    agent = QMapAgent(core, untrained_network(core, LOOKS), guess=Adds(truth))

    played = rollout(core, agent, flat_faces(truth, 2))

    # The second step repairs less: what was won is won.
    assert played.actions.tolist() == [[1, 3], [1, 3]]
    assert rollout(core, agents.make("change", core), flat_faces(truth, 1)).actions[0, 0] == 2


def test_agents_that_look_ahead_refuse_enhancers_that_have_to_see_more_than_they_do() -> None:
    enhancer = enhancers.make("compact", width=8, blocks=1, base="start")
    core = HallucinationCore(enhancer, image_size=(64, 64), action_stride=8)
    network = untrained_network(core, dataclasses.replace(LOOKS, guess=None))
    with pytest.raises(ConfigurationError, match="also has to see the one that the episode began"):
        QMapAgent(core, network)
    with pytest.raises(ConfigurationError, match="also has to see the one that the episode began"):
        agents.make("change", core)


def test_the_predicted_gains_are_shares_of_the_first_error(looking_core, flat_faces, plant) -> None:
    change = plant({(1, 0): 0.3, (0, 1): 0.2}, SIZE)
    core = looking_core(change)
    network = untrained_network(core, LOOKS)
    network.scale.fill_(0.5)
    agent = QMapAgent(core, network, guess=Adds(change))
    values: list[Tensor] = []
    network.register_forward_hook(lambda _module, _given, answer: values.append(answer[0]))

    rollout(core, agent, flat_faces(change, 1))

    # Patches begin one pixel after a cell of 4x4 pixels, whose gain counts as evenly spread: of
    # the 7 rows (and columns) 3 have three quarters of it.
    spread = ((3 * 0.75 + 4) / 7) ** 2
    won = values[0][0] * 0.5
    assert won[2].item() == pytest.approx(0.09 / 0.13 * spread, rel=0.01)
    assert won[1].item() == pytest.approx(0.04 / 0.13 * spread, rel=0.01)


def test_a_guess_is_made_once_an_episode(flat_faces, plant) -> None:
    guess = Adds(plant({(0, 0): 0.1}, SIZE))
    low = torch.full((3, 4, 4, 3), 51, dtype=torch.uint8)
    first = remember_guess(guess, {"lr": low, "step": torch.zeros(3, 1)}, None)
    kept = remember_guess(guess, {"lr": low, "step": torch.full((3, 1), 0.5)}, first)
    assert kept is first
    assert guess.restored == 3

    low[1] = 102
    step = torch.tensor([[0.5], [0.0], [0.5]])
    renewed = remember_guess(guess, {"lr": low, "step": step}, first)

    assert guess.restored == 4
    assert torch.equal(renewed["guess"][[0, 2]], first["guess"][[0, 2]])
    torch.testing.assert_close(renewed["guess"][1], first["guess"][1] + 0.2)
    torch.testing.assert_close(renewed["guess"][1].amax(), torch.tensor(0.5))


def test_learning_starts_from_the_guess_and_goes_on_exactly(
    looking_core, flat_faces, plant
) -> None:
    change = plant({(1, 0): 0.3, (0, 1): 0.2}, SIZE)
    core = looking_core(change)

    def learner() -> QMapLearner:
        network = untrained_network(core, LOOKS)
        return QMapLearner(core, network, LOOKS, lambda n: flat_faces(change, n), Adds(change))

    one, other = learner(), learner()
    for _ in range(3):
        one.update()
    saved = {key: value.clone() for key, value in one.state_tensors().items()}
    metadata = one.state_metadata()
    expected = [one.update() for _ in range(3)]
    other.restore(3, saved, metadata)

    assert [other.update() for _ in range(3)] == expected
    assert one.network.trust is not None
    assert one.network.trust.item() != 1
    assert torch.equal(one.network.trust, other.network.trust)


def test_the_guess_is_stored_with_the_agent(
    looking_core, flat_faces, plant, tmp_path: Path
) -> None:
    change = plant({(1, 0): 0.3, (0, 1): 0.2}, SIZE)
    core = looking_core(change)
    guess = enhancers.make("compact", weights=None, width=8, blocks=1)
    with torch.no_grad():
        guess.network.tail.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    agent = QMapAgent(core, untrained_network(core, LOOKS), guess=guess)
    agent.save(tmp_path / "agent.safetensors")

    loaded = agents.load(tmp_path / "agent.safetensors", core)

    assert isinstance(loaded, QMapAgent)
    assert loaded.guess is not None
    assert loaded.guess.config == guess.config
    for name, value in guess.state_dict().items():
        torch.testing.assert_close(loaded.guess.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    faces = flat_faces(change, 3)
    assert torch.equal(rollout(core, loaded, faces).actions, rollout(core, agent, faces).actions)


def test_what_does_not_fit_is_refused(looking_core, plant, tmp_path: Path) -> None:
    core = looking_core(plant({}, SIZE))
    with pytest.raises(ConfigurationError, match="switch lookahead on, too"):
        untrained_network(core, QMapConfig(guess="some"))
    with pytest.raises(ConfigurationError, match="made for guess=True, but was given none"):
        QMapAgent(core, untrained_network(core, LOOKS))
    enhancers.save(enhancers.make("compact", scale=8, weights=None), tmp_path / "eight.safetensors")
    with pytest.raises(ConfigurationError, match="made for scale 8, the environment's is 4"):
        load_guess(str(tmp_path / "eight.safetensors"), core)
    enhancers.save(enhancers.make("attention_fh", weights=None), tmp_path / "afh.safetensors")
    with pytest.raises(ConfigurationError, match="works on patches of"):
        load_guess(str(tmp_path / "afh.safetensors"), core)
    assert load_guess("", core) is None
