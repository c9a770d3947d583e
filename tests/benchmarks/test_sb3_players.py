"""Agents of Stable-Baselines3 in the patch-selection benchmark."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from facehall_env.agents.integrations.sb3_agents import SB3Agent
from facehall_env.agents.integrations.sb3_policies import OBSERVATION, SPATIAL
from facehall_env.benchmarks.quality.patch_selection import measure_all
from facehall_env.benchmarks.quality.settings import PatchSelectionConfig
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.sb3 import FaceHallucinationVecEnv
from facehall_env.spec import FacesSpec, build_from_keywords

GRID = {"dataset": "tiny", "enhancer": "tiny", "weights": None, "num_steps": 4, "action_stride": 8}


def configured(settings: dict[str, Any], **more: Any) -> PatchSelectionConfig:
    """The settings, those of the faces in their place."""
    given = {**settings, **more}
    where = {name: given.pop(name) for name in ("dataset", "scale", "protocol") if name in given}
    return PatchSelectionConfig(faces=FacesSpec(**where), **given)


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    """An untrained policy of RecurrentPPO with 16 locations."""
    path = tmp_path / "recurrent.safetensors"
    SB3Agent(build_from_keywords(**GRID).core, "recurrent_ppo").save(path)  # type: ignore[arg-type]
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A model of PPO with a policy of SB3's own and 16 locations."""
    envs = FaceHallucinationVecEnv(2, **GRID, observation=("last_action", "step"))
    PPO("MultiInputPolicy", envs, n_steps=2, batch_size=2).save(tmp_path / "theirs")
    return tmp_path / "theirs.zip"


def test_they_play_by_name_and_by_path(
    settings: dict[str, Any], recurrent: Path, archive: Path
) -> None:
    settings["policy"] = (str(recurrent), f"mine={recurrent}", f"theirs={archive}")
    config = configured(settings, agents=("random", "recurrent_ppo"), trust_pickle=True)
    results = measure_all(config)
    assert list(results.measured) == ["random", "recurrent_ppo", "mine", "theirs"]
    mine, named = results.measured["mine"], results.measured["recurrent_ppo"]
    assert mine.actions.equal(named.actions)
    # Their own grids: 16 locations, where the random agent has one per pixel.
    assert {row.action_stride for row in results.rows if row.agent != "random"} == {8}
    assert results.measured["theirs"].actions.max() < 16
    assert {row.agent_weights for row in results.rows if row.agent == "theirs"} == {"theirs.zip"}


def test_the_offset_of_an_archive_is_asked_for(settings: dict[str, Any], tmp_path: Path) -> None:
    grid = {**GRID, "action_offset": 5}
    envs = FaceHallucinationVecEnv(2, **grid, observation=OBSERVATION)
    kwargs = {"features_extractor_kwargs": {"geometry": envs.core.geometry}}
    model = PPO(SPATIAL["ppo"][1], envs, n_steps=2, batch_size=2, policy_kwargs=kwargs)
    model.save(tmp_path / "shifted")
    settings["policy"] = (f"shifted={tmp_path / 'shifted.zip'}",)
    with pytest.raises(WeightsError, match="with offset 5, but the environment has offset 4"):
        measure_all(configured(settings, agents=(), trust_pickle=True))
    config = configured(settings, agents=(), trust_pickle=True, action_offset=5)
    (row, *_) = measure_all(config).rows
    assert (row.action_stride, row.action_offset) == (8, 5)


def test_an_archive_needs_trust_and_a_name(settings: dict[str, Any], archive: Path) -> None:
    settings["agents"] = ("random",)
    settings["policy"] = (f"theirs={archive}",)
    with pytest.raises(WeightsError, match="--trust-pickle"):
        measure_all(configured(settings))
    settings["policy"] = (str(archive),)
    with pytest.raises(ConfigurationError, match=r"NAME=.*theirs\.zip"):
        measure_all(configured(settings))


def test_an_archive_without_locations_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", "{}")
    settings["policy"] = (f"empty={tmp_path / 'empty.zip'}",)
    config = configured(settings, agents=("random",), trust_pickle=True)
    with pytest.raises(WeightsError, match=r"empty\.zip"):
        measure_all(config)
