"""Tables in a page: which cells are the best, and what stands beside them."""

from __future__ import annotations

import re

from facehall_env.benchmarks.tables import Column, Table


def cells(table: Table) -> list[list[str]]:
    rows = re.findall("<tr.*?>(.*?)</tr>", table.html("id"))
    return [re.findall("<t[hd].*?</t[hd]>", row) for row in rows]


def test_bold_is_what_reads_best_among_those_that_compete() -> None:
    columns = [
        Column("row", ["w", "x", "y", "z"]),
        Column("a", [1.004, 1.0, 0.5, 9.0], [0.1, None, None, None], ".2f", "higher"),
        Column("b", [3.0, 2.0, None, 1.0], format=".0f", better="lower"),
        Column("nothing", [None] * 4, better="higher"),
        Column("c", [1.0, 2.0, 3.0, 4.0]),
    ]
    table = Table("Title <b>", columns, caption="Caption.", aside=[3])
    head, *body = cells(table)
    # A column without any value is left out.
    assert head == [
        '<th scope="col" class="key">row</th>',
        *(f'<th scope="col">{name}</th>' for name in "abc"),
    ]
    assert [row[1:] for row in body] == [
        [
            '<td class="best"><strong>1.00</strong><small> ± 0.10</small></td>',
            "<td>3</td>",
            "<td>1.0</td>",
        ],
        [
            '<td class="best"><strong>1.00</strong></td>',
            '<td class="best"><strong>2</strong></td>',
            "<td>2.0</td>",
        ],
        ["<td>0.50</td>", "<td>–</td>", "<td>3.0</td>"],
        ["<td>9.00</td>", "<td>1</td>", "<td>4.0</td>"],
    ]
    assert '<span id="id">Title &lt;b&gt;</span>' in table.html("id")
    assert "Caption. Bold: the best of its column." in table.html("id")


def test_columns_that_say_what_a_row_is_about_are_its_headings() -> None:
    columns = [Column("form", ["x", "y"]), Column("layout", ["a", "b"]), Column("ms", [1.0, 2.0])]
    table = Table("t", columns, sections=[1], keys=2)
    _, first, second = cells(table)
    assert first == [
        '<th scope="row" class="key">x</th>',
        '<th scope="row" class="key">a</th>',
        "<td>1.0</td>",
    ]
    # The second row begins a section.
    assert re.findall("<tr(.*?)>", table.html("id")) == ["", "", ' class="section"']
    assert len(second) == 3


def test_one_alone_is_not_the_best() -> None:
    table = Table("t", [Column("r", ["a", "b"]), Column("x", [1.0, None], better="higher")])
    assert "best" not in table.html("id")


def test_others_numbers_stand_in_brackets() -> None:
    own = Column("PSNR", [-0.25, None, 1.0], [0.1, None, None], "+.2f", beside=["28.9", "31.5", ""])
    assert own.cells == ["-0.25 ± 0.10 (28.9)", "(31.5)", "+1.00"]
    _, *body = cells(Table("t", [Column("row", ["a", "b", "c"]), own]))
    assert [row[1] for row in body] == [
        '<td>−0.25<small> ± 0.10</small><small class="beside"> (28.9)</small></td>',
        '<td><small class="beside"> (31.5)</small></td>',
        "<td>+1.00</td>",
    ]
