"""Dual consistency: each loss by hand, what counts, what learns, and what is refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from facehall_env.enhancers import parameter_count
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.recognition import Recogniser
from facehall_env.training.dual_consistency import DualConsistency, LearnedDown, gram

Array = npt.NDArray[np.float64]


class Stages(Recogniser):
    """Four stages that can be written down: the image, three products of its channels, noise."""

    name = "stages"

    def __init__(self) -> None:
        super().__init__((16, 16), 1, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 1.0))
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        second = self.weight * normalised[:, :2] * normalised[:, 1:]
        return 100 * normalised, second, normalised[..., ::2, ::2].square(), 100 * normalised

    def embedding_of(self, features: Tensor) -> Tensor:
        return features.mean((1, 2, 3))[:, None]


def pair(side: int = 16, number: int = 2) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(2, number, 3, side, side, generator=torch.Generator().manual_seed(0))
    return drawn[0], drawn[1]


def texture_by_hand(result: Array, truth: Array) -> list[float]:
    """Eq. 11 with the second and third stages of `Stages`, element by element."""
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.5, 0.25, 1.0])

    def grams(image: Array) -> list[Array]:
        normal = (image - mean[:, None, None]) / std[:, None, None]
        stages = [normal[:2] * normal[1:], normal[:, ::2, ::2] ** 2]
        return [np.einsum("ihw,jhw->ij", stage, stage) / stage.size for stage in stages]

    return [
        sum(float(((a - b) ** 2).sum()) for a, b in zip(grams(x), grams(y), strict=True))
        for x, y in zip(result, truth, strict=True)
    ]


def cells(images: Array, scale: int) -> Array:
    number, channels, height, width = images.shape
    split = images.reshape(number, channels, height // scale, scale, width // scale, scale)
    return np.asarray(split.mean((3, 5)))


def test_a_gram_matrix_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    torch.testing.assert_close(gram(features), torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4)


def test_each_loss_is_that_of_an_independent_computation() -> None:
    result, truth = pair()
    losses = DualConsistency(8, texture=Stages()).terms(result, truth)
    ours, theirs = result.double().numpy(), truth.double().numpy()
    small, small_truth = cells(ours, 8), cells(theirs, 8)
    expected = {
        "mse_hr": ((ours - theirs) ** 2).mean((1, 2, 3)),
        "texture_hr": texture_by_hand(ours, theirs),
        "mse_lr": ((small - small_truth) ** 2).mean((1, 2, 3)),
        "texture_lr": texture_by_hand(small, small_truth),
    }
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        np.testing.assert_allclose(loss.detach().numpy(), expected[name], rtol=2e-4, err_msg=name)


def test_what_learns_to_make_images_small_is_compared_with_the_low_resolution_itself() -> None:
    result, truth = pair()
    lr = torch.full((2, 3, 2, 2), 0.25)
    losses = DualConsistency(8, "convolution").terms(result, truth, lr)
    expected = ((cells(result.numpy(), 8) - 0.25) ** 2).mean((1, 2, 3))  # means while untrained
    np.testing.assert_allclose(losses["mse_lr"].numpy(), expected, rtol=1e-5)


def test_means_are_compared_with_the_truths_so_that_it_has_no_loss() -> None:
    result, truth = pair()
    lr = torch.full((2, 3, 2, 2), 0.25)  # of a protocol that does not take means
    consistency = DualConsistency(8, texture=Stages())
    for loss in consistency.terms(truth, truth, lr).values():
        np.testing.assert_array_equal(loss.detach().numpy(), 0)
    given, left_out = consistency.terms(result, truth, lr), consistency.terms(result, truth)
    for name, loss in given.items():
        torch.testing.assert_close(loss, left_out[name])


def test_pixels_outside_do_not_count() -> None:
    truth = torch.zeros(1, 3, 16, 16)
    inside = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    inside[..., :12, :] = True
    result = torch.full_like(truth, float("nan"))
    result[..., :8, :] = 0.5
    result[..., 8:12, :] = 1.0
    losses = DualConsistency(8).terms(result, truth, inside=inside)
    assert losses["mse_hr"].item() == pytest.approx((8 * 0.25 + 4 * 1.0) / 12)
    # The upper cells differ by 0.5; the lower ones, half of which is inside, by 1.0 / 2.
    assert losses["mse_lr"].item() == pytest.approx((1 * 0.25 + 0.5 * 0.25) / 1.5)
    twin = result.where(inside, 0.0)
    textures = DualConsistency(8, texture=Stages())
    names = ("texture_hr", "texture_lr")
    masked = textures.terms(result, truth, inside=inside, names=names)
    for name, loss in textures.terms(twin, truth, names=names).items():
        assert masked[name].item() == pytest.approx(loss.item())


def test_sides_that_the_scale_does_not_divide_have_cells_of_nearly_its_size() -> None:
    result, truth = torch.ones(1, 3, 15, 5), torch.zeros(1, 3, 15, 5)
    consistency = DualConsistency(8)
    assert consistency.small(result).shape == (1, 3, 1, 1)
    assert consistency.terms(result, truth)["mse_lr"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("down", ["average", "convolution"])
def test_gradients_reach_the_result_and_nothing_else(down: str) -> None:
    recogniser = Stages()
    consistency = DualConsistency(8, down, texture=recogniser)  # type: ignore[arg-type]
    for name in ("mse_hr", "texture_hr", "mse_lr", "texture_lr"):
        result, truth = (image.requires_grad_() for image in pair())
        consistency.terms(result, truth.detach(), names=[name])[name].sum().backward()
        assert result.grad is not None, name
        assert (result.grad.flatten(1).abs().sum(1) > 0).all(), name
    assert all(parameter.grad is None for parameter in consistency.parameters())
    assert list(consistency.state_dict()) == [
        f"down.layers.{layer}.{kind}"
        for layer in (0, 2, 4)
        for kind in ("weight", "bias")
        if down == "convolution"
    ]


def test_a_step_against_each_gradient_lowers_each_loss() -> None:
    consistency = DualConsistency(8, texture=Stages())
    result, truth = pair()
    for name in ("mse_hr", "texture_hr", "mse_lr", "texture_lr"):
        moving = result.clone().requires_grad_()
        before = consistency.terms(moving, truth, names=[name])[name].sum()
        before.backward()
        assert moving.grad is not None
        moved = result - 1e-3 * moving.grad / moving.grad.norm()
        after = consistency.terms(moved, truth, names=[name])[name].sum()
        assert after < before, name


class TestLearnedDown:
    def test_has_the_figures_convolutions(self) -> None:
        first, second, third = 27 * 64 + 64, 64 * 9 * 128 + 128, 128 * 9 * 3 + 3
        assert parameter_count(LearnedDown(8)) == first + second + third
        assert parameter_count(LearnedDown(4)) == first + 64 * 9 * 3 + 3
        assert parameter_count(LearnedDown(2)) == 27 * 3 + 3

    def test_takes_means_until_it_is_trained(self) -> None:
        images, _ = pair(32)
        small = LearnedDown(8)(images)
        np.testing.assert_allclose(small.detach().numpy(), cells(images.numpy(), 8), atol=1e-6)

    def test_learns_another_way_to_make_images_small(self) -> None:
        torch.manual_seed(0)
        consistency = DualConsistency(4, "convolution")
        truth, _ = pair(16, 8)
        lr = truth[..., ::4, ::4] / 2
        first = consistency.down_loss(truth, lr).mean().item()
        optimizer = torch.optim.Adam(consistency.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            consistency.down_loss(truth, lr).mean().backward()
            optimizer.step()
        learned = consistency.down_loss(truth, lr).mean().item()
        assert learned < 0.5 * first
        # Which is what the comparison then uses.
        assert consistency.terms(truth, truth, lr)["mse_lr"].mean().item() == pytest.approx(learned)

    def test_refuses_what_it_cannot_halve(self) -> None:
        with pytest.raises(ConfigurationError, match="scale=6 is no power of two"):
            LearnedDown(6)
        with pytest.raises(ConfigurationError, match=r"20x16 pixels, expected multiples of 8"):
            LearnedDown(8)(torch.zeros(1, 3, 20, 16))


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigurationError, match="down='bicubic' is unknown"):
        DualConsistency(8, "bicubic")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="scale=0"):
        DualConsistency(0)
    result, truth = pair()
    with pytest.raises(UnknownNameError, match="did you mean 'mse_lr' or 'mse_hr'"):
        DualConsistency(8).terms(result, truth, names=["mse_rh"])
    with pytest.raises(ConfigurationError, match="'texture_lr' compares the activations"):
        DualConsistency(8).terms(result, truth, names=["texture_lr"])
