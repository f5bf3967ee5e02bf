"""Which parts of a question are operators: pasted text is text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.serving.query import Operator, ParsedQuery
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.text.analysis import tokenize
from akosha_assets.lake.serving.text.query_syntax import MOST_QUOTED, parse_query

VALUES = {("project", "api"), ("project", "my api"), ("system_id", "laptop-a"), ("kind", "reflection"), ("tags", "sql")}
PASTED = [
    "git commit --no-verify",
    "--no-verify",
    "npm install --legacy-peer-deps",
    "exit code -9",
    "-9",
    "+1",
    "docker compose up -d",
    "@@ -1,4 +1,4 @@",
    "-100821",
    "system:serviceaccount:payments:runner",
    'User "system:serviceaccount:payments:runner" is forbidden',
    "kind:Deployment",
    "kind: Deployment",
    "tag:v1.2.3",
    "project:build-cache not found",
    "text:foo",
    "foo:bar",
    'foo:"bar baz"',
    "/** @param name */",
    " * @return the value",
    "*.py",
    "rm -rf *",
    "char* name = *argv;",
    "**bold**",
    "config*",
    ".*timeout.*",
    r"^\d+-\w*$",
    '"unbalanced',
    'unbalanced"',
    'a "b" c"',
    '{"error": "connection refused", "code": -1}',
    '{"a":"b c","d":"e f"}',
    "name: \"api\"\nkind: Deployment\n- key: 'x'",
    'run: "make -j4" && echo "done"; exit',
    'level=error msg="connection refused" code=-9',
    '"2026-11-27T10:00:00Z ERROR [db] connection refused: retry=3"',
    "color: red !important;",
    "http://localhost:8682/mcp?a=-b",
    r"C:\Users\x\project:api.txt",
    "ada@example.org",
    "-import cycle between billing and invoices",
    "- removed the lock file\n+ added another",
    '-"old value"\n+"new value"',
    '+"name": "x",',
    "tokio AND panic NOT found",
    "std::sort and grammar::fa",
    '"',
    '""',
    '+""',
    '"*"',
    "project:",
    ":api",
    "*",
    "-",
    "+",
]


def auto(text: str) -> ParsedQuery:
    return parse_query(text, QuerySyntax.AUTO, lambda field, value: (field, value) in VALUES)


def is_plain(parsed: ParsedQuery, text: str) -> bool:
    """Whether every word of the text is searched for, and nothing is required or excluded."""
    searched = {word for token in parsed.tokens if not token.is_phrase for word in token.words}
    return (
        parsed.operators(only_required=False) == []
        and all(token.field == "text" and not token.sign and not token.is_prefix for token in parsed.tokens)
        and searched == set(tokenize(text)) == parsed.words
        and parsed.meaning == text
    )


@pytest.mark.parametrize("text", PASTED)
def test_pasted_text_is_searched_word_by_word(text: str) -> None:
    assert is_plain(auto(text), text)
    assert is_plain(parse_query(text), text)


@pytest.mark.parametrize(
    ("text", "operators", "meaning"),
    [
        ('"connection refused"', ["the phrase connection refused"], "connection refused"),
        ('"pods"', ["the word pods in this form"], "pods"),
        ('"C++/CLI v2.1"', ["the phrase C++/CLI v2.1"], "C++/CLI v2.1"),
        ('pool +"connection refused"', ["must contain the phrase connection refused"], "pool connection refused"),
        ('pool -"connection refused"', ["must not contain the phrase connection refused"], "pool"),
        ('+"code: -9"', ["must contain the phrase code: -9"], "code: -9"),
        ("deadlock +project:api", ["project must be api"], "deadlock"),
        ("deadlock -system:laptop-a", ["system_id must not be laptop-a"], "deadlock"),
        ('deadlock +project:"my api"', ["project must be my api"], "deadlock"),
        ("kind:reflection", ["kind is reflection"], "kind:reflection"),
        ("deadlock tag:sql", ["has the tag sql"], "deadlock tag:sql"),
        ("-tag:sql exit -9", ["must not have the tag sql"], "exit -9"),
    ],
)
def test_what_a_person_clearly_means_is_an_operator(text: str, operators: list[str], meaning: str) -> None:
    parsed = auto(text)
    assert [one.meaning for one in parsed.operators(only_required=False)] == operators
    assert all(one.text in text for one in parsed.operators(only_required=False))
    assert parsed.meaning == meaning
    assert is_plain(parse_query(text), text)


def test_operators_beside_text_are_text_too() -> None:
    parsed = auto('error project:api "not found" again')
    assert parsed.operators(only_required=False) == [
        Operator("project:api", "project is api"),
        Operator('"not found"', "the phrase not found"),
    ]
    plain = [token.text for token in parsed.tokens if not token.operator]
    assert plain == ["error", "project:api", "not", "found", "again"]
    # Alone they are not.
    assert all(token.operator for token in auto('project:api "not found"').tokens)


def test_every_operator_counts_if_the_syntax_says_so() -> None:
    text = '+deadlock -locked conf* project:nowhere "a b" --no-verify foo:bar /** x**'
    parsed = parse_query(text, QuerySyntax.QUERY)
    assert [(one.text, one.meaning) for one in parsed.operators(only_required=False)] == [
        ("+deadlock", "must contain the word deadlock"),
        ("-locked", "must not contain the word locked"),
        ("conf*", "words that begin with conf"),
        ("project:nowhere", "project is nowhere"),
        ('"a b"', "the phrase a b"),
    ]
    assert [one.text for one in parsed.operators(only_required=True)] == ["+deadlock", "-locked"]
    assert parsed.meaning == "deadlock conf* a b --no-verify foo:bar /** x**"
    assert "locked" not in parsed.words and "deadlock" in parsed.words


def test_words_in_quotes_weigh_more_where_they_are_adjacent() -> None:
    text = 'msg="connection refused" ' * (MOST_QUOTED + 4)
    phrases = [token.words for token in parse_query(text).tokens if token.is_phrase]
    assert phrases == [("connection", "refused")] * MOST_QUOTED


@given(st.text(alphabet='ab +-*:"\n\\./', max_size=30), st.sampled_from(QuerySyntax))
def test_every_word_of_a_question_is_searched_for_or_named_as_an_operator(text: str, syntax: QuerySyntax) -> None:
    parsed = parse_query(text, syntax, lambda field, value: field == "tags" or value == "a")
    named = {word for one in parsed.operators(only_required=False) for word in tokenize(one.text)}
    searched = {word for token in parsed.tokens if not token.operator for word in token.words}
    assert set(tokenize(text)) <= searched | named
    if syntax is QuerySyntax.PLAIN:
        assert is_plain(parsed, text)
    if not re.search(r'["+:*-]', text):
        assert is_plain(parsed, text) or parsed.meaning == text
    assert parsed.meaning.strip() or not text.strip()
