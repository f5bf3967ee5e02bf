"""Coarse quantizers: sets of a space share one until the number of its lists no longer fits the rows."""

import gc

import numpy as np

from akosha_assets.lake.serving.vectors.quantizer import LISTS_MAX, CoarseQuantizer, CoarseQuantizers, list_count

DIMENSIONS = 32


def vectors(count: int, seed: int = 5) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


STORED = vectors(40_000)


def of(quantizers: CoarseQuantizers, count: int) -> CoarseQuantizer:
    return quantizers.of("space", count, lambda at: STORED[:count][at])


def test_sets_share_the_quantizer_of_their_space() -> None:
    quantizers = CoarseQuantizers()
    quantizers.expect(40_000)
    first = of(quantizers, 10_000)
    assert len(first) == list_count(40_000)
    assert of(quantizers, 8_000) is first
    assert of(quantizers, 2_500) is first
    turned = STORED[:, ::-1]
    assert quantizers.of("other", 10_000, lambda at: turned[at]) is not first


def test_a_quantizer_with_few_lists_is_replaced_when_there_are_many_rows() -> None:
    quantizers = CoarseQuantizers()
    small = of(quantizers, 3_000)
    quantizers.expect(1_000_000)
    large = of(quantizers, 30_000)
    assert len(large) > 4 * len(small)
    assert of(quantizers, 30_000) is large
    quantizers.expect(10**9)
    assert of(quantizers, 40_000) is large
    assert list_count(10**9) == LISTS_MAX


def test_a_quantizer_lives_as_long_as_an_index_uses_it() -> None:
    quantizers = CoarseQuantizers()
    of(quantizers, 3_000)
    gc.collect()
    assert not quantizers._by_space["space"]


def test_a_vector_is_in_a_list_with_a_near_centroid() -> None:
    quantizer = of(CoarseQuantizers(), 20_000)
    queries = STORED[::500]
    own = quantizer.pca_centroids.search(quantizer.pca.apply(queries), 1)[1][:, 0]
    likeliest = [quantizer.probe(one, len(quantizer) // 4).tolist() for one in queries]
    assert all(np.diff(some).min() > 0 for some in likeliest)
    assert np.mean([number in some for number, some in zip(own, likeliest, strict=True)]) > 0.95
    assert quantizer.probe(queries[0], len(quantizer)).tolist() == list(range(len(quantizer)))
