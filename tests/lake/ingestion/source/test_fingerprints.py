"""Fingerprints equal those of Session-Buddy and the definition."""

import gzip
import hashlib
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.source.fingerprints import GRAMS_MAX, HASHES, Fingerprints, grams_of


def reference_fingerprint(text: str) -> bytes:
    grams = set(grams_of(text))
    least = [
        min(hashlib.sha256(f"42:{number}:{gram}".encode("utf-8", "replace")).digest() for gram in grams)
        for number in range(HASHES)
    ]
    return b"".join(digest[:-9:-1] for digest in least)


@pytest.mark.shared
def test_fingerprints_equal_those_in_real_uploads(shared: Path, tmp_path: Path) -> None:
    fingerprints = Fingerprints()
    compared = 0
    for place, packed in enumerate(sorted((shared / "uploads").glob("systems/*/uploads/*/reflection.duckdb"))):
        path = tmp_path / f"{place}.duckdb"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        with duckdb.connect(path, read_only=True) as connection:
            tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            for table in sorted(tables & {"conversations_v2", "reflections_v2"}):
                rows = connection.execute(
                    f"SELECT content, fingerprint FROM {table} WHERE fingerprint IS NOT NULL"
                ).fetchall()
                for text, fingerprint in rows:
                    assert fingerprints.of(text) == fingerprint
                compared += len(rows)
    assert compared > 150


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=12))
def test_a_fingerprint_has_the_least_hash_of_each_number(text: str) -> None:
    grams = grams_of(text)

    assert Fingerprints().of(text) == (reference_fingerprint(text) if grams else bytes(8 * HASHES))


def test_clearing_a_full_cache_changes_no_fingerprint() -> None:
    texts = ["".join(map(chr, range(start, start + 1500))) for start in (200, 1700, 3200, 200)]
    small = Fingerprints(cached_grams=1)

    assert [small.of(text) for text in texts] == [Fingerprints().of(text) for text in texts]


def test_long_texts_are_sampled_as_the_source_does() -> None:
    text = "".join(chr(33 + (place * 7919) % 90) for place in range(3 * GRAMS_MAX + 100))

    grams = grams_of(text)

    assert len(grams) == GRAMS_MAX
    assert grams[1] == text[3:6].lower()


def test_near_duplicates_share_most_numbers_and_unrelated_texts_few() -> None:
    fingerprints = Fingerprints()
    one, near, other = (
        np.frombuffer(fingerprints.of(text), "<u8")
        for text in (
            "the build fails because the cache of the compiler is stale; clear it and run the build again",
            "the build fails because the cache of the compiler was stale; clear it and run the build again",
            "a customer asked whether invoices can be sent on the first day of each month",
        )
    )

    assert (one == near).mean() > 0.8
    assert (one == other).mean() < 0.2
