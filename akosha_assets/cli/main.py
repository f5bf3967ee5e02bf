"""The `akosha` command: puts the commands of the other modules together.

Commands import heavy modules inside their functions, so that `akosha --help` stays fast.
"""

import sys
from typing import Any

import typer

from akosha_assets.cli import backup, bench, fleet, ledger, lifecycle, model, retention
from akosha_assets.cli.alerts import alerts
from akosha_assets.cli.demo import demo
from akosha_assets.cli.explain import explain
from akosha_assets.cli.ingest import ingest
from akosha_assets.cli.metrics import metrics
from akosha_assets.cli.output import Exit, error_console, escape_markup
from akosha_assets.cli.repair import repair, verify
from akosha_assets.cli.search import search
from akosha_assets.cli.status import status, uploads
from akosha_assets.cli.up import up


class App(typer.Typer):
    """The commands; an invalid setting ends each of them with one line that names the variable."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from akosha_assets.lake.errors import InvalidSettings

        try:
            return super().__call__(*arguments, **options)
        except InvalidSettings as error:
            error_console.print(f"[bold red]error:[/] {escape_markup(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(Exit.USAGE)


app = App(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    up,
    demo,
    ingest,
    lifecycle.age,
    explain,
    backup.backup,
    backup.restore,
    repair,
    verify,
    ledger.redrive,
    search,
    status,
    uploads,
):
    app.command()(command)
app.command()(alerts)
app.command()(metrics)
app.add_typer(bench.app, name="bench")
app.add_typer(fleet.app, name="fleet")
app.add_typer(ledger.ledger_app, name="ledger")
app.add_typer(ledger.inbox_app, name="inbox")
app.add_typer(model.app, name="model")
app.add_typer(lifecycle.tiers, name="tiers")
app.add_typer(retention.app, name="retention")


@app.callback()
def root() -> None:
    """Search the session memories of a fleet. Settings are AKOSHA_… variables; state is stored in AKOSHA_HOME."""
    from akosha_api.settings import ApiSettings
    from akosha_assets.lake.checked_settings import unread_variables
    from akosha_assets.lake.settings import LakeSettings

    for name, suggestion in unread_variables((LakeSettings, ApiSettings)).items():
        hint = f"; did you mean {suggestion}?" if suggestion else ""
        error_console.print(
            f"[yellow]warning:[/] nothing reads the variable {escape_markup(name)}{hint}",
            highlight=False,
            soft_wrap=True,
        )
