"""Output of the commands: tables for people, one JSON document for programs; the data of devices is hostile to both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.visible import visible, visible_lines

# Where nobody looks, no column is cut off: the table goes to a file or to grep.
_UNBOUNDED_COLUMNS = 1000
_LONGEST_CELL = 200
_GAP = 2
_LAST_AT_LEAST = 24

# The member of a row under its own name, or a heading and what stands under it.
Column = str | tuple[str, Callable[[Any], object]]


def show_json(document: Mapping[str, Any]) -> None:
    """Print a document, which may hold structs, in ASCII: no terminal and no locale can stumble over it."""
    show(json.dumps(msgspec.to_builtins(document), indent=2).replace("\x7f", "\\u007f"))


def show_rows(columns: Sequence[Column], rows: Sequence[object], *, empty: str) -> None:
    """Print structs as a table; numbers that are not whole with one decimal."""
    headings = [column if isinstance(column, str) else column[0] for column in columns]
    cells = [[_content(column, row) for column in columns] for row in rows]
    show_table([heading.replace("_", " ") for heading in headings], cells, empty=empty)


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows in columns, or the sentence `empty`. None is an empty cell; numbers are aligned to the right.

    Only the last column is ever cut, and only where a terminal is too narrow; a very narrow one wraps the lines.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        show(empty)
        return
    table = Table(
        box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="" if os.environ.get("NO_COLOR") else "bold"
    )
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1])
    for row in cells:
        table.add_row(*row)
    console = Console()
    columns = list(zip(map(Text, headings), *cells, strict=True))
    uncut = sum(max(cell.cell_len for cell in column) + _GAP for column in columns[:-1])
    console.width = max(console.width if sys.stdout.isatty() else _UNBOUNDED_COLUMNS, uncut + _LAST_AT_LEAST)
    with console.capture() as rendered:
        console.print(table)
    _write("\n".join(line.rstrip() for line in rendered.get().splitlines()))  # with its own colours


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


def _cell(value: object) -> Text:
    """Return plain text, never markup: what a device sends is shown, not obeyed."""
    text = "" if value is None else str(value)
    shown = visible(text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…")
    number = isinstance(value, int | float)
    return Text(shown, justify="right" if number else "left", no_wrap=True, overflow="ellipsis")
