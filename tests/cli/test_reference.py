"""`docs/cli.md` is made of the commands themselves: `PYTHONPATH=tests python tests/cli/test_reference.py` writes it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from biolmm.cli import cli
from biolmm.results.tables import TABLES
from biolmm.schema import ASSOCIATION_COLUMNS

DOC = Path(__file__).parents[2] / "docs" / "cli.md"
COMMANDS = ("simulate", "convert", "info", "fit", "scan", "gwas", "report")
HEAVY = ("simulate", "convert", "fit", "scan", "gwas")

HEADER = """# Command line

`biolmm COMMAND --help` prints the same. Options before the command: `--quiet` prints results and warnings only,
`--debug` shows tracebacks. Exit codes: 0 done, 2 a mistake in what was asked or given (one line says which, see
[errors.md](errors.md)), 1 any other failure, 130 interrupted. Every command that writes continues where it stopped
when it is run again. What is written is described in [files.md](files.md).

This page is generated from the commands by `tests/cli/test_reference.py`.
"""


def page() -> str:
    """Write the reference of every command, and of every command of a group."""
    lines = [HEADER.strip()]
    for name, command in every_command():
        level = "###" if " " in name else "##"
        lines += ["", f"{level} {name}", "", str(command.help), "", f"    {_usage(name, command)}", ""]
        options = [option for option in command.params if isinstance(option, click.Option)]
        if options:
            lines += ["| option | default | meaning |", "|---|---|---|"]
            lines += [_row(option) for option in options]
        elif isinstance(command, click.Group):
            lines += [
                f"* [{name} {sub}](#{f'{name} {sub}'.replace(' ', '-')}): {each.get_short_help_str(200)}"
                for sub, each in command.commands.items()
            ]
    return "\n".join(lines) + "\n"


def every_command(group: click.Group = cli, prefix: str = "") -> list[tuple[str, click.Command]]:
    """List all commands, those of a group after it, as they are typed."""
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        found.append((prefix + name, command))
        if isinstance(command, click.Group):
            found += every_command(command, f"{prefix}{name} ")
    return found


def _usage(name: str, command: click.Command) -> str:
    """Write how a command is called, with the options that it needs."""
    context = click.Context(command, info_name=f"biolmm {name}", max_content_width=110)
    required = [
        f"{option.opts[0]} {option.metavar}"
        for option in command.params
        if isinstance(option, click.Option) and option.required
    ]
    usage = command.get_usage(context).removeprefix("Usage: ").replace("[OPTIONS]", "[OPTIONS] " + " ".join(required))
    if isinstance(command, click.Group):
        usage = usage.replace("[OPTIONS]", "").replace("[ARGS]...", "…")
    return " ".join(usage.split())


def _row(option: click.Option) -> str:
    names = " / ".join([*option.opts, *option.secondary_opts])
    if isinstance(option.type, click.Choice):
        names += " " + r"\|".join(option.type.choices)
    elif not option.is_flag:
        names += f" {option.metavar or option.type.name.upper()}"
    default = "required" if option.required else ""
    if option.show_default and not option.is_flag:
        default = f"`{option.default}`"
    elif option.secondary_opts and option.default is not None:
        default = f"`{option.opts[0] if option.default else option.secondary_opts[0]}`"
    return f"| `{names}` | {default} | {option.help} |"


def test_the_documentation_is_what_the_commands_say() -> None:
    assert DOC.read_text(encoding="utf-8") == page(), "run: PYTHONPATH=tests python tests/cli/test_reference.py"


def test_every_column_is_documented() -> None:
    text = (DOC.parent / "files.md").read_text(encoding="utf-8")
    for column in ASSOCIATION_COLUMNS:
        assert f"| `{column.name}` | {column.arrow_type} | {column.description} |" in text
    for name, columns in TABLES.items():
        assert f"`{name}.tsv`" in text
        assert not [column for column in columns if f"`{column}`" not in text], name


def test_commands_of_groups_are_listed() -> None:
    text = page()
    for name in ("sumstats add", "ldsc h2"):
        assert f"\n### {name}\n" in text and f"](#{name.replace(' ', '-')})" in text
    assert "biolmm ldsc h2 [OPTIONS] --ld-scores PREFIX STATISTICS..." in text


def test_the_commands_that_others_call_are_there() -> None:
    assert set(COMMANDS) <= set(cli.commands)


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_commands_can_be_planned_and_limited(name: str) -> None:
    options = {flag for option in cli.commands[name].params for flag in option.opts}
    assert {"--threads", "--memory", "--seed", "--plan"} <= options


@pytest.mark.parametrize("name", ["fit", "gwas"])
def test_loco_can_be_switched_off(name: str) -> None:
    loco = next(option for option in cli.commands[name].params if option.name == "loco")
    assert (loco.opts, loco.secondary_opts, loco.default) == (["--loco"], ["--no-loco"], True)


def test_a_scan_does_as_the_model_was_fitted() -> None:
    loco = next(option for option in cli.commands["scan"].params if option.name == "loco")
    assert (loco.opts, loco.secondary_opts, loco.default) == (["--loco"], ["--no-loco"], None)


def test_everything_is_explained() -> None:
    for name, command in every_command():
        assert command.help, name
        assert all(option.help for option in command.params if isinstance(option, click.Option)), name


if __name__ == "__main__":
    DOC.write_text(page(), encoding="utf-8")
