"""Text that every database, log and protocol can hold."""


def escape_unstorable(text: str) -> str:
    """`text` with NUL and halves of UTF-16 pairs as escapes such as `\\x00`; PostgreSQL and UTF-8 have neither."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
