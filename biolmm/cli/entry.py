"""Run the command line and turn what goes wrong into one line and an exit code.

Exit codes: 0 done, 2 the user's mistake (one line), 1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from biolmm.cli.root import cli
from biolmm.errors import BiolmmError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every mistake of the user is one line and exit code 2.

    Parameters
    ----------
    arguments
        What follows `biolmm`; by default what this process was started with.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(args=given or ["--help"], prog_name="biolmm", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("interrupted; the same command continues", 130)
    except click.ClickException as error:
        _stop(_usage_line(error), 2)
    except BiolmmError as error:
        if "--debug" in given:
            raise
        _stop(f"{type(error).__name__}: {error}", error.exit_code)
    except MemoryError:
        if "--debug" in given:
            raise
        _stop("MemoryError: the machine has no memory left: lower --memory, --threads or the number of traits.", 1)
    except Exception as error:
        if "--debug" in given:
            raise
        _stop(f"{type(error).__name__}: {_one_line(str(error))} (run `biolmm --debug …` for a traceback)", 1)


def _usage_line(error: click.ClickException) -> str:
    """Say in one line what is wrong with the options, and where they are listed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "biolmm"
    return f"UsageError: {_one_line(error.format_message())} See `{command} --help`."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stop(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
