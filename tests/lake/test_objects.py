"""Object verbs: hostile keys do not stop a listing, symbolic links are never followed, sizes are bounded."""

import os
from pathlib import Path

import boto3
import pytest

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.objects import ObjectStore
from tests.bucket import bucket


def test_a_hostile_key_does_not_stop_the_listing_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket("inbox", monkeypatch) as url:
        keys = ["systems/../x/uploads/u/manifest.json", "systems//u/manifest.json", "systems/ok/manifest.json", "systems/with space/é.json"]
        for key in [*keys, "elsewhere/manifest.json"]:
            boto3.client("s3").put_object(Bucket="inbox", Key=key, Body=b"{}")
        store = ObjectStore(url)
        assert sorted(item.key for item in store.list("systems")) == sorted(keys)
        assert [item.key for item in store.list("systems", after="systems/ok")] == ["systems/ok/manifest.json", "systems/with space/é.json"]


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


def test_what_is_larger_than_allowed_is_not_read_to_its_end(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path.as_uri())
    store.put("big", b"x" * 5_000_000)
    with pytest.raises(UploadRejected, match="file_too_large"):
        store.read("big", max_bytes=1_000_000)


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(UploadRejected, match="does not lie in the inbox"):
        ObjectStore(tmp_path.as_uri()).read("nothing.json", max_bytes=10)
