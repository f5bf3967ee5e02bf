"""Long texts are cut into passages that overlap, end with sentences, and cover the text up to a bound."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.passages import (
    CUT_MAX_CHARS,
    PASSAGES_MAX,
    CutTexts,
    Span,
    as_ranges,
    cut_passages,
    span_in_characters,
)
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model

SIZE = 16


def tokens_of(text: str) -> list[Span]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def tokens_in(tokens: list[Span], passage: Span) -> int:
    return sum(passage[0] <= start < passage[1] for start, _ in tokens)


@given(st.text(alphabet="ab é日.!?。\n", max_size=3000))
def test_passages_overlap_and_cover_the_text(text: str) -> None:
    tokens = tokens_of(text)
    passages = cut_passages(text, tokens, SIZE)
    assert passages[0][0] == 0
    assert (passages[-1][1] == len(text)) or len(passages) == PASSAGES_MAX
    assert all(0 < tokens_in(tokens, passage) <= SIZE for passage in passages) or len(passages) == 1
    for earlier, later in pairwise(passages):
        assert earlier[0] < later[0] < earlier[1] < later[1]


@given(st.text(max_size=200), st.data())
def test_ranges_in_bytes_name_the_same_characters(text: str, data: st.DataObject) -> None:
    text = text.encode("utf-8", "replace").decode()
    places = st.integers(0, len(text))
    drawn = [sorted((data.draw(places), data.draw(places))) for _ in range(3)]
    spans = [(first, last) for first, last in drawn]
    ranges = np.frombuffer(as_ranges(text, spans), "<i4").reshape(-1, 2).tolist()
    assert [text.encode()[start:end].decode() for start, end in ranges] == [text[start:end] for start, end in spans]
    assert [span_in_characters(text, *found) for found in ranges] == spans


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("one two three four five six seven eight nine. ten eleven twelve thirteen fourteen", "nine. "),
        ("one two three four five six seven eight nine ten\n  eleven twelve thirteen fourteen", "ten\n  "),
        ('one two three four five six "seven eight!" nine ten eleven twelve thirteen fourteen', 'eight!" '),
        ("1.5 one two three four five six seven v2.10 ten eleven twelve thirteen fourteen", "seven "),
        ("one.two.three.four.five.six.seven.eight.nine.ten.eleven", "five.six."),
        ("一 二 三 四 五 六 七 八 九。十 一 二 三 四 五 六 七 八", "九。"),
        ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen", "twelve "),
    ],
)
def test_a_passage_ends_with_a_sentence_or_line_if_one_is_near(text: str, end: str) -> None:
    first, second, *_ = cut_passages(text, tokens_of(text), 12)
    assert text[: first[1]].endswith(end)
    assert second[0] < first[1]


def test_even_a_model_of_few_tokens_gets_passages_that_go_on() -> None:
    text = "one two three four five six seven"
    assert cut_passages(text, tokens_of(text), 2)[:2] == [(0, 8), (4, 14)]


def test_a_text_beyond_the_bound_is_covered_up_to_it() -> None:
    text = "word " * 2000
    passages = cut_passages(text, tokens_of(text), SIZE)
    assert len(passages) == PASSAGES_MAX
    assert passages[-1][1] < len(text)
    blank = "word" + " " * CUT_MAX_CHARS
    assert cut_passages(blank, tokens_of(blank), SIZE) == [(0, 4)]
    assert cut_passages(" " * (CUT_MAX_CHARS + 1), [], SIZE) == [(0, CUT_MAX_CHARS)]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny_model.make(tmp_path_factory.mktemp("model"))
    return Embedder.load(LakeSettings(embedding_model="akosha/tiny", embedding_model_dir=folder))


def test_the_tokenizer_of_the_model_decides_where_a_text_is_cut(embedder: Embedder) -> None:
    assert embedder.passages("redis " * 254) == [(0, 1524)]
    assert len(embedder.passages("redis " * 255)) == 2
    assert embedder.passages("") == [(0, 0)]
    assert embedder.passages("x" * 100_000) == [(0, CUT_MAX_CHARS)]


def test_each_passage_gets_its_own_vector(embedder: Embedder) -> None:
    texts = ["redis eviction", "postgres lock. " * 300 + "tls certificate expired"]
    cut = CutTexts.cut(embedder, texts)
    assert (cut.is_short(0), cut.is_short(1)) == (True, False)
    stored = embedder.embed(cut.others).astype("<f2")
    short, long = cut.split(stored)
    assert short is None
    assert long == stored.tobytes()
    question = embedder.embed(["tls certificate expired"])[0]
    assert (embedder.embed(cut.others)[-1] @ question) > 10 * (embedder.embed(texts)[1] @ question)
