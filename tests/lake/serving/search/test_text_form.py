"""Two texts say the same if their words, numbers and symbols are the same in the same order."""

import random
import unicodedata

import pytest

from akosha_assets.lake.serving.search.text_form import COMPARED_CHARS, form_digest, words

TEXT = "Restarting the broker after the upgrade to version 4.2 freed 16 GB, see PR #812 (port 8080, flag --no-verify)."


@pytest.mark.parametrize(
    "same",
    [
        TEXT.upper().replace("GB", "GB").replace("--NO-VERIFY", "--no-verify"),
        TEXT.lower(),
        f"  {TEXT.replace(' ', '  ').replace(',', ' ,')}\n\n",
        TEXT.replace(" ", "\u00a0").replace("(", "").replace(").", ""),
        TEXT.removesuffix("."),
        f"“{TEXT}”",
        f"## {TEXT}",
        f"- {TEXT}",
        TEXT.replace("broker", "**broker**").replace("upgrade", "`upgrade`"),
        TEXT.replace("the ", "the\u200b "),
    ],
)
def test_case_space_and_typography_may_differ(same: str) -> None:
    assert form_digest(same) == form_digest(TEXT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("p95 latency was 41 ms", "p95 latency was 73 ms"),
        ("p95 latency was 41 ms", "p95 latency was 41 s"),
        ("version 4.1 fixed it", "version 4.2 fixed it"),
        ("version 4.1 fixed it", "version 41 fixed it"),
        ("fsync=off does lose rows", "fsync=off does not lose rows"),
        ("Das Update verliert Zeilen", "Das Update verliert Zeilen nicht"),
        ("la mise à jour perd des lignes", "la mise à jour ne perd pas de lignes"),
        ("アップデートは動作する", "アップデートは動作しない"),
        ("обновление теряет строки", "обновление не теряет строки"),
        ("replaced Solr by Vespa", "replaced Vespa by Solr"),
        ("service a calls service b", "service b calls service a"),
        ("commit 3fa9c1e broke the build", "commit 3fa9c1d broke the build"),
        ("since 2026-11-26 the job fails", "since 2026-11-27 the job fails"),
        ("listens on port 8080", "listens on port 8081"),
        ("the offset is 5 hours", "the offset is -5 hours"),
        ("the offset is - 5 hours", "the offset is 5 hours"),
        ("alert when load < 0.5", "alert when load > 0.5"),
        ("if a == b", "if a != b"),
        ("- pool_size\n+ pool", "+ pool_size\n- pool"),
        ("written in C#", "written in C"),
        ("[x] rotate the keys", "[ ] rotate the keys"),
        ("deploy ✅", "deploy ❌"),
        ("git branch -d old", "git branch -D old"),
        ("git add .", "git add"),
        ("a limit of 5Mb", "a limit of 5MB"),
        ("2^10 rows", "210 rows"),
        ("10² rows", "102 rows"),
        ("Is the cache safe?", "Is the cache safe? No."),
        ("Does it lose rows?", "Does it lose rows."),
        ("budget $5", "budget €5"),
        ("worker-1 took over from worker-2", "worker-2 took over from worker-1"),
        ("Maße der Platte", "Masse der Platte"),
        ("read by user_id", "read by user id"),
    ],
)
def test_a_fact_that_differs_makes_two_texts(one: str, other: str) -> None:
    assert form_digest(one) != form_digest(other)
    # However much of it is common.
    assert form_digest(f"{TEXT} {one}\n{TEXT}") != form_digest(f"{TEXT} {other}\n{TEXT}")


@pytest.mark.parametrize("seed", range(40))
def test_every_change_of_a_word_counts_and_no_change_of_space_or_case(seed: int) -> None:
    rng = random.Random(seed)
    letters = "abcdefgßéžждक日本語אब"
    some = ["".join(rng.choices(letters, k=rng.randint(1, 8))) for _ in range(rng.randint(2, 60))]
    spaced = "".join(word + rng.choice([" ", "\n", "\t ", ", ", ". "]) for word in some)
    assert form_digest(spaced) == form_digest(unicodedata.normalize("NFD", " ".join(some)))
    place = rng.randrange(len(some))
    changed = list(some)
    match rng.randrange(3):
        case 0:
            changed[place] += "x"
        case 1:
            del changed[place]
        case _:
            changed.insert(place, "x")
    assert form_digest(" ".join(changed)) != form_digest(spaced)
    other = rng.randrange(len(some))
    swapped = list(some)
    swapped[place], swapped[other] = some[other], some[place]
    assert (form_digest(" ".join(swapped)) == form_digest(spaced)) == (swapped == some)


def test_texts_without_words_and_long_texts_are_compared_as_they_are() -> None:
    assert form_digest("- - -") != form_digest("...") and form_digest("") != form_digest(" ")
    long = "word " * COMPARED_CHARS
    assert form_digest(long) != form_digest(long + " ") and form_digest(long) == form_digest(str(long))
    assert words("\ud800 a") == ["\ud800", "a"]
