"""Embeds texts and queries with the model of the settings. The only importer of fastembed.

A vector belongs to the space of its model. If no model can be loaded, this module raises; no other vector takes its
place. Only `fetch` downloads a model, because that can take minutes.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.settings import LakeSettings

logger = logging.getLogger(__name__)

# Attention takes the square of the longest text in a batch, so texts of similar length are embedded together.
BATCH_ROWS = 64
# A tokenizer needs many times the memory of its text, and a model reads at most 512 tokens, so texts are cut before.
TEXT_MAX_CHARS = 16_384


class Embedder:
    """A loaded model. Safe to share between threads."""

    def __init__(self, model: object, space: str, dimensions: int):
        self._model = model
        self.space = space
        self.dimensions = dimensions

    @classmethod
    def load(cls, settings: LakeSettings, *, threads: int | None = None) -> "Embedder":
        """Loads the model of the settings from its folder or from the cache under the home, never from the network.

        Raises:
            EmbeddingUnavailable: there is no such model, or it cannot be loaded.
        """
        if settings.embedding_model_dir is not None:
            if not (settings.embedding_model_dir / "tokenizer.json").is_file():
                raise EmbeddingUnavailable(
                    f"AKOSHA_EMBEDDING_MODEL_DIR is {settings.embedding_model_dir}, which holds no tokenizer.json; "
                    "expected a folder with model.onnx, config.json, tokenizer.json, tokenizer_config.json and "
                    "special_tokens_map.json"
                )
            _register(settings.embedding_model, settings.embedding_model_dir)
            return cls._open(settings.embedding_model, threads, specific_model_path=str(settings.embedding_model_dir))
        if not any(cache_dir(settings).glob("*")):
            raise _unavailable(settings.embedding_model, cache_dir(settings), "nothing was fetched there")
        return cls._open(settings.embedding_model, threads, cache_dir=str(cache_dir(settings)), local_files_only=True)

    @classmethod
    def _open(cls, name: str, threads: int | None, **where: object) -> "Embedder":
        from fastembed import TextEmbedding
        from loguru import logger as fastembed_logger

        # fastembed logs an error for each place that it searches; the exception below is enough.
        fastembed_logger.disable("fastembed")
        try:
            model = TextEmbedding(name, threads=threads, **where)  # type: ignore[arg-type]
            dimensions = len(next(iter(model.embed(["dimensions"]))))
        except (ValueError, OSError, RuntimeError) as error:
            raise _unavailable(name, where.get("specific_model_path", where.get("cache_dir")), str(error)) from error
        return cls(model, name, dimensions)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors in the order of `texts`: (texts, dimensions) float32. Long texts are cut at `TEXT_MAX_CHARS`."""
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        texts = [text[:TEXT_MAX_CHARS] for text in texts]
        order = np.argsort([len(text) for text in texts], kind="stable")
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(order), BATCH_ROWS):
            part = order[start : start + BATCH_ROWS]
            made = np.stack(list(self._model.embed([texts[i] for i in part], batch_size=BATCH_ROWS)))  # type: ignore[attr-defined]
            norms = np.linalg.norm(made, axis=1, keepdims=True)
            vectors[part] = made / np.where(norms > 0, norms, 1)
        return vectors


def fetch(settings: LakeSettings) -> Path:
    """Downloads the model of the settings into the cache under the home unless it is there; returns the cache's folder.

    Raises:
        EmbeddingUnavailable: it could not be downloaded.
    """
    from fastembed import TextEmbedding
    from loguru import logger as fastembed_logger

    fastembed_logger.disable("fastembed")
    folder = cache_dir(settings)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        TextEmbedding(settings.embedding_model, cache_dir=str(folder))
    except (ValueError, OSError, RuntimeError) as error:
        raise EmbeddingUnavailable(
            f"the embedding model {settings.embedding_model!r} could not be fetched: {error}"
        ) from error
    return folder


def cache_dir(settings: LakeSettings) -> Path:
    """The folder of downloaded models."""
    return settings.home / "models"


def as_stored(vectors: np.ndarray) -> list[bytes]:
    """The rows of `vectors`, (rows, dimensions) float32, as the tables store them: little-endian float16."""
    return [row.tobytes() for row in np.ascontiguousarray(vectors, dtype="<f2")]


def _unavailable(name: str, where: object, cause: str) -> EmbeddingUnavailable:
    return EmbeddingUnavailable(
        f"the embedding model {name!r} cannot be loaded from {where}: {cause}. "
        "Fetch it with `akosha model fetch`, or point AKOSHA_EMBEDDING_MODEL_DIR at a folder that holds it."
    )


def _register(name: str, folder: Path) -> None:
    """Registers a model that fastembed does not know, by the `config.json` in `folder`: mean pooling, unit length."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    if name.lower() in {model["model"].lower() for model in TextEmbedding.list_supported_models()}:
        return
    config = folder / "config.json"
    if not config.is_file():
        raise EmbeddingUnavailable(
            f"{name!r} is not a model fastembed knows, and {folder} holds no config.json that says its hidden_size"
        )
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=int(json.loads(config.read_text())["hidden_size"]),
        model_file="model.onnx",
    )
