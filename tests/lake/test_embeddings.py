"""The embedding model is loaded from a folder; a missing model is an error."""

from pathlib import Path

import numpy as np
import pytest

from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model


def test_a_model_folder_gives_unit_vectors_in_the_order_of_the_texts(tmp_path: Path) -> None:
    folder = tiny_model.make(tmp_path / "model")
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=folder))
    vectors = embedder.embed(
        ["postgres lock timeout in a long sentence about postgres", "redis eviction", "postgres lock timeout"]
    )
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[2] @ vectors[0] > vectors[2] @ vectors[1]
    assert embedder.space == "sentence-transformers/all-MiniLM-L6-v2"


def test_a_text_has_one_vector_in_every_batch_of_a_dynamically_quantized_model(tmp_path: Path) -> None:
    folder = tiny_model.make(tmp_path / "model", is_quantized=True)
    texts = ["postgres lock timeout", "kubernetes oomkilled " * 40, "redis", "tls certificate expired " * 9, "redis"]
    for threads in (1, 3):
        embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=folder), threads=threads)
        alone = np.concatenate([embedder.embed([text]) for text in texts])
        for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 0]):
            together = embedder.embed([texts[position] for position in order])
            assert ((together * alone[order]).sum(axis=1) >= 0.9999).all()


def test_the_real_model_gives_a_text_one_vector_in_every_batch(tmp_path: Path, shared: Path) -> None:
    texts = ["the database waits for a lock", "x", "disk full on /var: write failed with ENOSPC " * 12]
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=shared / "models" / "all-MiniLM-L6-v2"))
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    assert ((embedder.embed(texts) * alone).sum(axis=1) >= 0.9999).all()


def test_a_model_fastembed_does_not_know_is_described_by_its_config(tmp_path: Path) -> None:
    folder = tiny_model.make(tmp_path / "model")
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model="house/model", embedding_model_dir=folder))
    assert (embedder.space, embedder.dimensions) == ("house/model", 384)


def test_the_error_for_a_missing_model_tells_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingUnavailable, match="akosha model fetch"):
        Embedder.load(LakeSettings(home=tmp_path))


def test_the_error_names_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingUnavailable, match="holds no tokenizer"):
        Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=tmp_path))


def test_the_real_model_puts_paraphrases_together(tmp_path: Path, shared: Path) -> None:
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=shared / "models" / "all-MiniLM-L6-v2"))
    asked, near, far = embedder.embed(
        ["the database waits for a lock", "postgres lock timeout on a table", "the certificate has expired"]
    )
    assert asked @ near > asked @ far


def test_stored_vectors_are_little_endian_float16() -> None:
    stored = as_stored(np.array([[1.0, 0.5]], np.float32))
    assert np.frombuffer(stored[0], "<f2").tolist() == [1.0, 0.5]
