from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facehall_env import data
from facehall_env.data import Faces, protocols
from facehall_env.errors import ConfigurationError, UnknownNameError


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return data.make("synthetic", split="test").batch(range(4))


def psnr(result: Faces) -> torch.Tensor:
    return -10 * torch.log10((result.hr - result.initial).double().square().mean((1, 2, 3)))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bicubic_is_pillows(faces: torch.Tensor, scale: int) -> None:
    result = protocols.get("bicubic").degrade(faces, scale)
    for face, lr, initial in zip(faces, result.lr, result.initial, strict=True):
        for channel in range(3):
            exact = Image.fromarray(face[channel].float().numpy())
            small = exact.resize((128 // scale,) * 2, Image.Resampling.BICUBIC)
            levels = (lr[channel] * 255).numpy()
            # Rounded to the nearest level, of which there are two at a half.
            np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
            np.testing.assert_allclose(levels, np.asarray(small).clip(0, 255), atol=0.5 + 1e-3)
            large = Image.fromarray(levels).resize((128, 128), Image.Resampling.BICUBIC)
            expected = np.asarray(large).clip(0, 255)
            np.testing.assert_allclose(initial[channel] * 255, expected, atol=1e-3)


def test_bicubic_is_close_to_what_pillow_does_to_bytes(faces: torch.Tensor) -> None:
    # On bytes Pillow also rounds and clips between rows and columns, and at the end.
    result = protocols.get("bicubic").degrade(faces, 4)
    for face, initial in zip(faces, result.initial, strict=True):
        picture = Image.fromarray(face.permute(1, 2, 0).numpy())
        large = picture.resize((32, 32), Image.Resampling.BICUBIC).resize(
            (128, 128), Image.Resampling.BICUBIC
        )
        levels = (initial * 255).permute(1, 2, 0).numpy()
        assert np.abs(levels - np.asarray(large, dtype=np.float32)).mean() < 0.5


def test_low_resolution_is_rounded_to_levels_where_the_protocol_says_so(
    faces: torch.Tensor,
) -> None:
    for protocol in protocols.PROTOCOLS.values():
        levels = protocol.degrade(faces, 4).lr.double() * 255
        is_rounded = bool(torch.allclose(levels, levels.round(), atol=1e-4))
        assert is_rounded == protocol.round_lr, protocol.name


def test_halves_are_rounded_up() -> None:
    hr = torch.tensor([[0.0, 1], [1, 0]]).expand(1, 3, 2, 2) * 5 / 255
    lr = protocols.Protocol("mean", down="area", up="area").degrade(hr, 2).lr
    torch.testing.assert_close(lr * 255, torch.full((1, 3, 1, 1), 3.0))


def test_the_range_is_kept_where_the_kernel_overshoots() -> None:
    edge = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    edge[..., 14:] = 255
    for protocol in protocols.PROTOCOLS.values():
        for image in protocol.degrade(edge, 4)[:3]:
            assert image.min() >= 0
            assert image.max() <= 1


@pytest.mark.parametrize("name", ["afh", "afh-torch7"])
def test_afh_averages_blocks_and_keeps_the_corners(faces: torch.Tensor, name: str) -> None:
    result = protocols.get(name).degrade(faces, 4)
    mean = torch.nn.functional.avg_pool2d(faces.float() / 255, 4)
    torch.testing.assert_close(result.lr, mean)
    corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    torch.testing.assert_close(result.initial[corners], result.lr[corners])


def test_bytes_and_floats_give_the_same(faces: torch.Tensor) -> None:
    protocol = protocols.get("sisn")
    for bytes_, floats in zip(
        protocol.degrade(faces, 8)[:3], protocol.degrade(faces.double() / 255, 8)[:3], strict=True
    ):
        assert bytes_.dtype == torch.float32
        torch.testing.assert_close(bytes_, floats)


def test_conventions_of_the_papers() -> None:
    assert {name: p.shave(4) for name, p in protocols.PROTOCOLS.items()} == {
        "bicubic": 0,
        "afh": 0,
        "afh-torch7": 0,
        "sparnet": 0,
        "sisn": 10,
        "matlab-y": 4,
    }
    assert {name for name, p in protocols.PROTOCOLS.items() if p.colour == "y"} == {
        "sparnet",
        "matlab-y",
    }


@pytest.mark.parametrize(
    ("hr", "scale", "words"),
    [
        (torch.zeros(1, 3, 30, 32), 4, "does not divide the image size 30x32"),
        (torch.zeros(1, 3, 32, 32), 0, "Scale 0"),
        (torch.zeros(1, 1, 32, 32), 4, r"got \(1, 1, 32, 32\)"),
        (torch.zeros(3, 32, 32), 4, r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), 4, "int64"),
    ],
)
def test_bad_faces_are_explained(hr: torch.Tensor, scale: int, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        protocols.get("bicubic").degrade(hr, scale)


def test_an_unknown_protocol_brings_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sparnet'"):
        protocols.get("sparenet")


def test_rows_and_device_of_faces(faces: torch.Tensor) -> None:
    result = protocols.get("bicubic").degrade(faces, 4)
    chosen = result.rows(torch.tensor([2, 0])).to("cpu")
    for before, after in zip(result[:3], chosen[:3], strict=True):
        torch.testing.assert_close(after[1], before[0], rtol=0, atol=0)
        torch.testing.assert_close(after[0], before[2], rtol=0, atol=0)
    assert result.rows(slice(1, 3)).hr.shape[0] == 2


# The bicubic rows of the literature on the official test split; of "afh" with the border mirrored.
ROWS = [("bicubic", 4, 30.01), ("bicubic", 8, 24.32), ("afh", 4, 27.06), ("afh", 8, 22.17)]


def mean_psnr(faces: Sequence[torch.Tensor], name: str, scale: int) -> float:
    protocol = protocols.get(name)
    return torch.cat([psnr(protocol.degrade(part, scale)) for part in faces]).mean().item()


def parts(photographs: Path, every: int) -> list[torch.Tensor]:
    dataset = data.make("lfw", split="test", root=photographs)
    numbers = range(0, len(dataset), every)
    return [dataset.batch(numbers[i : i + 128]) for i in range(0, len(numbers), 128)]


@pytest.fixture(scope="module")
def ninth(photographs: Path) -> list[torch.Tensor]:
    return parts(photographs, every=9)


@pytest.fixture(scope="module")
def whole(photographs: Path) -> list[torch.Tensor]:
    return parts(photographs, every=1)


@pytest.mark.parametrize(("name", "scale", "expected"), ROWS)
def test_published_baseline_on_a_ninth_of_lfw(
    ninth: list[torch.Tensor], name: str, scale: int, expected: float
) -> None:
    assert mean_psnr(ninth, name, scale) == pytest.approx(expected, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale", "expected"), ROWS)
def test_published_baseline_on_the_whole_test_split(
    whole: list[torch.Tensor], name: str, scale: int, expected: float
) -> None:
    assert mean_psnr(whole, name, scale) == pytest.approx(expected, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "expected"), [(4, 26.79), (8, 21.92)])
def test_torch7_borders_give_the_row_of_the_attention_fh_paper(
    whole: list[torch.Tensor], scale: int, expected: float
) -> None:
    assert mean_psnr(whole, "afh-torch7", scale) == pytest.approx(expected, abs=0.05)
