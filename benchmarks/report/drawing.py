"""Curves as inline SVG, drawn from the numbers.

Colours are classes (``series-0`` ...) that the page's style sheet fills in for light and dark, and
every line is named at its end, so that none has to be told apart by its colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from facehall_env.benchmarks.plots import spread

SERIES = (
    "random",
    "even",
    "saliency",
    "static",
    "rl",
    "qmap",
    "oracle",
    "ppo",
    "recurrent_ppo",
)
"""Lines with a colour of their own, in the order of the style sheet's classes."""
FURTHER = 3
"""Colours for other lines, behind those."""


@dataclass(frozen=True)
class Size:
    """Of a drawing, in units that are about a pixel.

    Attributes:
        width: Of all.
        height: Of all.
        labels: Room for the names at the right.
        font: Height of the letters.
    """

    width: int
    height: int
    labels: int
    font: int = 13


WIDE, NARROW = Size(760, 480, 150, 14), Size(360, 440, 118, 13)
LEFT, TOP, BOTTOM = 44, 28, 44
"""Margins around the axes, in the same units."""


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: In a line.
        description: What one sees, for those who do not.
        x_label: Below the axis.
        y_label: Above the axis.
        lines: (T + 1,) values at 0 ... T, by name; lengths may differ.
        x_ticks: Where to write a number below.
        best: Name of the line that is drawn thick.
        dashed: Names of lines that are drawn dashed.
        note: What else one has to know.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[float]]
    x_ticks: Sequence[int]
    best: str | None = None
    dashed: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Axes:
    """From values to places: x from 0, y from the lowest to the highest tick."""

    size: Size
    last: float
    low: float
    high: float

    @property
    def right(self) -> float:
        """Where the axes end."""
        return self.size.width - self.size.labels

    @property
    def bottom(self) -> float:
        """Where the lowest tick is."""
        return self.size.height - BOTTOM

    def x(self, value: float) -> float:
        """Place of a number of patches."""
        return LEFT + value / self.last * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Place of a value; places grow downwards."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - TOP)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, evenly spaced, that enclose a range.

    Args:
        low: The least value.
        high: The largest one.
        about: How many spaces there should be between the ticks.

    >>> nice_ticks(0.0, 4.2), nice_ticks(30.05, 30.31), nice_ticks(2.0, 2.0)
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [30.05, 30.1, 30.15, 30.2, 30.25, 30.3, 30.35], [2.0, 3.0])
    """
    if high <= low:
        return [low, low + 1.0]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / raw))) * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Rounded to the step's own digits: 3 * 0.1 is not 0.3.
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(place * step, digits) for place in range(first, last + 1)]


def series_class(name: str, others: Sequence[str] = ()) -> str:
    """The class that gives a line its colour.

    Args:
        name: Of the line.
        others: Names of all lines of the drawing, which share out the further colours.

    >>> series_class("even"), series_class("mine", ["even", "yours", "mine"])
    ('series-1', 'series-10')
    """
    if name in SERIES:
        return f"series-{SERIES.index(name)}"
    unknown = [other for other in others if other not in SERIES]
    place = unknown.index(name) if name in unknown else 0
    return f"series-{len(SERIES) + place % FURTHER}"


def line_chart(chart: Chart, size: Size, id_: str) -> Markup:
    """Draws lines, each named at its end.

    Args:
        chart: What to draw.
        size: Of the drawing.
        id_: Begins the identifiers in it, which have to be the page's only ones.

    Returns:
        An ``<svg>`` element.
    """
    values = [value for line in chart.lines.values() for value in line]
    ticks = nice_ticks(min(values), max(values))
    last = max(len(line) for line in chart.lines.values()) - 1
    axes = Axes(size, max(last, 1), ticks[0], ticks[-1])
    parts = [
        Markup('<title id="{0}-title">{1}</title>').format(id_, chart.title),
        Markup('<desc id="{0}-desc">{1}</desc>').format(id_, chart.description),
        *_grid(chart, axes, ticks),
        # The best line lies over the others, and its name is drawn last.
        *(_line(chart, axes, name) for name in _best_last(chart)),
        *_names(chart, axes),
    ]
    return Markup(
        '<svg viewBox="0 0 {0} {1}" role="img" aria-labelledby="{2}-title {2}-desc" '
        'font-size="{3}">{4}</svg>'
    ).format(size.width, size.height, id_, size.font, Markup("\n").join(parts))


def _best_last(chart: Chart) -> list[str]:
    return sorted(chart.lines, key=lambda name: name == chart.best)


def _grid(chart: Chart, axes: Axes, ticks: Sequence[float]) -> list[Markup]:
    digits = max(_digits(tick) for tick in ticks)
    parts = [
        Markup('<text class="axis-title" x="0" y="{0}">{1}</text>').format(
            axes.size.font, chart.y_label
        ),
        Markup(
            '<text class="axis-title" x="{0:g}" y="{1:g}" text-anchor="middle">{2}</text>'
        ).format((LEFT + axes.right) / 2, axes.size.height - 4, chart.x_label),
    ]
    for tick in ticks:
        place = _place(axes.y(tick))
        parts.append(
            Markup(
                '<path class="rule" d="M{0} {1}H{2}"/>'
                '<text class="tick" x="{3}" y="{1}" dy=".35em" text-anchor="end">{4}</text>'
            ).format(LEFT, place, _place(axes.right), LEFT - 7, f"{tick:.{digits}f}")
        )
    for number in chart.x_ticks:
        parts.append(
            Markup(
                '<path class="notch" d="M{0} {1}v5"/>'
                '<text class="tick" x="{0}" y="{2}" text-anchor="middle">{3}</text>'
            ).format(
                _place(axes.x(number)),
                _place(axes.bottom),
                _place(axes.bottom + 6 + axes.size.font),
                number,
            )
        )
    return parts


def _line(chart: Chart, axes: Axes, name: str) -> Markup:
    points = " ".join(
        f"{_place(axes.x(number))},{_place(axes.y(value))}"
        for number, value in enumerate(chart.lines[name])
    )
    classes = [
        "line",
        series_class(name, list(chart.lines)),
        *(["best"] if name == chart.best else []),
        *(["dashed"] if name in chart.dashed else []),
    ]
    return Markup('<polyline class="{0}" points="{1}"/>').format(" ".join(classes), points)


def _names(chart: Chart, axes: Axes) -> list[Markup]:
    """The lines' names, moved apart, with a stroke to where each line ends."""
    ends = {name: axes.y(line[-1]) for name, line in chart.lines.items()}
    heights = _inside(spread(list(ends.values()), axes.size.font * 1.25), axes.size)
    parts = []
    for (name, end), height in zip(ends.items(), heights, strict=True):
        from_x = axes.x(len(chart.lines[name]) - 1)
        to_x = axes.right + 18
        classes = f"leader {series_class(name, list(chart.lines))}"
        weight = Markup(' font-weight="700"') if name == chart.best else Markup("")
        parts.append(
            Markup(
                '<path class="{0}" d="M{1} {2}L{3} {4}"/>'
                '<text class="end" x="{5}" y="{4}" dy=".35em"{6}>{7}</text>'
            ).format(
                classes,
                _place(from_x),
                _place(end),
                _place(to_x),
                _place(height),
                _place(to_x + 5),
                weight,
                name,
            )
        )
    return parts


def _inside(heights: Sequence[float], size: Size) -> list[float]:
    """All moved together, if the first or the last one is outside of the drawing."""
    margin = size.font * 0.7
    down = max(0.0, margin - min(heights))
    up = max(0.0, max(heights) + down - (size.height - margin))
    return [height + down - up for height in heights]


def _place(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{round(value, 1) + 0.0:g}"


def _digits(value: float) -> int:
    """Digits behind the point that a round number needs.

    >>> [_digits(value) for value in (3.0, 0.5, 30.05)]
    [0, 1, 2]
    """
    return len(f"{value:.6f}".rstrip("0").partition(".")[2])
