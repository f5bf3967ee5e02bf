"""Real text and real vectors for benchmarks, from what is on every machine: the doc strings of installed Python
packages.

A million texts would take an hour to embed, so a few thousand real vectors are widened: each further one lies between
two near neighbours, with noise. `widened` says so in figures that rest on it.
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


def paragraphs(wanted: int) -> list[str]:
    """Up to `wanted` different paragraphs of 80 to 600 characters, always the same ones on the same installation."""
    found: dict[str, None] = {}
    for root in (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"]):
        for path in sorted(Path(root).rglob("*.py")):
            found |= dict.fromkeys(_doc_paragraphs(path))
            if len(found) >= 4 * wanted:
                break
        if len(found) >= 4 * wanted:
            break
    # In an order that mixes packages.
    return sorted(found, key=lambda text: hashlib.blake2b(text.encode(), digest_size=8).digest())[:wanted]


def _doc_paragraphs(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    flat = [" ".join(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]
    return [paragraph for paragraph in flat if 80 <= len(paragraph) <= 600]


def real_vectors(settings: LakeSettings, wanted: int) -> tuple[np.ndarray, list[str], str]:
    """(n, d) float32 unit vectors of n paragraphs, the paragraphs, and the vector space; cached under the home."""
    embedder = Embedder.load(settings)
    folder = settings.home / "cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    gathered = folder / f"paragraphs-{wanted}.json"
    if not gathered.exists():
        gathered.write_text(json.dumps(paragraphs(wanted)))
    texts: list[str] = json.loads(gathered.read_text())
    name = hashlib.blake2b("\n".join([embedder.space, *texts]).encode(), digest_size=8).hexdigest()
    path = folder / f"vectors-{name}.npy"
    if path.exists():
        return np.load(path), texts, embedder.space
    logger.info("embedding paragraphs", extra={"texts": len(texts)})
    vectors = embedder.embed(texts)
    np.save(path, vectors)
    return vectors, texts, embedder.space


def widened(vectors: np.ndarray, wanted: int, seed: int = 7) -> np.ndarray:
    """`wanted` unit vectors as float16: the given ones, then ones between near neighbours with noise."""
    made = np.empty((wanted, vectors.shape[1]), np.float16)
    first = min(len(vectors), wanted)
    made[:first] = vectors[:first]
    for start, block in _between(vectors, wanted - first, seed):
        made[first + start : first + start + len(block)] = block
    return made


def widened_blocks(vectors: np.ndarray, wanted: int, seed: int = 7) -> Iterator[np.ndarray]:
    """The same in blocks, as float32, for more vectors than memory holds at once."""
    first = min(len(vectors), wanted)
    yield vectors[:first]
    for _, block in _between(vectors, wanted - first, seed):
        yield block


def _between(vectors: np.ndarray, wanted: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    near = np.empty((len(vectors), NEIGHBOURS), np.int64)
    for start in range(0, len(vectors), 1024):
        scores = vectors[start : start + 1024] @ vectors.T
        near[start : start + 1024] = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    for start in range(0, wanted, BLOCK_ROWS):
        count = min(BLOCK_ROWS, wanted - start)
        one = rng.integers(0, len(vectors), count)
        other = near[one, rng.integers(0, NEIGHBOURS, count)]
        share = rng.random((count, 1), np.float32)
        mixed = rng.standard_normal((count, vectors.shape[1]), np.float32)
        mixed *= np.float32(NOISE / vectors.shape[1] ** 0.5)
        mixed += vectors[one] * share
        mixed += vectors[other] * (1 - share)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        yield start, mixed
