"""What a command prints: tables for people, one JSON document for programs; the data of devices is hostile to both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Where nobody looks, no column is cut off: the table goes to a file or to grep.
_UNBOUNDED_COLUMNS = 1000
_LONGEST_CELL = 200
_GAP = 2
_LAST_AT_LEAST = 24


def show_json(document: Mapping[str, Any]) -> None:
    """Print a document in ASCII, so that no terminal and no locale can stumble over it."""
    show(json.dumps(document, indent=2, default=str))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows in columns, or the sentence `empty`. None is an empty cell; numbers are aligned to the right.

    Only the last column is ever cut, and only where a terminal is too narrow; a very narrow one wraps the lines.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        show(empty)
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
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
    show("\n".join(line.rstrip() for line in rendered.get().splitlines()))


def show(text: str) -> None:
    """Print a line or several. Ends the command in peace where nobody reads on, as in `| head`."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def hint(text: str) -> None:
    """Say something beside the output, which may go to a program."""
    sys.stderr.write(f"{text}\n")


def visible(text: str) -> str:
    """The text with all that is not printable spelled out: control characters, bidirectional overrides, halves."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _cell(value: object) -> Text:
    """Never markup: what a device sends is shown, not obeyed."""
    text = "" if value is None else str(value)
    shown = visible(text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…")
    number = isinstance(value, int | float)
    return Text(shown, justify="right" if number else "left", no_wrap=True, overflow="ellipsis")
