"""Agents that learn nothing or one sequence: random, even, saliency, static, oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facehall_env import agents, enhancers
from facehall_env.agents import (
    EvenAgent,
    GreedyOracle,
    RandomAgent,
    SaliencyAgent,
    StaticAgent,
    rollout,
)
from facehall_env.agents.fixed.saliency import gradient_magnitude
from facehall_env.agents.lookahead import box_sums, mse_after_each, mse_after_everywhere
from facehall_env.agents.oracle import location_grid
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, UnknownNameError, WeightsError
from facehall_env.patches import PatchGeometry


def core_of(**settings: object) -> HallucinationCore:
    return HallucinationCore(enhancers.make("bicubic"), **settings)


def steps(count: int, core: HallucinationCore, number: int = 1) -> dict[str, torch.Tensor]:
    return {"step": torch.full((number, 1), count / core.num_steps)}


def faces_of(images: torch.Tensor) -> Faces:
    return Faces(hr=images, lr=images[..., ::4, ::4], initial=images)


class TestRandom:
    def test_is_uniform_over_all_locations(self) -> None:
        core = core_of(action_stride=32)
        action, _ = RandomAgent(core, seed=1).act({"step": torch.zeros(32_000, 1)})
        share = torch.bincount(action, minlength=16) / 32_000
        # Four standard deviations of a binomial share.
        assert (share - 1 / 16).abs().max() < 4 * (1 / 16 * 15 / 16 / 32_000) ** 0.5

    def test_owns_its_random_numbers(self) -> None:
        core = core_of()
        first, second = RandomAgent(core, seed=5), RandomAgent(core, seed=5)
        torch.manual_seed(1)
        one = [first.act(steps(0, core, 4))[0].tolist() for _ in range(3)]
        torch.manual_seed(2)
        two = [second.act(steps(0, core, 4))[0].tolist() for _ in range(3)]
        assert one == two
        assert one[0] != one[1]


class TestEven:
    def test_first_pass_is_the_centred_lattice_in_reading_order(self) -> None:
        core = core_of(num_steps=25)
        agent = EvenAgent(core)
        corners = core.geometry.top_left(agent.schedule[:6]).tolist()
        # Cells of 64 x 42.67 pixels around patches of 60 x 45: (64 - 60) / 2 = 2, and
        # (42.67 - 45) / 2 = -1.17, then 41.5 (a tie, to the lower) and 84.17.
        assert corners == [[2, -1], [2, 41], [2, 84], [66, -1], [66, 41], [66, 84]]

    def test_second_pass_is_flush_and_covers_every_pixel(self) -> None:
        core = core_of(num_steps=25, border="inside")
        agent = EvenAgent(core)
        assert len(agent.schedule) == 6 + 9
        corners = core.geometry.top_left(agent.schedule[6:]).tolist()
        assert corners == [[y, x] for y in (0, 34, 68) for x in (0, 41, 83)]
        seen = torch.zeros(128, 128, dtype=torch.bool)
        for y, x in corners:
            seen[y : y + 60, x : x + 45] = True
        assert seen.all()

    @pytest.mark.parametrize("border", ["centre", "inside"])
    @pytest.mark.parametrize("stride", [1, 4])
    def test_two_passes_cover_the_image(self, border: str, stride: int) -> None:
        core = core_of(num_steps=15, border=border, action_stride=stride)
        images = torch.rand(1, 3, 128, 128)
        end = rollout(core, EvenAgent(core), faces_of(images)).state
        assert end.coverage.float().mean() > (0.999 if stride == 1 else 0.97)

    def test_one_lattice_where_it_covers_already_and_then_in_turn(self) -> None:
        core = core_of(num_steps=8, image_size=(64, 64), patch_size=(32, 32), action_stride=1)
        agent = EvenAgent(core)
        corners = core.geometry.top_left(agent.schedule).tolist()
        assert corners == [[0, 0], [0, 32], [32, 0], [32, 32]]
        assert agent.act(steps(5, core))[0].item() == agent.schedule[1]

    def test_does_not_depend_on_the_length_of_the_episode(self) -> None:
        short, long = core_of(num_steps=5), core_of(num_steps=25)
        assert EvenAgent(short).schedule.tolist() == EvenAgent(long).schedule.tolist()
        for count in range(5):
            one, _ = EvenAgent(short).act(steps(count, short))
            assert one.equal(EvenAgent(long).act(steps(count, long))[0])


class TestSaliency:
    def test_gradient_of_a_ramp(self) -> None:
        ramp = torch.arange(8.0).mul(3).expand(1, 3, 5, 8)
        magnitude = gradient_magnitude(ramp)
        assert magnitude[0, 0, 2].tolist() == [1.5, 3, 3, 3, 3, 3, 3, 1.5]

    def test_box_sums_are_sums_over_the_part_inside(self) -> None:
        maps = torch.rand(2, 9, 11)
        corners = torch.tensor([[0, 0], [3, 4], [-2, -3], [7, 9], [20, 0]])
        expected = [
            maps[:, max(y, 0) : max(y + 4, 0), max(x, 0) : max(x + 5, 0)].double().sum((1, 2))
            for y, x in corners.tolist()
        ]
        torch.testing.assert_close(box_sums(maps, corners, (4, 5)), torch.stack(expected, 1))

    def test_looks_at_the_texture_first_then_elsewhere_then_again(self) -> None:
        core = core_of(
            image_size=(32, 32), patch_size=(7, 7), action_stride=8, num_steps=18, border="inside"
        )
        image = torch.full((1, 3, 32, 32), 0.5)
        checks = (torch.arange(7)[:, None] // 2 + torch.arange(7) // 2) % 2
        image[..., 17:24, 9:16] += 0.4 * checks  # cell (2, 1)
        image[..., 1:8, 25:32] += 0.2 * checks  # cell (0, 3), half as strong
        result = rollout(core, SaliencyAgent(core, damping=0.4), faces_of(image))
        # 1, 0.5, then the first again at 0.4, the second at 0.2, the first at 0.16 ...
        assert result.actions[0, :4].tolist() == [2 * 4 + 1, 3, 2 * 4 + 1, 3]
        assert rollout(core, SaliencyAgent(core, damping=0.4), faces_of(image)).actions.equal(
            result.actions
        )

    def test_rows_that_begin_anew_forget_the_visits(self) -> None:
        core = core_of(image_size=(32, 32), patch_size=(7, 7), action_stride=8)
        agent = SaliencyAgent(core, damping=0.0)
        image = torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8)
        first, state = agent.act({"image": image, "step": torch.zeros(2, 1)})
        again, _ = agent.act({"image": image, "step": torch.tensor([[0.0], [0.04]])}, state)
        assert again[0] == first[0]
        assert again[1] != first[1]

    def test_damping_out_of_range_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"damping=1\.5"):
            SaliencyAgent(core_of(), damping=1.5)


class TestOracle:
    def test_gains_are_those_of_really_stepping(self) -> None:
        torch.manual_seed(0)
        enhancer = enhancers.make("compact", width=8, blocks=1, patch_size=(20, 12))
        with torch.no_grad():
            enhancer.network.tail.weight.normal_(std=0.05)
        core = HallucinationCore(enhancer, image_size=(32, 32), num_steps=3)
        images = torch.rand(3, 3, 32, 32)
        state = core.reset(Faces(hr=torch.rand(3, 3, 32, 32), lr=images, initial=images))
        locations = torch.tensor([0, 31, 500, 777, 1023])  # the first ones reach over the edges
        error = mse_after_each(core, state, locations, chunk=7)
        for column, location in enumerate(locations):
            after, _, _ = core.step(state, location.expand(3))
            exact = (after.image.double() - after.hr.double()).square().mean((1, 2, 3))
            torch.testing.assert_close(error[:, column], exact, rtol=1e-5, atol=1e-8)

    def test_refining_tries_the_neighbours_of_the_best(self) -> None:
        torch.manual_seed(0)
        enhancer = enhancers.make("compact", width=8, blocks=1, patch_size=(20, 12))
        with torch.no_grad():
            enhancer.network.tail.weight.normal_(std=0.05)
        core = HallucinationCore(enhancer, image_size=(32, 32), num_steps=3)
        images = torch.rand(3, 3, 32, 32)
        state = core.reset(Faces(hr=torch.rand(3, 3, 32, 32), lr=images, initial=images))
        coarse, _ = agents.make("oracle", core, stride=16).act({"core_state": state})
        fine, _ = agents.make("oracle", core, stride=16, refine=1).act({"core_state": state})
        everywhere = mse_after_each(core, state, torch.arange(1024))
        for face in range(3):
            y, x = divmod(int(coarse[face]), 32)
            tried = [
                min(max(y + dy, 0), 31) * 32 + min(max(x + dx, 0), 31)
                for dy in (-8, 0, 8)
                for dx in (-8, 0, 8)
            ]
            best = min(tried, key=lambda action: everywhere[face, action].item())
            assert everywhere[face, fine[face]] == pytest.approx(everywhere[face, best].item())

    @pytest.mark.parametrize("border", ["centre", "inside"])
    def test_whole_face_gains_of_a_one_shot_enhancer_are_exact(self, border: str) -> None:
        network = torch.nn.Conv2d(3, 3, 3, padding=1)
        enhancer = enhancers.OneShot(network, scale=4, patch_size=(9, 12))
        core = HallucinationCore(
            enhancer, image_size=(32, 24), action_stride=4, border=border, num_steps=3
        )
        images = torch.rand(2, 3, 32, 24)
        state = core.reset(Faces(hr=torch.rand(2, 3, 32, 24), lr=images, initial=images))
        state, _, _ = core.step(state, torch.tensor([3, 20]))
        locations = torch.arange(core.geometry.num_locations)
        exact = mse_after_each(core, state, locations)
        torch.testing.assert_close(mse_after_everywhere(core, state), exact, rtol=1e-5, atol=1e-8)

    def test_takes_the_best_of_each_face_in_order(self, planted_core, plant) -> None:
        change = plant({(0, 1): 0.1, (2, 2): 0.3, (3, 0): 0.2}, (32, 32))
        core = planted_core(change, num_steps=3)
        initial = torch.full((2, 3, 32, 32), 0.25)
        hr = initial + change
        hr[1, :, 17:24, 17:24] -= change[0, 0, 17, 17]  # the second face lacks the best one
        faces = Faces(hr=hr, lr=initial, initial=initial)
        result = rollout(core, GreedyOracle(core, stride=8, chunk=5), faces)
        assert result.actions[0].tolist() == [10, 12, 1]
        assert result.actions[1, :2].tolist() == [12, 1]
        assert result.psnr[0, 3] == pytest.approx(100, abs=10)

    def test_grid_of_64_locations_without_doubles(self) -> None:
        every_pixel = PatchGeometry((128, 128), (60, 45))
        centres = every_pixel.centres(location_grid(every_pixel, 16))
        assert centres.tolist() == [[y, x] for y in range(8, 128, 16) for x in range(8, 128, 16)]
        inside = PatchGeometry((128, 128), (60, 45), "inside")
        corners = inside.top_left(location_grid(inside, 16)).tolist()
        # Rows 8 and 24 are both clamped to 0, and 104 and 120 to 68; the columns all differ.
        assert sorted({y for y, _ in corners}) == [0, 11, 27, 43, 59, 68]
        assert len(corners) == len(set(map(tuple, corners))) == 6 * 8

    def test_without_the_truth_it_says_so(self) -> None:
        core = core_of()
        with pytest.raises(ConfigurationError, match="core_state"):
            GreedyOracle(core).act(steps(0, core))


class TestStatic:
    def test_finds_the_planted_sequence(self, planted_core, plant, flat_faces, tmp_path) -> None:
        change = plant({(0, 1): 0.1, (2, 2): 0.3, (3, 0): 0.2}, (32, 32))
        core = planted_core(change, num_steps=3)
        batches = [flat_faces(change, 2), flat_faces(change, 3)]
        agent = StaticAgent.fit(core, batches, stride=8)
        assert agent.centres.tolist() == [[20, 20], [28, 4], [4, 12]]
        agent.save(tmp_path / "static.safetensors", {"by": "hand"})
        again = agents.load(tmp_path / "static.safetensors", core)
        assert isinstance(again, StaticAgent)
        assert again.provenance == {"by": "hand"}
        played = rollout(core, again, batches[0]).actions
        assert played.tolist() == [[10, 12, 1], [10, 12, 1]]

    def test_takes_the_mean_over_faces_not_the_best_of_one(self, planted_core, plant) -> None:
        change = plant({(0, 0): 0.2, (1, 1): 0.25}, (16, 16))
        core = planted_core(change, num_steps=1)
        initial = torch.full((3, 3, 16, 16), 0.25)
        hr = initial + change + 0.05  # an error that stays
        # Only the last face has the larger error at (1, 1).
        hr[:2, :, 9:16, 9:16] -= 0.25
        faces = Faces(hr=hr, lr=initial, initial=initial)
        assert StaticAgent.fit(core, [faces], stride=8).centres.tolist() == [[4, 4]]
        one = faces.rows(slice(2, None))
        assert StaticAgent.fit(core, [one], stride=8).centres.tolist() == [[12, 12]]

    def test_plays_on_another_grid_and_begins_again(self) -> None:
        core = core_of(action_stride=4, num_steps=25)
        agent = StaticAgent(core, centres=torch.tensor([[20, 20], [63, 100]]))
        # Cell of pixel 20 at 4 pixels a cell: 5; of (63, 100): (15, 25).
        expected = [5 * 32 + 5, 15 * 32 + 25, 5 * 32 + 5]
        assert [agent.act(steps(t, core))[0].item() for t in range(3)] == expected

    def test_other_patch_size_is_refused_with_both_named(self, tmp_path) -> None:
        path = tmp_path / "static.safetensors"
        StaticAgent(core_of(), centres=torch.tensor([[1, 2]])).save(path)
        with pytest.raises(WeightsError, match=r"patch_size 60x45.*patch_size 32x32"):
            agents.make("static", core_of(patch_size=(32, 32)), weights=path)

    @pytest.mark.parametrize("centres", [None, torch.zeros(0, 2), torch.zeros(3)])
    def test_needs_a_sequence(self, centres) -> None:
        with pytest.raises(ConfigurationError, match=r"centres"):
            StaticAgent(core_of(), centres=centres)

    def test_nothing_to_fit_on_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no faces"):
            StaticAgent.fit(core_of(), [])


class TestRegistry:
    def test_knows_all_agents(self) -> None:
        wanted = {"random", "even", "saliency", "static", "oracle", "rl"}
        assert wanted <= set(agents.available())

    def test_unknown_name_gets_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'saliency'"):
            agents.make("salience", core_of())

    def test_unknown_setting_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="stride"):
            agents.make("even", core_of(), stride=3)

    def test_missing_observation_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="reads 'image'"):
            SaliencyAgent(core_of()).act({"step": torch.zeros(1, 1)})

    def test_weights_that_are_not_shipped_are_named(self) -> None:
        core = HallucinationCore(enhancers.make("bicubic", scale=2))
        with pytest.raises(WeightsError, match=r"'static'.*'bicubic' at 2x"):
            agents.make("static", core, weights="auto")


class TestRollout:
    def test_measures_every_step(self, planted_core, plant, flat_faces) -> None:
        change = plant({(0, 0): 0.2, (1, 1): 0.1}, (16, 16))
        core = planted_core(change)
        agent = StaticAgent(core, centres=torch.tensor([[12, 12], [4, 4]]))
        seen = []
        result = rollout(
            core, agent, flat_faces(change, 2), on_step=lambda state: seen.append(state.step[0])
        )
        share = 49 / 256
        before, between = share * (0.2**2 + 0.1**2), share * 0.2**2
        expected = -10 * torch.tensor([before, between], dtype=torch.float64).log10()
        torch.testing.assert_close(result.psnr[0, :2], expected, rtol=1e-6, atol=0)
        assert result.actions.tolist() == [[3, 0], [3, 0]]
        torch.testing.assert_close(result.area, result.psnr[:, 1:].mean(1))
        assert [int(step) for step in seen] == [0, 1, 2]
        assert result.total_seconds == result.agent_seconds + result.enhancer_seconds > 0


class Sharpens(Enhancer):
    """Adds a fixed map to whole faces, and the same to patches."""

    name = "sharpens"

    def __init__(self, change: Tensor) -> None:
        super().__init__(4, (7, 7))
        self.network = Adds(change)

    def whole_face(self) -> nn.Module:
        return self.network

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        return patch


class Adds(nn.Module):
    def __init__(self, change: Tensor) -> None:
        super().__init__()
        self.change = change

    def forward(self, image: Tensor) -> Tensor:
        return image + self.change


def test_change_goes_where_the_enhancer_would_change_most(flat_faces, plant) -> None:
    change = plant({(1, 0): -0.1, (0, 1): 0.08}, (16, 16))
    core = HallucinationCore(Sharpens(change), image_size=(16, 16), action_stride=8, num_steps=2)
    faces = flat_faces(torch.zeros(1, 1, 16, 16), 3)  # whatever the truth is

    actions = rollout(core, agents.make("change", core), faces).actions

    assert actions.tolist() == [[2, 2]] * 3


def test_change_needs_an_enhancer_of_whole_faces() -> None:
    core = HallucinationCore(enhancers.make("attention_fh"))
    with pytest.raises(ConfigurationError, match="which 'attention_fh' cannot: use 'compact'"):
        agents.make("change", core)
