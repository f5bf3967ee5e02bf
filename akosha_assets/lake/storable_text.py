"""Escapes characters that PostgreSQL, UTF-8 or logs cannot store."""


def escape_unstorable(text: str) -> str:
    """Returns `text` with NUL and lone UTF-16 surrogates as escapes such as `\\x00`."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
