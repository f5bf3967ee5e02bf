"""Object verbs: hostile keys do not stop a listing, symbolic links are never followed, sizes are bounded."""

import os
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from akosha_assets.lake.errors import StoreUnavailable, UploadRejected
from akosha_assets.lake.objects import ObjectStore
from tests.bucket import bucket


def test_a_hostile_key_does_not_stop_the_listing_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket("inbox", monkeypatch) as url:
        keys = [
            "systems/../x/uploads/u/manifest.json",
            "systems//u/manifest.json",
            "systems/ok/manifest.json",
            "systems/with space/é.json",
        ]
        for key in [*keys, "elsewhere/manifest.json"]:
            boto3.client("s3").put_object(Bucket="inbox", Key=key, Body=b"{}")
        store = ObjectStore(url)
        assert sorted(item.key for item in store.list("systems")) == sorted(keys)
        assert [item.key for item in store.list("systems", after="systems/ok")] == [
            "systems/ok/manifest.json",
            "systems/with space/é.json",
        ]


def test_a_prefix_in_the_url_is_not_part_of_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket("inbox", monkeypatch) as url:
        store = ObjectStore(f"{url}/fleet/a")
        store.put("systems/x/manifest.json", b"{}")
        (item,) = store.list("systems")
        assert (item.key, store.head(item.key)) == ("systems/x/manifest.json", item)
        assert store.read(item.key, max_bytes=10) == b"{}"
        store.delete(item.key)
        assert (list(store.list("systems")), store.head(item.key)) == ([], None)


def test_a_folder_is_listed_in_the_order_of_keys_from_any_key_on(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    keys = ["systems/a/1", "systems/a-b/1", "systems/a.b/1", "systems/a0/1", "systems/b"]
    for key in keys:
        store.put(key, b"x")
    listed = [item.key for item in store.list("systems")]
    assert listed == sorted(keys)
    for place, key in enumerate(listed):
        assert [item.key for item in store.list("systems", after=key)] == listed[place + 1 :]


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_symbolic_links_in_a_folder_are_never_followed(tmp_path: Path, linked: str) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    (inbox / "systems").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    os.symlink(outside / "secret" if linked == "file" else outside, inbox / "systems" / "x")
    store = ObjectStore(inbox.as_uri())
    assert [item.etag for item in store.list("systems")] == ["not-regular"]
    with pytest.raises(UploadRejected, match="file_not_regular"):
        store.read("systems/x" if linked == "file" else "systems/x/secret", max_bytes=100)


def test_reading_stops_at_the_size_limit(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    store.put("big", b"x" * 5_000_000)
    with pytest.raises(UploadRejected, match="file_too_large"):
        store.read("big", max_bytes=1_000_000)


def test_the_error_names_a_missing_object(tmp_path: Path) -> None:
    with pytest.raises(UploadRejected, match="does not exist in the inbox"):
        ObjectStore(tmp_path.as_uri()).read("nothing.json", max_bytes=10)


def test_odd_entries_of_a_folder_cost_only_themselves(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    sound = ["systems/aa/1", "systems/zz/1"]
    for key in [*sound, "systems/mallory/past", "systems/mallory/future"]:
        store.put(key, b"x")
    mallory = tmp_path / "systems" / "mallory"
    for name, seconds in (("past", -(10**11)), ("future", 10**12)):
        os.utime(mallory / name, (seconds, seconds))
    os.mkfifo(mallory / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(mallory / "socket"))
    os.symlink(mallory, mallory / "loop")
    Path(os.fsdecode(os.fsencode(mallory) + b"/\xff\xfe")).write_bytes(b"x")
    for name in ("d", "n" * 200):
        descriptor = os.open(mallory, os.O_RDONLY)
        for _ in range(1100 if name == "d" else 25):
            os.mkdir(name, dir_fd=descriptor)
            below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.close(descriptor)
    skipped: dict[str, str] = {}
    listed = {item.key: item for item in store.list("systems", on_skipped=skipped.__setitem__)}
    assert set(sound) < set(listed)
    assert {key.rsplit("/")[-1] for key, item in listed.items() if item.etag == "not-regular"} == {
        "pipe",
        "socket",
        "loop",
    }
    assert len(skipped) == 2
    assert sorted(reason.split(" ")[1] for reason in skipped.values()) == ["is", "path"]
    assert all(
        datetime(1970, 1, 1, tzinfo=UTC) <= item.modified_at < datetime(9999, 12, 31, 1, tzinfo=UTC)
        for item in listed.values()
    )
    subprocess.run(["rm", "-rf", str(mallory)], check=True)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link", "through a file"])
def test_entries_that_are_not_regular_files_are_refused_without_blocking(tmp_path: Path, kind: str) -> None:
    store = ObjectStore(tmp_path.as_uri())
    path, key = tmp_path / "x", "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    elif kind == "link":
        os.symlink("/etc/hostname", path)
    else:
        path.write_bytes(b"x")
        key = "x/y"
    with pytest.raises(UploadRejected, match="file_not_regular"):
        store.read(key, max_bytes=100)
    with pytest.raises(UploadRejected, match="upload_id_invalid"):
        store.read("x\0y", max_bytes=100)


def test_nothing_is_seen_or_removed_through_a_symbolic_link(tmp_path: Path) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    (inbox / "systems").mkdir(parents=True)
    outside.mkdir()
    (outside / "precious").write_text("precious")
    os.symlink(outside, inbox / "systems" / "x")
    store = ObjectStore(inbox.as_uri())
    for key in ("systems/x/precious", "../outside/precious", "systems/../../outside/precious"):
        store.delete(key)
        assert store.head(key) is None
    assert list(store.list("systems/x")) == []
    assert list(store.list("systems/../../outside")) == []
    assert (outside / "precious").read_text() == "precious"
    store.delete("systems/x")
    assert (list((inbox / "systems").iterdir()), (outside / "precious").exists()) == ([], True)


def test_a_missing_or_unmounted_folder_is_store_unavailable(tmp_path: Path) -> None:
    gone = ObjectStore((tmp_path / "gone").as_uri())
    with pytest.raises(StoreUnavailable):
        gone.read("systems/x", max_bytes=10)
    (tmp_path / "gone").mkdir()
    with pytest.raises(StoreUnavailable, match="mounted"):
        gone.check_folder("systems")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        ObjectStore((tmp_path / "file").as_uri()).put("a", b"x")
