"""The `biolmm` command, to which the other modules of this package add theirs."""

from __future__ import annotations

import logging

import click


class Section(click.Option):
    """An option that `--help` lists under a heading of its own."""

    heading = "Where it runs"


class _Command(click.Command):
    """A command whose help has sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List plain options first, then those of each section."""
        for kind, heading in ((False, "Options"), (True, Section.heading)):
            chosen = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
            records = [param.get_help_record(ctx) for param in chosen if isinstance(param, Section) is kind]
            if lines := [record for record in records if record is not None]:
                with formatter.section(heading):
                    formatter.write_dl(lines)


class _Group(click.Group):
    """The group of all commands."""

    command_class = _Command
    group_class = type


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="biolmm")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--quiet", is_flag=True, help="Print results and warnings only.")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Linear mixed models for biobank-scale genotypes."""
    context.obj = {"debug": debug}
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    root = logging.getLogger("biolmm")
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    root.propagate = False
