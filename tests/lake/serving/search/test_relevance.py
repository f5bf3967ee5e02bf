"""The relevance of results: comparable between questions, modes and sizes of the lake."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.search.ranking import Hit
from akosha_assets.lake.serving.search.relevance import RelevanceScale
from akosha_assets.lake.serving.search.results import describe_closeness
from akosha_assets.lake.serving.states import CLOSE

NONE = np.zeros(1, np.int64)
HASHES = np.zeros(1, np.uint64)
PART = Part(
    day=date(2026, 11, 1),
    row_ids=NONE,
    identity=HASHES,
    content=HASHES,
    written=HASHES,
    codes={},
    occurred_us=NONE,
    arrived_us=NONE,
    importance=NONE,
    coverage=NONE.astype(np.uint8),
    payload=Payload(pa.table({})),
)
# Rare words weigh more.
SCALE = RelevanceScale(weights={"enospc": 8.0, "disk": 3.0}, full_score=12.0, background=0.1)


def relevance(text: str, scale: RelevanceScale = SCALE, **scores: float) -> float:
    hit = Hit(tier="hot", part=PART, row=0, score=0.0, scores=scores, identity=0, content=0)
    return scale.relevance(hit, text)


def test_an_exact_word_is_close_whatever_its_cosine() -> None:
    assert relevance("ENOSPC on a full disk", keyword=12.0, semantic=0.0) > CLOSE
    assert relevance("ENOSPC on a full disk", keyword=12.0) > 0.9


def test_an_average_row_is_not_close() -> None:
    assert relevance("bread with salt", semantic=0.1) < 0.1
    assert relevance("a new disk", semantic=0.12, keyword=3.0) < CLOSE


def test_a_near_text_without_common_words_is_close() -> None:
    assert relevance("no space left on the volume", semantic=0.75) > CLOSE
    assert relevance("no space left", RelevanceScale(weights={}, full_score=0.0, background=0.1), semantic=0.75) > CLOSE


def test_a_row_found_by_a_prefix_or_field_alone_is_close() -> None:
    only_fields = RelevanceScale(weights={}, full_score=0.0, background=None)
    assert relevance("any text", only_fields, keyword=1.0) > CLOSE


def test_words_at_the_end_of_a_long_text_count_by_their_keyword_score() -> None:
    assert relevance("x " * 20_000 + "enospc disk", keyword=12.0) > CLOSE


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 20), st.floats(0, 20))
def test_relevance_lies_in_0_to_1_and_rises_with_both_scores(
    cosine: float, other_cosine: float, score: float, other_score: float
) -> None:
    low = relevance("text", semantic=min(cosine, other_cosine), keyword=min(score, other_score))
    high = relevance("text", semantic=max(cosine, other_cosine), keyword=max(score, other_score))
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize(
    ("relevances", "is_close", "below", "says_so"),
    [([], False, 0, False), ([0.9, 0.2], True, 1, False), ([0.3, 0.2], False, 2, True), ([CLOSE], True, 0, False)],
)
def test_a_page_says_whether_anything_is_close(
    relevances: list[float], is_close: bool, below: int, says_so: bool
) -> None:
    closeness = describe_closeness([{"relevance": one} for one in relevances])  # type: ignore[typeddict-item]
    assert (closeness["is_close"], closeness["below_line"]) == (is_close, below)
    assert (closeness["message"] is not None) == says_so
