"""The secret that proves an operator: `AKOSHA_HOME/operator-token`, which only the account that runs Akosha can read.

Whoever may read the file may change things. Services make it when they start; commands and people read it.
"""

import hmac
import logging
import os
import secrets
import stat
from pathlib import Path

NAME = "operator-token"
MIN_CHARS = 16

logger = logging.getLogger(__name__)


def path(home: Path) -> Path:
    """Where the token of `home` lies."""
    return home / NAME


def read(home: Path) -> str:
    """The token of `home`; empty where there is none that others cannot know.

    The file is a regular one of this account, with mode 0600.
    """
    try:
        handle = os.open(path(home), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(handle, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - opened by its handle
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return ""
        token = file.read(1024).strip()
    return token if len(token) >= MIN_CHARS else ""


def read_or_create(home: Path) -> str:
    """The token of `home`, made where there is none; one that others could have read or written is replaced.

    Empty where it cannot be stored: then nobody holds it.
    """
    if token := read(home):
        return token
    target = path(home)
    temporary = target.with_name(f"{NAME}.{secrets.token_hex(8)}")
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            logger.warning("the operator token could have been read or written by others and is replaced", extra={"file": str(target)})
            target.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            # Of two processes that start together, both take the token of the first.
            os.link(temporary, target)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        logger.warning("the operator token cannot be stored; operator routes refuse everybody", extra={"cause": str(error)})
        return ""
    return read(home)


def matches(given: str, token: str) -> bool:
    """Whether `given` is `token`, in the same time for every wrong one; nothing matches an empty token."""
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())


def bearer(authorization: str) -> str:
    """The token of an `Authorization` header; empty where it has none."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
