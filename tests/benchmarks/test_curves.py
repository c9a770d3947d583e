"""Curves: which lines are drawn, how they are named, and how they stand in a page."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text

from facehall_env.benchmarks import plots

CURVES = {"random": [0.0, 1.0, 2.0], "rl": [0.0, 2.0, 4.0], "mine <b>": [0.0, 1.0]}


def lines(figure: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def names(figure: Any) -> dict[str, Any]:
    return {text.get_text(): text for text in figure.axes[0].texts}


def box(text: Any) -> Any:
    """Where the letters are, without the stroke that leads to them."""
    return Text.get_window_extent(text)


def svg(curves: plots.Curves = CURVES, **options: Any) -> str:
    return plots.curves_svg(curves, "id", "Title & more", "What one sees.", **options)


def test_lines_go_through_their_values() -> None:
    drawn = lines(plots.draw_curves(CURVES))
    assert {name: line.get_xydata().tolist() for name, line in drawn.items()} == {
        "random": [[0, 0], [1, 1], [2, 2]],
        "rl": [[0, 0], [1, 2], [2, 4]],
        "mine <b>": [[0, 0], [1, 1]],
    }


def test_every_line_is_named_at_its_end_in_order_without_overlap() -> None:
    figure = plots.draw_curves({**CURVES, "oracle": [0.0, 2.0, 4.01]})
    figure.draw_without_rendering()
    drawn = names(figure)
    assert {name: text.xy for name, text in drawn.items()} == {
        "random": (2, 2.0),
        "rl": (2, 4.0),
        "mine <b>": (1, 1.0),
        "oracle": (2, 4.01),
    }
    boxes = [box(drawn[name]) for name in ("mine <b>", "random", "rl", "oracle")]
    assert all(low.y1 < high.y1 and low.y0 < high.y0 for low, high in pairwise(boxes))
    assert len({round(place.x0) for place in boxes}) == 1


def test_many_names_neither_overlap_nor_leave_the_drawing() -> None:
    curves = {f"agent {number}": [0.0, 1.0 + number / 1000] for number in range(15)}
    figure = plots.draw_curves(curves, size=(760, 480), font=13)
    figure.draw_without_rendering()
    places = [box(text) for text in names(figure).values()]
    centres = [(place.y0 + place.y1) / 2 for place in places]
    # A line of text is about as high as 1.2 times its font; the figure has 100 dots per inch.
    assert min(np.diff(centres)) > 13 * 100 / 72
    assert min(centres) > 0
    assert max(centres) < 480 / 72 * 100
    assert {line.get_color() for line in lines(figure).values()} == set(plots.FURTHER)


def test_the_best_that_does_not_see_the_truth_is_thick() -> None:
    figure = plots.draw_curves({**CURVES, "oracle": [0.0, 5.0, 9.0], "bicubic": [0.0, 0.0, 0.0]})
    drawn = lines(figure)
    widest = max(drawn, key=lambda name: float(drawn[name].get_linewidth()))
    assert widest == "rl"
    assert [n for n, text in names(figure).items() if text.get_fontweight() == "bold"] == ["rl"]
    styles = {name: line.get_linestyle() for name, line in drawn.items()}
    assert styles == {
        "random": "-",
        "rl": "-",
        "mine <b>": "-",
        "oracle": "--",
        "bicubic": ":",
    }


def test_known_agents_keep_their_colours() -> None:
    alone, beside = (plots.draw_curves(c) for c in ({"rl": [0.0, 1.0]}, CURVES))
    assert lines(alone)["rl"].get_color() == lines(beside)["rl"].get_color() == plots.COLOURS["rl"]


def test_numbers_below_that_would_touch_are_left_out() -> None:
    curves = {"rl": list(np.linspace(0.0, 1.0, 26))}
    given = [0, 1, 2, 5, 9, 25]
    wide = plots.draw_curves(curves, x_ticks=given, size=(760, 440), font=13)
    narrow = plots.draw_curves(curves, x_ticks=given, size=(360, 440), font=13)
    assert sorted(wide.axes[0].get_xticks()) == given
    assert sorted(narrow.axes[0].get_xticks()) == [0, 2, 5, 9, 25]


def test_it_says_what_it_shows() -> None:
    root = ElementTree.fromstring(svg())
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "id-title id-desc"
    assert [child.text for child in root][:2] == ["Title & more", "What one sees."]
    texts = {element.text for element in root.iter(f"{{{plots.SVG}}}text")}
    assert {"random", "rl", "mine <b>", "patches", "PSNR [dB]"} <= texts


def test_it_can_stand_in_a_page_beside_another() -> None:
    drawn = svg()
    assert drawn == svg()
    ids = re.findall(r' id="([^"]*)"', drawn)
    assert len(set(ids)) == len(ids)
    assert all(id_.startswith("id-") for id_ in ids)
    # What is referred to is there.
    referred = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', drawn)
    assert referred
    assert {one or other for one, other in referred} <= set(ids)
    # A style sheet would hold for the whole page, and a size would not follow the window.
    root = ElementTree.fromstring(drawn)
    assert not list(root.iter(f"{{{plots.SVG}}}style"))
    assert root.get("width") is None
    assert root.get("viewBox") == "0 0 518 317"


def test_every_colour_has_one_for_dark_pages() -> None:
    every = {name: [0.0, 1.0] for name in (*plots.COLOURS, plots.BASELINE, "a", "b", "c")}
    drawn = svg(every)
    pairs = dict(re.findall(r"light-dark\((#\w+), (#\w+)\)", drawn))
    assert pairs == plots.ON_DARK
    assert re.findall(r"(?<!light-dark\()#[0-9a-f]{6}(?!\))", drawn) == []


@pytest.mark.parametrize("colour", [*plots.COLOURS.values(), *plots.FURTHER, plots.MUTED])
def test_names_can_be_read_on_both_papers(colour: str) -> None:
    """The contrast of WCAG 2.1: 3:1 for lines and large text."""
    assert contrast(colour, "#fbfaf6") > 3
    assert contrast(plots.ON_DARK[colour], "#131518") > 4.5


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    levels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(levels <= 0.03928, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
