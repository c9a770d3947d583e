from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from facehall_env.enhancers import Enhancer
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import ConfigurationError, MissingExtraError
from facehall_env.observations import KEYS

SAME_STEP, DISABLED = gym.vector.AutoresetMode.SAME_STEP, gym.vector.AutoresetMode.DISABLED
STEPS = 3


def test_without_torchrl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "facehall_env.torchrl", raising=False)
    monkeypatch.setitem(sys.modules, "torchrl", None)
    monkeypatch.setitem(sys.modules, "torchrl.envs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'facehall-env\[torchrl\]'"):
        import facehall_env.torchrl  # noqa: F401


class TestWithTorchRL:
    @pytest.fixture(autouse=True)
    def _torchrl(self) -> None:
        pytest.importorskip("torchrl", reason="needs TorchRL: pip install 'facehall-env[torchrl]'")

    @pytest.mark.parametrize("output", ["numpy", "torch"])
    @pytest.mark.parametrize("mode", [SAME_STEP, DISABLED], ids=lambda mode: mode.value)
    def test_its_checker_passes(self, mode: Any, output: str, sharpen: Enhancer) -> None:
        from torchrl.envs.utils import check_env_specs

        from facehall_env import torchrl

        # A sum of rewards has terms in the information, and text is there in any case.
        env = torchrl.make(
            num_envs=3,
            autoreset_mode=mode,
            enhancer=sharpen,
            num_steps=2,
            reward="delta_mse + coverage",
            observation=KEYS,
            output=output,
        )
        check_env_specs(env)
        assert env.batch_size == (3,)

    @pytest.mark.parametrize("mode", [SAME_STEP, DISABLED], ids=lambda mode: mode.value)
    def test_the_bare_wrapper_takes_it_too(self, mode: Any, sharpen: Enhancer) -> None:
        from torchrl.envs import GymWrapper
        from torchrl.envs.utils import check_env_specs

        from facehall_env.torchrl import TorchRLInfo

        envs = gym.make_vec(
            "FaceHallucination-v0", 2, autoreset_mode=mode, enhancer=sharpen, num_steps=2
        )
        check_env_specs(GymWrapper(TorchRLInfo(envs)))

    @pytest.mark.parametrize("output", ["numpy", "torch"])
    @pytest.mark.parametrize("mode", [SAME_STEP, DISABLED], ids=lambda mode: mode.value)
    def test_a_rollout_is_what_the_single_env_plays(
        self, mode: Any, output: str, sharpen: Enhancer
    ) -> None:
        from facehall_env import torchrl

        settings: dict[str, Any] = {
            "enhancer": sharpen,
            "num_steps": STEPS,
            "reward": "delta_mse",
            "observation": KEYS,
        }
        env = torchrl.make(num_envs=2, autoreset_mode=mode, output=output, **settings)
        env.set_seed(7)
        played = env.rollout(2 * STEPS, break_when_any_done=False)
        after = played["next"]
        # The second episodes' faces are the first in which TorchRL's resets may differ.
        assert played["step"][:, STEPS].tolist() == [[0.0], [0.0]]
        assert after["terminated"].squeeze(-1).tolist() == [[False, False, True] * 2] * 2
        assert not after["truncated"].any()
        single = FaceHallucinationEnv(**settings)
        for row in range(2):
            face = self.face_of(single, played["image"][row, 0].numpy())
            observation, _ = single.reset(options={"index": face})
            for t in range(STEPS):
                self.assert_equal(played[row, t], observation)
                observation, reward, *_ = single.step(int(played["action"][row, t]))
                assert after["reward"][row, t].item() == pytest.approx(reward, abs=1e-6)
                # At t = T - 1 this is the last observation, not the next episode's.
                self.assert_equal(after[row, t], observation)

    def test_a_step_that_takes_no_action_is_refused(self) -> None:
        from facehall_env import torchrl

        with pytest.raises(ConfigurationError, match="use 'Disabled' or 'SameStep'"):
            torchrl.make(autoreset_mode="NextStep", enhancer="bicubic")

    def face_of(self, single: FaceHallucinationEnv, image: np.ndarray) -> int:
        """Which of the first faces drawn by the seeds it is."""
        for seed in range(20):
            observation, info = single.reset(seed=seed)
            for _ in range(4):
                if np.array_equal(observation["image"], image):
                    return int(info["index"])
                observation, info = single.reset()
        raise AssertionError("no face drawn by a seed up to 20 looks like this")

    def assert_equal(self, ours: Any, theirs: dict[str, Any]) -> None:
        for key, value in theirs.items():
            mine = ours[key].numpy()
            assert (mine.dtype, mine.shape) == (value.dtype, value.shape)
            tolerance = 1 if value.dtype == np.uint8 else 1e-6
            assert np.abs(mine.astype(float) - value).max() <= tolerance, key


@pytest.mark.parametrize("number", [0, 1])
def test_the_documented_examples_run(number: int, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchrl", reason="needs TorchRL: pip install 'facehall-env[torchrl]'")
    text = (root / "docs" / "ecosystem.md").read_text("utf-8").partition("## RLlib")[0]
    code = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[number]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert "(4, 10, 1)" in code
        assert "torch.Size([4, 10, 1])" in done.stdout
