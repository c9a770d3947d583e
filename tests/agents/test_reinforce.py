from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from facehall_env import agents, enhancers
from facehall_env.agents import ReinforceAgent, rollout
from facehall_env.agents.reinforce.learner import (
    Reinforce,
    moments,
    others_mean,
    play_episode,
    reward_to_go,
)
from facehall_env.agents.reinforce.policies import Policy, make_policy
from facehall_env.agents.settings import ReinforceConfig
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.observations import observe
from facehall_env.patches import PatchGeometry, crop, inside_mask

SIZE = (16, 16)
AMOUNTS = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}
GAIN = [49 / 256 * amount**2 for amount in AMOUNTS.values()]
"""MSE that the first visit to each of the four locations removes; the second removes nothing."""


class TablePolicy(Policy):
    """Logits of two steps from a table, plus what the last location suggests."""

    observation_keys = ("last_action", "step")

    def __init__(self, geometry: PatchGeometry) -> None:
        super().__init__(geometry, num_steps=2, hidden=1)
        self.table = nn.Parameter(torch.tensor([[0.1, 0.4, -0.3, 0.2], [0.0, -0.5, 0.3, 0.1]]))
        self.reaction = nn.Parameter(torch.tensor([0.2, -0.1, 0.3, 0.0]))

    def forward(self, observation: Mapping[str, Tensor], memory=None):
        step, last = observation["step"], observation["last_action"]
        logits = self.table[(step[:, 0] * 2).round().long()] + last[:, :1] * self.reaction
        return logits, self.value(torch.zeros_like(step), step), {}


@pytest.fixture
def toy(planted_core, plant, flat_faces):
    """Two steps, four actions, eight faces."""
    change = plant(AMOUNTS, SIZE)
    core = planted_core(change)
    return core, TablePolicy(core.geometry), flat_faces(change, 8)


def recording(core: HallucinationCore, taken: list[Tensor]):
    def advance(state, action):
        taken.append(action)
        return core.step(state, action)

    return advance


def hand_computed(policy: TablePolicy, actions: list[list[int]], advantage: list[list[float]]):
    """Gradient of minus the mean over faces of sum_t A_t log pi(a_t), from softmax - one-hot.

    Plain Python: locations are rows of AMOUNTS, the y of cell 0 is pixel 4 and of cell 1 pixel 12.
    """
    table = torch.zeros(2, 4, dtype=torch.float64)
    reaction = torch.zeros(4, dtype=torch.float64)
    faces = len(actions[0])
    for face in range(faces):
        last_y = 0.0
        for step in range(2):
            logits = policy.table[step].detach().double() + last_y * policy.reaction.double()
            error = logits.exp() / logits.exp().sum()
            action = actions[step][face]
            error[action] -= 1
            share = advantage[step][face] * error.detach() / faces
            table[step] += share
            reaction += share * last_y
            last_y = (4 + 8 * (action // 2)) / 15 * 2 - 1
    return table, reaction


def hand_returns(actions: list[list[int]], gamma: float) -> list[list[float]]:
    first = [GAIN[a] for a in actions[0]]
    second = [0.0 if a == b else GAIN[b] for a, b in zip(*actions, strict=True)]
    return [[a + gamma * b for a, b in zip(first, second, strict=True)], second]


class TestGradient:
    def play(self, toy, **settings):
        core, policy, faces = toy
        config = ReinforceConfig(batch=8, normalise="none", entropy=0.0, **settings)
        learner = Reinforce(core, policy, config)
        taken: list[Tensor] = []
        episode = play_episode(
            core, policy, faces, learner.generator, advance=recording(core, taken)
        )
        return policy, learner, episode, [action.tolist() for action in taken]

    @pytest.mark.parametrize("gamma", [1.0, 0.5])
    def test_equals_the_hand_computed_one(self, toy, gamma: float) -> None:
        policy, learner, episode, actions = self.play(toy, baseline="none", gamma=gamma)
        learner.losses(episode)[0].backward()
        table, reaction = hand_computed(policy, actions, hand_returns(actions, gamma))
        assert len({tuple(pair) for pair in zip(*actions, strict=True)}) > 3
        torch.testing.assert_close(policy.table.grad.double(), table, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(policy.reaction.grad.double(), reaction, rtol=1e-4, atol=1e-8)

    def test_nothing_flows_through_the_baseline(self, toy) -> None:
        policy, learner, episode, actions = self.play(toy, baseline="value", gamma=1.0)
        policy_loss, value_loss = learner.losses(episode)
        policy_loss.backward(retain_graph=True)
        returns = hand_returns(actions, 1.0)
        baseline = episode.value.detach().double() * float(learner.return_scale)
        advantage = torch.tensor(returns, dtype=torch.float64) - baseline
        table, _ = hand_computed(policy, actions, advantage.tolist())
        torch.testing.assert_close(policy.table.grad.double(), table, rtol=1e-4, atol=1e-7)
        assert all(parameter.grad is None for parameter in policy.value_head.parameters())

        before = policy.table.grad.clone()
        value_loss.backward()
        assert policy.table.grad.equal(before)
        size = torch.tensor(returns).square().mean().sqrt()
        guess = episode.value.detach()
        slope = (2 * (guess - torch.tensor(returns) / size) / guess.numel()).sum()
        torch.testing.assert_close(policy.value_head[2].bias.grad[0], slope)

    def test_nothing_flows_through_what_the_environment_returns(self, toy) -> None:
        _, _, episode, _ = self.play(toy, baseline="none")
        assert episode.log_prob.requires_grad
        assert not episode.reward.requires_grad
        assert not episode.psnr.requires_grad

    def test_group_baseline_is_the_others_of_the_same_face(self, toy) -> None:
        policy, learner, episode, actions = self.play(
            toy, baseline="group", samples_per_face=4, gamma=1.0
        )
        learner.losses(episode)[0].backward()
        returns = hand_returns(actions, 1.0)
        advantage = []
        for row in returns:
            groups = [row[:4], row[4:]]
            advantage.append([g[i] - (sum(g) - g[i]) / 3 for g in groups for i in range(4)])
        table, _ = hand_computed(policy, actions, advantage)
        torch.testing.assert_close(policy.table.grad.double(), table, rtol=1e-4, atol=1e-8)

    def test_entropy_gradient(self, toy) -> None:
        core, policy, faces = toy
        config = ReinforceConfig(batch=8, baseline="none", entropy=0.5, normalise="none")
        learner = Reinforce(core, policy, config)
        with torch.no_grad():
            policy.reaction.zero_()
        episode = play_episode(core, policy, faces, learner.generator)
        learner.losses(replace(episode, log_prob=episode.log_prob * 0))[0].backward()
        # d entropy / d logit_k = -p_k (log p_k + entropy)
        log_p = policy.table.detach().log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1, keepdim=True)
        expected = 0.5 * log_p.exp() * (log_p + entropy)
        torch.testing.assert_close(policy.table.grad, expected, rtol=1e-4, atol=1e-7)


class TestForesight:
    """All 16 pairs of actions of the toy, each weighted by its probability."""

    def expected_gradient(self, toy, monkeypatch, wrong_by: float, **settings):
        core, policy, faces = toy
        total = torch.zeros(2, 4)
        spread = []
        for pair in [(a, b) for a in range(4) for b in range(4)]:
            config = ReinforceConfig(
                baseline="none", normalise="none", entropy=0.0, gamma=0.9, **settings
            )
            learner = Reinforce(core, policy, config)
            forced = iter([torch.tensor([action]) for action in pair])
            monkeypatch.setattr(
                "facehall_env.agents.reinforce.learner.draw", lambda *_, queue=forced: next(queue)
            )

            def foresee(state, learner=learner):
                errors = wrong_by * torch.tensor([3.0, -1.0, 0.5, 2.0])
                return learner._foresee(state) + errors

            episode = play_episode(
                core,
                policy,
                faces.rows(slice(1)),
                learner.generator,
                foresee=foresee if config.foresight else None,
            )
            policy.table.grad = None
            learner.losses(episode)[0].backward()
            probability = episode.log_prob.detach().sum().exp()
            total += probability * policy.table.grad
            spread.append(policy.table.grad.clone())
        return total, torch.stack(spread)

    @pytest.mark.parametrize("wrong_by", [0.0, 0.01])
    def test_gradient_is_the_same_on_average_even_if_foreseen_wrongly(
        self, toy, monkeypatch, wrong_by: float
    ) -> None:
        plain, noisy = self.expected_gradient(toy, monkeypatch, 0.0, foresight=False)
        other, quiet = self.expected_gradient(toy, monkeypatch, wrong_by, foresight=True)
        torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-8)
        assert plain.abs().max() > 1e-3
        if wrong_by == 0:
            assert quiet.var(0).sum() < 0.5 * noisy.var(0).sum()

    def test_last_step_has_no_noise_at_all(self, toy, monkeypatch) -> None:
        _, quiet = self.expected_gradient(toy, monkeypatch, 0.0, foresight=True)
        after_first = quiet.view(4, 4, 2, 4)[:, :, 1]
        # Whatever was drawn in the second step.
        torch.testing.assert_close(after_first, after_first[:, :1].expand_as(after_first))

    def test_needs_a_reward_of_the_error_alone_and_a_whole_face(self, toy, planted_core) -> None:
        core = planted_core(torch.zeros(1, 1, *SIZE), reward="delta_mse + 0.1*coverage")
        with pytest.raises(ConfigurationError, match=r"got delta_mse \+ 0\.1\*coverage"):
            Reinforce(core, TablePolicy(core.geometry), ReinforceConfig(foresight=True))
        core = HallucinationCore(enhancers.make("attention_fh"), reward="delta_mse")
        with pytest.raises(ConfigurationError, match="patches"):
            Reinforce(core, TablePolicy(core.geometry), ReinforceConfig(foresight=True))


class TestJoint:
    def make(self, joint: bool):
        torch.manual_seed(3)
        enhancer = enhancers.make("compact", width=8, blocks=1, patch_size=(20, 12))
        with torch.no_grad():
            enhancer.network.tail.weight.normal_(std=0.05)
        core = HallucinationCore(enhancer, image_size=(32, 32), num_steps=3, reward="delta_mse")
        images = torch.rand(4, 3, 32, 32)
        faces = Faces(hr=torch.rand(4, 3, 32, 32), lr=images[..., ::4, ::4], initial=images)
        policy = make_policy("fc", core.geometry, num_steps=3, hidden=16)
        config = ReinforceConfig(batch=4, joint=joint, updates=1)
        return core, faces, Reinforce(core, policy, config)

    def test_policy_gradient_is_that_of_a_fixed_enhancer(self) -> None:
        gradients = []
        for joint in (False, True):
            _, faces, learner = self.make(joint)
            learner.update(faces)
            gradients.append([p.grad.clone() for p in learner.policy.policy_parameters()])
        assert all(a.equal(b) for a, b in zip(*gradients, strict=True))
        assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 0

    def test_enhancer_gradient_is_the_mean_patch_loss_with_detached_faces(self) -> None:
        core, faces, learner = self.make(joint=True)
        taken: list[Tensor] = []

        def advance(state, action):
            taken.append(action)
            return learner._enhance_and_learn(state, action)

        generator = torch.Generator().manual_seed(0)
        play_episode(core, learner.policy, faces, generator, advance=advance)
        found = [p.grad.clone() for p in core.enhancer.parameters()]

        core.enhancer.zero_grad()
        state, loss = core.reset(faces), torch.zeros(())
        for action in taken:
            corner = core.geometry.top_left(action)
            inside = inside_mask(corner, (20, 12), (32, 32))
            patch = crop(state.image, corner, (20, 12))
            output = core.enhancer(patch, state.image, core.geometry.location(action))
            error = (output - crop(state.hr, corner, (20, 12))).square() * inside
            loss = loss + error.sum() / (3 * inside.sum()) / 3
            state, _, _ = core.step(state, action)
        loss.backward()
        for mine, parameter in zip(found, core.enhancer.parameters(), strict=True):
            torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-7)

    def test_what_cannot_be_trained_is_refused(self, planted_core, plant) -> None:
        core = planted_core(plant(AMOUNTS, SIZE))
        with pytest.raises(ConfigurationError, match="'one_shot' cannot"):
            Reinforce(core, TablePolicy(core.geometry), ReinforceConfig(joint=True))
        core.precision = "bf16"
        with pytest.raises(ConfigurationError, match="joint=True would train an enhancer in bf16"):
            Reinforce(core, TablePolicy(core.geometry), ReinforceConfig(joint=True))


class TestLearning:
    @pytest.mark.parametrize("name", ["fc", "conv"])
    def test_finds_the_one_rewarding_location(
        self, name: str, planted_core, plant, flat_faces
    ) -> None:
        change = plant({(2, 1): 0.3}, (32, 32))
        core = planted_core(change, num_steps=1)
        torch.manual_seed(0)
        policy = make_policy(name, core.geometry, num_steps=1, hidden=64)
        config = ReinforceConfig(updates=80, batch=32, learning_rate=1e-3)
        learner = Reinforce(core, policy, config)
        faces = flat_faces(change, 32)
        for _ in range(config.updates):
            learner.update(faces)
        observation = observe(core, core.reset(faces.rows(slice(1))), policy.observation_keys)
        logits, _, _ = policy(observation)
        assert logits.softmax(1)[0, 2 * 4 + 1] > 0.9

    def test_finds_the_location_of_each_face(self, planted_core) -> None:
        """The place with something to win is marked by texture and differs from face to face."""

        class Restores(nn.Module):
            def forward(self, image: Tensor) -> Tensor:
                return image.where((image - 0.5).abs() < 0.05, image + 0.2)

        def draw(number: int, generator: torch.Generator) -> tuple[Faces, Tensor]:
            place = torch.randint(16, (number,), generator=generator)
            initial = torch.full((number, 3, 32, 32), 0.5)
            for face, cell in enumerate(place.tolist()):
                y, x = 8 * (cell // 4) + 1, 8 * (cell % 4) + 1
                initial[face, :, y : y + 7, x : x + 7] = 0.3
            return Faces(Restores()(initial), initial[..., ::4, ::4], initial), place

        core = planted_core(torch.zeros(1, 1, 32, 32), num_steps=1)
        core.enhancer.network = Restores()
        torch.manual_seed(0)
        policy = make_policy("conv", core.geometry, num_steps=1)
        config = ReinforceConfig(updates=120, batch=64, learning_rate=3e-3)
        learner = Reinforce(core, policy, config)
        generator = torch.Generator().manual_seed(1)
        for _ in range(config.updates):
            learner.update(draw(64, generator)[0])
        faces, place = draw(64, generator)
        chosen = rollout(core, ReinforceAgent(core, policy), faces).actions[:, 0]
        assert (chosen == place).float().mean() > 0.9


class TestAdvantages:
    def test_reward_to_go(self) -> None:
        reward = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 8.0]])
        assert reward_to_go(reward, 0.5).tolist() == [[2.0, 3.0], [2.0, 6.0], [4.0, 8.0]]
        assert reward_to_go(reward, 1.0)[0].tolist() == [5.0, 10.0]

    def test_others_mean(self) -> None:
        returns = torch.tensor([[1.0, 3.0, 10.0, 20.0]])
        assert others_mean(returns, 2).tolist() == [[3.0, 1.0, 20.0, 10.0]]

    def test_moments_over_each_step_or_everything(self) -> None:
        advantage = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
        mean, deviation = moments(advantage, "step")
        assert mean.tolist() == [[2.0], [20.0]]
        assert deviation.tolist() == [[1.0], [10.0]]
        mean, deviation = moments(advantage, "batch")
        assert mean.item() == 11
        assert deviation.item() == pytest.approx(((100 + 64 + 1 + 361) / 4) ** 0.5)
        rest = torch.ones(2, 3) - moments(torch.ones(2, 3), "step")[0]
        assert (rest / moments(torch.ones(2, 3), "step")[1]).abs().max() == 0


class TestMaskVisited:
    def test_no_location_twice_in_training_and_in_play(self, planted_core, plant, flat_faces):
        change = plant(AMOUNTS, SIZE)
        core = planted_core(change, num_steps=4)
        faces = flat_faces(change, 16)
        policy = make_policy("conv", core.geometry, num_steps=4)
        taken: list[Tensor] = []
        generator = torch.Generator().manual_seed(0)
        play_episode(core, policy, faces, generator, True, recording(core, taken))
        assert all(sorted(row) == [0, 1, 2, 3] for row in torch.stack(taken, 1).tolist())
        agent = ReinforceAgent(core, policy, mask_visited=True)
        for deterministic in (True, False):
            actions = rollout(core, agent, faces, deterministic).actions
            assert all(sorted(row) == [0, 1, 2, 3] for row in actions.tolist())

    def test_where_everything_was_visited_all_are_allowed_again(
        self, planted_core, plant, flat_faces
    ) -> None:
        change = plant(AMOUNTS, SIZE)
        core = planted_core(change, num_steps=6)
        policy = make_policy("conv", core.geometry, num_steps=6)
        agent = ReinforceAgent(core, policy, mask_visited=True)
        actions = rollout(core, agent, flat_faces(change, 4)).actions
        assert all(set(row) == {0, 1, 2, 3} for row in actions.tolist())


class TestStorage:
    @pytest.mark.parametrize("name", ["fc", "conv"])
    def test_round_trip_plays_the_same(self, name, toy, tmp_path) -> None:
        core, _, faces = toy
        agent = agents.make("rl", core, policy=name, seed=4, mask_visited=True)
        agent.save(tmp_path / "rl.safetensors", {"dataset": "toy"})
        again = agents.load(tmp_path / "rl.safetensors", core)
        assert again.provenance == {"dataset": "toy"}
        assert again.mask_visited
        first = ReinforceAgent(core, agent.policy, mask_visited=True, seed=7)
        second = ReinforceAgent(core, weights=tmp_path / "rl.safetensors", seed=7)
        for deterministic in (True, False):
            one = rollout(core, first, faces, deterministic)
            two = rollout(core, second, faces, deterministic)
            assert one.actions.equal(two.actions)

    def test_another_grid_is_refused_with_both_named(self, toy, tmp_path, planted_core) -> None:
        core, _, _ = toy
        ReinforceAgent(core).save(tmp_path / "rl.safetensors")
        other = planted_core(torch.zeros(1, 1, 16, 16), action_stride=4)
        with pytest.raises(WeightsError, match=r"grid 2x2.*grid 4x4"):
            agents.load(tmp_path / "rl.safetensors", other)
        shifted = planted_core(torch.zeros(1, 1, 16, 16), action_offset=7)
        with pytest.raises(WeightsError, match=r"with offset 4, but the environment has offset 7"):
            agents.load(tmp_path / "rl.safetensors", shifted)
        larger = planted_core(torch.zeros(1, 1, 32, 16), border="inside")
        with pytest.raises(WeightsError, match=r"image_size 16x16, grid 2x2, border centre"):
            agents.load(tmp_path / "rl.safetensors", larger)

    def test_agents_of_older_versions_choose_among_middles(
        self, toy, tmp_path, planted_core
    ) -> None:
        core, _, faces = toy
        agent = ReinforceAgent(core)
        agent.save(tmp_path / "rl.safetensors")
        tensors, metadata = load_tensors(tmp_path / "rl.safetensors", kind="agent")
        assert metadata["geometry"].pop("offset") == 4
        save_tensors(tmp_path / "old.safetensors", tensors, metadata, kind="agent")
        again = agents.load(tmp_path / "old.safetensors", core)
        assert rollout(core, again, faces).actions.equal(rollout(core, agent, faces).actions)
        shifted = planted_core(torch.zeros(1, 1, 16, 16), action_offset=0)
        with pytest.raises(WeightsError, match=r"offset 4.*offset 0"):
            agents.load(tmp_path / "old.safetensors", shifted)

    def test_another_kind_of_agent_is_refused(self, toy, tmp_path) -> None:
        core, _, _ = toy
        agents.StaticAgent(core, torch.tensor([[4, 4]])).save(tmp_path / "s.safetensors")
        with pytest.raises(WeightsError, match=r"holds a 'static' agent, expected 'rl'"):
            ReinforceAgent(core, weights=tmp_path / "s.safetensors")

    def test_network_and_weights_together_are_refused(self, toy) -> None:
        core, policy, _ = toy
        with pytest.raises(ConfigurationError, match="network and weights"):
            ReinforceAgent(core, policy, weights="auto")

    def test_a_longer_episode_counts_patches_not_shares(self, planted_core, plant, flat_faces):
        """After one patch the policy sees what it saw after one patch in training."""
        change = plant(AMOUNTS, SIZE)
        short, long = planted_core(change, num_steps=2), planted_core(change, num_steps=8)
        policy = TablePolicy(short.geometry)
        faces = flat_faces(change, 1)
        two = rollout(short, ReinforceAgent(short, policy), faces).actions
        agent = ReinforceAgent(long, policy)
        state = long.reset(faces)
        for step in range(2):
            action, _ = agent.act(observe(long, state, policy.observation_keys))
            state, _, _ = long.step(state, action)
            assert action[0] == two[0, step]


def test_training_on_longer_episodes_counts_patches_as_playing_does(
    planted_core, plant, flat_faces
) -> None:
    change = plant(AMOUNTS, SIZE)
    core = planted_core(change, num_steps=4)
    policy = make_policy("conv", core.geometry, num_steps=2)
    seen: list[float] = []
    policy.register_forward_pre_hook(lambda _, inputs: seen.append(float(inputs[0]["step"][0])))
    play_episode(core, policy, flat_faces(change, 1), torch.Generator().manual_seed(0))
    rollout(core, ReinforceAgent(core, policy), flat_faces(change, 1))
    assert seen == 2 * [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 6, "samples_per_face": 4}, "batch=6 is no multiple of samples_per_face=4"),
        ({"baseline": "group"}, "samples_per_face is 1"),
        ({"updates": 0}, "updates=0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message, toy) -> None:
    core, policy, _ = toy
    with pytest.raises(ConfigurationError, match=message):
        Reinforce(core, policy, ReinforceConfig(**settings))
