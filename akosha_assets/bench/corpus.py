"""Real text and real vectors for benchmarks, from the docstrings of installed Python packages.

Embedding a million texts would take an hour. Instead a few thousand real vectors are interpolated: each further vector
lies between two near neighbours, with noise. Results that use such vectors have `widened`.
"""

import ast
import hashlib
import json
import logging
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.settings import LakeSettings

logger = logging.getLogger(__name__)

NOISE = 0.35
NEIGHBOURS = 8
BLOCK_ROWS = 50_000


def paragraphs(count: int) -> list[str]:
    """Up to `wanted` different paragraphs of 80 to 600 characters; the same installation always gives the same ones."""
    found: dict[str, None] = {}
    for root in (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"]):
        for path in sorted(Path(root).rglob("*.py")):
            found |= dict.fromkeys(_doc_paragraphs(path))
            if len(found) >= 4 * count:
                break
        if len(found) >= 4 * count:
            break
    # In an order that mixes packages.
    return sorted(found, key=lambda text: hashlib.blake2b(text.encode(), digest_size=8).digest())[:count]


def _doc_paragraphs(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    flat = [" ".join(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]
    return [paragraph for paragraph in flat if 80 <= len(paragraph) <= 600]


def real_vectors(settings: LakeSettings, count: int) -> tuple[np.ndarray, list[str], str]:
    """(n, d) float32 unit vectors of n paragraphs, the paragraphs, and their vector space; cached in the home."""
    embedder = Embedder.load(settings)
    folder = settings.home / "cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    gathered = folder / f"paragraphs-{count}.json"
    if not gathered.exists():
        gathered.write_text(json.dumps(paragraphs(count)))
    texts: list[str] = json.loads(gathered.read_text())
    name = hashlib.blake2b("\n".join([embedder.space, *texts]).encode(), digest_size=8).hexdigest()
    path = folder / f"vectors-{name}.npy"
    if path.exists():
        return np.load(path), texts, embedder.space
    logger.info("embedding paragraphs", extra={"texts": len(texts)})
    vectors = embedder.embed(texts)
    np.save(path, vectors)
    return vectors, texts, embedder.space


def widened(vectors: np.ndarray, count: int, seed: int = 7) -> np.ndarray:
    """`wanted` unit vectors, float16: those passed in, then interpolated ones with noise."""
    interpolated = np.empty((count, vectors.shape[1]), np.float16)
    first = min(len(vectors), count)
    interpolated[:first] = vectors[:first]
    for start, block in _between(vectors, count - first, seed):
        interpolated[first + start : first + start + len(block)] = block
    return interpolated


def widened_blocks(vectors: np.ndarray, count: int, seed: int = 7) -> Iterator[np.ndarray]:
    """As `widened`, but float32 and in blocks, for more vectors than fit into memory."""
    first = min(len(vectors), count)
    yield vectors[:first]
    for _, block in _between(vectors, count - first, seed):
        yield block


def _between(vectors: np.ndarray, total: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    near = np.empty((len(vectors), NEIGHBOURS), np.int64)
    for start in range(0, len(vectors), 1024):
        scores = vectors[start : start + 1024] @ vectors.T
        near[start : start + 1024] = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    for start in range(0, total, BLOCK_ROWS):
        count = min(BLOCK_ROWS, total - start)
        one = rng.integers(0, len(vectors), count)
        other = near[one, rng.integers(0, NEIGHBOURS, count)]
        share = rng.random((count, 1), np.float32)
        mixed = rng.standard_normal((count, vectors.shape[1]), np.float32)
        mixed *= np.float32(NOISE / vectors.shape[1] ** 0.5)
        mixed += vectors[one] * share
        mixed += vectors[other] * (1 - share)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        yield start, mixed
