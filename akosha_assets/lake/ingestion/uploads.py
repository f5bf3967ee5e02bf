"""The layout of the inbox: object keys to uploads, manifests to file lists. Pure functions, no I/O.

Three layouts are read (docs/uploads.md): Session-Buddy's folder with a manifest written last, a bare database per
system, and the older folder with `memories.json`. The key decides which system sent an upload; its content is not
trusted.
"""

import re
from dataclasses import dataclass

from akosha_assets.lake import lenient_json
from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.storable_text import escape_unstorable

ROOT = "systems"
MANIFEST = "manifest.json"
BARE = "memory.db"

SYSTEM_ID = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9._-]{1,100}")
NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """The upload that an object belongs to. `completes` is true for the object that is written last."""

    prefix: str
    system_id: str
    upload_id: str
    layout: str
    name: str
    completes: bool
    reason: str = ""


def part_of(key: str) -> ManifestPart | None:
    """Returns the upload that an object belongs to; None if it belongs to none.

    An upload with a `reason` is never ingested: its system id or upload id is invalid.
    """
    folders = key.split("/")
    if folders[0] != ROOT or len(folders) < 3 or folders[-1].startswith("."):
        return None
    name = folders[-1]
    if name == BARE and (len(folders) == 3 or folders[-3:-1][0] != "uploads"):
        return _checked("/".join(folders[:-1]), "/".join(folders[1:-1]), BARE, "bare", name, True, prefix=key)
    if len(folders) >= 5 and folders[-3] == "uploads":
        return _checked(
            "/".join(folders[:-1]), "/".join(folders[1:-3]), folders[-2], "session-buddy", name, name == MANIFEST
        )
    if len(folders) == 4 and name in (MANIFEST, "memories.json"):
        return _checked("/".join(folders[:-1]), folders[1], folders[-2], "memories-json", name, name == MANIFEST)
    return None


def _checked(
    folder: str, system_id: str, upload_id: str, layout: str, name: str, completes: bool, prefix: str = ""
) -> ManifestPart:
    reason = ""
    if not SYSTEM_ID.fullmatch(system_id):
        reason = "system_id_invalid"
    elif not NAME.fullmatch(upload_id):
        reason = "upload_id_invalid"
    return ManifestPart(
        escape_unstorable(prefix or folder),
        escape_unstorable(system_id),
        escape_unstorable(upload_id),
        layout,
        name,
        completes,
        reason,
    )


# As many as a worker accepts in one request, and several times as many as any client sends.
UPLOAD_MAX_FILES = 24


@dataclass(frozen=True)
class Manifest:
    """The files of an upload, and the flaws of its manifest by code. Flaws are counted and do not reject the upload."""

    files: tuple[str, ...]
    flaws: dict[str, int]


def parse_manifest(data: bytes, part: ManifestPart) -> Manifest:
    """Parses the manifest in `data`.

    Raises:
        UploadRejected: not a JSON object, no list of files, or a file name that is not a plain name.
    """
    key = f"{part.prefix}/{MANIFEST}"
    try:
        manifest, is_replaced = lenient_json.load(data)
    except (ValueError, RecursionError) as error:
        raise UploadRejected(
            "manifest_not_json", f"{key} is not JSON ({error}); expected the object Session-Buddy writes", _sample(data)
        ) from error
    if not isinstance(manifest, dict):
        raise UploadRejected(
            "manifest_not_json", f"{key} is a JSON {type(manifest).__name__}; expected an object", _sample(data)
        )
    flaws: dict[str, int] = {Flaw.TEXT_NOT_UTF8: 1} if is_replaced else {}
    if part.layout == "memories-json":
        return Manifest(("memories.json",), flaws)
    listed = manifest.get("files")
    if not isinstance(listed, list) or len(listed) > UPLOAD_MAX_FILES:
        found = f"{len(listed)} files" if isinstance(listed, list) else "none"
        raise UploadRejected(
            "manifest_invalid",
            f"{key}: found {found}; expected a list `files` of at most {UPLOAD_MAX_FILES}",
            _sample(data),
        )
    names = []
    for entry in listed:
        name = entry.get("name") if isinstance(entry, dict) else entry
        if not isinstance(name, str) or not NAME.fullmatch(name) or name == MANIFEST:
            raise UploadRejected(
                "manifest_invalid",
                f"{key} lists {name!r}; expected plain names of files beside the manifest",
                _sample(data),
            )
        names.append(name)
    if manifest.get("system_id", part.system_id) != part.system_id:
        # The upload was copied between systems. The key decides, because a bucket policy can protect keys.
        flaws[Flaw.MANIFEST_NAMES_OTHER_SYSTEM] = 1
    return Manifest(tuple(dict.fromkeys(names)), flaws)


SECRET = re.compile(r"(?i)(password|passwd|secret|token|api[_-]?key|authorization)([\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+")


def _sample(data: bytes) -> str:
    """Returns the first 200 bytes as text, with anything that looks like a secret masked."""
    return SECRET.sub(r"\1\2***", escape_unstorable(data[:200].decode("utf-8", "backslashreplace")))
