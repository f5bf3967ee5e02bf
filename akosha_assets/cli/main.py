"""The `akosha` command: assembles the command families; what they do is in their modules.

A family is one module; its heavy imports stand inside its commands, so that `akosha --help` is quick.
"""

import typer

from akosha_assets.cli.up import up

app = typer.Typer(
    help="A fleet's session memories as one searchable lake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)


@app.callback()
def root() -> None:
    """A fleet's session memories as one searchable lake."""
