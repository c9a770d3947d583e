"""Numbers that no training may be given."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from facehall_env.agents.ipfh.stages import TrainIPFHConfig
from facehall_env.agents.training import TrainAgentConfig, TrainDaggerConfig, TrainQMapConfig
from facehall_env.errors import ConfigurationError
from facehall_env.training.cognition import TrainCognitionConfig
from facehall_env.training.enhancer import TrainEnhancerConfig
from facehall_env.training.limits import LIMITS, check_numbers
from facehall_env.training.run import TrainingRun
from facehall_env.training.sparnet_hd import TrainSPARNetHDConfig
from facehall_env.training.sr import TrainSRConfig

CONFIGS = (
    TrainAgentConfig,
    TrainDaggerConfig,
    TrainQMapConfig,
    TrainIPFHConfig,
    TrainCognitionConfig,
    TrainEnhancerConfig,
    TrainSPARNetHDConfig,
    TrainSRConfig,
)


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_within_their_limits(config: type[Any]) -> None:
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.default is not dataclasses.MISSING
    }
    check_numbers(defaults)
    assert len(defaults.keys() & LIMITS.keys()) > 8


def test_every_limit_is_of_some_setting() -> None:
    known = {field.name for config in CONFIGS for field in dataclasses.fields(config)}
    assert set(LIMITS) <= known


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("updates", 0, "updates=0: give 1 or more"),
        ("updates", 1.5, "updates=1.5: give 1 or more"),
        ("updates", True, "updates=True: give 1 or more"),
        ("updates", "abc", "updates=abc: give 1 or more"),
        ("limit", 0, "limit=0: give 1 or more"),
        ("fresh_steps", -3, "fresh_steps=-3: give 0 or more"),
        ("learning_rate", math.nan, "learning_rate=nan: give a number above 0"),
        ("learning_rate", math.inf, "learning_rate=inf: give a number above 0"),
        ("learning_rate", 0.0, "learning_rate=0.0: give a number above 0"),
        ("feature", -1.0, "feature=-1.0: give a number of 0 or more"),
        ("gamma", -3.0, "gamma=-3.0: give a number from 0 to 1"),
        ("beta1", 1, "beta1=1: give a number from 0 to below 1"),
        ("betas", 3, "betas=3: give two of them"),
        ("betas", [0.5, 2.0], r"betas=\[0.5, 2.0\]: give two of them"),
        ("betas", (0.5,), r"betas=\(0.5,\): give two of them"),
        ("grad_clip", -1.0, "grad_clip=-1.0: give a number above 0, or 0 for none"),
        ("seed", 2**63, "seed=.*below 2 to the 63rd"),
    ],
)
def test_what_is_out_of_its_limits_is_named(name: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        check_numbers({"batch": 4, name: value})


def test_what_lies_on_a_limit_is_allowed() -> None:
    check_numbers({"updates": 1, "fresh_steps": 0, "gamma": 1, "beta1": 0.0, "grad_clip": 0})
    check_numbers({"limit": None, "betas": [0.0, 0.99], "of_no_limit": math.nan})


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
