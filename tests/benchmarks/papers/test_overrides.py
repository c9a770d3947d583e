"""Other settings of a table's networks: who gets them, and what is refused."""

from __future__ import annotations

import pytest

from facehall_env.benchmarks.papers import layout
from facehall_env.benchmarks.papers.changes import changed, read
from facehall_env.benchmarks.papers.layout import PaperTable
from facehall_env.errors import ConfigurationError, UnknownNameError


@pytest.fixture
def table() -> PaperTable:
    return layout.load("ipfh", "table", "VIII")


def test_a_setting_of_the_network_and_one_of_its_training(table: PaperTable) -> None:
    own = changed(table, ["coarse.width=16", "coarse.batch=8", "coarse.loss=l1"])
    before, after = table.rows[0].parts["model"], own.rows[0].parts["model"]
    assert after.settings == {**before.settings, "width": 16}
    assert after.with_ == {**before.with_, "batch": 8, "loss": "l1"}
    # The coarse hallucinator of the other rows is the same one.
    assert own.rows[3].parts["initial"].settings["width"] == 16


def test_all_entries_that_build_a_network(table: PaperTable) -> None:
    own = changed(table, ["ipfh.width=64"])
    widths = {
        (row.key, role): part.settings.get("width")
        for row in own.rows
        for role, part in row.parts.items()
    }
    restorers = {place for place in widths if place[1] in ("restorer", "enhancer")}
    assert {widths[place] for place in restorers} == {64}
    assert {width for place, width in widths.items() if place not in restorers} == {None}


def test_one_entry_alone(table: PaperTable) -> None:
    own = changed(table, ["ipfh-restorer-bicubic.fresh_steps=7"])
    steps = {row.key: row.parts["restorer"].with_["fresh_steps"] for row in own.rows[1:]}
    assert steps == {"no-coarse": 7, "no-controller": 1000, "ours": 1000}


def test_an_entry_and_a_network_of_one_name(table: PaperTable) -> None:
    # Only the joint training, which is called as its network, knows batches.
    own = changed(table, ["ipfh.batch=7", "ipfh.width=64"])
    parts = own.rows[3].parts
    assert parts["enhancer"].with_["batch"] == 7
    assert "batch" not in {**parts["restorer"].with_, **parts["restorer"].settings}
    assert parts["enhancer"].settings["width"] == parts["restorer"].settings["width"] == 64


def test_entries_without_a_network(table: PaperTable) -> None:
    own = changed(table, ["cognition.width=4"])
    assert own.rows[3].parts["cognition"].with_["width"] == 4


def test_another_network_has_its_own_settings() -> None:
    words = ["attention-fh.network=compact", "compact.width=8", "attention-fh.fresh_on=faces"]
    own = changed(layout.load("attention-fh", "table", "2"), words)
    for row in own.rows:
        assert row.parts["enhancer"].network == "compact"
        assert row.parts["enhancer"].settings == {"width": 8}
        assert row.parts["enhancer"].with_["fresh_on"] == "faces"


def test_the_last_word_counts(table: PaperTable) -> None:
    own = changed(table, ["coarse.width=16", "coarse.width=32"])
    assert own.rows[0].parts["model"].settings["width"] == 32


def test_values_are_read_as_json() -> None:
    assert read("srcnn.kernels=[9,1,5]").value == [9, 1, 5]
    assert read("sparnet.schedule=cosine").value == "cosine"


@pytest.mark.parametrize("word", ["width=8", ".width=8", "sparnet"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not WHO\.NAME=VALUE"):
        read(word)


def test_what_was_there_before_the_change(table: PaperTable) -> None:
    with pytest.raises(UnknownNameError, match="'compact'"):
        changed(table, ["compact.width=8"])


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("coarse.widht=8", UnknownNameError, "'widht': did you mean 'width'"),
        ("cognition.network=light", UnknownNameError, "'network'"),
        ("cognition.widht=8", UnknownNameError, "'widht': did you mean 'width'"),
        ("coarse.network=sparnett", UnknownNameError, "did you mean 'sparnet'"),
        ("coarse.minutes=3", ConfigurationError, r"coarse\.minutes: the table says that"),
        ("coarse.schedule=fast", ConfigurationError, "give cosine or step or constant"),
        ("coarse.schedule=1", ConfigurationError, "give cosine or step or constant or null"),
        ('coarse.augment=["flip", "flop"]', ConfigurationError, "give flip or scale or rotate"),
        ('ipfh.without=["lrr"]', ConfigurationError, "give dual or hr or lr"),
        ("ipfh.down=null", ConfigurationError, "give average or convolution"),
        ("ipfh.mask_visited=1", ConfigurationError, "give true or false"),
        ("ipfh.down=avrage", ConfigurationError, "give average or convolution"),
        ("ipfh.mask_visited=sometimes", ConfigurationError, "give true or false"),
        ("coarse.model=light", ConfigurationError, r"coarse\.model: the table says that"),
    ],
)
def test_what_cannot_be_changed(table: PaperTable, word, error, message) -> None:
    with pytest.raises(error, match=message):
        changed(table, [word])


def test_what_the_table_has_not(table: PaperTable) -> None:
    with pytest.raises(UnknownNameError, match="'coars': did you mean 'coarse'"):
        changed(table, ["coars.width=8"])


def test_one_word_is_no_list(table: PaperTable) -> None:
    with pytest.raises(ConfigurationError, match=r"ipfh\.without=lr: give a list, .*\[\"lr\"\]"):
        changed(table, ["ipfh.without=lr"])
    own = changed(table, ['ipfh.without=["lr"]'])
    assert own.rows[3].parts["enhancer"].with_["without"] == ["lr"]
