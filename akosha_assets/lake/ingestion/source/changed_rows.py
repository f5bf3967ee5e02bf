"""Compares the rows of snapshots with the known rows of their systems and converts the changed ones."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.change_detection import (
    MISSING_DAY,
    SEEN_SCHEMA,
    RowBaseline,
    canonical_texts,
    keys_of,
    md5_low,
    microseconds,
)
from akosha_assets.lake.ingestion.source.conversion import (
    SCHEMA_OF_KIND,
    Origin,
    decode_texts,
    is_utf8,
    replace_invalid_utf8,
    to_rows,
)
from akosha_assets.lake.ingestion.source.event_times import DAY_US, OCCURRED_FROM, Clocks
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.source.id_times import IdTimes, id_times
from akosha_assets.lake.ingestion.source.json_columns import metadata_sessions
from akosha_assets.lake.ingestion.source.keyed_rows import KeyedRows, check_ids, filter_parts, mark_first_of_each_key
from akosha_assets.lake.ingestion.source.memory_texts import stated_seconds, text_hashes
from akosha_assets.lake.ingestion.source.queries import Role
from akosha_assets.lake.ingestion.source.snapshots import Piece, RetryIndividually, Snapshots, UploadFiles
from akosha_assets.lake.ingestion.source.source_rows import SourceRows, times_of
from akosha_assets.lake.schemas import TABLE_OF_KIND

_PARTITIONED = frozenset(kind for kind, schema in SCHEMA_OF_KIND.items() if "event_day" in schema.names)


class ChangedRows:
    """Compares rows with the known rows of their systems and collects the changed ones in `result`."""

    def __init__(self, uploads: list[UploadFiles], parser_version: int, fingerprints: Fingerprints):
        self._parser_version, self._fingerprints, self._is_single = parser_version, fingerprints, len(uploads) == 1
        files = [file for upload in uploads for file in upload.files]
        # (files,) int64: the position of each file's upload.
        self.upload_of_file = np.repeat(np.arange(len(uploads)), [len(upload.files) for upload in uploads])
        self._object_keys, self._object_etags = (
            pa.array([file.key for file in files]),
            pa.array([file.etag for file in files]),
        )
        self._snapshots_at = pa.array([upload.snapshot_at for upload in uploads], UTC)
        # (uploads,) int64: UTC microseconds since 1970.
        self.snapshots_us = np.array([microseconds(upload.snapshot_at) for upload in uploads])
        # (uploads,) int64 UTC microseconds: the time of rows without one of their own.
        self.latest_us = np.array([microseconds(upload.latest_at or upload.snapshot_at) for upload in uploads])
        self._known = RowBaseline([upload.known for upload in uploads])
        self.result = Snapshots(np.zeros(len(uploads), np.int64), [Counter() for _ in uploads])

    def uploads_of(self, parts: list[SourceRows]) -> np.ndarray:
        """Returns the position of each row's upload: (rows,) int64."""
        uploads: np.ndarray = self.upload_of_file[np.concatenate([part.file for part in parts])]
        return uploads

    def add(self, parts: list[SourceRows], clocks: Clocks, times_of_ids: IdTimes | None = None) -> None:
        """Adds the changed rows of the parts, and the keys of all their rows, to `result`.

        `times_of_ids`: the times in the ids, if they were already read.
        """
        parts = [part for part in parts if part.batch.num_rows]
        rows = self._keyed_rows(parts)
        if rows is None:
            return
        if times_of_ids is None or rows.parts is not parts:
            times_of_ids = id_times(rows.ids)
        hashes = md5_low(rows.texts)
        comparison = self._known.compare(rows.keys, hashes, self.snapshots_us[rows.uploads])
        days = comparison.known_day
        if comparison.changed.any():
            times = clocks.resolve(*times_of(rows.parts), times_of_ids, rows.uploads)
            event_days = (times.occurred_us // DAY_US).astype(np.int32)
            start = 0
            for part in rows.parts:
                stop = start + len(part.ids)
                if part.reading.kind in _PARTITIONED:
                    own = days[start:stop]
                    days[start:stop] = np.where(own == MISSING_DAY, event_days[start:stop], own)
                changed = comparison.changed[start:stop]
                positions = np.flatnonzero(changed) + start
                if len(positions):
                    self.result.count(
                        Flaw.TIMESTAMP_OUT_OF_RANGE, rows.uploads[positions[times.out_of_range[positions]]]
                    )
                    derived = {
                        "content_hash": pa.array(hashes[positions]),
                        "occurred_at": pa.array(times.occurred_us[positions]).view(UTC),
                        "occurred_from": OCCURRED_FROM.take(pa.array(times.occurred_from[positions])),
                        "event_day": pa.array(days[positions]).view(pa.date32()),
                    }
                    self._convert(part if len(positions) == len(part.ids) else part.filtered(changed), derived)
                start = stop
        event_day = pa.array(days, mask=days == MISSING_DAY).view(pa.date32())
        recognized_by = [text_hashes(rows.parts, comparison), stated_seconds(rows.parts)]
        seen = pa.RecordBatch.from_arrays(
            [rows.kinds, rows.ids, pa.array(comparison.standing_hash), event_day, *recognized_by], schema=SEEN_SCHEMA
        )
        if self._is_single:
            self.result.seen.append(Piece(seen, rows.uploads))
        else:
            order = np.argsort(rows.uploads, kind="stable")
            self.result.seen.append(Piece(seen.take(pa.array(order)), rows.uploads[order]))

    def _keyed_rows(self, parts: list[SourceRows]) -> KeyedRows | None:
        """Returns the rows of the parts with unique keys and valid UTF-8 texts; None if there are no rows.

        Raises:
            UploadRejected: an id is empty or too long.
            RetryIndividually: one of several uploads has a text that is not UTF-8.
        """
        while parts:
            ids = pa.concat_arrays([part.ids for part in parts])
            kinds = pa.concat_arrays([pa.repeat(part.reading.kind, len(part.ids)) for part in parts])
            uploads = self.uploads_of(parts)
            check_ids(ids)
            keys = keys_of(kinds, ids, None if self._is_single else uploads)
            if pc.count_distinct(keys).as_py() < len(keys):
                parts = self._first_of_each_key(parts, keys, uploads)
                continue
            texts = pa.concat_arrays([canonical_texts(part.batch, part.reading.hashed) for part in parts])
            if is_utf8(texts):
                return KeyedRows(parts=parts, ids=ids, kinds=kinds, uploads=uploads, keys=keys, texts=texts)
            if not self._is_single:
                raise RetryIndividually("text that is not UTF-8")
            self.result.flaws[0][Flaw.TEXT_NOT_UTF8] += 1
            # This may make ids equal, so the keys are computed again.
            parts = [SourceRows.of(part.reading, replace_invalid_utf8(part.batch), part.file) for part in parts]
        return None

    def _first_of_each_key(self, parts: list[SourceRows], keys: pa.Array, uploads: np.ndarray) -> list[SourceRows]:
        """Returns the parts with only the first row of each key; counts the other rows."""
        is_first = mark_first_of_each_key(keys)
        self.result.count(Flaw.ID_DOUBLED, uploads[~is_first])
        return filter_parts(parts, is_first)

    def _convert(self, part: SourceRows, derived: dict[str, pa.Array]) -> None:
        """Adds the rows of `part`, which have all changed, as rows of the table of their kind."""
        reading, uploads = part.reading, self.uploads_of([part])
        derived |= {
            "id": part.ids,
            "object_key": self._object_keys.take(pa.array(part.file)),
            "object_etag": self._object_etags.take(pa.array(part.file)),
            "snapshot_at": self._snapshots_at.take(pa.array(uploads)),
        }
        if part.rescued is not None:
            derived |= {"row": part.rescued, "_rescued": pa.nulls(len(part.ids), pa.string())}
        places = {(one.role, one.name): place for place, one in enumerate(reading.select.fields)}
        if reading.spec and reading.spec.first_generation:
            derived["text"] = decode_texts(part.batch.column(places[Role.COLUMN, "text"]))
        if reading.spec and reading.spec.session_in_metadata and (Role.ATTRIBUTE, "metadata") in places:
            sessions = metadata_sessions(part.batch.column(places[Role.ATTRIBUTE, "metadata"]))
            if (own := places.get((Role.COLUMN, "session_id"))) is not None:
                sessions = pc.coalesce(part.batch.column(own), sessions)
            derived["session_id"] = sessions
        converted = to_rows(
            part.batch,
            reading.select.fields,
            Origin(reading.kind, reading.name, self._parser_version),
            derived,
            fingerprints=self._fingerprints,
            flaw=lambda code, places: self.result.count(code, uploads[places]),
        )
        self.result.rows.setdefault(TABLE_OF_KIND[reading.kind], []).append(Piece(converted, uploads))
