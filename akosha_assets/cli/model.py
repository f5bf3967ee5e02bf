"""`akosha model`: manages the embedding model of this machine."""

import typer

from akosha_assets.cli.output import Json, console, emit, lake_errors

app = typer.Typer(help="Manage the embedding model of this machine.", no_args_is_help=True)


@app.callback()
def model() -> None:
    """Manage the embedding model of this machine."""


@app.command()
def fetch(as_json: Json = False) -> None:
    """Download the configured model into the home, unless it is already there.

    Exit status 0: it is there; 1: it could not be downloaded.
    """
    from akosha_assets.lake import embeddings
    from akosha_assets.lake.settings import LakeSettings

    settings = LakeSettings()
    with lake_errors():
        folder = embeddings.fetch(settings)
    if as_json:
        emit({"model": settings.embedding_model, "folder": str(folder)})
    else:
        console.print(f"{settings.embedding_model} is in {folder}", highlight=False)
