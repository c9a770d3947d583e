from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import pytest

from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.limits import Ge, Gt, Le, Lt, Seed, check


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, Ge(1)] = 1


@dataclass
class Settings:
    inner: Inner = field(default_factory=Inner)
    updates: Annotated[int, Ge(1)] = 1
    rate: Annotated[float, Gt(0)] | None = None
    share: Annotated[float | None, Ge(0), Le(1)] = 0.0
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.5
    small: Annotated[float, Gt(0), Le(2)] = 1
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0, 0.5)
    many: tuple[Annotated[int, Le(3)], ...] = ()
    free: float = -5.0
    seed: Seed = 0
    border: Literal["centre", "inside"] = "centre"
    mode: Literal["auto"] | Annotated[float, Gt(0)] = "auto"
    words: tuple[str, ...] = ("a",)


def test_values_at_the_limits_pass() -> None:
    check(Settings(rate=1e-9, share=1, momentum=0, small=2, many=(3, -8), seed=2**63 - 1, mode=0.1))
    check(Settings(share=None, border="inside"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": 0}, "updates=0: give a whole number of 1 or more."),
        ({"updates": 1.5}, "updates=1.5: give a whole number of 1 or more."),
        ({"updates": True}, "updates=True: give a whole number of 1 or more."),
        ({"rate": 0}, "rate=0: give a number above 0."),
        ({"rate": math.nan}, "rate=nan: give a number above 0."),
        ({"rate": math.inf}, "rate=inf: give a number above 0."),
        ({"share": 1.01}, "share=1.01: give a number from 0 to 1."),
        ({"momentum": 1}, "momentum=1: give a number from 0 to below 1."),
        ({"small": 2.5}, "small=2.5: give a number above 0 and of at most 2."),
        ({"betas": (0.5, 1)}, "betas[1]=1: give a number from 0 to below 1."),
        ({"betas": (0.5,)}, "betas=(0.5,): give 2 values."),
        ({"many": (1, 4)}, "many[1]=4: give a whole number of at most 3."),
        ({"free": -math.inf}, "free=-inf: give a number."),
        ({"seed": -1}, "seed=-1: give a whole number from 0 to below 9,223,372,036,854,775,808."),
        ({"mode": 0}, "mode=0: give a number above 0."),
        ({"inner": Inner(0)}, "width=0: give a whole number of 1 or more."),
    ],
)
def test_what_no_field_allows_is_named_with_what_it_allows(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(replace(Settings(), **changes))
    assert str(caught.value) == message


def test_another_word_than_those_of_a_literal_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Unknown border 'insid': did you mean 'inside'"):
        check(Settings(border="insid"))  # type: ignore[arg-type]
