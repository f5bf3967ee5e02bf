"""Cursors of lists: the key of the last item, encoded so that callers do not build cursors themselves."""

import base64

from akosha_assets.lake.errors import InvalidRequest

PREFIX = "after:"


def encode(key: str | int | None) -> str | None:
    """The cursor of the page after `key`; None if there is no such page."""
    return None if key is None else base64.urlsafe_b64encode(f"{PREFIX}{key}".encode()).decode("ascii").rstrip("=")


def decode(cursor: str | None) -> str | None:
    """The key in a cursor; None for the first page.

    Raises:
        InvalidRequest: `encode` did not make it.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before") from error
    if not text.startswith(PREFIX):
        raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before")
    return text.removeprefix(PREFIX)
