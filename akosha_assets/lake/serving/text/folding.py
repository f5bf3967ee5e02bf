"""Maps characters that mean the same to one form, and each character of the form back to the text.

The forms are those of Unicode, from `unicodedata`: compatibility decomposition (width, ligatures, circled numbers,
superscripts), case folding, decimal digits. Accents, points, tone marks and invisible characters are removed; signs
that are vowels are kept, and so are the voiced marks of kana.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Self

from tantivy import TextAnalyzerBuilder, Tokenizer

from akosha_assets.lake.serving.text import terminal_codes
from akosha_assets.lake.serving.time_limit import check_time_limit

# Splits at every character that the index regards neither as letter nor as digit.
AS_WRITTEN = TextAnalyzerBuilder(Tokenizer.simple()).build()
# Blocks with marks and invisible characters.
MARK_BLOCKS = ((0xAD, 0xAE), (0x300, 0x3100), (0xA600, 0xAC00), (0xFB00, 0x20000), (0xE0000, 0xE0200))
# Canonical combining classes of marks that are letters: voiced marks of kana; vowels of Thai, Lao and Tibetan.
KANA_VOICING = 8
LETTER_CLASSES = frozenset((0, KANA_VOICING, 103, 118, 129, 130, 132))
# Invisible or decorative characters that Unicode counts as letters: tatweel and Hangul fillers.
FILLERS = "\u0640\u115f\u1160\u3164\uffa0"
# Letters that join the one before: vowels and finals of Hangul, and marks of half-width kana.
JOINING = "\u1160-\u11ff\ud7b0-\ud7ff\u314f-\u3163\uff9e\uff9f\uffc2-\uffdc"
# The length of a stretch whose characters are mapped together.
STRETCH_CHARS = 64
# Steps between two checks of the time limit.
CHECKED_STEPS = 4096


def _marks() -> tuple[str, str, str]:
    """All combining marks, those to remove, and all format characters."""
    marks, formats = [], []
    for code in chain.from_iterable(range(*block) for block in MARK_BLOCKS):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            marks.append(chr(code))
        elif category == "Cf":
            formats.append(chr(code))
    letters = set("".join(AS_WRITTEN.analyze(" ".join(marks)))) | {"\u3099", "\u309a"}
    removed = [mark for mark in marks if mark not in letters or unicodedata.combining(mark) not in LETTER_CLASSES]
    return "".join(marks), "".join(removed), "".join(formats)


MARKS, REMOVED_MARKS, FORMATS = _marks()
# `re` looks up a character of the first plane at once, and compares one of another plane with each range of a set in
# turn. So sets are split, and the second half is asked for characters of other planes only.
LAST_NARROW = "\uffff"
WIDE = "[\U00010000-\U0010ffff]"


def _narrow(characters: str) -> str:
    return "".join(each for each in characters if each <= LAST_NARROW)


def _wide(characters: str) -> str:
    return "".join(each for each in characters if each > LAST_NARROW)


REMOVED = re.compile(f"[{_narrow(REMOVED_MARKS + FORMATS)}{FILLERS}]+")
REMOVED_WIDE = frozenset(_wide(REMOVED_MARKS + FORMATS))
WIDE_STRETCH = re.compile(f"{WIDE}+")
# Not a word's letters, though their compatibility form is: service mark and trade mark.
TRADE_MARKS = re.compile("[\u2120\u2122]")
OTHER_DIGITS = re.compile(r"[^\D0-9]")
_EXTEND = f"[{_narrow(MARKS + FORMATS)}{FILLERS}{JOINING}]|(?={WIDE})[{_wide(MARKS + FORMATS)}]"
_OTHERS = f"[^{_narrow(MARKS + FORMATS)}{FILLERS}{JOINING}{WIDE[1:-1]}]"
CLUSTER = re.compile(f"(?P<stretch>{_OTHERS}{{1,{STRETCH_CHARS}}})(?!{_EXTEND})|.(?:{_EXTEND})*", re.DOTALL)
# Pictures, with what modifies them and with others joined to them; and flags.
_PICTURE = "[\u231a-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f0ff\U0001f300-\U0001f3fa\U0001f400-\U0001faff]"
_MODIFIERS = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
_FLAG = "[\U0001f1e6-\U0001f1ff]"
PICTURES = f"{_PICTURE}{_MODIFIERS}(?:\u200d{_PICTURE}{_MODIFIERS})*|{_FLAG}{{2}}"
PICTURE = re.compile(_PICTURE)
# Zero-width space and non-joiner, at which a word may also be read as two; superscripts, as of footnotes.
SEAMS = "[\u200b\u200c]+|[\u00b2\u00b3\u00b9\u2070-\u207f]+"
SEPARATED = re.compile(f"{PICTURES}|{SEAMS}")


def plain(text: str) -> str:
    """`text` in compatibility form, without accents and invisible characters. Its case stays."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", TRADE_MARKS.sub(" ", text))
    bare = WIDE_STRETCH.sub(_without_removed, REMOVED.sub("", decomposed))
    composed = unicodedata.normalize("NFC", bare)
    return OTHER_DIGITS.sub(lambda digit: str(unicodedata.decimal(digit[0])), composed)


def _without_removed(stretch: re.Match[str]) -> str:
    return "".join(each for each in stretch[0] if each not in REMOVED_WIDE)


def plain_separated(text: str) -> str:
    """`plain` with pictures as words; superscripts and zero-width spaces end words."""
    return text if text.isascii() else plain(SEPARATED.sub(lambda match: f" {_words_of(match[0])} ", text))


def has_seams(text: str) -> bool:
    """Whether `plain_separated` may have other words than `plain`."""
    return not text.isascii() and SEPARATED.search(text) is not None


def _words_of(separated: str) -> str:
    """The words that stand for pictures, or a superscript as it is."""
    if (pictures := PICTURE.findall(separated)) or re.match(_FLAG, separated):
        names = [f"{ord(each):x}" for each in pictures] or ["".join(f"{ord(each):x}" for each in separated)]
        return " ".join(f"emoji{name}" for name in names)
    return separated


@dataclass(frozen=True)
class FoldedText:
    """The plain form of a text, and for each of its characters where it comes from."""

    text: str
    # Start and end in the original text of what each character of `text` stands for, (len(text),) uint32 each.
    starts: "array[int]"
    ends: "array[int]"

    @classmethod
    def of(cls, text: str, *, is_separated: bool = False) -> Self:
        """The plain form of `text` as displayed, or separated."""
        pieces = terminal_codes.pieces(text, is_separated=is_separated) if terminal_codes.has_codes(text) else None
        visible = "".join(piece for piece, _ in pieces) if pieces else text
        folded, starts, ends = [], array("L"), array("L")
        for step, (match, kind) in enumerate(_clusters(visible, is_separated=is_separated)):
            if step % CHECKED_STEPS == 0:
                check_time_limit()
            first, last = match.span()
            form = plain(match[0]) if kind == "stretch" else _form(match[0], kind == "separated")
            if kind == "stretch" and len(form) == last - first:
                folded.append(form)
                starts.extend(range(first, last))
                ends.extend(range(first + 1, last + 1))
                continue
            if kind == "stretch":
                forms = [_form(letter, False) for letter in match[0]]
                bounds = [(at, at + 1) for at in range(first, last)]
            else:
                # Invisible characters after a word do not belong to it.
                forms, bounds = [form], [(first, max(first + len(match[0].rstrip(FORMATS)), first + 1))]
            for form, (start, end) in zip(forms, bounds, strict=True):
                folded.append(form)
                starts.extend([start] * len(form))
                ends.extend([end] * len(form))
        if pieces:
            places = array("L", terminal_codes.origins(pieces))
            starts = array("L", [places[at] for at in starts])
            ends = array("L", [places[at - 1] + 1 for at in ends])
        return cls("".join(folded), starts, ends)

    def origin(self, first: int, last: int) -> tuple[int, int]:
        """Start and end in the original text of the characters from `first` up to `last`."""
        return self.starts[first], self.ends[last - 1]


def _clusters(text: str, *, is_separated: bool) -> Iterator[tuple[re.Match[str], str | None]]:
    """The pieces of `text` that are folded independently, in order, each with its kind: stretch, separated or none."""
    end = 0
    for separated in SEPARATED.finditer(text) if is_separated else ():
        yield from ((match, match.lastgroup) for match in CLUSTER.finditer(text, end, separated.start()))
        yield separated, "separated"
        end = separated.end()
    yield from ((match, match.lastgroup) for match in CLUSTER.finditer(text, end))


@lru_cache(maxsize=1 << 12)
def _form(piece: str, is_separated: bool) -> str:
    return plain_separated(piece) if is_separated else plain(piece)
