"""Settings: the embedding model and its vector space."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from akosha_assets.lake.checked_settings import CheckedSettings


class EmbeddingSettings(CheckedSettings):
    """Which model embeds memories and questions, and how much time ingestion may spend on it."""

    embedding_model: Annotated[
        str, Field(description="Name of the embedding model; also the name of its vector space.")
    ] = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_model_dir: Annotated[
        Path | None,
        Field(
            description=(
                "Folder with the model's ONNX file and tokenizer, for machines without network. "
                "Unset: fastembed's cache or download."
            )
        ),
    ] = None
    embedding_seconds: Annotated[
        float,
        Field(
            ge=0,
            description=(
                "Seconds one ingest batch may spend on vectors; the job `embed` embeds the remaining rows. "
                "0: never during ingestion."
            ),
        ),
    ] = 5.0
    uploaded_vector_space: Annotated[
        str,
        Field(
            description=(
                "Vector space of the vectors that the fleet uploads, if all machines are known to use one "
                "model. Empty: uploaded vectors are counted and discarded."
            )
        ),
    ] = ""

    embedding_dimensions: Annotated[
        int,
        Field(
            ge=8,
            le=4096,
            description="Dimensions of the vectors of AKOSHA_EMBEDDING_MODEL; a query vector must have as many.",
        ),
    ] = 384
