r"""Removes what programs write for a terminal: colours, links, cursor movements, overstrike. Knows no words.

A text has two readings. `displayed` is the text as a terminal shows it: colours and links leave no trace, even within a
word, and cursor movements are blanks. `separated` has a blank in place of each code, and the addresses of links. Codes
are also recognised as other programs print them: `\x1b[31m`, `\033[31m`, `\u001b[31m`, `^[[31m`, or `[31m` alone in a
text that has a reset.
"""

import re
from collections.abc import Iterator
from itertools import chain

# Bytes that each begin a code in a text of ASCII characters: backspace and escape.
CONTROL_BYTES = (0x08, 0x1B)
# What follows the bracket of a code, for a quick test.
AFTER_BRACKET = b"0123456789;?mKJH"
_END = "(?:\x07|\x1b\\\\|\x9c)"
# CSI. Without parameters a single-byte introducer is more often a misread quotation mark.
_CSI = r"\x1b\[(?:\[[A-E]|[0-?]*[ -/]*[@-~]?)|\x9b(?:[0-?]+[ -/]*[@-~]?|[mKJH])"
# OSC with its text: titles (0, 1, 2) and links (8), whose words are indexed; others, such as the clipboard, are not.
_OSC = (
    r"(?:\x1b\]|\x9d)(?:(?:[0-2]|8;[^;\x07\x1b\x9c-\x9d\n]*);(?P<text>[^\x07\x1b\x9c-\x9d\n]*)|[^\x07\x1b\x9c-\x9d\n]*)"
)
# DCS, SOS, PM and APC: images and answers of a terminal.
_STRING = r"(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x07\x1b\x90\x98\x9c\x9e\x9f]*"
# The escape character as text, before the bracket.
_WRITTEN = r"(?:\\{1,2}(?:x1[bB]|0?33|[eE]|u001[bB]|u\{1[bB]\})|\^\[|[\u241b\u2190\ufffd])\[[0-9;?]*[A-Za-z]"
# Backspaces: a character that another one overwrites, or an underline; several at once.
_OVERSTRIKE = r"(?:_|[^_\n\x08\x1b](?=\x08(?!_)))\x08(?!\x08)|\x08_(?!\x08)"
CODE = re.compile(
    rf"(?P<csi>{_CSI})"
    rf"|(?P<osc>{_OSC}{_END})"
    rf"|(?P<string>\x1bPtmux;|{_STRING}{_END})"
    # Character sets, SS3 keys, other controls of two bytes, and single-byte controls.
    r"|(?P<charset>\x1b[ -/]+[0-~]\x0f?)"
    r"|(?P<other>\x1bO[A-DFHP-S]|\x1b\]\d*;?|\x1b[78=>cDEHMNOPXZ\\^_lmno|}~]|\x1b|[\x80-\x9f])"
    rf"|(?P<written>{_WRITTEN})"
    rf"|(?P<overstrike>{_OVERSTRIKE})"
    r"|(?P<backspaces>\x08+)"
)
# Colours whose escape character is lost. Only a text with a reset has them: `[5m]` may be a duration.
RESET = re.compile(r"\[(?:0{0,2}|22|39|49)m(?![a-z])")
BARE = re.compile(r"(?P<bare>\[[0-9;]{0,40}m)")
CODE_OR_BARE = re.compile(f"{CODE.pattern}|{BARE.pattern}")
ANY = re.compile(f"[\x08\x1b\x80-\x9f]|{_WRITTEN}|{RESET.pattern}")
# Last letters of CSI codes that move no text: colours, erasing to the end of the line, modes.
STILL = frozenset("mKhlnqrt")

# A piece of a reading and where it begins in the text; a blank has the place of its code.
Piece = tuple[str, int]


def has_codes(text: str) -> bool:
    """Whether a reading of `text` may differ from it."""
    if text.isascii() and "[" not in text and "\x1b" not in text and "\x08" not in text:
        return False
    return ANY.search(text) is not None


def displayed(text: str) -> str:
    """`text` as a terminal shows it."""
    return "".join(piece for piece, _ in pieces(text)) if has_codes(text) else text


def separated(text: str) -> str:
    """`text` with a blank in place of each code, and with the addresses of links."""
    return "".join(piece for piece, _ in pieces(text, is_separated=True)) if has_codes(text) else text


def pieces(text: str, *, is_separated: bool = False) -> list[Piece]:
    """The pieces of `text` as displayed, or separated, in order."""
    codes = CODE_OR_BARE if RESET.search(text) else CODE
    found: list[Piece] = []
    end = 0
    for code in codes.finditer(text):
        start, stop = code.span()
        if start > end:
            found.append((text[end:start], end))
        end = stop
        if code.lastgroup == "backspaces" and _drop_repeated(found, text, start, stop):
            continue
        found.extend(_separated(code) if is_separated else _displayed(code))
    found.append((text[end:], end))
    return found


def origins(found: list[Piece]) -> Iterator[int]:
    """The place in the text of each character of its pieces."""
    return chain.from_iterable(range(start, start + len(piece)) for piece, start in found)


def _displayed(code: re.Match[str]) -> Iterator[Piece]:
    kind = code.lastgroup
    is_still = kind in ("bare", "osc", "text", "charset", "overstrike") or (
        kind in ("csi", "written") and code[0][-1] in STILL
    )
    if not is_still:
        yield " ", code.start()


def _separated(code: re.Match[str]) -> Iterator[Piece]:
    kind = code.lastgroup
    if kind == "overstrike":
        return
    yield " ", code.start()
    if code["text"]:
        yield code["text"], code.start("text")
        yield " ", code.end() - 1
    elif kind in ("written", "bare"):
        yield code[0], code.start()
        yield " ", code.end() - 1


def _drop_repeated(found: list[Piece], text: str, start: int, stop: int) -> bool:
    """Drops the end of the last piece if the same letters overwrite it; returns whether they do."""
    count = stop - start
    if not found or len(found[-1][0]) < count or text[stop : stop + count] != found[-1][0][-count:]:
        return False
    piece, first = found.pop()
    found.append((piece[:-count], first))
    return True
