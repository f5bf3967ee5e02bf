"""`akosha model`: the embedding model on this machine."""

import typer

from akosha_assets.cli.output import Json, console, emit, lake_errors

app = typer.Typer(help="The embedding model on this machine.", no_args_is_help=True)


@app.callback()
def model() -> None:
    """The embedding model on this machine."""


@app.command()
def fetch(as_json: Json = False) -> None:
    """Fetch the configured model over the network into the home; once it is there, nothing is fetched.

    Exit status 0: it is there; 1: it could not be fetched.
    """
    from akosha_assets.lake import embeddings
    from akosha_assets.lake.settings import LakeSettings

    settings = LakeSettings()
    with lake_errors():
        folder = embeddings.fetch(settings)
    if as_json:
        emit({"model": settings.embedding_model, "folder": str(folder)})
    else:
        console.print(f"{settings.embedding_model} lies in {folder}", highlight=False)
