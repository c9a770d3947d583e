"""Which files are results, and what is said of the others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from facehall_env.benchmarks.provenance import Row
from facehall_env.benchmarks.report.contents import CONTENTS, PatchSelection
from facehall_env.benchmarks.report.reading import LeftOut, Result, read_result, read_results
from facehall_env.benchmarks.speed.contents import UpdateProfile
from facehall_env.errors import ConfigurationError

Content = dict[str, Any]


def reason(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    read = read_result(path)
    assert isinstance(read, LeftOut), read
    assert read.name == path.name
    return read.reason


def test_every_kind_is_read(results: Path, contents: dict[str, Content]) -> None:
    found = read_results(results)
    assert found.left_out == ()
    assert {result.name for result in found.results} == {f"{name}.json" for name in contents}
    assert set(contents) == set(CONTENTS)
    for result in found.results:
        written = contents[result.name.removesuffix(".json")]
        assert isinstance(result.content, CONTENTS[written["benchmark"]])
        assert_holds(result.content.to_json(), written)


def assert_holds(read: Any, written: Any) -> None:
    """What was written is what was read, where null became NaN and lists tuples."""
    if isinstance(written, dict):
        for key in set(read) & set(written):
            assert_holds(read[key], written[key])
    elif isinstance(written, list):
        assert len(read) == len(written)
        for one, other in zip(read, written, strict=True):
            assert_holds(one, other)
    elif isinstance(read, float) and math.isnan(read):
        assert written is None
    else:
        assert read == written


def test_the_projects_own_results_are_read(root: Path) -> None:
    found = read_results(root / "benchmarks" / "results")
    assert found.left_out == ()
    assert len(found.of(PatchSelection)) >= 2


@pytest.mark.parametrize("kind", ["patch-selection", "sr", "throughput", "identity", "attributes"])
def test_an_older_form_is_named_with_the_command_that_renews_it(
    kind: str, contents: dict[str, Content], tmp_path: Path
) -> None:
    content = contents[kind]
    old = content["vector_env" if kind == "throughput" else "rows"][1]
    # As they were before, with the same numbers under other names.
    old["per_second"] = old.pop("psnr" if "psnr" in old else "steps_per_second")
    told = reason(tmp_path / "old.json", content)
    assert told.startswith("is of another version, or was changed by hand (there is no ")
    assert "[1]." in told
    assert told.endswith(f"run `{CONTENTS[kind].again}` again")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_named(
    version: object, contents: dict[str, Content], tmp_path: Path
) -> None:
    told = reason(tmp_path / "a.json", {**contents["profile"], "version": version})
    assert told.startswith(f"is of version {version!r}, this report reads version 1")


def change_a_row(content: Content) -> None:
    content["rows"][3]["psnr"] = 33.0


def change_a_curve(content: Content) -> None:
    content["curves"][2]["psnr"][1] = 30.0


def repeat_a_row(content: Content) -> None:
    content["rows"].append(content["rows"][1])


def drop_a_curve(content: Content) -> None:
    del content["curves"][3]


def shorten_a_curve(content: Content) -> None:
    del content["curves"][4]["psnr"][2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_a_row, "rl after 1 patches: 33.000 dB in the table, 32.000 dB in the curve"),
        (change_a_curve, "even after 1 patches: 31.500 dB in the table, 30.000 dB in the curve"),
        (repeat_a_row, "two rows of random after 1 patches"),
        (drop_a_curve, "a row of rl, but no curve"),
        (shorten_a_curve, "a row of oracle after 2 patches, its curve has 1"),
    ],
)
def test_numbers_that_contradict_one_another_are_found(
    change: Callable[[Content], None], words: str, contents: dict[str, Content], tmp_path: Path
) -> None:
    content = contents["patch-selection"]
    change(content)
    told = reason(tmp_path / "a.json", content)
    assert told.startswith(f"was changed by hand, or is damaged ({words})")


def test_contradictions_of_other_kinds(contents: dict[str, Content], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    contents["profile"]["shares"]["policy"] = 0.5
    assert "the shares sum to 1.250" in reason(path, contents["profile"])
    contents["sr"]["relative_to"] = "other"
    assert "relative to other, of which there is no row" in reason(path, contents["sr"])
    table = contents["paper-table"]
    table["orderings"][0]["verdict"] = "undecided"
    assert "T = 9 before T = 5 is called undecided" in reason(path, table)
    table["rows"][0]["cells"] *= 2
    assert "the row t5 has 2 cells for 1 columns" in reason(path, table)


@pytest.mark.parametrize("kind", ["identity", "network", "throughput", "training-memory"])
def test_a_table_without_rows_is_named(
    kind: str, contents: dict[str, Content], tmp_path: Path
) -> None:
    rows = "vector_env" if kind == "throughput" else "rows"
    told = reason(tmp_path / "a.json", {**contents[kind], rows: []})
    assert f"({rows} is empty, expected a list with at least one entry)" in told


def change_a_mean(content: Content) -> None:
    content["rows"][1]["balanced_accuracy"] = 0.75


def change_an_attribute(content: Content) -> None:
    content["rows"][1]["attributes"]["Smiling"]["balanced_accuracy"] = 0.875


def drop_an_attribute(content: Content) -> None:
    del content["rows"][1]["attributes"]["Smiling"]


def drop_all_attributes(content: Content) -> None:
    content["rows"][0]["attributes"] = {}


def drop_a_share(content: Content) -> None:
    del content["share"]["No_Beard"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_a_mean, "mine: 0.7500 in the table, 0.6875 is the mean over the attributes"),
        (change_an_attribute, "mine: 0.6875 in the table, 0.7500 is the mean over the attributes"),
        (drop_an_attribute, "Smiling is an attribute of only one of bicubic and mine"),
        (drop_all_attributes, "bicubic has no attributes"),
        (drop_a_share, "nothing says how many faces have No_Beard"),
        (repeat_a_row, "two rows of mine"),
    ],
)
def test_attributes_that_contradict_one_another_are_found(
    change: Callable[[Content], None], words: str, contents: dict[str, Content], tmp_path: Path
) -> None:
    content = contents["attributes"]
    change(content)
    assert reason(tmp_path / "a.json", content) == (
        f"was changed by hand, or is damaged ({words}): run `facehall bench attributes` again"
    )


def test_what_is_no_number_is_named(contents: dict[str, Content], tmp_path: Path) -> None:
    content = contents["attributes"]
    content["rows"][2]["attributes"]["Smiling"]["balanced_accuracy"] = "0.5"
    place = "rows[2].attributes.Smiling.balanced_accuracy"
    assert f"({place} is '0.5', expected a number)" in reason(tmp_path / "a.json", content)
    # Null, which stands for a number that could not be computed, is not the mean of anything.
    content["rows"][2]["attributes"]["Smiling"]["balanced_accuracy"] = None
    assert "nan is the mean over the attributes" in reason(tmp_path / "a.json", content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is damaged: it is no JSON"),
        (b'{"benchmark": "profile", "shares": {', "is damaged: it is no JSON"),
        (b'{"benchmark": NaN}', "is damaged: it is no JSON (NaN is no number)"),
        (b'{"benchmark": 1e999}', "is damaged: it is no JSON (1e999 is too large)"),
        (b"\xff\xfe\x00", "is damaged: it is no JSON (not text in UTF-8)"),
        (b"[" * 100_000, "is damaged: it is no JSON"),
        (b"[1, 2]", 'holds no results: it has no field "benchmark"'),
        (b'{"name": "left-pad"}', 'holds no results: it has no field "benchmark"'),
        (b'{"benchmark": ["sr"]}', 'holds no results: it has no field "benchmark"'),
        (b'{"benchmark": "juggling"}', "is of a benchmark that is not known here (juggling"),
    ],
)
def test_what_is_no_results_file_is_named(text: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    read = read_result(path)
    assert isinstance(read, LeftOut)
    assert read.reason.startswith(words)


def test_the_good_files_are_read_beside_the_bad(
    results: Path, contents: dict[str, Content]
) -> None:
    (results / "foreign.json").write_text("{}", encoding="utf-8")
    (results / "folder.json").mkdir()
    (results / ".being-written.json").write_text("{", encoding="utf-8")
    found = read_results(results)
    assert [file.name for file in found.left_out] == ["folder.json", "foreign.json"]
    assert {result.name for result in found.results} == {f"{name}.json" for name in contents}
    assert all(isinstance(result, Result) for result in found.results)


def test_an_older_paper_table_is_named_with_its_command(
    contents: dict[str, Content], tmp_path: Path
) -> None:
    old = {**contents["paper-table"], "version": 1}
    assert reason(tmp_path / "a.json", old) == (
        "is of version 1, this report reads version 2: "
        "run `facehall bench paper attention-fh-2` again"
    )
    damaged = contents["paper-table"]
    del damaged["rows"][1]["name"]
    told = reason(tmp_path / "a.json", damaged)
    assert "(there is no rows[1].name): run `facehall bench paper attention-fh-2` again" in told


def test_of_two_files_of_one_name_the_first_folders_is_read(
    results: Path, contents: dict[str, Content], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    changed = {**contents["profile"], "seconds_per_update": 9.0}
    (own / "profile.json").write_text(json.dumps(changed), encoding="utf-8")
    found = read_results(own, results)
    assert len(found.results) == len(contents)
    (profile,) = found.of(UpdateProfile)
    assert profile.content.seconds_per_update == 9.0
    assert profile.path == own / "profile.json"


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="There are no results in"):
        read_results(tmp_path)
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"a\.json holds no results"):
        read_results(tmp_path)


@dataclass(frozen=True)
class Inner(Row):
    number: int


@dataclass(frozen=True)
class Outer(Row):
    name: str
    whole: int = 0
    real: float = 0.0
    inner: tuple[Inner, ...] = ()
    named: Mapping[str, int] = field(default_factory=dict)
    maybe: str | None = None
    either: str | int = 0
    sure: bool = True


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "x is [], expected names with values"),
        ({}, "there is no x.name"),
        ({"name": 3}, "x.name is 3, expected text"),
        ({"whole": True}, "x.whole is True, expected a whole number"),
        ({"whole": 1.5}, "x.whole is 1.5, expected a whole number"),
        ({"whole": None}, "x.whole is null, expected a whole number"),
        ({"real": "1"}, "x.real is '1', expected a number"),
        ({"inner": {}}, "x.inner is {}, expected a list"),
        ({"inner": [{"number": 1}, {}]}, "there is no x.inner[1].number"),
        ({"inner": [2]}, "x.inner[0] is 2, expected names with values"),
        ({"named": {"a": "b"}}, "x.named.a is 'b', expected a whole number"),
        ({"maybe": 1}, "x.maybe is 1, expected text"),
        ({"either": 1.5}, "x.either is 1.5, expected text or a whole number"),
        ({"sure": 1}, "x.sure is 1, expected true or false"),
        ({"real": "x" * 99}, f"x.real is '{'x' * 36}..., expected a number"),
    ],
)
def test_the_first_mismatch_is_named(content: Any, words: str) -> None:
    if isinstance(content, dict) and content:
        content = {"name": "n", **content}
    with pytest.raises(ConfigurationError) as raised:
        Outer.from_json(content, "x")
    assert str(raised.value) == words


def test_what_fits_is_read() -> None:
    content = {"name": "n", "real": 1, "inner": [{"number": 2, "more": []}], "named": {"a": 3}}
    read = Outer.from_json({**content, "either": 4, "maybe": "m"})
    assert read == Outer("n", 0, 1.0, (Inner(2),), {"a": 3}, "m", 4)
    assert isinstance(read.real, float)
    assert Outer.from_json(json.loads(json.dumps(read.to_json()))) == read
    assert math.isnan(Outer.from_json({"name": "n", "real": None}).real)
