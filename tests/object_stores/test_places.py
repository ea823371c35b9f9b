"""What a user writes becomes a path, and an object of a store behaves as a file does."""

from __future__ import annotations

import errno
import gzip
import io
import json
import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import InputFileError, ParameterError, UserError
from biolmm.places import ObjectPath, as_object, connection, is_remote, place, read_range, remove_tree, require_local
from biolmm.places.connection import connect
from object_stores.conftest import Address, Flaky, keys_in
from object_stores.flaky import flaky_proxy


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cohort.bed", "cohort.bed"),
        ("../a b/c", "../a b/c"),
        ("file:///data/my%20cohort.bed", "/data/my cohort.bed"),
        ("file://localhost/data/x", "/data/x"),
        ("file:/data/x", "/data/x"),
        ("a:/b", "a:/b"),
        ("name:with/colon", "name:with/colon"),
    ],
)
def test_local_places_are_paths(text: str, path: str) -> None:
    assert place(text) == Path(path)
    assert place(Path(path)) == Path(path)
    assert not is_remote(place(text))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/a/b.zarr", "s3://bucket/a/b.zarr"),
        ("s3:/bucket/a/b.zarr", "s3://bucket/a/b.zarr"),
        ("S3://bucket/a//b/./c/", "s3://bucket/a/b/c"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a b?c#d%20", "gs://bucket/a b?c#d%20"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_addresses_of_objects(text: str, address: str) -> None:
    found = place(text)
    assert isinstance(found, ObjectPath)
    assert str(found) == address
    assert place(found) == found == place(address)
    if "//" not in text.partition("://")[2]:
        assert place(Path(text)) == found
    assert eval(repr(found), {"place": place}) == found
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "https://host/x",
            r"https:// is not a place that biolmm reads: give a path, or a file://, s3:// or gs:// URL\.",
        ),
        ("s3:///key", "no valid bucket name: write s3://bucket/name"),
        ("s3://b/key", "no valid bucket name"),
        ("s3://bucket/a/../b", r"has a part '\.\.'"),
        ("file://host/x", "names a host: write file:///"),
    ],
)
def test_what_is_no_place_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        place(text)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ParameterError, match="holds credentials") as caught:
        place("s3://AKIA123:wJalr@bucket/key")
    assert "AKIA" not in str(caught.value)
    assert "wJalr" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ParameterError, match=r"pip install 'biolmm\[cloud\]'"):
        place("s3://bucket/key")


NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))


@given(st.lists(NAMES, min_size=1, max_size=4), NAMES)
def test_names_follow_pathlib(parts: list[str], other: str) -> None:
    pure = PurePosixPath("/", *parts)
    path = ObjectPath("s3", "bucket", "/".join(parts))
    assert (path.name, path.stem, path.suffix, path.suffixes) == (pure.name, pure.stem, pure.suffix, pure.suffixes)
    assert str(path.parent) == "s3://bucket" + str(pure.parent).rstrip("/")
    assert [p.key for p in path.parents] == [str(p).lstrip("/") for p in pure.parents]
    assert path.with_name(other).key == str(pure.with_name(other)).lstrip("/")
    assert (path / other).parent == path
    assert (path / other).relative_to(path) == PurePosixPath(other)
    assert (path / other).is_relative_to(path)
    assert not path.is_relative_to(path / other)
    assert path.joinpath(other, "x") == path / other / "x"


def test_an_object_is_written_and_read_like_a_file(bucket: ObjectPath, s3: Any) -> None:
    path = bucket / "folder" / "x.tsv"
    assert not path.exists()
    assert not (bucket / "folder").exists()
    path.write_text("a\tä\n1\t2\n")
    assert s3.get_object(Bucket=bucket.bucket, Key="folder/x.tsv")["Body"].read() == "a\tä\n1\t2\n".encode()
    assert path.exists() and path.is_file() and not path.is_dir()
    folder = bucket / "folder"
    assert folder.exists() and folder.is_dir() and not folder.is_file()
    assert path.read_text() == "a\tä\n1\t2\n"
    assert path.stat().st_size == len(path.read_bytes()) == 9
    assert abs(path.stat().st_mtime - time.time()) < 100
    with path.open("rt", encoding="utf-8") as text:
        assert list(text) == ["a\tä\n", "1\t2\n"]
    with path.open("rb") as file:
        assert file.seek(-4, io.SEEK_END) == 5
        assert file.read() == b"1\t2\n"
    path.unlink()
    path.unlink(missing_ok=True)
    assert not path.exists()
    with pytest.raises(IsADirectoryError, match="this is a bucket"):
        bucket.read_bytes()
    for ask in (path.read_bytes, path.stat, path.open, lambda: path.read_range(0, 1)):
        with pytest.raises(FileNotFoundError):
            ask()


def test_folders_are_listed(bucket: ObjectPath) -> None:
    names = ["a.json", "b/c.tsv", "b/d/e.tsv", "trait=A%2FB c/ü#?*.parquet"]
    for name in names:
        (bucket / "root" / name).write_bytes(name.encode())
    root = bucket / "root"
    assert [path.name for path in root.iterdir()] == ["a.json", "b", "trait=A%2FB c"]
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == sorted(names)
    assert [path.name for path in (root / "b").glob("*.tsv")] == ["c.tsv"]
    assert {path.relative_to(root).name: stat.st_size for path, stat in root.files().items()}["e.tsv"] == 9
    for name in names:
        assert (root / name).read_bytes() == name.encode()
    assert not (bucket / "roo").exists()  # the beginning of a name is not a folder
    (bucket / "root2").write_bytes(b"")
    remove_tree(root)
    assert [path.name for path in bucket.iterdir()] == ["root2"]


def test_keys_are_what_other_programs_see(bucket: ObjectPath, s3: Any) -> None:
    for name in ("a b", "a%20b", "a#b", "ü", "[x]{y}", "p+q=r&s", ".hidden"):
        (bucket / name).write_bytes(b"1")
        assert keys_in(s3, bucket) == {name: 1}
        (bucket / name).unlink()
        assert not keys_in(s3, bucket)


@given(st.integers(0, 30), st.integers(0, 30))
def test_ranges_of_a_local_file(tmp_path_factory: pytest.TempPathFactory, offset: int, n_bytes: int) -> None:
    path = tmp_path_factory.getbasetemp() / "digits"
    path.write_bytes(bytes(range(20)))
    assert read_range(path, offset, n_bytes) == bytes(range(20))[offset : offset + n_bytes]


@pytest.mark.parametrize("offset", [0, 7, 19, 20, 25])
@pytest.mark.parametrize("n_bytes", [0, 1, 13, 20, 30])
def test_ranges_of_an_object(bucket: ObjectPath, offset: int, n_bytes: int) -> None:
    path = bucket / "digits"
    path.write_bytes(bytes(range(20)))
    assert read_range(path, offset, n_bytes) == bytes(range(20))[offset : offset + n_bytes]


def test_a_file_that_is_missing_is_named(tmp_path: Path, bucket: ObjectPath) -> None:
    for path in (tmp_path / "x", bucket / "x"):
        with pytest.raises(InputFileError, match=f"^{path} does not exist\\.$"):
            read_range(path, 0, 1)
    with pytest.raises(InputFileError, match="cannot be read: Is a directory"):
        read_range(tmp_path, 0, 1)


def test_a_text_in_gzip_is_read_in_parts(bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biolmm.places.objects._READ_AHEAD_BYTES", 1000)
    lines = [f"line {i} {i**7}\n" for i in range(2000)]
    (bucket / "x.gz").write_bytes(gzip.compress("".join(lines).encode()))
    with (bucket / "x.gz").open("rb") as packed, gzip.open(packed, "rt") as text:
        assert list(text) == lines


def test_an_object_that_changes_while_it_is_read_is_noticed(bucket: ObjectPath) -> None:
    path = bucket / "x"
    path.write_bytes(b"a" * 100)
    with path.open("rb", buffering=0) as file:
        assert file.read(10) == b"a" * 10
        path.write_bytes(b"b" * 100)
        with pytest.raises(OSError, match="changed while it was read") as caught:
            file.read(10)
    assert caught.value.errno == errno.ESTALE


def test_what_needs_a_local_file_says_how_to_get_one(tmp_path: Path) -> None:
    require_local(tmp_path, "a .pgen")
    with pytest.raises(InputFileError, match=r"a \.pgen must be local\. Copy it first \(aws s3 cp s3://bucket/x\.p"):
        require_local(place("s3://bucket/x.pgen"), "a .pgen")


def test_a_flaky_store_gives_the_right_bytes(bucket: ObjectPath, flaky: Flaky) -> None:
    rng = np.random.default_rng(1)
    contents = {bucket / f"a/{i}": rng.bytes(1 + i * 1000) for i in range(60)}
    with flaky(seed=2) as proxy:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda path: path.write_bytes(contents[path]), contents))
            for path, read in zip(contents, threads.map(ObjectPath.read_bytes, contents), strict=True):
                assert read == contents[path]
            parts = threads.map(lambda path: path.read_range(100, 5000), contents)
            for path, part in zip(contents, parts, strict=True):
                assert part == contents[path][100:5100]
        assert set((bucket / "a").files()) == set(contents)
        assert all(path.is_file() for path in contents)
        big = rng.bytes(12_000_000)
        (bucket / "big").write_bytes(big)  # in three parts
        assert (bucket / "big").read_bytes() == big
        remove_tree(bucket / "a")
        assert not (bucket / "a").exists()
        kinds = {"503", "reset before", "reset after", "reset amid"}
        assert all(proxy.outcomes[kind] > 3 for kind in kinds), proxy.outcomes


def test_requests_that_the_library_does_not_repeat_are_repeated(bucket: ObjectPath, flaky: Flaky) -> None:
    """Removals, and answers that break off while they are read."""
    with flaky(p_503=0, p_reset=0.3, seed=8) as proxy:
        for i in range(10):
            (bucket / f"a/{i}").write_bytes(b"x")
            assert len((bucket / "a").files()) == i + 1
        for path in (bucket / "a").files():
            path.unlink()
            assert not path.exists()
        assert min(proxy.outcomes[f"reset {when}"] for when in ("before", "amid", "after")) > 3


def test_the_flaky_store_fails_without_patience(
    bucket: ObjectPath, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy does what the tests say it does."""
    monkeypatch.setattr(connection, "_MAX_RETRIES", 0)
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(connection, "FIRST_PATIENCE_SECONDS", 3.0)
    failed = 0
    with flaky(seed=2):
        for i in range(50):
            try:
                (bucket / str(i)).write_bytes(b"x")
            except OSError:
                failed += 1
    assert 3 <= failed <= 20


def test_the_environment_is_read_anew(bucket: ObjectPath, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers get three strings and find endpoint and credentials in their own environment."""
    (bucket / "x").write_bytes(b"from another process")
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).read_text())"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(bucket / "x"), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "from another process"


def fails(path: ObjectPath, within_seconds: float) -> str:
    connect.cache_clear()
    started = time.monotonic()
    with pytest.raises(InputFileError) as caught:
        read_range(path, 0, 1)
    assert time.monotonic() - started < within_seconds
    message = str(caught.value)
    assert "\n" not in message
    assert "AKIAEXAMPLE" not in message
    assert "a-secret-for-tests" not in message
    return message


def test_a_bucket_that_is_not_there(environment: pytest.MonkeyPatch) -> None:
    path = ObjectPath("s3", "no-such-bucket", "x")
    assert "there is no bucket 'no-such-bucket' at http://127.0.0.1" in fails(path, 2)
    with pytest.raises(OSError, match="there is no bucket"):
        path.exists()
    with pytest.raises(OSError, match="there is no bucket") as caught:
        path.write_bytes(b"x")
    assert isinstance(caught.value, UserError)  # nobody needs to catch it for one line and exit code 2
    assert str(caught.value).startswith("s3://no-such-bucket: there is no bucket 'no-such-bucket' at http://")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("InvalidAccessKeyId", 403, r"rejects the credentials \(InvalidAccessKeyId\)"),
        ("SignatureDoesNotMatch", 403, r"rejects the credentials \(SignatureDoesNotMatch\)"),
        ("ExpiredToken", 400, r"rejects the credentials \(ExpiredToken\)"),
        ("AccessDenied", 403, r"denies access \(403\)"),
        ("PermanentRedirect", 301, "in another region: set AWS_REGION"),
        ("InvalidRequest", 400, r"answers with status 400 \(InvalidRequest\)"),
    ],
)
def test_refusals_are_told_apart(
    environment: pytest.MonkeyPatch, moto: Address, code: str, status: int, message: str
) -> None:
    """What S3 writes into such an answer, the key's id among it, is not repeated."""
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId></Error>".encode()
    with flaky_proxy(moto, always=(status, body)) as proxy:
        environment.setenv("AWS_ENDPOINT_URL", proxy.url)
        found = fails(ObjectPath("s3", "bucket", "x"), 3)
    assert re.search(message, found), found


def test_no_credentials(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("HOME", str(tmp_path))
    assert "no credentials were found: set AWS_ACCESS_KEY_ID" in fails(ObjectPath("s3", "bucket", "x"), 3)


def test_credentials_of_a_profile(bucket: ObjectPath, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (bucket / "x").write_bytes(b"y")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    (tmp_path / "credentials").write_text("[study]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = secret\n")
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    environment.setenv("AWS_PROFILE", "study")
    connect.cache_clear()
    assert (bucket / "x").read_bytes() == b"y"
    environment.setenv("AWS_PROFILE", "missing")
    assert "the credentials cannot be used (ProfileNotFound)" in fails(bucket / "x", 3)


def test_a_store_that_cannot_be_reached(environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_PATIENCE_SECONDS", 1.0)
    monkeypatch.setitem(connection._FIRST_CLIENT, "timeout", "1s")
    path = ObjectPath("s3", "bucket", "x")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        environment.setenv("AWS_ENDPOINT_URL", f"http://user:pass@127.0.0.1:{deaf.getsockname()[1]}")
        message = fails(path, 6)  # nobody listens
        assert "the object store cannot be reached through the network at http://127.0.0.1" in message
        deaf.listen()
        assert "the object store cannot be reached in time at http://127.0.0.1" in fails(path, 6)  # nobody answers


def in_child(path: ObjectPath, queue: Any) -> None:
    try:
        queue.put(path.read_bytes())
    except OSError as error:
        queue.put(error.strerror)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_is_refused_instead_of_waiting_for_ever(bucket: ObjectPath) -> None:
    (bucket / "x").write_bytes(b"y")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(bucket / "x", queue))
    child.start()
    assert "cannot be used in a process that was forked" in queue.get(timeout=10)
    child.join(timeout=10)


def test_google_cloud_storage(bucket: ObjectPath, environment: pytest.MonkeyPatch, moto: Address) -> None:
    """The requests of Google's XML interface, answered by the same server; Google itself has not been asked."""
    with flaky_proxy(moto, p_503=0.1, seed=4) as proxy:
        account = {"gcs_base_url": proxy.url, "disable_oauth": True, "client_email": "", "private_key": ""}
        environment.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**account, "private_key_id": ""}))
        environment.setenv("GOOGLE_BASE_URL", proxy.url)
        google = place(f"gs://{bucket.bucket}/g")
        for i in range(5):
            (google / f"x {i}").write_bytes(b"0123456789")
        assert read_range(google / "x 3", 2, 3) == b"234"
        assert [path.name for path in google.iterdir()] == [f"x {i}" for i in range(5)]
        assert (bucket / "g" / "x 4").read_bytes() == b"0123456789"
        (google / "x 3").unlink()
        assert not (google / "x 3").exists()


def test_only_objects_are_objects(tmp_path: Path) -> None:
    assert as_object(tmp_path) is None
    with pytest.raises(TypeError):
        os.fspath(place("s3://bucket/x"))  # loud, where a local file would be needed
    with pytest.raises(io.UnsupportedOperation, match="for reading only"):
        place("s3://bucket/x").open("wb")
