"""Which words of a question are looked for, and in which form of a text they are found."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.text.analysis import identifier_parts, inner_words, stem, tokenize
from akosha_assets.lake.serving.text.keyword_index import LARGE_LOAD_ROWS, KeywordIndex, KeywordSearcher
from akosha_assets.lake.serving.text.query_parser import COMMON_MIN_ROWS
from akosha_assets.lake.serving.text.query_syntax import parse_query

TEXTS = [
    "We renewed the certificate of the gateway",
    "parseConfig fails with HTTPServer 2 and getUserName",
    "module not found, said the server",
    *(f"service number {number} restarts" for number in range(COMMON_MIN_ROWS)),
]


def part_of(texts: list[str], *, first: int = 1) -> Part:
    count = len(texts)
    payload = Payload(pa.table({"text": texts, "tags": pa.nulls(count, pa.list_(pa.string()))}))
    zeros = np.zeros(count, np.int64)
    codes = {name: np.full(count, -1, np.int32) for name in CODED}
    importance = np.full(count, np.nan, np.float32)
    return Part(
        day=date(2026, 1, 1),
        row_ids=np.arange(first, first + count),
        identity=zeros,
        content=zeros,
        written=zeros,
        codes=codes,
        occurred_us=zeros,
        arrived_us=zeros,
        importance=importance,
        coverage=zeros.astype(np.uint8),
        payload=payload,
    )


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeywordSearcher]:
    index = KeywordIndex(tmp_path_factory.mktemp("keywords"), {name: Categories() for name in CODED})
    index.add(part_of(TEXTS), 1, len(TEXTS) + 1)
    index.commit()
    yield index.searcher
    index.close()


def found(searcher: KeywordSearcher, text: str) -> list[int]:
    return [int(number) - 1 for number in searcher.search(parse_query(text, QuerySyntax.QUERY), Filters(), 10)[0]]


def test_a_word_finds_its_other_forms_and_its_own_form_first(tmp_path: Path) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    index.add(part_of(["it restarted twice", "it restarts twice", "nothing"]), 1, 4)
    index.commit()
    assert found(index.searcher, "restarts") == [1, 0]
    assert found(index.searcher, '"restarts"') == [1]
    index.close()


def test_words_inside_names_are_found_and_capitals_alone_are_no_name(searcher: KeywordSearcher) -> None:
    assert found(searcher, "parse config") == [1]
    assert found(searcher, "parse_config") == [1]
    assert found(searcher, "get user") == [1]
    # A sentence that begins with the word scores no better than one that contains it.
    assert found(searcher, "renewed We") == [0]


def test_a_word_in_most_rows_is_ignored_if_the_query_has_a_rarer_one(searcher: KeywordSearcher) -> None:
    assert found(searcher, "service gateway") == [0]
    assert found(searcher, "the gateway") == [0]
    assert len(found(searcher, "service")) == 10
    assert found(searcher, "+service gateway")[0] > 2
    assert searcher.highlights(parse_query("the gateways of a service")) == {"gateway"}
    assert "gatew*" in searcher.highlights(parse_query("gatew* -serv* project:bil*", QuerySyntax.QUERY))
    assert not {"serv*", "bil*"} & searcher.highlights(parse_query("gatew* -serv* project:bil*", QuerySyntax.QUERY))


def test_text_is_split_at_anything_but_letters_and_digits() -> None:
    assert tokenize("src/foo_bar/Baz.py: line 3") == ["src", "foo", "bar", "baz", "py", "line", "3"]
    assert inner_words("parseConfig") == {"parse", "config"}
    assert stem("deadlocks") == stem("deadlocked") == "deadlock"


def test_names_are_split_at_their_capitals() -> None:
    texts = pa.array(
        [
            "no Name, NO names: X9 IDs_of A1",
            "Skipped",
            "parseConfig of HTTPServer2Go!",
            "",
            "end",
            "Begin nothing",
            "é\u00c9aB caféBar",
            "x" * 300 + "Y",
        ]
    )
    expected = [["I", "Ds"], [], ["parse", "Config", "HTTP", "Server2", "Go"], [], [], [], ["a", "B"], ["x" * 300, "Y"]]
    assert [(several or "").split() for several in identifier_parts(texts)] == expected
    # A slice from the middle of an array.
    assert [(several or "").split() for several in identifier_parts(texts.slice(2, 5))] == expected[2:7]
    assert identifier_parts(texts.slice(3, 0)) == []


def test_no_row_is_lost_when_the_writer_is_resized(tmp_path: Path) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    part = part_of(["a deadlock", "a timeout", "a panic"])
    index.add(part, 1, 2)
    index.expect(LARGE_LOAD_ROWS + 1)
    assert found(index.searcher, "deadlock") == [0]
    index.add(part, 2, 3)
    index.expect(0)
    index.add(part, 3, 4)
    index.remove(1)
    index.commit()
    assert [found(index.searcher, word) for word in ("deadlock", "timeout", "panic")] == [[], [1], [2]]
    index.close()


def test_rows_with_a_phrase_and_rows_with_its_words_are_ranked_together(tmp_path: Path) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    index.add(
        part_of(
            [
                "config of a parser",
                "parse the config",
                "see parse_config",
                "parse_config, then parse_config again",
                "else",
            ]
        ),
        1,
        6,
    )
    index.commit()
    assert found(index.searcher, "parse_config")[:3] == [3, 2, 1]
    assert sorted(found(index.searcher, "parse_config")) == [0, 1, 2, 3]
    assert found(index.searcher, "parse_config -again")[:2] == [2, 1]
    assert sorted(found(index.searcher, "+see parse_config")) == [2]
    assert found(index.searcher, '"parse config"') == [3, 2]
    numbers, scores = index.searcher.search(parse_query("parse_config"), Filters(), 2)
    assert numbers.tolist() == [4, 3] and scores[0] >= scores[1] > 0
    index.close()


@pytest.mark.parametrize(
    ("text", "question", "is_found"),
    [
        ("昨日からデータベース接続エラーが発生しました", "接続エラー", True),
        ("昨日からデータベース接続エラーが発生しました", "データベース", True),
        ("昨日からデータベース接続エラーが発生しました", '"接続エラーが"', True),
        ("昨日からデータベース接続エラーが発生しました", '"エラー接続"', False),
        ("DB接続に失敗した", "db", True),
        ("데이터베이스에 연결할 수 없습니다", "데이터베이스", True),
        ("การเชื่อมต่อฐานข้อมูลล้มเหลว", "ฐานข้อมูล", True),
        ("Le café est fermé", "cafe", True),
        ("Le cafe\u0301 est ferme\u0301", "café", True),
        ("Le cafe\u0301 est ferme\u0301", "cafe", True),
        ("the resume of ada", "résumé", True),
        ("the sum of column r is wrong", "résumé", False),
        ("the sum of column r is wrong", "re\u0301sume\u0301", False),
        ("\u03c4\u03bf \u03ba\u03b1\u03c6\u03ad \u03ba\u03c1\u03cd\u03bf", "\u03ba\u03b1\u03c6\u03b5", True),
        ("hosted in \u0130stanbul", "istanbul", True),
        (f"digest {'a1b2c3d4' * 16} differs", "a1b2c3d4" * 16, True),
        (f"digest {'a1b2c3d4' * 16} differs", "a1b2c3d4*", True),
    ],
)
def test_long_words_accents_and_other_scripts_are_found(
    tmp_path: Path, text: str, question: str, is_found: bool
) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    index.add(part_of([text, "something else"]), 1, 3)
    index.commit()
    assert found(index.searcher, question) == ([0] if is_found else [])
    index.close()


def test_a_word_counted_in_more_rows_than_exist_is_searched_like_any_other(tmp_path: Path) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    texts = [f"the gateway {number}" for number in range(2 * COMMON_MIN_ROWS)]
    index.add(part_of(texts), 1, COMMON_MIN_ROWS + 200)
    index.add(part_of(texts), COMMON_MIN_ROWS + 200, len(texts) + 1)
    index.commit()
    index.remove(COMMON_MIN_ROWS + 200)
    index.commit()
    assert len(found(index.searcher, "the gateways")) == len(found(index.searcher, "+the 7")) == 10
    index.close()


def test_a_question_with_too_many_prefixes_is_refused(searcher: KeywordSearcher) -> None:
    with pytest.raises(InvalidRequest, match="has 17 words that end in \\*; expected at most 16"):
        found(searcher, " ".join(f"a{number}*" for number in range(17)))
