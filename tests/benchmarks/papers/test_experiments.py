"""The papers' tables as data: what they name exists, and their numbers are the papers'."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from facehall_env import data
from facehall_env.agents import AGENTS
from facehall_env.agents.reinforce.policies import POLICIES
from facehall_env.benchmarks.papers import layout
from facehall_env.benchmarks.papers.layout import PaperTable, load
from facehall_env.benchmarks.papers.trainers import TRAINERS
from facehall_env.data.protocols import PROTOCOLS
from facehall_env.enhancers import ENHANCERS
from facehall_env.errors import ConfigurationError, UnknownNameError

SHARED = Path(__file__).parents[4] / "shared" / "papers"
ALL = layout.available()

SHAPES = {
    # Rows and columns as the papers print them; some have a row of ours besides.
    "attention-fh-table-1": (8, 12),
    "attention-fh-table-2": (4, 2),
    "attention-fh-table-3": (6, 2),
    "attention-fh-table-4": (3, 2),
    "sparnet-table-I": (9, 4),
    "sparnet-table-II": (3, 2),
    "sparnet-table-III": (4, 4),
    "sparnet-table-IV": (5, 4),
    "sparnet-table-V": (3, 1),
    "sparnet-figure-5": (3, 3),
    "sparnet-figure-7": (9, 1),
    "sparnet-figure-10": (3, 12),
    "sisn-table-1": (3, 4),
    "sisn-table-2": (7, 8),
    "sisn-table-3": (7, 8),
    "sisn-table-4": (7, 8),
    "sisn-table-5": (7, 7),
    "sisn-figure-2": (32, 2),
    "ipfh-table-I": (2, 10),
    "ipfh-table-II": (15, 4),
    "ipfh-table-III": (7, 5),
    "ipfh-table-IV": (6, 1),
    "ipfh-table-V": (7, 4),
    "ipfh-table-VI": (7, 2),
    "ipfh-table-VII": (4, 2),
    "ipfh-table-VIII": (4, 2),
    "ipfh-table-IX": (9, 6),  # With all pairs and the cosine, which the paper does not have.
    "ipfh-table-X": (2, 2),
}
PAPERS = {"attention-fh": "001", "ipfh": "002", "sparnet": "003", "sisn": "004"}
COMPUTED = {
    # Ratios of the paper's times; seconds and Hz that the papers print in other units.
    "attention-fh-table-4": {"1.00", "5.00", "4.05"},
    "sparnet-table-III": {"45", "65", "51"},
    "ipfh-table-VI": {"1190"},
}


def names(item: tuple[str, str, str]) -> str:
    return "-".join(item)


@pytest.fixture(params=ALL, ids=names)
def table(request: pytest.FixtureRequest) -> PaperTable:
    return load(*request.param)


def test_all_tables_are_there() -> None:
    assert {f"{paper}-{kind}-{number}" for paper, kind, number in ALL} == SHAPES.keys()


def test_the_shape_is_the_papers(table: PaperTable) -> None:
    assert (len(table.rows), len(table.columns)) == SHAPES[table.name]


def test_what_a_table_names_exists(table: PaperTable) -> None:
    assert table.protocol in PROTOCOLS
    for condition in table.conditions.values():
        assert table.of(condition.key), f"no column is about {condition.key}"
        for source in condition.sources:
            assert {source.test.name, source.train.name} <= set(data.available())
        assert not condition.sources[0].differs, "the first source is the paper's"
        assert all(source.differs for source in condition.sources[1:])
    for row in table.rows:
        assert (row.kind == "paper-only") == bool(row.why)
        for part in row.parts.values():
            assert part.network is None or part.network in ENHANCERS.available()
            assert part.agent is None or part.agent in AGENTS.available()
            policy = part.settings.get("policy")
            assert policy is None or policy in POLICIES
            assert part.of is None or part.of in row.parts
            if part.trainer is not None:
                fields = TRAINERS[part.trainer].fields()
                assert part.with_.keys() <= fields.keys()
                assert "minutes" in fields


@pytest.mark.parametrize("small", [False, True], ids=["whole", "small"])
@pytest.mark.parametrize("item", ALL, ids=names)
def test_every_row_has_the_same_time(item: tuple[str, layout.Kind, str], small: bool) -> None:
    rows = load(*item, small=small).rows
    times = {
        row.key: {part.use: part.share for part in row.parts.values() if part.trainer}
        for row in rows
    }
    for row, own in times.items():
        # Or it is a part of another row, as the coarse hallucinator alone is.
        part_of_another = any(own.items() < other.items() for other in times.values())
        assert not own or sum(own.values()) == pytest.approx(1) or part_of_another, row


@pytest.mark.skipif(not SHARED.is_dir(), reason="the papers' texts are not on this machine")
def test_the_numbers_are_the_papers(table: PaperTable) -> None:
    (path,) = SHARED.glob(f"{PAPERS[table.paper]}_*.txt")
    text = path.read_text("utf-8")
    known = set(re.findall(r"\d+\.?\d*", text))
    given = {word.rstrip("%") for row in table.rows for word in row.paper if word is not None}
    assert given - known - COMPUTED.get(table.name, set()) == set()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the papers' texts are not on this machine")
@pytest.mark.parametrize(
    ("item", "first"),
    [
        (("attention-fh", "table", "1"), "Bicubic\t26.79"),
        (("attention-fh", "table", "2"), "T = 5\t28.89"),
        (("attention-fh", "table", "3"), "CNN-16\t29.11"),
        (("ipfh", "table", "II"), "Bicubic 21.12 0.71"),
        (("ipfh", "table", "VII"), "evenly 24.32"),
        (("ipfh", "table", "VIII"), "coarse visual net 24.90"),
        (("ipfh", "table", "IX"), "w/o dual domain 23.07"),
        (("ipfh", "table", "X"), "down-sampling 26.40"),
    ],
    ids=lambda value: value if isinstance(value, str) else names(value),
)
def test_rows_are_the_papers(item: tuple[str, layout.Kind, str], first: str) -> None:
    """Where the text has kept the lines of a table, each row's numbers stand in one of them."""
    table = load(*item)
    (path,) = SHARED.glob(f"{PAPERS[table.paper]}_*.txt")
    text = path.read_text("utf-8")
    lines = [
        re.findall(r"(?<![\w.])\d+\.\d+", line) for line in text[text.index(first) :].split("\n")
    ]
    for row in table.rows:
        numbers = [word for word in row.paper if word is not None]
        assert numbers in lines, row.name


def test_orders_of_differences_in_sisn_table_5() -> None:
    """Faces that were not found count as 0 in the paper's averages: its dashes stand rightly."""
    for row in load("sisn", "table", "5").rows:
        numbers = [0.0 if word is None else float(word) for word in row.paper]
        assert sum(numbers[:6]) / 6 == pytest.approx(numbers[6], abs=2e-6)


ROW = """
[[rows]]
key = "bicubic"
name = "Bicubic"
kind = "start"
paper = "1.0"
"""
GOOD = f"""
paper = "p"
number = "1"
title = "t"
protocol = "bicubic"
reference = "bicubic"
columns = ["a psnr"]
caption = ""

[conditions.a]
title = "A"
scale = 4
sources = [{{ test = {{ name = "lfw" }}, train = {{ name = "lfw" }} }}]
{ROW}
"""


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text, None),
        (lambda text: text.replace('"1.0"', '"1.0 2.0"'), r"2 numbers for 1 columns"),
        (lambda text: text.replace('"1.0"', '"one"'), r"p-table-1.toml.*'one'"),
        (lambda text: text.replace("psnr", "pnsr"), r"metric 'pnsr': did you mean 'psnr'"),
        (lambda text: text.replace('"a psnr"', '"b psnr"'), r"condition 'b'"),
        (lambda text: text.replace('"start"', '"begin"'), r"kind of row 'begin'"),
        (lambda text: text.replace('reference = "bicubic"', 'reference = "x"'), r"row 'x'"),
        (lambda text: text + ROW, r"two rows are called alike"),
        (lambda text: text.replace('"start"', '"model"'), r"'bicubic' lacks model"),
        (lambda text: text.replace('key = "bicubic"', ""), r"there is no 'key'"),
        (lambda text: text + 'model = "nobody"', r"entry of networks.toml 'nobody'"),
        (lambda text: text + "colour = [", r"p-table-1.toml cannot be read"),
    ],
)
def test_mistakes_in_a_file_are_named(
    change: Callable[[str], str], error: str | None, tmp_path: Path
) -> None:
    (tmp_path / "networks.toml").write_text('[some]\nnetwork = "srcnn"\n')
    (tmp_path / "p-table-1.toml").write_text(change(GOOD))
    if error is None:
        assert load("p", "table", "1", folder=tmp_path).rows[0].paper == ("1.0",)
    else:
        with pytest.raises(ConfigurationError, match=error):
            load("p", "table", "1", folder=tmp_path)


def test_a_number_that_is_not_there() -> None:
    with pytest.raises(UnknownNameError, match=r"table of sparnet 'VI'.*I, II, III, IV, V"):
        load("sparnet", "table", "VI")


def test_small_networks_keep_what_a_row_sets() -> None:
    rows = {row.key: row for row in load("sisn", "figure", "2", small=True).rows}
    settings = rows["groups-7"].parts["model"].settings
    assert settings == {"groups": 7, "blocks": 10, "width": 4}
    gln = next(r for r in load("attention-fh", "table", "1", small=True).rows if r.key == "gln")
    assert gln.parts["model"].network == "srcnn"
    assert gln.parts["model"].settings == {"kernels": [5, 1, 3]}
