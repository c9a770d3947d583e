"""Curves: where things are in the drawing."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facehall_env.benchmarks.report.drawing import (
    LEFT,
    Axes,
    Chart,
    Size,
    line_chart,
    nice_ticks,
    series_class,
)

SIZE = Size(width=344, height=244, labels=100, font=10)
CHART = Chart(
    title="Title & more",
    description="What one sees.",
    x_label="patches",
    y_label="dB",
    lines={"random": [0.0, 1.0, 2.0], "rl": [0.0, 2.0, 4.0], "mine <b>": [0.0, 1.0]},
    x_ticks=[0, 2],
    best="rl",
    dashed=frozenset({"random"}),
)


def drawn(chart: Chart = CHART) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart(chart, SIZE, "id"))


def test_places_of_values() -> None:
    axes = Axes(SIZE, last=2, low=0.0, high=4.0)
    # 44 to 244 across, 200 down to 28.
    assert [axes.x(t) for t in (0, 1, 2)] == [44, 144, 244]
    assert [axes.y(v) for v in (0, 1, 4)] == [200, 157, 28]


def test_lines_go_through_their_points() -> None:
    points = {line.get("class"): line.get("points") for line in drawn().iter("polyline")}
    assert points == {
        "line series-0 dashed": "44,200 144,157 244,114",
        "line series-4 best": "44,200 144,114 244,28",
        "line series-9": "44,200 144,157",
    }


def test_ticks_and_their_numbers() -> None:
    rules = [path.get("d") for path in drawn().iter("path") if path.get("class") == "rule"]
    assert rules == [f"M{LEFT} {y}H244" for y in (200, 157, 114, 71, 28)]
    ticks = [text.text for text in drawn().iter("text") if text.get("class") == "tick"]
    assert ticks == ["0", "1", "2", "3", "4", "0", "2"]


def test_every_line_is_named_at_its_end_in_order_without_overlap() -> None:
    names = {
        text.text: (float(text.get("x", "")), float(text.get("y", "")))
        for text in drawn().iter("text")
        if text.get("class") == "end"
    }
    assert list(names) == ["random", "rl", "mine <b>"]
    assert {x for x, _ in names.values()} == {267}
    heights = sorted(y for _, y in names.values())
    assert names["rl"][1] < names["random"][1] < names["mine <b>"][1]
    assert all(low - high >= 12.4 for high, low in pairwise(heights))
    leaders = [path.get("d") for path in drawn().iter("path") if "leader" in path.get("class", "")]
    assert leaders[1] == "M244 28L262 28"


def test_the_best_is_bold_and_drawn_last() -> None:
    bold = [text.text for text in drawn().iter("text") if text.get("font-weight")]
    assert bold == ["rl"]
    assert [line.get("class") for line in drawn().iter("polyline")][-1] == "line series-4 best"


def test_it_says_what_it_shows() -> None:
    svg = drawn()
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "id-title id-desc"
    assert svg.findtext("title") == "Title & more"
    assert svg.findtext("desc") == "What one sees."


def test_nothing_leaves_the_drawing_with_many_names() -> None:
    lines = {f"agent {number}": [0.0, 1.0 + number / 1000] for number in range(15)}
    chart = Chart("t", "d", "x", "y", lines, [0, 1])
    heights = [
        float(text.get("y", "")) for text in drawn(chart).iter("text") if text.get("class") == "end"
    ]
    assert min(heights) >= 0
    assert max(heights) <= SIZE.height
    classes = re.findall(r"line (series-\d+)", line_chart(chart, SIZE, "id"))
    assert set(classes) == {"series-9", "series-10", "series-11"}


def test_known_agents_keep_their_colours() -> None:
    assert series_class("rl", ["qmap", "rl"]) == series_class("rl", ["rl", "mine"]) == "series-4"


@given(st.floats(-100, 100), st.floats(0.001, 100))
def test_ticks_enclose_the_values_evenly(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * span
    assert ticks[-1] >= low + span - 1e-6 * span
    assert 3 <= len(ticks) <= 13
    assert [b - a for a, b in pairwise(ticks)] == pytest.approx([step] * (len(ticks) - 1), rel=1e-3)
