"""The networks: sizes by arithmetic, identity at the start, geometry of compact, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facehall_env import enhancers, patches
from facehall_env.agents.lookahead import check_lookahead, gain_map
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers.patch.attention_fh import CHANNELS, KERNELS
from facehall_env.errors import ConfigurationError, UnknownNameError

LOCATIONS = torch.tensor([[64, 64], [0, 0], [127, 127], [29, 22], [33, 71]])


def random_faces(number: int, size: int = 128, seed: int = 0) -> Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def cut(images: Tensor, locations: Tensor, size: tuple[int, int]) -> Tensor:
    half = torch.tensor([(side - 1) // 2 for side in size])
    return patches.crop(images, locations - half, size)


def unlock(enhancer: enhancers.Compact) -> enhancers.Compact:
    """Gives the layers that start at zero something to say."""
    generator = torch.Generator().manual_seed(3)
    for layer in (enhancer.network.tail, enhancer.network.context[-1]):
        with torch.no_grad():
            layer.weight.normal_(std=0.05, generator=generator)
    return enhancer


def test_attention_fh_has_the_papers_convolutions() -> None:
    enhancer = enhancers.make("attention_fh")
    assert isinstance(enhancer, enhancers.AttentionFH)
    inputs = (6, *CHANNELS[:-1])
    by_hand = sum(k * k * i * o + o for k, i, o in zip(KERNELS, inputs, CHANNELS, strict=True))
    assert enhancers.parameter_count(enhancer.convolutions) == by_hand == 634_163
    context = 49_152 * 256 + 256 + 256 * 8_100 + 8_100
    assert enhancers.parameter_count(enhancer.context) == context


@pytest.mark.parametrize("name", ["attention_fh", "compact"])
def test_untrained_networks_are_the_identity(name: str) -> None:
    enhancer = enhancers.make(name, scale=4)
    faces = random_faces(5)
    patch = cut(faces, LOCATIONS, (60, 45))
    with torch.no_grad():
        torch.testing.assert_close(enhancer(patch, faces, LOCATIONS), patch)


def test_attention_fh_reads_the_whole_face_through_its_context_branch() -> None:
    torch.manual_seed(0)
    enhancer = enhancers.make("attention_fh")
    nn.init.normal_(enhancer.context[3].weight, std=0.1)  # type: ignore[union-attr, arg-type]
    nn.init.normal_(enhancer.convolutions[-1].weight, std=0.1)  # type: ignore[union-attr, arg-type]
    patch, location = torch.rand(1, 3, 60, 45), LOCATIONS[:1]
    face = random_faces(1).requires_grad_()
    enhancer(patch, face, location).sum().backward()
    assert face.grad is not None
    assert face.grad[:, :, 120:, 120:].abs().sum() > 0


def test_attention_fhs_context_learns_a_hundred_times_slower() -> None:
    groups = enhancers.make("attention_fh").parameter_groups(5e-4)
    assert [group["lr"] for group in groups] == [5e-4, pytest.approx(5e-6)]
    counts = [sum(p.numel() for p in group["params"]) for group in groups]
    assert counts[0] == 634_163


def changed_since(faces: Tensor) -> Tensor:
    """What restorations might have made of the upper halves."""
    image = faces.clone()
    image[:, :, :64] = 0.5 * image[:, :, :64] + 0.3
    return image


def small_compact(**settings: Any) -> enhancers.Compact:
    """A compact of few channels with something to say."""
    torch.manual_seed(0)
    enhancer = enhancers.make("compact", **{"width": 8, "blocks": 1, **settings})
    assert isinstance(enhancer, enhancers.Compact)
    return unlock(enhancer)


both_bases = pytest.mark.parametrize("base", ["current", "start"])


@both_bases
@pytest.mark.parametrize("scale", [4, 8])
def test_compact_restores_the_same_pixels_whatever_patch_shows_them(scale: int, base: str) -> None:
    """With a margin as wide as the receptive field, a patch equals the whole face's restoration."""
    enhancer = small_compact(scale=scale, patch_size=(21, 18), margin=4, base=base)
    start = random_faces(1)
    faces = changed_since(start)
    whole = enhancer.network(faces, start)
    # Four 3x3 convolutions see four cells; these patches and their margins lie inside the face.
    for y, x in ((64, 64), (61, 70), (66, 59)):
        location = torch.tensor([[y, x]])
        patch = enhancer(cut(faces, location, (21, 18)), faces, location, start)
        torch.testing.assert_close(patch, cut(whole, location, (21, 18)), atol=1e-5, rtol=0)


@both_bases
def test_compacts_rows_do_not_see_each_other(base: str) -> None:
    enhancer = small_compact(base=base)
    start = random_faces(5)
    faces = changed_since(start)
    patch = cut(faces, LOCATIONS, (60, 45))
    together = enhancer(patch, faces, LOCATIONS, start)
    for i in range(5):
        one = slice(i, i + 1)
        alone = enhancer(patch[one], faces[one], LOCATIONS[one], start[one])
        torch.testing.assert_close(alone, together[one], atol=1e-5, rtol=0)


def test_compact_knows_where_on_the_face_a_patch_is() -> None:
    enhancer = small_compact()
    flat = torch.full((1, 3, 128, 128), 0.3)
    here, there = torch.tensor([[64, 40]]), torch.tensor([[64, 80]])
    patch = cut(flat, here, (60, 45))
    assert not torch.allclose(enhancer(patch, flat, here), enhancer(patch, flat, there))


@both_bases
def test_every_parameter_of_compact_gets_a_gradient(base: str) -> None:
    enhancer = small_compact(blocks=2, base=base)
    start = random_faces(2)
    faces = changed_since(start)
    location = LOCATIONS[:2]
    enhancer(cut(faces, location, (60, 45)), faces, location, start).square().sum().backward()
    for name, parameter in enhancer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    # Of every channel that is seen, too: with another base there are more.
    assert (enhancer.network.head.weight.grad.abs().sum((0, 2, 3)) > 0).all()


def test_an_untrained_compact_on_the_start_goes_back_to_it() -> None:
    enhancer = enhancers.make("compact", base="start", width=8, blocks=1)
    faces = random_faces(5)
    image = changed_since(faces)
    with torch.no_grad():
        patch = enhancer(cut(image, LOCATIONS, (60, 45)), image, LOCATIONS, faces)
    torch.testing.assert_close(patch, cut(faces, LOCATIONS, (60, 45)))


def test_compact_on_the_start_that_ignores_changes_restores_twice_what_it_restored_once() -> None:
    """Only the channels of what has changed, and the context, tell a second visit from a first."""
    enhancer = small_compact(base="start")
    with torch.no_grad():
        enhancer.network.head.weight[:, 48:96] = 0
        enhancer.network.context[-1].weight.zero_()  # type: ignore[operator]
    faces = random_faces(5)
    first = enhancer(cut(faces, LOCATIONS, (60, 45)), faces, LOCATIONS, faces)
    image = changed_since(faces)
    second = enhancer(cut(image, LOCATIONS, (60, 45)), image, LOCATIONS, faces)
    torch.testing.assert_close(second, first)


def test_compact_on_the_start_sees_what_has_changed() -> None:
    enhancer = small_compact(base="start")
    with torch.no_grad():  # The context sees the current face as well.
        enhancer.network.context[-1].weight.zero_()  # type: ignore[operator]
    faces = random_faces(2)
    image = changed_since(faces)
    above, below = torch.tensor([[30, 64]]), torch.tensor([[108, 64]])
    seen = []
    for location in (above, below):
        location = location.expand(2, 2)
        before, after = (
            enhancer(cut(now, location, (60, 45)), now, location, faces) for now in (faces, image)
        )
        seen.append((after - before).abs().amax((1, 2, 3)))
    assert (seen[0] > 1e-2).all()
    assert (seen[1] == 0).all()


def test_the_core_shows_an_enhancer_on_the_start_how_the_episode_began() -> None:
    enhancer = small_compact(base="start")
    core = HallucinationCore(enhancer, num_steps=2)
    hr = random_faces(2)
    initial = 0.8 * hr
    state = core.reset(Faces(hr=hr, lr=hr[..., ::4, ::4], initial=initial))
    action = torch.tensor([64 * 128 + 64, 0])
    state, _, _ = core.step(state, action)
    location = torch.tensor([[64, 64], [0, 0]])
    assert not torch.equal(state.image, initial)
    with torch.no_grad():
        expected = enhancer(cut(state.image, location, (60, 45)), state.image, location, initial)
    torch.testing.assert_close(core.propose(state, action), expected)
    whole = enhancer.network(state.image, initial).clamp(0, 1)
    gain = ((state.image - hr).square() - (whole - hr).square()).sum(1)
    torch.testing.assert_close(gain_map(core, state), gain, atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigurationError, match="also has to see the one that the episode began"):
        check_lookahead(core)


def test_compact_names_its_base_only_where_older_weights_have_another() -> None:
    """Scores are kept under what an enhancer says of itself; those of older weights stay."""
    current = enhancers.make("compact")
    assert "base" not in current.config
    assert "sees_start" not in vars(current)
    assert "base" not in vars(current.whole_face())
    assert enhancers.make("compact", base="start").config["base"] == "start"
    with pytest.raises(ConfigurationError, match="base='lr' is unknown: use one of"):
        enhancers.make("compact", base="lr")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"width": 0}, "compact has width=0: give at least 1"),
        ({"blocks": 0}, "compact has blocks=0: give at least 1"),
        ({"margin": -1}, "compact has margin=-1: give 0 or more"),
    ],
)
def test_sizes_that_cannot_be_are_refused(setting: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        enhancers.make("compact", **setting)


def test_one_shot_cuts_pieces_of_the_restored_face() -> None:
    class Negative(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return 1 - image

    enhancer = enhancers.OneShot(Negative(), scale=4, patch_size=(6, 4))
    faces = random_faces(5)
    patch = cut(faces, LOCATIONS, (6, 4))
    restored = enhancer(patch, faces, LOCATIONS)
    inside = patches.inside_mask(LOCATIONS - torch.tensor([2, 1]), (6, 4), (128, 128))
    torch.testing.assert_close(restored * inside, (1 - patch) * inside)


def test_patch_enhancers_say_that_they_have_no_whole_face_network() -> None:
    with pytest.raises(ConfigurationError, match="'attention_fh' works on patches"):
        enhancers.make("attention_fh").whole_face()


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'compact'"):
        enhancers.make("compat")
    with pytest.raises(ConfigurationError, match=r"cannot be built from .*'depth': 3"):
        enhancers.make("compact", depth=3)
    with pytest.raises(ConfigurationError, match=r"cannot be built from .*'patch_size': \[32\]"):
        enhancers.make("compact", patch_size=[32])


def test_others_can_join_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enhancers.ENHANCERS, "_factories", dict(enhancers.ENHANCERS._factories))

    @enhancers.register("mine")
    class Mine(enhancers.OneShot):
        def __init__(self, scale: int, patch_size: tuple[int, int] = (8, 8)) -> None:
            super().__init__(nn.Identity(), scale, patch_size)

    assert "mine" in enhancers.available()
    assert enhancers.make("mine", patch_size=(4, 4)).patch_size == (4, 4)
