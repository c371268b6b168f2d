"""Every command, and what `headrace` exits with: 0, 1 (ran, found a fault) or 2 (bad usage or configuration)."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from app.cli import commands
from app.cli.faults import report, without_secrets
from app.cli.output import hint

_HELP = {"help_option_names": ["-h", "--help"]}
_INTERRUPTED = 130  # what shells make of SIGINT


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return the exit code. Never raises."""
    _fill_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an old locale must not fail a listing
    given = sys.argv[1:] if arguments is None else arguments
    options = {"debug": False}
    try:
        return make_app()(list(given) or ["--help"], prog_name="headrace", standalone_mode=False, obj=options) or 0
    except typer.TyperException as error:
        hint(_usage(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except Exception as error:  # the last place where it can become a sentence
        if options["debug"]:
            hint(without_secrets("".join(traceback.format_exception(error))))
        code, sentence = report(error)
        hint(sentence)
        return code


def _fill_standard_descriptors() -> None:
    """Put /dev/null where a standard stream is closed: else C code complains into a socket, or into the database."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest one that is free


def make_app() -> typer.Typer:
    """The commands under their names; help and errors are plain text."""
    app = typer.Typer(context_settings=_HELP, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(help="Take device events in, store each once, and hand them on.")(_root)
    for command in commands.COMMANDS:
        app.command(context_settings=_HELP)(command)
    return app


def _show_version(given: bool) -> None:
    if given:
        sys.stdout.write(f"headrace {version('headrace')}\n")
        raise typer.Exit(0)


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of `headrace` itself."""


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "headrace"
    sentence = f"{command}: {error.format_message()}"
    return f"{sentence}{'' if sentence.endswith(('.', '?')) else '.'} Try `{command} --help`."
