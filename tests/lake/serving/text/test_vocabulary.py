"""Which words of the index count as forms of one."""

from pathlib import Path

import pytest

from akosha_assets.lake.serving.parts.part import CODED, Categories
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex
from akosha_assets.lake.serving.text.vocabulary import MOST_FORMS, Form, Vocabulary
from tests.lake.serving.text.test_keyword_index import part_of

TEXTS = [
    "we tried it, she tries it, they try trying",
    "hope and hoping, but hopping",
    "a sensible choice for its sensibility",
    "happiness makes happy",
    "try 12ab and 12abc again",
    "the configuration is configurable",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    index = KeywordIndex(tmp_path_factory.mktemp("keywords"), {name: Categories() for name in CODED})
    index.add(part_of(TEXTS), 1, len(TEXTS) + 1)
    index.commit()
    found = index.searcher.parser.vocabulary
    index.close()
    return found


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("tries", {"try", "tries", "tried", "trying"}),
        ("hope", {"hope", "hoping"}),
        ("sensible", {"sensible", "sensibility"}),
        ("happy", {"happy", "happiness"}),
        ("happier", set()),
        ("config", set()),
        ("12ab", {"12ab"}),
        ("nowhere", set()),
    ],
)
def test_forms_of_a_word_are_the_indexed_words_with_its_stem(
    vocabulary: Vocabulary, word: str, forms: set[str]
) -> None:
    assert {form.word for form in vocabulary.forms(word)} == forms


def test_the_form_in_the_query_comes_first_and_rows_are_counted(vocabulary: Vocabulary) -> None:
    assert vocabulary.forms("tries")[0] == Form("tries", 1)
    assert {form.word: form.rows for form in vocabulary.forms("tried")}["try"] == 2
    assert vocabulary.weight(1) > vocabulary.weight(len(TEXTS)) >= 0


def test_only_the_most_frequent_forms_are_searched(tmp_path: Path) -> None:
    index = KeywordIndex(tmp_path, {name: Categories() for name in CODED})
    endings = (
        "",
        "s",
        "ed",
        "ing",
        "ings",
        "ion",
        "ions",
        "ional",
        "ive",
        "ively",
        "iveness",
        "or",
        "ors",
        "able",
        "ably",
        "ability",
        "ment",
    )
    index.add(part_of([f"connect{ending}" for ending in endings]), 1, len(endings) + 1)
    index.commit()
    assert len(index.searcher.parser.vocabulary.forms("connects")) <= MOST_FORMS
    index.close()
