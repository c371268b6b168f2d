"""Output of the commands: tables for people, one JSON document for programs; the data of devices is hostile to both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.visible import visible, visible_lines

_LONGEST_CELL = 200  # at a terminal
_ERRORS = ("error", "last error")  # the headings of columns that are never cut
_GAP = 2
_LAST_AT_LEAST = 24

# The member of a row under its own name, or a heading and what stands under it.
Column = str | tuple[str, Callable[[Any], object]]


def show_json(document: object, *, indent: int | None = 2) -> None:
    """Print a document, which may hold structs, in ASCII: no terminal and no locale can stumble over it."""
    show(json.dumps(msgspec.to_builtins(document), indent=indent).replace("\x7f", "\\u007f"))


def show_rows(columns: Sequence[Column], rows: Sequence[object], *, empty: str) -> None:
    """Print structs as a table; numbers that are not whole with one decimal."""
    headings = [column if isinstance(column, str) else column[0] for column in columns]
    cells = [[_content(column, row) for column in columns] for row in rows]
    show_table([heading.replace("_", " ") for heading in headings], cells, empty=empty)


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows in columns, or the sentence `empty`. None is an empty cell; numbers are aligned to the right.

    Off a terminal nothing is ever cut. On one only the last column is, where that is too narrow, and an error never: it
    takes as many lines as it needs.
    """
    table = [list(row) for row in rows]
    if not table:
        show(empty)
    elif sys.stdout.isatty():
        _write("\n".join(_fitting_lines(headings, table)))  # with its own colours
    else:
        _write("\n".join(_whole_lines(headings, table)))


def _whole_lines(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the heading and a line for each row; columns are as wide as their widest cell."""
    lines = [headings, *([_text(value) for value in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    numbers = [any(_is_number(value) for value in column) for column in zip(*rows, strict=True)]
    for number, line in enumerate(lines):
        cells = []
        for text, width, right in zip(line, widths, numbers, strict=True):
            blank = " " * (width - cell_len(text))
            cells.append(blank + text if right and number else text + blank)
        yield (" " * _GAP).join(cells).rstrip()


def _fitting_lines(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines for the terminal; one that is very narrow wraps them."""
    is_error = headings[-1] in _ERRORS
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="" if _colourless() else "bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1])
    for row, values in zip(cells, rows, strict=True):
        *others, last = row
        table.add_row(*others, Text(_text(values[-1]), overflow="fold", no_wrap=False) if is_error else last)
    console = Console()
    columns = list(zip(map(Text, headings), *cells, strict=True))
    uncut = sum(max(cell.cell_len for cell in column) + _GAP for column in columns[:-1])
    console.width = max(console.width, uncut + _LAST_AT_LEAST)
    with console.capture() as rendered:
        console.print(table)
    return [line.rstrip() for line in rendered.get().splitlines()]


def _colourless() -> bool:
    return bool(os.environ.get("NO_COLOR"))  # https://no-color.org


def show(text: str) -> None:
    """Print a line or several. Ends the command in peace where nobody reads on, as in `| head`."""
    _write(visible_lines(text))


def _write(text: str) -> None:
    """Print as it is."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def hint(text: str) -> None:
    """Say something beside the output, which may go to a program."""
    sys.stderr.write(f"{visible_lines(text)}\n")


def _content(column: Column, row: object) -> object:
    value = getattr(row, column) if isinstance(column, str) else column[1](row)
    return round(value, 1) if isinstance(value, float) else value


def _text(value: object) -> str:
    return "" if value is None else visible(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    """Return plain text, never markup: what a device sends is shown, not obeyed."""
    text = "" if value is None else str(value)
    shown = visible(text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…")
    return Text(shown, justify="right" if _is_number(value) else "left", no_wrap=True, overflow="ellipsis")
