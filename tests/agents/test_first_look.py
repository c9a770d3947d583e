"""The policy that sees the first face only."""

from __future__ import annotations

import torch
from torch import Tensor

from facehall_env.agents.reinforce.policies import (
    FirstLookPolicy,
    FullyConnectedPolicy,
    make_policy,
)
from facehall_env.patches import PatchGeometry


def observation(image: Tensor, step: list[float]) -> dict[str, Tensor]:
    number = len(image)
    return {
        "image": image,
        "last_action": torch.zeros(number, 2),
        "step": torch.tensor(step)[:, None],
    }


def test_it_plays_like_the_other_that_never_sees_a_change() -> None:
    geometry = PatchGeometry((16, 16), (4, 4), "centre", 8)
    torch.manual_seed(0)
    other = FullyConnectedPolicy(geometry, num_steps=3, hidden=8)
    policy = make_policy("fc-first", geometry, num_steps=3, hidden=8)
    assert isinstance(policy, FirstLookPolicy)
    policy.load_state_dict(other.state_dict())
    generator = torch.Generator().manual_seed(1)
    faces = torch.randint(256, (4, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)
    own = theirs = None
    # The second face's episode begins anew at the third step.
    for face, seen, step in (
        (faces[0], faces[0], [0.0, 0.0]),
        (faces[1], faces[0], [0.3, 0.3]),
        (faces[2], torch.stack((faces[0, 0], faces[2, 1])), [0.6, 0.0]),
        (faces[3], torch.stack((faces[0, 0], faces[2, 1])), [0.9, 0.3]),
    ):
        logits, value, own = policy(observation(face, step), own)
        expected, worth, theirs = other(observation(seen, step), theirs)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(value, worth)
        changed = other(observation(face, step), theirs)[0]
        assert step == [0.0, 0.0] or not torch.equal(changed, expected)
