"""Other settings for a trial: who gets them, and what is refused."""

from __future__ import annotations

import pytest

from facehall_env.benchmarks.papers import experiment
from facehall_env.benchmarks.papers.tables import PaperTable
from facehall_env.errors import ConfigurationError, UnknownNameError


def table(*changes: str, name: str = "ipfh-X") -> PaperTable:
    return experiment.load(name, changes).ours


def test_a_setting_of_the_network_and_one_of_its_training() -> None:
    before, after = table(), table("coarse.width=16", "coarse.batch=8", "coarse.loss=l1")
    own, other = (made.rows[0].parts["initial"] for made in (before, after))
    assert other.settings == {**own.settings, "width": 16}
    assert other.training == {**own.training, "batch": 8, "loss": "l1"}


def test_the_whole_path_means_the_same() -> None:
    short = table("ipfh.updates=150", "ipfh.width=64")
    long = table("networks.ipfh.training.updates=150", "networks.ipfh.settings.width=64")
    assert short == long
    assert short.rows[0].parts["enhancer"].training["updates"] == 150
    assert short.rows[0].parts["enhancer"].settings["width"] == 64


def test_what_is_like_a_network_changes_with_it() -> None:
    changed = table("ipfh-restorer.fresh_updates=7", name="ipfh-VIII")
    updates = {row.key: row.parts["restorer"].training["fresh_updates"] for row in changed.rows[1:]}
    assert updates == {"no-coarse": 7, "no-controller": 7, "ours": 7}
    changed = table("ipfh-restorer-bicubic.fresh_updates=7", name="ipfh-VIII")
    updates = {row.key: row.parts["restorer"].training["fresh_updates"] for row in changed.rows[1:]}
    assert updates == {"no-coarse": 7, "no-controller": 1000, "ours": 1000}


def test_entries_without_a_network() -> None:
    assert table("cognition.width=4").rows[0].parts["cognition"].training["width"] == 4


def test_another_network_has_its_own_settings() -> None:
    changes = ("attention-fh.network=light", "attention-fh.width=8")
    for row in table(*changes, name="attention-fh-2").rows:
        assert row.parts["enhancer"].network == "light"
        assert row.parts["enhancer"].settings == {"width": 8}


def test_rows_and_the_table_itself() -> None:
    changed = table("rows.t5.steps=3", "limit=8", "minutes=0.5", "seed=1", name="attention-fh-2")
    assert [row.steps for row in changed.rows] == [3, 15, 25, 35]
    assert (changed.measuring.limit, changed.measuring.minutes) == (8, 0.5)
    assert changed.measuring.seed == 1
    assert table("minutes=none", name="attention-fh-2").measuring.minutes is None


def test_the_last_word_counts() -> None:
    changed = table("coarse.width=16", "coarse.width=32")
    assert changed.rows[0].parts["initial"].settings["width"] == 32


def test_values_are_read_as_json_or_words() -> None:
    changed = table('ipfh.without=["lr"]', "ipfh.mask_visited=true", "coarse.schedule=cosine")
    training = changed.rows[0].parts["enhancer"].training
    assert (training["without"], training["mask_visited"]) == (("lr",), True)
    assert changed.rows[0].parts["initial"].training["schedule"] == "cosine"


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("width=8", UnknownNameError, "Unknown key 'width'"),
        ("limmit=8", UnknownNameError, "'limmit': did you mean 'limit'"),
        (".width=8", ConfigurationError, r"--set \.width=8: write KEY=VALUE"),
        ("coarse.width", ConfigurationError, "write KEY=VALUE"),
        ("coars.width=8", UnknownNameError, "'coars': did you mean 'coarse'"),
        ("sparnet.width=8", UnknownNameError, "'sparnet'"),
        ("rows.our.steps=8", UnknownNameError, "entry of rows 'our': did you mean 'ours'"),
        ("rows.ours=8", ConfigurationError, "say which key"),
        ("rows.ours.step=8", ConfigurationError, "--set rows.ours.step=8.*did you mean 'steps'"),
        ("coarse.widht=8", UnknownNameError, "setting of coarse 'widht': did you mean 'width'"),
        ("cognition.widht=8", UnknownNameError, "'widht': did you mean 'width'"),
        ("coarse.network=sparnett", ConfigurationError, "did you mean 'sparnet'"),
        ("coarse.minutes=3", UnknownNameError, "setting of coarse 'minutes'"),
        ("coarse.enhancer=light", UnknownNameError, "setting of coarse 'enhancer'"),
        (
            "coarse.schedule=fast",
            ConfigurationError,
            "'fast', expected one of cosine, step, constant",
        ),
        ("coarse.schedule=1", ConfigurationError, "1, expected one of cosine, step, constant"),
        (
            'coarse.augment=["flip", "flop"]',
            ConfigurationError,
            "'flop', expected one of flip, scale",
        ),
        ('ipfh.without=["lrr"]', ConfigurationError, "'lrr', expected one of dual, hr, lr"),
        ("ipfh.without=lr", ConfigurationError, r"'lr', expected a list, such as \['lr'\]"),
        ("ipfh.down=null", ConfigurationError, "null, expected one of average, convolution"),
        ("ipfh.mask_visited=1", ConfigurationError, "1, expected true or false"),
        ("ipfh.mask_visited=sometimes", ConfigurationError, "'sometimes', expected true or false"),
        ("ipfh.updates=0", ConfigurationError, r"updates=0: give a whole number of 1 or more"),
        ("ipfh.updates=1.5", ConfigurationError, "1.5, expected a whole number"),
        ("limit=0", ConfigurationError, "limit=0: give a whole number of 1 or more"),
        ("pairs=0", ConfigurationError, "pairs=0: give"),
        ("minutes=0", ConfigurationError, "minutes=0.0: give a number above 0"),
        ("action_offset=1", ConfigurationError, "1 lies outside of a cell"),
    ],
)
def test_what_cannot_be_set(word: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        table(word)
