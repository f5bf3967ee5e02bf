"""Cursors of plain lists: the key of the last item, wrapped so that a caller does not build one."""

import base64

from akosha_assets.lake.errors import InvalidRequest

MARK = "after:"


def encoded(key: str | int | None) -> str | None:
    """The cursor that stands for `key`; None where there is no further page."""
    return None if key is None else base64.urlsafe_b64encode(f"{MARK}{key}".encode()).decode("ascii").rstrip("=")


def decoded(cursor: str | None) -> str | None:
    """The key a cursor stands for.

    Raises:
        InvalidRequest: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before") from error
    if not text.startswith(MARK):
        raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before")
    return text.removeprefix(MARK)
