"""An S3 server of this process on a loopback port, and a bucket for each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.places import ObjectPath, place
from biolmm.places.connection import connect
from object_stores.flaky import FlakyProxy, flaky_proxy

Address = tuple[str, int]
Flaky = Callable[..., AbstractContextManager[FlakyProxy]]


@pytest.fixture(scope="session")
def moto() -> Iterator[Address]:
    """Run moto's S3; CI must have it, elsewhere its tests are skipped."""
    missing = [name for name in ("moto", "flask", "obstore") if find_spec(name) is None]
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{', '.join(missing)} is not installed: CI must run the tests of object stores")
        pytest.skip(f"{', '.join(missing)} is not installed")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def environment(moto: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Point the environment at the server."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*moto))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    connect.cache_clear()
    yield monkeypatch
    connect.cache_clear()


@pytest.fixture
def s3(environment: pytest.MonkeyPatch, moto: Address) -> Any:
    """Give an independent client of the server: boto3."""
    import boto3

    return boto3.client("s3", endpoint_url="http://{}:{}".format(*moto))


@pytest.fixture
def bucket(s3: Any) -> ObjectPath:
    """Give a new bucket."""
    name = f"test{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    found = place(f"s3://{name}")
    assert isinstance(found, ObjectPath)
    return found


@pytest.fixture
def flaky(environment: pytest.MonkeyPatch, moto: Address) -> Flaky:
    """Give `with flaky(seed=...):`, in which 15 % of the requests get 503 and 5 % of the connections are reset."""

    @contextmanager
    def run(**options: Any) -> Iterator[FlakyProxy]:
        with flaky_proxy(moto, **options) as proxy, environment.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.url)
            connect.cache_clear()
            yield proxy
            connect.cache_clear()

    return run


def keys_in(client: Any, bucket: ObjectPath) -> dict[str, int]:
    """List a bucket with boto3: keys and sizes."""
    found = client.list_objects_v2(Bucket=bucket.bucket)
    assert not found["IsTruncated"]
    return {each["Key"]: each["Size"] for each in found.get("Contents", [])}


@pytest.fixture
def small_store_tables() -> Any:
    """Give `tables(n_variants, n_samples)`: samples and variants of a store."""

    def make(n_variants: int, n_samples: int) -> tuple[SampleTable, VariantTable]:
        index = np.arange(n_variants)
        ids = np.array([f"S{i}" for i in range(n_samples)])
        samples = SampleTable(ids, ids, np.zeros(n_samples, np.int8))
        names = as_strings([f"rs{i}" for i in index])
        bases = [as_strings([base] * n_variants) for base in "AC"]
        return samples, VariantTable(np.zeros(n_variants, np.int32), ("1",), index + 1, names, *bases)

    return make
