"""Numbers that no training may be given, and settings by the names of their innermost fields."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facehall_env import limits
from facehall_env.agents import settings as agent_settings
from facehall_env.agents.settings import TrainAgentConfig, TrainIPFHConfig, TrainQMapConfig
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.nested import build, changed, leaf_types, leaves
from facehall_env.training import settings
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import (
    TrainCognitionConfig,
    TrainEnhancerConfig,
    TrainSPARNetHDConfig,
    TrainSRConfig,
)

CONFIGS = [
    kind
    for module in (settings, agent_settings)
    for name, kind in vars(module).items()
    if dataclasses.is_dataclass(kind) and (name.startswith("Train") or name == "EnsembleConfig")
]


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_within_their_limits(config: type[Any]) -> None:
    limits.check(config())


@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_has_a_limit(config: type[Any]) -> None:
    numbers = {name: str(kind) for name, kind in leaf_types(config).items()}
    bare = {"<class 'int'>", "<class 'float'>", "int | None", "float | None"}
    assert [name for name, kind in numbers.items() if kind in bare] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_has_a_name_of_its_own(config: type[Any]) -> None:
    def count(kind: Any) -> int:
        hints = {field.name: getattr(kind, field.name) for field in dataclasses.fields(kind)}
        return sum(count(v) if dataclasses.is_dataclass(v) else 1 for v in hints.values())

    assert count(config()) == len(leaf_types(config))


def test_options_need_neither_torch_nor_images() -> None:
    program = (
        "import sys, facehall_env.agents.settings\n"
        "print(sorted({'torch', 'cv2', 'matplotlib', 'tyro'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        (TrainSRConfig, "updates", 0, "updates=0: give a whole number of 1 or more"),
        (TrainSRConfig, "updates", 1.5, "updates=1.5: give a whole number of 1 or more"),
        (TrainSRConfig, "updates", True, "updates=True: give a whole number of 1 or more"),
        (TrainSRConfig, "limit", 0, "limit=0: give a whole number of 1 or more"),
        (TrainSRConfig, "scale", 0, "scale=0: give a whole number of 1 or more"),
        (TrainEnhancerConfig, "fresh_updates", -3, "fresh_updates=-3: give a whole number of 0"),
        (TrainEnhancerConfig, "steps", 0, "steps=0: give a whole number of 1 or more"),
        (TrainSRConfig, "learning_rate", math.nan, "learning_rate=nan: give a number above 0"),
        (TrainSRConfig, "learning_rate", math.inf, "learning_rate=inf: give a number above 0"),
        (TrainSRConfig, "learning_rate", 0.0, "learning_rate=0.0: give a number above 0"),
        (TrainIPFHConfig, "feature", -1.0, "feature=-1.0: give a number of 0 or more"),
        (TrainAgentConfig, "gamma", -3.0, "gamma=-3.0: give a number from 0 to 1"),
        (TrainAgentConfig, "beta1", 1, "beta1=1: give a number from 0 to below 1"),
        (TrainQMapConfig, "tries", 1, "tries=1: give a whole number of 2 or more"),
        (TrainSPARNetHDConfig, "betas", [0.5, 2.0], r"betas\[1\]=2.0: give a number from 0"),
        (TrainSPARNetHDConfig, "betas", (0.5,), "give 2 values"),
        (TrainSPARNetHDConfig, "perceptual_weight", -1.0, "perceptual_weight=-1.0: give a number"),
        (TrainSRConfig, "grad_clip", -1.0, "grad_clip=-1.0: give a number of 0 or more"),
        (TrainSRConfig, "seed", 2**63, "seed=.*give a whole number from 0 to below"),
    ],
)
def test_what_is_out_of_its_limits_is_named(
    kind: type[Any], name: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        limits.check(build(kind, **{name: value}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"device": "gpu"}, "device='gpu' cannot be used here"),
    ],
)
def test_a_run_with_bad_settings_leaves_no_folder(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigurationError, match=expected):
        TrainingRun(out, TrainCognitionConfig(out=out, **change), resume=False)
    assert not out.exists()


def test_settings_are_read_and_changed_by_their_innermost_names() -> None:
    config = build(TrainAgentConfig, scale=8, batch=4, reward="delta_mse")
    assert config.episode.faces.scale == 8
    assert (config.batch, config.episode.reward, config.episode.action_stride) == (
        4,
        "delta_mse",
        8,
    )
    other = changed(config, protocol="afh", device="cuda", seed=3)
    assert (other.episode.faces.scale, other.episode.faces.protocol, other.seed) == (8, "afh", 3)
    assert (other.device, config.device, config.seed) == ("cuda", "cpu", 0)
    assert leaves(other)["protocol"] == "afh"
    with pytest.raises(UnknownNameError, match="Unknown setting 'scal': did you mean 'scale'"):
        changed(config, scal=2)
