"""Embedding speed by length, and whether the vector of a text depends on what is embedded with it."""

import time
from typing import Any

import numpy as np

from akosha_assets.bench import corpus, runs
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.settings import LakeSettings

# Words of a text of each length; the model reads at most 512 tokens.
WORDS = {"query": 6, "memory": 60, "passage": 200, "longest": 600}
SEED = 7


def run(*, texts: int, threads: int | None) -> dict[str, Any]:
    """Texts per second of `texts` texts of each length, by the clock and by processor time, and the smallest cosine of
    a text's vector alone with its vector among all texts of all lengths in random order.
    """
    embedder = Embedder.load(LakeSettings(), threads=threads)
    words = " ".join(corpus.paragraphs(20 * texts)).split()
    by_length = {
        name: [" ".join(np.roll(words, -37 * number)[:count]) for number in range(texts)]
        for name, count in WORDS.items()
    }
    mixed = [text for of_length in by_length.values() for text in of_length]
    order = np.random.default_rng(SEED).permutation(len(mixed))
    together = np.empty((len(mixed), embedder.dimensions), np.float32)
    together[order] = embedder.embed([mixed[position] for position in order])
    alone = np.concatenate([embedder.embed([text]) for text in mixed])
    return {
        "texts": texts,
        "threads": embedder.threads,
        "texts_per_second": {name: _speed(embedder, of_length) for name, of_length in by_length.items()},
        "worst_cosine_alone": round(float((together * alone).sum(axis=1).min()), 6),
        "space": embedder.space,
        "machine": runs.machine(),
    }


def _speed(embedder: Embedder, texts: list[str]) -> dict[str, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    embedder.embed(texts)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return {"wall": round(len(texts) / seconds, 1), "core": round(len(texts) / max(cpu_seconds, 1e-3), 1)}
