"""SphereFace-20 and MobileFaceNet: wiring, a published embedding, files of ours and of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import recognition
from facehall_env.errors import ConfigurationError, UnknownNameError, WeightsError
from facehall_env.recognition import AngularSoftmax, Cognition, Recogniser


def shared(root: Path, path: str) -> Path:
    file = root.parent / "shared" / path
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file


def values(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def drawn(module: Recogniser, seed: int = 0) -> Recogniser:
    """With weights of an ordinary size everywhere, so that every layer shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


class TestMobileFaceNet:
    def test_its_tensors_are_the_published_ones(self) -> None:
        network = recognition.make("mobilefacenet")
        assert len(network.state_dict()) == 307
        assert values(network) == 1_019_699

    def test_the_published_weights_give_the_published_embedding(self, root: Path) -> None:
        weights = shared(root, "weights/mobilefacenet.safetensors")
        golden = json.loads(shared(root, "reference/golden/mobilefacenet.json").read_text())
        network = recognition.load("mobilefacenet", weights=weights)
        row, column = torch.arange(112.0)[:, None], torch.arange(112.0)
        channels = [torch.sin(0.05 * row * (c + 1)) + torch.cos(0.07 * column) for c in range(3)]
        embedding = network(torch.stack(channels)[None])[0]
        expected = torch.tensor(golden["embedding"])
        torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=0)

    def test_its_stages(self) -> None:
        network = recognition.make("mobilefacenet").eval()
        assert network.embedding_size == 128
        shapes = [tuple(stage.shape[1:]) for stage in network.stages(torch.rand(1, 3, 32, 32))]
        assert shapes == [(64, 16, 16), (64, 8, 8), (128, 4, 4), (128, 4, 4), (128, 2, 2),
                          (128, 2, 2), (512, 2, 2)]  # fmt: skip


def by_hand(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The stages of SphereFace-20, layer by layer as the table of its paper lists them."""

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        x = functional.conv2d(x, state[f"conv{name}.weight"], state[f"conv{name}.bias"], stride, 1)
        slope = state[f"relu{name}.weight"][:, None, None]
        return x.clamp(min=0) + slope * x.clamp(max=0)

    stages = []
    x = images
    for stage, pairs in (
        ("1", [(2, 3)]),
        ("2", [(2, 3), (4, 5)]),
        ("3", [(2, 3), (4, 5), (6, 7), (8, 9)]),
        ("4", [(2, 3)]),
    ):
        x = layer(f"{stage}_1", x, stride=2)
        for first, second in pairs:
            x = x + layer(f"{stage}_{second}", layer(f"{stage}_{first}", x))
        stages.append(x)
    return stages


class TestSphereFace:
    def test_the_parameters_of_the_published_network(self) -> None:
        def count(w: int, embedding: int) -> int:
            channels = [(3, w), *[(w, w)] * 2, (w, 2 * w), *[(2 * w, 2 * w)] * 4, (2 * w, 4 * w),
                        *[(4 * w, 4 * w)] * 8, (4 * w, 8 * w), *[(8 * w, 8 * w)] * 2]  # fmt: skip
            convolutions = sum(9 * a * b + b + b for a, b in channels)
            return convolutions + 8 * w * 7 * 6 * embedding + embedding

        network = recognition.make("sphereface", width=8, embedding=20)
        assert len([m for m in network.modules() if isinstance(m, nn.Conv2d)]) == 20
        assert values(network) == count(8, 20)
        assert count(64, 512) == 22_670_656

    @pytest.mark.parametrize("pooling", ["fc", "gap"])
    def test_layer_by_layer(self, pooling: str) -> None:
        network = recognition.make("sphereface", width=4, embedding=5, pooling=pooling)
        drawn(network)
        images = torch.randn(2, 3, 112, 96)
        state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
        expected = by_hand(state, images)
        for found, wanted in zip(network.stages(images), expected, strict=True):
            torch.testing.assert_close(found, wanted)
        if pooling == "gap":
            embedding = expected[-1].flatten(2).mean(2)
        else:
            embedding = expected[-1].reshape(2, 32 * 7 * 6) @ state["fc5.weight"].T
            embedding = embedding + state["fc5.bias"]
        torch.testing.assert_close(network(images), embedding)
        assert network.embedding_size == embedding.shape[1]

    def test_a_fresh_network_passes_its_input_on(self) -> None:
        torch.manual_seed(0)
        network = recognition.make("sphereface", width=8)
        scales = [stage.std().item() for stage in network.stages(torch.randn(4, 3, 112, 96))]
        assert all(0.2 < scale < 5 for scale in scales)

    def test_pixels_enter_as_published(self) -> None:
        faces = torch.tensor([0, 51, 255]).view(1, 3, 1, 1).expand(1, 3, 112, 96) / 255
        expected = torch.tensor([-127.5, -76.5, 127.5]) / 128
        for order, numbers in (("rgb", expected), ("bgr", expected.flip(0))):
            network = recognition.make("sphereface", width=1, channel_order=order)
            entered = network.normalise(faces)
            torch.testing.assert_close(entered[0, :, 50, 50], numbers)
            torch.testing.assert_close(network.standardise(faces), entered)

    def test_bad_settings(self) -> None:
        for settings, message in (
            ({"width": 0}, "sphereface has width=0: give at least 1"),
            ({"pooling": "max"}, "pooling='max' is unknown"),
            ({"channel_order": "gbr"}, "channel_order='gbr' is unknown"),
            ({"depth": 4}, "'sphereface' cannot be built from"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                recognition.make("sphereface", **settings)


class TestEmbedding:
    def test_faces_of_another_size_are_resized(self) -> None:
        network = drawn(recognition.make("sphereface", width=2, embedding=3))
        # A ramp stays one: the middles of 96 columns on a scale of 128.
        ramp = ((torch.arange(128) + 0.5) / 128).expand(1, 3, 128, 128)
        entered = network.normalise(ramp) * 128 / 255 + 0.5
        expected = (torch.arange(96) + 0.5) / 96
        torch.testing.assert_close(entered[0, 0, 60, 2:-2], expected[2:-2], atol=5e-4, rtol=0)
        assert entered.shape == (1, 3, 112, 96)

    @pytest.mark.parametrize("name", ["sphereface", "mobilefacenet"])
    def test_gradients_reach_every_pixel(self, name: str) -> None:
        settings: dict[str, Any] = {"width": 2} if name == "sphereface" else {}
        network = drawn(recognition.make(name, **settings)).requires_grad_(False)
        faces = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
        faces.requires_grad_()
        network.embed(faces).square().sum().backward()
        assert faces.grad is not None
        assert bool((faces.grad != 0).float().mean() > 0.99)

    def test_other_shapes_are_refused(self) -> None:
        network = recognition.make("sphereface", width=1)
        with pytest.raises(ConfigurationError, match="faces of 128x128 pixels, expected 112x96"):
            network(torch.zeros(1, 3, 128, 128))
        with pytest.raises(ConfigurationError, match=r"shape \(1, 1, 112, 96\), expected faces"):
            network.embed(torch.zeros(1, 1, 112, 96))


class TestFiles:
    def test_ours_come_back_frozen_with_their_settings(self, tmp_path: Path) -> None:
        network = drawn(recognition.make("sphereface", width=2, embedding=3, channel_order="bgr"))
        recognition.save(network, tmp_path / "r.safetensors", {"by": "hand"})
        again = recognition.load("sphereface", tmp_path / "r.safetensors")
        assert again.config == network.config
        assert again.provenance == {"by": "hand"}
        assert not any(parameter.requires_grad for parameter in again.parameters())
        faces = torch.rand(2, 3, 40, 40)
        assert torch.equal(again.embed(faces), network.embed(faces))
        assert not again.training

    def test_the_recogniser_of_a_cognition_network(self, tmp_path: Path) -> None:
        network = drawn(recognition.make("sphereface", width=2, embedding=3))
        cognition = Cognition(network, AngularSoftmax(3, 2), ("Ada", "Grace"))
        recognition.save_cognition(cognition, tmp_path / "c.safetensors")
        again = recognition.load("sphereface", tmp_path / "c.safetensors")
        faces = torch.rand(2, 3, 40, 40)
        assert torch.equal(again.embed(faces), network.embed(faces))
        with pytest.raises(WeightsError, match="holds the recogniser 'sphereface', expected 'mob"):
            recognition.load("mobilefacenet", tmp_path / "c.safetensors")

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_a_state_dictionary_of_others(self, suffix: str, tmp_path: Path) -> None:
        network = drawn(recognition.make("sphereface", width=2, embedding=3))
        state = {**network.state_dict(), "fc6.weight": torch.zeros(3, 10)}
        path = tmp_path / f"published{suffix}"
        if suffix == ".pth":
            torch.save(state, path)
        else:
            save_file(state, path)
        again = recognition.load("sphereface", path, width=2, embedding=3)
        assert all(torch.equal(t, state[name]) for name, t in again.state_dict().items())
        with pytest.raises(WeightsError, match=r"conv1_1\.bias is 2 in the file and 4 in the"):
            recognition.load("sphereface", path, width=4, embedding=3)
        with pytest.raises(WeightsError, match=r"bn\.bias is absent in the file and 128 in the"):
            recognition.load("mobilefacenet", path)

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="should hold the weights of the recogniser"):
            recognition.load("sphereface", tmp_path / "nowhere.safetensors")
        (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
        with pytest.raises(WeightsError, match="cannot be read as the weights"):
            recognition.load("sphereface", tmp_path / "broken.safetensors")
        network = recognition.make("sphereface", width=1)
        torch.save(network, tmp_path / "whole.pth")
        with pytest.raises(WeightsError, match="cannot be read as the weights"):
            recognition.load("sphereface", tmp_path / "whole.pth")

    def test_a_damaged_file_of_ours(self, tmp_path: Path) -> None:
        network = recognition.make("sphereface", width=1)
        path = tmp_path / "r.safetensors"
        recognition.save(network, path)
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        assert load_file(path)
        with pytest.raises(WeightsError, match="fails its checksum"):
            recognition.load("sphereface", path)

    def test_unknown_names(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'sphereface'"):
            recognition.make("spherface")


def test_a_recogniser_of_your_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Tiny(Recogniser):
        name = "tiny"

        def __init__(self, scale: float = 1.0) -> None:
            super().__init__((2, 2), 3, (0.0,) * 3, (1.0,) * 3, config={"scale": scale})
            self.factor = nn.Parameter(torch.tensor(scale))

        def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
            return (normalised * self.factor,)

        def embedding_of(self, features: Tensor) -> Tensor:
            return features.mean((2, 3))

    monkeypatch.setitem(recognition.RECOGNISERS._factories, "tiny", Tiny)
    network = recognition.make("tiny", scale=2.0)
    network.factor.data.fill_(3)
    recognition.save(network, tmp_path / "tiny.safetensors")
    again = recognition.load("tiny", tmp_path / "tiny.safetensors")
    face = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert again.embed(face)[0].tolist() == pytest.approx([0.3, 0.6, 0.9])
