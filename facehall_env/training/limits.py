"""What numbers may stand in the settings of trainings, checked before any time is spent on one.

The settings of all trainings have the same names, so their limits stand here once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from facehall_env.errors import ConfigurationError


class Limit(NamedTuple):
    """What a setting may be.

    Attributes:
        allows: Whether it may be this number.
        words: The same in words, behind "give".
    """

    allows: Callable[[float], bool]
    words: str


COUNT = Limit(lambda n: isinstance(n, int) and n >= 1, "1 or more, without a fraction")
WHOLE = Limit(lambda n: isinstance(n, int) and n >= 0, "0 or more, without a fraction")
SEED = Limit(
    lambda n: isinstance(n, int) and 0 <= n < 2**63, "a whole number from 0 to below 2 to the 63rd"
)
POSITIVE = Limit(lambda x: 0 < x < math.inf, "a number above 0")
CLIP = Limit(lambda x: x >= 0, "a number above 0, or 0 for none")
WEIGHT = Limit(lambda x: 0 <= x < math.inf, "a number of 0 or more")
SHARE = Limit(lambda x: 0 <= x <= 1, "a number from 0 to 1")
DECAY = Limit(lambda x: 0 <= x < 1, "a number from 0 to below 1")

_NAMES: dict[Limit, str] = {
    COUNT: """batch checkpoint_every coarse_updates cognition_batch cognition_embedding
        cognition_updates cognition_width coarse_batch devices embedding envs fresh_batch
        gradient_steps learn_batch limit log_every num_nodes num_steps restorer_batch rollout_envs
        samples_per_face step_updates updates validate_every validation_faces validation_people
        width""",
    WHOLE: """fresh_own_patches fresh_steps restorer_rollout_updates restorer_updates rollout_steps
        warm_up""",
    SEED: "seed",
    POSITIVE: """coarse_learning_rate coarse_minutes cognition_learning_rate cognition_minutes
        discriminator_learning_rate enhancer_learning_rate fresh_learning_rate learning_rate minutes
        restorer_learning_rate restorer_minutes rollout_learning_rate value_learning_rate""",
    CLIP: "grad_clip",
    WEIGHT: """adversarial_weight density_weight entropy feature final_entropy identity
        matching_weight mse_hr mse_lr perceptual_weight pixel_weight texture_hr texture_lr
        weight_decay""",
    SHARE: "exploration final_learning_rate gamma oracle_steps",
    DECAY: "beta1 betas ema momentum",
}
LIMITS: Mapping[str, Limit] = {
    name: limit for limit, names in _NAMES.items() for name in names.split()
}
"""By the names of settings."""


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuses numbers out of their limits, NaN among them.

    Args:
        settings: By name; those without a limit and those that are None are passed over.

    Raises:
        ConfigurationError: Naming the first one.

    >>> check_numbers({"updates": 5, "learning_rate": None, "betas": (0.5, 0.99)})
    >>> check_numbers({"updates": 0})
    Traceback (most recent call last):
    ...
    facehall_env.errors.ConfigurationError: updates=0: give 1 or more, without a fraction.
    """
    for name, value in settings.items():
        if value is None or name not in LIMITS:
            continue
        limit = LIMITS[name]
        several = name == "betas"
        numbers = value if several and isinstance(value, tuple | list) else [value]
        right = all(_is_number(number) and limit.allows(number) for number in numbers)
        if not right or (several and len(numbers) != 2):
            what = f"two of them, each {limit.words}" if several else limit.words
            raise ConfigurationError(f"{name}={value}: give {what}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
