"""Embeds texts and queries with the model of the settings. The only importer of fastembed.

A vector belongs to the space of its model. If no model can be loaded, this module raises; no other vector takes its
place. Only `fetch` downloads a model, because that can take minutes.
"""

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.passages import CUT_MAX_CHARS, PASSAGE_TOKENS, Span, cut_passages
from akosha_assets.lake.settings import LakeSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

# Texts per inference. A model that is quantized dynamically scales its numbers by the largest of the whole batch, so
# with more than one the vector of a text would depend on the others. docs/decisions/0065 has the alternatives.
BATCH_ROWS = 1
# A tokenizer needs many times the memory of its text, and a model reads at most 512 tokens, so texts are cut before.
TEXT_MAX_CHARS = 16_384


class Embedder:
    """A loaded model. Safe to share between threads.

    A text has the same vector whatever is embedded with it. Up to `threads` texts are embedded at the same time.
    """

    def __init__(self, model: object, space: str, dimensions: int, threads: int = 1):
        self._model = model
        self.space = space
        self.dimensions = dimensions
        self.threads = threads

    @classmethod
    def load(cls, settings: LakeSettings, *, threads: int | None = None) -> "Embedder":
        """Loads the model of the settings from its folder or from the cache under the home, never from the network.

        `threads`: texts embedded at the same time, each by one thread; None: as many as there are cores.

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
            model = TextEmbedding(name, threads=1, **where)  # type: ignore[arg-type]
            dimensions = len(next(iter(model.embed(["dimensions"]))))
        except (ValueError, OSError, RuntimeError) as error:
            raise _unavailable(name, where.get("specific_model_path", where.get("cache_dir")), str(error)) from error
        return cls(model, name, dimensions, threads or os.cpu_count() or 1)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors in the order of `texts`: (texts, dimensions) float32. Long texts are cut at `TEXT_MAX_CHARS`."""
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        texts = [text[:TEXT_MAX_CHARS] for text in texts]
        workers = min(self.threads, len(texts))
        if workers == 1:
            return self._embed(texts)
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        shares = [slice(first, None, workers) for first in range(workers)]
        with ThreadPoolExecutor(workers, "embedding") as pool:
            for share, made in zip(shares, pool.map(self._embed, [texts[share] for share in shares]), strict=True):
                vectors[share] = made
        return vectors

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        made = np.stack(list(self._model.embed(texts, batch_size=BATCH_ROWS)))  # type: ignore[attr-defined]
        norms = np.linalg.norm(made, axis=1, keepdims=True)
        vectors: np.ndarray = (made / np.where(norms > 0, norms, 1)).astype(np.float32, copy=False)
        return vectors

    def passages(self, text: str) -> list[Span]:
        """Start and end, in characters, of each passage of `text` that has a vector of its own; the first starts at 0.

        At most `PASSAGES_MAX`: the end of a longer text is in none.
        """
        tokenizer, tokens = self._tokenizer
        if len(text) <= tokens:
            return [(0, len(text))]
        encoded = tokenizer.encode(text[:CUT_MAX_CHARS], add_special_tokens=False)
        return cut_passages(text, encoded.offsets, tokens)

    @cached_property
    def _tokenizer(self) -> "tuple[Tokenizer, int]":
        """The tokenizer of the model, without truncation and padding, and the tokens of a passage."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._model.model.tokenizer.to_str())  # type: ignore[attr-defined]
        longest = (tokenizer.truncation or {}).get("max_length", PASSAGE_TOKENS)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer, min(PASSAGE_TOKENS, longest - tokenizer.num_special_tokens_to_add(is_pair=False))


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
