"""Tables as text, and the figures' geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.tables import Table
from facehall_env.errors import ConfigurationError

TABLE = Table("Title", ("name", "value"), [("a", "1"), ("b", "2")], caption="Note.")


def test_markdown() -> None:
    assert TABLE.markdown() == ("| name | value |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\n\nNote.\n")


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"a\n{tables.START}\nold\n{tables.END}\nz\n", encoding="utf-8")
    for _ in range(2):
        tables.insert_into(path, TABLE)
        expected = f"a\n{tables.START}\n{TABLE.markdown()}{tables.END}\nz\n"
        assert path.read_text("utf-8") == expected


@pytest.mark.parametrize("text", ["", "no table", f"{tables.END} {tables.START}"])
def test_a_file_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="put them where the table should stand"):
        tables.insert_into(path, TABLE)
    assert path.read_text("utf-8") == text


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0.01, 10))
def test_labels_are_spread_in_order_around_their_values(values: list[float], gap: float) -> None:
    placed = plots.spread(values, gap)
    order = np.argsort(placed)
    assert (np.diff(np.array(placed)[order]) > gap * 0.999 - 1e-9).all()
    assert (np.diff(np.array(values)[order]) >= 0).all()
    assert np.mean(placed) == pytest.approx(np.mean(values), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), unique=True, min_size=1, max_size=9))
def test_labels_with_room_stay(values: list[int]) -> None:
    assert plots.spread(values, 0.9) == pytest.approx(values)


def test_curves_have_the_colours_of_their_agents(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    curves = {
        "bicubic": np.array([30.0, 30.0, 30.0]),
        "rl": np.array([30.0, 31.0, 32.0]),
        "oracle": np.array([30.0, 32.0, 33.0]),
    }
    plots.plot_curves(curves, path, "title")
    picture = np.asarray(Image.open(path).convert("RGB"))
    middle = picture.shape[1] // 2
    for name in ("rl", "oracle"):
        colour = tuple(bytes.fromhex(plots.COLOURS[name][1:]))
        rows, columns = np.nonzero((picture == colour).all(2))
        # The curve rises to the right, where rows are smaller.
        assert rows[columns < middle].mean() > rows[columns > middle].mean()
