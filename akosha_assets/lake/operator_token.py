"""The operator token in `AKOSHA_HOME/operator-token`, which only the account that runs Akosha can read.

Services create it when they start; commands and people read it.
"""

import fcntl
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "operator-token"
MIN_CHARS = 16

logger = logging.getLogger(__name__)


def path(home: Path) -> Path:
    """The path of the token file of `home`."""
    return home / NAME


def read(home: Path) -> str:
    """The token of `home`; empty if there is none, or if others could have read it.

    The file must be a regular file of this account with mode 0600.
    """
    try:
        handle = os.open(path(home), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            return ""
        token = os.read(handle, 1024).decode("ascii", "replace").strip()
    finally:
        os.close(handle)
    return token if len(token) >= MIN_CHARS else ""


def read_or_create(home: Path) -> str:
    """The token of `home`. It is created if there is none, and replaced if others could have read or written it.

    Empty if it cannot be stored: then nobody has it.
    """
    if token := read(home):
        return token
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home):
            # Another process may have created it meanwhile.
            return read(home) or _create(home)
    except OSError as error:
        logger.warning(
            "the operator token cannot be stored; operator routes refuse everybody", extra={"cause": str(error)}
        )
        return ""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on the folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _create(home: Path) -> str:
    target = path(home)
    temporary = target.with_name(f"{NAME}.{secrets.token_hex(8)}")
    if os.path.lexists(target):
        logger.warning(
            "the operator token could have been read or written by others and is replaced", extra={"file": str(target)}
        )
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        temporary.replace(target)
    finally:
        # A full disk may have room for the file and not for its bytes.
        temporary.unlink(missing_ok=True)
    return read(home)


def matches(given: str, token: str) -> bool:
    """Whether `given` is `token`, in constant time; nothing matches an empty token."""
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())


def bearer(authorization: str) -> str:
    """The token of an `Authorization` header; empty if it has none."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
