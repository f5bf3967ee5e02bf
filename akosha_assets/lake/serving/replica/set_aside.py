"""Rows of a tier that cannot be served: unreadable data files, which are retried, and invalid rows of other files."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from akosha_assets.lake.serving.replica.row_conversion import RowsSetAside

logger = logging.getLogger(__name__)

# From one attempt to read a file to the next.
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FileSetAside:
    """A data file that is not served."""

    # From the log.
    rows: int
    reason: str
    # When to try again, as of `time.monotonic`.
    retry_at: float


@dataclass
class SetAside:
    """The files and rows of one tier that are set aside, by path of the file."""

    files: dict[str, FileSetAside] = field(default_factory=dict)
    rows: dict[str, RowsSetAside] = field(default_factory=dict)

    def add_file(self, path: str, rows: int, reason: str) -> None:
        """The file is not served until a later attempt succeeds."""
        if path not in self.files:
            logger.warning("a data file is set aside", extra={"path": path, "rows": rows, "cause": reason})
        self.files[path] = FileSetAside(rows, reason, time.monotonic() + RETRY_SECONDS)

    def replace_served(self, paths: Iterable[str], rows: Mapping[str, RowsSetAside]) -> None:
        """The files at `paths` are served, except for `rows`."""
        for path in paths:
            self.files.pop(path, None)
            self.rows.pop(path, None)
        self.rows |= rows

    def retain(self, paths: Collection[str]) -> None:
        """Forgets the files that are not among `paths`."""
        self.files = {path: file for path, file in self.files.items() if path in paths}
        self.rows = {path: rows for path, rows in self.rows.items() if path in paths}

    def retry_all(self) -> None:
        """Every file is due for another attempt."""
        self.files = {path: replace(file, retry_at=0.0) for path, file in self.files.items()}

    @property
    def is_due(self) -> bool:
        """Some file is due for another attempt."""
        return any(file.retry_at <= time.monotonic() for file in self.files.values())

    @property
    def waiting(self) -> set[str]:
        """Paths of the files that are not due for another attempt."""
        now = time.monotonic()
        return {path for path, file in self.files.items() if file.retry_at > now}

    @property
    def unreadable_rows(self) -> int:
        """Rows of the files that are set aside."""
        return sum(file.rows for file in self.files.values())

    @property
    def identities(self) -> frozenset[int]:
        """Identity hashes of the rows that are set aside in files that are served."""
        return frozenset(identity for rows in self.rows.values() for identity in rows.identities)

    @property
    def row_count(self) -> int:
        """All rows that are set aside."""
        return self.unreadable_rows + sum(len(rows.identities) for rows in self.rows.values())

    def rows_of(self, path: str) -> int:
        """Rows of a served file that are set aside."""
        return len(self.rows[path].identities) if path in self.rows else 0

    @property
    def reason(self) -> str | None:
        """What is set aside and why; None if nothing is."""
        reasons = []
        if self.files:
            file = next(iter(self.files.values()))
            reasons.append(
                f"{self.unreadable_rows} rows in {len(self.files)} files cannot be read and are left out: {file.reason}"
            )
        if self.rows:
            count = self.row_count - self.unreadable_rows
            path, rows = next(iter(self.rows.items()))
            reasons.append(
                f"{count} rows in {len(self.rows)} files cannot be served and are left out: {rows.reason} ({path})"
            )
        return "; ".join(reasons) or None
