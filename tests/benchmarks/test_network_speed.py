"""Networks beside their convolutions: which there are, and how times become a ratio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from facehall_env import enhancers
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.speed import network as network_speed
from facehall_env.benchmarks.speed.network import cases, measure, prepare, record
from facehall_env.benchmarks.speed.settings import Form, NetworkConfig
from facehall_env.benchmarks.speed.untrained import make_enhancer
from facehall_env.errors import ConfigurationError


def test_every_convolution_is_listed_with_what_it_convolves() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 5, stride=2, padding=(2, 1), groups=2), nn.Sigmoid()),
        nn.Conv2d(4, 1, 3, padding="same", dilation=2),
    )
    given = torch.rand(2, 3, 12, 10)
    outputs = {}
    for name in ("0", "2.0", "3"):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda *of, name=name: outputs.update({name: of[2]}))
    found = record(network, given)
    assert [convolution.name for convolution in found] == ["0", "2.0", "3"]
    for convolution in found:
        torch.testing.assert_close(convolution(), outputs[convolution.name])
    padded = functional.pad(given, (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(found[0].given, padded)
    network(given)
    assert len(found) == 3, "later forwards are not listed"


def test_a_convolution_that_is_used_twice_is_listed_twice() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3))
    network.append(network[0])
    found = record(network, torch.rand(1, 1, 9, 9))
    assert [tuple(convolution.given.shape[2:]) for convolution in found] == [(9, 9), (7, 7)]


@pytest.mark.parametrize("form", ["plain", "fused"])
def test_sparnets_convolutions_are_complete(form: Form) -> None:
    words = "sparnet width=1 blocks=1 bottleneck=16"
    enhancer = make_enhancer(words, 4)
    network = prepare(enhancer, "fp32", form, "contiguous")
    levels = (2, 1, 0, 0, 1, 2, 3)
    in_hourglasses = sum(3 * depth + 2 for depth in levels)
    units, scaled, ends = 2 * 7, 6, 2
    assert len(record(network, torch.rand(1, 3, 16, 16))) == in_hourglasses + units + scaled + ends
    assert enhancer.network is not network


def test_a_network_of_small_faces_is_given_small_faces() -> None:
    class Small(enhancers.OneShot):
        name = "small"

        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 3, 1), scale=4, takes="lr")

    config = NetworkConfig(image_size=(16, 8), batch=2)
    given = network_speed.faces(Small(), config)
    assert given.shape == (2, 3, 4, 2)


@pytest.mark.parametrize("form", ["fast", "fused", "plain"])
def test_times_are_of_the_forward_and_of_all_convolutions(
    monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    """1 s for a convolution, 100 s for a forward; of the fast network what it stands for."""

    def seconds(work: object, device: torch.device) -> float:
        return 1.0 if isinstance(work, network_speed.Convolution) else 100.0

    monkeypatch.setattr(network_speed, "seconds", seconds)
    config = NetworkConfig(
        enhancer="sparnet width=1 blocks=0 attention=none", image_size=(16, 16), repetitions=2
    )
    steps: list[int] = []
    row = measure(config, "fp32", form, "channels_last", lambda: steps.append(1))
    # Six units of two convolutions and a shortcut each, and the two at the ends.
    assert row.convolutions == 20
    assert row.convolutions_ms_per_image == 20_000
    assert row.ratio == 5.0
    assert len(steps) == 4


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("profile", "network", "--enhancer", "sparnet width=1 blocks=0 attention=none"),
        *("--image-size", "16", "16", "--repetitions", "1", "--precisions", "fp32"),
        *("--forms", "fused", "plain"),
        *("--out", str(tmp_path)),
    ]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "network-sparnet.json").read_text("utf-8"))
    assert content["command"].startswith("facehall profile network")
    cases = [(row["form"], row["layout"]) for row in content["rows"]]
    assert cases == [
        ("fused", "channels_last"),
        ("fused", "contiguous"),
        ("plain", "channels_last"),
        ("plain", "contiguous"),
    ]
    for row in content["rows"]:
        alone = row["convolutions_ms_per_image"]
        assert row["ratio"] == pytest.approx(row["ms_per_image"] / alone)
    assert f"{content['rows'][0]['ratio']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetworkConfig(layouts=()), "--layouts is empty"),
        (NetworkConfig(repetitions=0), "repetitions=0: give a whole number of 1 or more"),
        (NetworkConfig(enhancer="attention_fh"), "works on patches"),
        (NetworkConfig(enhancer="bicubic"), "has no convolution"),
    ],
)
def test_bad_settings_are_refused(config: NetworkConfig, message: str, tmp_path: Path) -> None:
    config.out = tmp_path
    with pytest.raises(ConfigurationError, match=message):
        network_speed.run(config)


def test_bf16_is_left_out_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_speed, "cpu_has_bfloat16", lambda: False)
    assert {case[0] for case in cases(NetworkConfig())} == {"fp32"}
    with pytest.raises(ConfigurationError, match="give --precisions fp32"):
        cases(NetworkConfig(precisions=("bf16",)))
    monkeypatch.setattr(network_speed, "cpu_has_bfloat16", lambda: True)
    assert {case[0] for case in cases(NetworkConfig())} == {"fp32", "bf16"}
