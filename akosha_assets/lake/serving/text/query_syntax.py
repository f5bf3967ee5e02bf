"""Parses the text of a question: which parts are operators and which are text.

Questions are often pasted: a command, an error, a line of a log or of a diff. Their dashes, stars, colons and quotes
are text, so operators count only where a person clearly means them. Knows neither rows nor the index.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from akosha_assets.lake.serving.query import ParsedQuery, Token
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.text.analysis import tokenize

# Names before a colon in a query, and the fields that they mean.
FIELDS = {
    "text": "text",
    "system": "system_id",
    "system_id": "system_id",
    "project": "project",
    "kind": "kind",
    "tag": "tags",
}
# A sign is not an operator before another sign, as in `--no-verify`.
QUERY_TOKEN = re.compile(r'([+-](?=[^\s+-]))?(?:(\w+):(?=\S))?(?:"([^"]*)"|(\S+))')
# With blanks or an end on both sides: a quoted piece, perhaps with a sign or a field, or any other piece.
AUTO_TOKEN = re.compile(r'(?<!\S)([+-]?)(?:(\w+):)?"([^"]*)"(?!\S)|\S+')
FIELD_TOKEN = re.compile(r"([+-]?)(\w+):(\S+)")
PREFIX = re.compile(r".*\w\*", re.DOTALL)
# A quoted piece that a person types as a phrase. Longer ones, and those with other characters, are quoted lines of logs
# or code.
PHRASE = re.compile(r"[\w\s'’./@#&+-]+")
PHRASE_MAX_WORDS = 8
QUOTED = re.compile(r'"([^"\n]+)"')
# Quoted pieces of a text whose words weigh more where they are adjacent.
MOST_QUOTED = 16

HasValue = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a question: the tokens that search for it, and what of it the embedding model reads."""

    tokens: tuple[Token, ...]
    meaning: str


def parse_query(
    text: str,
    syntax: QuerySyntax = QuerySyntax.PLAIN,
    has_value: HasValue = lambda _field, _value: False,
) -> ParsedQuery:
    """The tokens of a question. `has_value` says whether a memory has a value of a field; only `auto` asks it."""
    if syntax is QuerySyntax.QUERY:
        return _assemble(text, [_query_piece(match) for match in QUERY_TOKEN.finditer(text)])
    if syntax is QuerySyntax.AUTO and (pieces := _auto_pieces(text, has_value)):
        return _assemble(text, pieces)
    tokens = [*_text_tokens(text), *_quoted_phrases(text)]
    return ParsedQuery(tuple(tokens), _words(tokens), text)


def _assemble(text: str, pieces: Iterable[_Piece]) -> ParsedQuery:
    pieces = list(pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    has_operator = any(token.operator for token in tokens)
    meaning = " ".join(piece.meaning for piece in pieces if piece.meaning) if has_operator else ""
    return ParsedQuery(tokens, _words(tokens), meaning or text)


def _words(tokens: Iterable[Token]) -> frozenset[str]:
    """The words that a result may have, for highlights."""
    return frozenset(word for token in tokens if token.field == "text" and token.sign != "-" for word in token.words)


def _text_token(text: str) -> Token:
    return Token(sign="", field="text", text=text, words=tuple(tokenize(text)))


def _text_tokens(text: str) -> Iterator[Token]:
    """A token for each piece between blanks."""
    return map(_text_token, text.split())


def _quoted_phrases(text: str) -> list[Token]:
    """A phrase for each quoted piece of several words: it makes rows rank higher, and is not an operator."""
    phrases = []
    for quoted in QUOTED.findall(text):
        words = tuple(tokenize(quoted))
        if len(words) > 1:
            phrases.append(Token(sign="", field="text", text=quoted, is_phrase=True, words=words))
        if len(phrases) == MOST_QUOTED:
            break
    return phrases


def _query_piece(match: re.Match[str]) -> _Piece:
    """The piece with every operator. A name before a colon that is not a field belongs to the word after it."""
    sign, name, phrase, word = (group or "" for group in match.groups())
    field = FIELDS.get(name.lower() or "text")
    text, is_phrase = (f"{name}:{word or phrase}", False) if field is None else (phrase or word, bool(phrase))
    is_prefix = not is_phrase and PREFIX.fullmatch(text) is not None
    words = tuple(tokenize(text))
    is_operator = bool(sign or is_phrase or is_prefix or (name and field)) and bool(words or field != "text")
    token = Token(
        sign=sign,
        field=field or "text",
        text=text,
        is_phrase=is_phrase,
        is_prefix=is_prefix,
        words=words,
        operator=match[0] if is_operator else "",
    )
    return _Piece((token,), text if token.field == "text" and sign != "-" else "")


def _auto_pieces(text: str, has_value: HasValue) -> list[_Piece]:
    """The pieces of a question with operators; none if all of it is text.

    Several lines are pasted. So is a quote that is not at the border of a word, and then no other quote is sure either.
    """
    if "\n" in text.strip():
        return []
    pieces: list[Token | str] = []
    for match in AUTO_TOKEN.finditer(text):
        if match[3] is None and '"' in match[0]:
            return []
        pieces.append(_auto_operator(match, has_value) or match[0])
    if not any(isinstance(piece, Token) for piece in pieces):
        return []
    has_text = any(isinstance(piece, str) for piece in pieces)
    return [
        _Piece(tuple(_text_tokens(piece)), piece) if isinstance(piece, str) else _auto_piece(piece, has_text=has_text)
        for piece in pieces
    ]


def _auto_operator(match: re.Match[str], has_value: HasValue) -> Token | None:
    """The operator that a piece is; None if it is text."""
    sign, name, phrase = match[1] or "", match[2], match[3]
    if phrase is not None and name is None:
        words = tuple(tokenize(phrase))
        is_phrase = PHRASE.fullmatch(phrase) is not None and len(phrase.split()) <= PHRASE_MAX_WORDS
        if not words or not (sign or is_phrase):
            return None
        return Token(sign=sign, field="text", text=phrase, is_phrase=True, words=words, operator=match[0])
    if phrase is None:
        named = FIELD_TOKEN.fullmatch(match[0])
        if named is None:
            return None
        sign, name, phrase = named.groups()
    field = FIELDS.get(name.lower())
    if field in (None, "text") or not has_value(field, phrase):
        return None
    return Token(sign=sign, field=field, text=phrase, words=tuple(tokenize(phrase)), operator=match[0])


def _auto_piece(operator: Token, *, has_text: bool) -> _Piece:
    """The piece of an operator. Beside text, one without a sign also counts as text: it may be a part of it."""
    if operator.sign or not has_text:
        is_meant = operator.field == "text" and operator.sign != "-"
        return _Piece((operator,), operator.text if is_meant else "")
    text = operator.text if operator.field == "text" else operator.operator
    return _Piece((operator, *_text_tokens(text)), text)
