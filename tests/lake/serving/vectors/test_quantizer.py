"""Layouts: sets that come one after the other share one, until it no longer fits how many rows there are."""

import gc

import numpy as np

from akosha_assets.lake.serving.vectors.quantizer import LISTS_MAX, CoarseQuantizer, CoarseQuantizers, list_count

DIMENSIONS = 32


def vectors(count: int, seed: int = 5) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


STORED = vectors(40_000)


def of(layouts: CoarseQuantizers, count: int) -> CoarseQuantizer:
    return layouts.of("space", count, lambda at: STORED[:count][at])


def test_sets_of_one_space_share_a_layout_and_those_of_another_have_their_own() -> None:
    layouts = CoarseQuantizers()
    layouts.expect(40_000)
    first = of(layouts, 10_000)
    assert len(first) == list_count(40_000)
    assert of(layouts, 8_000) is first
    assert of(layouts, 2_500) is first
    turned = STORED[:, ::-1]
    assert layouts.of("other", 10_000, lambda at: turned[at]) is not first


def test_a_layout_of_few_lists_is_left_when_there_are_many_rows() -> None:
    layouts = CoarseQuantizers()
    small = of(layouts, 3_000)
    layouts.expect(1_000_000)
    large = of(layouts, 30_000)
    assert len(large) > 4 * len(small)
    assert of(layouts, 30_000) is large
    layouts.expect(10**9)
    assert of(layouts, 40_000) is large
    assert list_count(10**9) == LISTS_MAX


def test_a_layout_lasts_as_long_as_an_index_has_it() -> None:
    layouts = CoarseQuantizers()
    of(layouts, 3_000)
    gc.collect()
    assert not layouts._met["space"]


def test_a_vector_lies_in_a_list_whose_mean_is_near() -> None:
    layout = of(CoarseQuantizers(), 20_000)
    asked = STORED[::500]
    own = layout.pca_centroids.search(layout.pca.apply(asked), 1)[1][:, 0]
    likeliest = [layout.probe(one, len(layout) // 4).tolist() for one in asked]
    assert all(np.diff(some).min() > 0 for some in likeliest)
    assert np.mean([number in some for number, some in zip(own, likeliest, strict=True)]) > 0.95
    assert layout.probe(asked[0], len(layout)).tolist() == list(range(len(layout)))
