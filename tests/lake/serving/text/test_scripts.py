"""A word is found and marked in any form that means the same: width, accents, invisible characters, terminal codes."""

import unicodedata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.serving.parts.part import CODED, Categories
from akosha_assets.lake.serving.query import Filters, ParsedQuery
from akosha_assets.lake.serving.search.required_terms import matches_all
from akosha_assets.lake.serving.states import QuerySyntax
from akosha_assets.lake.serving.text import analysis
from akosha_assets.lake.serving.text.analysis import ANALYZERS, extra_words, indexed_texts, tokenize, words
from akosha_assets.lake.serving.text.folding import FoldedText, plain, plain_separated
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex
from akosha_assets.lake.serving.text.query_parser import MOST_PREFIXES
from akosha_assets.lake.serving.text.query_syntax import parse_query
from akosha_assets.lake.serving.text.snippets import snippet
from akosha_assets.lake.serving.text.terminal_codes import displayed, separated
from tests.lake.serving.text.test_keyword_index import part_of

E = "\x1b"
# One word of each script. No two share a bigram, so each is marked alone.
WORDS = (
    "deadlock",
    "Straße",
    "İstanbul",
    "café",
    "Tiếng",
    "λόγος",
    "ᾠδή",
    "ёлка",
    "שָׁלוֹם",
    "مُحَمَّد",
    "हिन्दी",
    "தமிழ்",
    "ไม่ได้",
    "ភាសា",
    "한국어",
    "東京都",
    "デッドロック",
    "死锁",
)
# Within a word they show nothing.
INVISIBLE = (
    "\u00ad",
    "\u200b",
    "\u200c",
    "\u200d",
    "\u2060",
    "\ufeff",
    f"{E}[1m",
    f"{E}[01;31m{E}[K",
    "\u009b0m",
    f"{E}(B",
)
BEFORE = (
    "",
    " ",
    "- ",
    f"{E}[31m",
    f"{E}[0m{E}[1m{E}[38;5;9m",
    "\u009b31m",
    f"{E}]8;;https://a.test/x{E}\\",
    f"{E}[2K\r",
    "[",
)
AFTER = (f"{E}[0m", f"{E}[m ", "\u009b0m", f"{E}]8;;{E}\\", "]", ": ", "\u200b", "")
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def widened(text: str) -> str:
    """ASCII in full width, katakana in half width."""
    kana = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF61, 0xFFA0)}
    wide = "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)
    return "".join(kana.get(each, each) for each in unicodedata.normalize("NFD", wide))


@st.composite
def decorated(draw: st.DrawFn) -> tuple[str, list[tuple[str, int, int]]]:
    """A text of words, and for each word its plain form and its start and end in the text."""
    text, places = "", []
    for word in draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True)):
        form = unicodedata.normalize(draw(st.sampled_from(FORMS)), word)
        # In capitals an iota subscript is a letter of its own.
        has_capitals = "\u0345" not in unicodedata.normalize("NFD", word)
        change: Callable[[str], str] = draw(st.sampled_from((str, str.upper if has_capitals else str, widened)))
        form = change(form)
        text += draw(st.sampled_from(BEFORE))
        start = len(text)
        for at, letter in enumerate(form):
            # Between letters, not between a letter and its marks.
            if (
                at
                and not unicodedata.category(letter).startswith("M")
                and letter not in "ﾞﾟ"
                and unicodedata.normalize("NFC", form[at - 1] + letter) == form[at - 1] + letter
            ):
                text += draw(st.sampled_from((*INVISIBLE, *[""] * 20)))
            text += letter
        places.append((word, start, len(text)))
        text += f"{draw(st.sampled_from(AFTER))} {draw(st.sampled_from(('', '42 ', 'and other, ')))}"
    return text, places


def parsed(query: str) -> ParsedQuery:
    return parse_query(query, QuerySyntax.QUERY)


def index_of(texts: list[str]) -> KeywordIndex:
    index = KeywordIndex(None, {name: Categories() for name in CODED})
    index.add(part_of(texts), 1, len(texts) + 1)
    index.commit()
    return index


def rows(index: KeywordIndex, query: str) -> list[int]:
    return sorted(int(number) - 1 for number in index.searcher.search(parsed(query), Filters(), 100)[0])


def marked(index: KeywordIndex, text: str, query: str) -> list[str]:
    found = snippet(text, index.searcher.highlights(parsed(query)))
    return [found["text"][first:last] for first, last in found["highlights"]]


def meets(query: str, text: str) -> bool:
    """Whether a text passes the required terms of a question for semantic results."""
    part: Any = SimpleNamespace(payload=SimpleNamespace(value=lambda _name, _row: text))
    return matches_all(part, 0, parsed(query).required, {})


@settings(max_examples=150, deadline=None)
@given(decorated())
def test_each_word_of_any_script_is_found_and_marked(drawn: tuple[str, list[tuple[str, int, int]]]) -> None:
    text, places = drawn
    index = index_of([text, "an unrelated text"])
    for word, first, last in places:
        for query in (word, f'"{word}"', f"+{word}", f"{word}*", unicodedata.normalize("NFD", word), widened(word)):
            assert rows(index, query) == [0], (query, words(text))
            found = snippet(text, index.searcher.highlights(parsed(query)))
            assert found["text"] == text[: len(found["text"])]
            if last < len(found["text"]):
                assert found["highlights"] == [[first, last]], (query, text[first:last])
        assert meets(f"+{word}", text) and not meets(f"-{word}", text) and meets(f'+"{word}"', text)
    index.close()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from((*WORDS, *INVISIBLE, *BEFORE, *AFTER, "ﬁ", "x²", "👩\u200d💻", "\x08", "_", "ﾞ", "\u1161"))
        | st.text(max_size=5),
        max_size=12,
    ).map("".join)
)
def test_each_reading_of_a_text_agrees_with_its_positions(text: str) -> None:
    for is_separated, reading in ((False, plain(displayed(text))), (True, plain_separated(separated(text)))):
        folded = FoldedText.of(text, is_separated=is_separated)
        assert folded.text == reading
        assert len(folded.starts) == len(folded.ends) == len(folded.text)
        assert all(0 <= first < last <= len(text) for first, last in zip(folded.starts, folded.ends, strict=True))
    shown = plain(displayed(text))
    assert plain(shown) == shown


def test_every_character_has_the_words_of_its_folded_form_in_the_index() -> None:
    characters = [chr(code) for code in (*range(0x80, 0xD800), *range(0xE000, 0x20000))]
    texts, _, _ = indexed_texts(pa.array([f"a{each}b {each}" for each in characters]))
    analyzer = ANALYZERS["words"]
    assert [
        f"{ord(each):x}"
        for each, text in zip(characters, texts, strict=True)
        if list(analyzer.analyze(text)) != words(f"a{each}b {each}")
    ] == []


CASES = {
    "cargo": (
        f"{E}[0m{E}[1m{E}[38;5;9merror[E0308]{E}[0m{E}[0m{E}[1m: mismatched types{E}[0m",
        '"error[E0308]: mismatched types"',
        ["error", "E0308", "mismatched", "types"],
    ),
    "matches of grep": (f"un{E}[01;31m{E}[Kmatch{E}[m{E}[Ked", "unmatched", [f"un{E}[01;31m{E}[Kmatch{E}[m{E}[Ked"]),
    "part of a coloured word": (f"un{E}[01;31m{E}[Kmatch{E}[m{E}[Ked", "match", ["match"]),
    "labels without blanks": (f"{E}[41mERROR{E}[0mtimeout", "timeout", ["timeout"]),
    "text of a link": (
        f"see {E}]8;;https://example.test/x{E}\\docs{E}]8;;{E}\\ first",
        '"see docs first"',
        ["see", "docs", "first"],
    ),
    "address of a link": (
        f"see {E}]8;;https://example.test/x{E}\\docs{E}]8;;\x07",
        "example.test",
        ["example", "test"],
    ),
    "link of single-byte codes": ("\x9d8;;https://example.test\x9cdocs\x9d8;;\x9c", "docs", ["docs"]),
    "title": (f"{E}]0;zsh\x07prompt", "prompt", ["prompt"]),
    "unfinished link": (f"{E}]8;;https://example.test docs", "docs", ["docs"]),
    "single-byte colours": ("\x9b31mFAILED\x9b0m", "failed", ["FAILED"]),
    "charset": (f"{E}(0lqqk{E}(B Total{E}[0;10m", "total", ["Total"]),
    "keypad and modes": (f"{E}[?25l{E}=Loading{E}>{E}[?25h", "loading", ["Loading"]),
    "two-byte controls": (f"{E}7Saved{E}8{E}cReset", "reset", ["Reset"]),
    "cursor movement as a blank": (f"two{E}[1Cwords", '"two words"', ["two", "words"]),
    "progress bar": (f"Fetch 10%\rFetch 99%\r{E}[KDone", '"99% done"', ["99", "Done"]),
    "bold by overstrike": ("N\bNA\bAM\bME\bE and", "name", ["NA\bAM\bME\bE"]),
    "underline by overstrike": ("_\bf_\bi_\bl_\be", "file", ["f_\bi_\bl_\be"]),
    "underline after the letter": ("f\b_i\b_l\b_e\b_", "file", ["f\b_i\b_l\b_e"]),
    "words overstruck at once": ("read bold\b\b\b\bbold text", '"read bold text"', ["read", "bold", "text"]),
    "counter with backspaces": ("Total 10%\b\b\b99% done", "done", ["done"]),
    "spinner": ("|\b/\b-\b\\\bready", "ready", ["ready"]),
    "image": (f"{E}_Gf=100;QUJD{E}\\logo", "logo", ["logo"]),
    "in tmux": (f"{E}Ptmux;{E}{E}]0;title\x07{E}\\shell", "shell", ["shell"]),
    "escape as JSON": (r"\u001b[31mFAILED\u001b[0m tests", '"FAILED tests"', ["FAILED", "tests"]),
    "escape as octal": (r"echo -e '\033[1;32mPASS\033[0m'", "pass", ["PASS"]),
    "escape in hexadecimal": (r"b'\x1b[2mdim\x1b[0m'", "dim", ["dim"]),
    "escape with a caret": ("^[[31mFAILED^[[0m tests", '"failed tests"', ["FAILED", "tests"]),
    "the code itself": (r"echo -e '\033[1;32mPASS\033[0m'", r"\033[1;32m", ["033", "1", "32m", "033"]),
    "lost escapes": ("[31mFAILED[0m tests", '"failed tests"', ["FAILED", "tests"]),
    "durations are no colours": ("rate(requests[5m]) and [5minutes]", "5minutes", ["5minutes"]),
    "ligature": ("the oﬃce ﬁle", "office file", ["oﬃce", "ﬁle"]),
    "circled number": ("step ① fails", "1", ["①"]),
    "unit": ("a load of 5㎏", "5kg", ["5㎏"]),
    "superscript": ("E=mc²", "mc2", ["mc²"]),
    "footnote": ("the lock¹ is held", "lock", ["lock"]),
    "trade mark": ("Akosha™ and Foo℠", "foo akosha", ["Akosha", "Foo"]),
    "mathematical letters": ("𝐝𝐞𝐚𝐝𝐥𝐨𝐜𝐤", "deadlock", ["𝐝𝐞𝐚𝐝𝐥𝐨𝐜𝐤"]),
    "full width": ("ｄｅａｄ　ｌｏｃｋ（５）", '"dead lock 5"', ["ｄｅａｄ", "ｌｏｃｋ", "５"]),
    "half width kana": ("ﾃﾞｯﾄﾞﾛｯｸです", "デッドロック", ["ﾃﾞｯﾄﾞﾛｯｸ"]),
    "square words": ("㍿と㌔", "株式会社", ["㍿"]),
    "tatweel": ("الرحـــمن", "الرحمن", ["الرحـــمن"]),
    "hamza on alef": ("أحمد", "احمد", ["أحمد"]),
    "digits of other scripts": ("خطأ ٤٠٤", "404", ["٤٠٤"]),
    "one letter within": ("数据库死锁", "库", ["库"]),
    "one letter at the start": ("死锁数据", "死", ["死"]),
    "one letter at the end": ("数据库死锁", "锁", ["锁"]),
    "one letter alone": ("第 一 步", "一", ["一"]),
    "one rare letter": ("姓𠮷野", "𠮷", ["𠮷"]),
    "one syllable": (unicodedata.normalize("NFD", "한국어"), "국", [unicodedata.normalize("NFD", "국")]),
    "middle dot between kana": ("エラー・ログ", '"エラー ログ"', ["エラー", "ログ"]),
    "joined picture": ("by 👩\u200d💻 today", "👩\u200d💻", ["👩\u200d💻"]),
    "part of a joined picture": ("by 👩\u200d💻 today", "💻", ["👩\u200d💻"]),
    "picture with a skin": ("ok 👍🏽!", "👍", ["👍🏽"]),
    "picture within a word": ("done✅ok", "✅", ["✅"]),
    "flag": ("in 🇩🇪🇫🇷", "🇫🇷", ["🇫🇷"]),
    "phrase across a picture": ("deploy 🚀 done", '"deploy done"', ["deploy", "done"]),
    "keycap": ("step 1️⃣ fails", "1", ["1️⃣"]),
    "Persian non-joiner": ("می\u200cخواهم", "میخواهم", ["می\u200cخواهم"]),
    "part before a non-joiner": ("می\u200cخواهم", "خواهم", ["خواهم"]),
    "zero-width space as a blank": ("foo\u200bbar", "bar", ["bar"]),
    "stacked marks": (
        "Z\u0351\u036bA\u0369L\u0362G\u036cO\u0301\u0363 hung",
        "zalgo",
        ["Z\u0351\u036bA\u0369L\u0362G\u036cO\u0301\u0363"],
    ),
    "sharp s": ("die Straße, DIE STRASSE", "strasse", ["Straße", "STRASSE"]),
    "final sigma": ("ΛΟΓΟΣ λόγος", "λογοσ", ["ΛΟΓΟΣ", "λόγος"]),
    "name in another script's text": ("Fehler für parseＣonfig", "config", ["Ｃonfig"]),
    "name after a colour": (f"{E}[1mparseConfig{E}[0m", "config", ["Config"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_other_programs_write_is_found_and_marked(case: str) -> None:
    text, query, expected = CASES[case]
    index = index_of([text, "nothing of it", "other words 7"])
    assert rows(index, query) == [0]
    assert marked(index, text, query) == expected
    if " " not in query or query.startswith('"'):
        assert rows(index, f"+{query}") == [0]
        assert meets(f"+{query}", text)
    index.close()


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("ガイド", "カイト"),
        ("कुल", "कल"),
        (f"one{E}[2Btwo", "onetwo"),
        ("数据库", "据数"),
        (f"{E}]52;c;c2VjcmV0{E}\\copied", "c2VjcmV0"),
    ],
    ids=["voiced kana", "Hindi vowels", "lines", "order", "clipboard"],
)
def test_what_differs_in_meaning_is_not_found(text: str, query: str) -> None:
    index = index_of([text])
    assert rows(index, query) == []
    assert not meets(f"+{query}", text)
    index.close()


def test_many_single_letters_expand_to_no_more_words_than_prefixes_may() -> None:
    letters = [chr(0x4E00 + number) for number in range(2 * MOST_PREFIXES)]
    index = index_of([f"{letter}々" for letter in letters])
    for sign in ("", "+"):
        (query, *_) = index.searcher.parser.queries(parsed(" ".join(f"{sign}{each}" for each in letters)))
        assert str(query).count("RegexQuery") <= MOST_PREFIXES
    assert len(rows(index, " ".join(letters))) == MOST_PREFIXES
    index.close()


def test_words_of_another_reading_are_no_neighbours_in_a_phrase() -> None:
    index = index_of([f"last{E}[1mword", "数据 库存"])
    assert rows(index, '"lastword word"') == rows(index, '"库存 存"') == []
    index.close()


def test_only_texts_that_need_it_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["plain [5m] text[0]", "Grüße — “quoted” … → │", f"{E}[1mred", "a\bb", "死锁", "[31mred[0m", "ﬁ"]
    folded: list[str] = []

    def recording(text: str) -> str:
        folded.append(text)
        return plain(text)

    monkeypatch.setattr(analysis, "plain", recording)
    indexed_texts(pa.array(texts))
    assert len(folded) == 5


def test_a_query_of_codes_alone_has_the_words_of_the_codes() -> None:
    assert tokenize(f"{E}[1m") == []
    assert tokenize(r"\033[31m") == ["033", "31m"]
    assert extra_words("plain text") == []
