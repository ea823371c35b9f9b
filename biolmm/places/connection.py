"""Requests to object stores: connections, patience, and what their failures mean in plain words.

Requests go through the package obstore. Endpoint and credentials come from the environment alone (`AWS_*`, `GOOGLE_*`, the
usual files of either) and are never part of a message. Against a server that answers 15 % of the requests with 503 and
resets 5 % of the connections, 300 requests of up to 300 kB took 8 s where s3fs took 79 s; without faults 0.5 s and 15 s.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from biolmm.errors import InputFileError, ParameterError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a request is repeated while a store fails or the network is away."""

FIRST_PATIENCE_SECONDS = 8.0
"""The same for the first request to a bucket, where the mistake is more likely in what was asked for."""

_MAX_RETRIES = 12
_CLIENT = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "10m"}
_FIRST_CLIENT = {"connect_timeout": "3s", "read_timeout": "5s", "timeout": "10s"}
_KEYS_IN_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "AuthFailure", "UnrecognizedClientException", "InvalidSecurity",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 409, 429, 500, 502, 503, 504}

_state = {"forked": False}


class ObjectStoreError(InputFileError, OSError):
    """An object store refuses or cannot be reached: an `OSError` as of a file, and, where nobody catches it, the user's line."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}."


class Address(Protocol):
    """What a request goes to: scheme and bucket choose the connection, the text is for messages."""

    @property
    def scheme(self) -> str:
        """`s3` or `gs`."""

    @property
    def bucket(self) -> str:
        """Name of the bucket."""


def require_library(url: str) -> ModuleType:
    """Import obstore.

    Raises
    ------
    ParameterError
        When it is not installed.
    """
    try:
        import obstore
    except ImportError:
        raise ParameterError(
            f"{url} is on an object store: install what reads it with pip install 'biolmm[cloud]'."
        ) from None
    return obstore


def ask(address: Address, question: Callable[[ObjectStore, Any], T]) -> T:
    """Ask a store something that can be asked again, until it answers or patience ends.

    obstore repeats most requests itself; not those whose answer breaks off while it is read, nor removals and the ends of
    uploads in parts. All requests of biolmm can be repeated: they give or write the same bytes.

    Parameters
    ----------
    address
        Where to.
    question
        Gets the connection and the module obstore.

    Raises
    ------
    OSError
        `FileNotFoundError` when there is no such object; otherwise an `ObjectStoreError`, whose `strerror` says in plain words
        what is wrong.
    """
    obstore = require_library(str(address))
    store = connect(address.scheme, address.bucket)
    return _repeat(lambda: question(store, obstore), address, PATIENCE_SECONDS)


@lru_cache(maxsize=64)
def connect(scheme: str, bucket: str) -> ObjectStore:
    """Connect to a bucket and see that it is there; once a process and bucket.

    Raises
    ------
    OSError
        When the bucket does not exist, the store rejects the credentials or cannot be reached; after some ten seconds at
        most, where later requests are more patient.
    """
    import obstore

    os.register_at_fork(after_in_child=_note_fork)
    address = _Bucket(scheme, bucket)
    hurried = _open(scheme, bucket, _FIRST_CLIENT, FIRST_PATIENCE_SECONDS)
    try:
        _repeat(lambda: next(iter(obstore.list(hurried, "biolmm-is-here")), None), address, FIRST_PATIENCE_SECONDS)
    except ObjectStoreError as error:
        if error.errno != errno.EPERM:
            raise
        # Who may not list may still read.
    return _open(scheme, bucket, _CLIENT, PATIENCE_SECONDS)


class _Bucket:
    def __init__(self, scheme: str, bucket: str) -> None:
        self.scheme, self.bucket = scheme, bucket

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}"


def _open(scheme: str, bucket: str, client: dict[str, str], patience_seconds: float) -> ObjectStore:
    from obstore.store import GCSStore, S3Store

    backoff = {
        "init_backoff": timedelta(milliseconds=50),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    }
    retry: Any = {"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=patience_seconds), "backoff": backoff}
    options: Any = {**client, "allow_http": (_endpoint(scheme) or "").startswith("http://")}
    if scheme == "gs":
        return GCSStore(bucket, client_options=options, retry_config=retry)
    more: Any = {}
    endpoint = _endpoint(scheme)
    if endpoint:
        more["endpoint"] = endpoint
    if not any(name in os.environ for name in _KEYS_IN_ENVIRONMENT):
        more |= _boto_credentials(f"s3://{bucket}")
    return S3Store(bucket, client_options=options, retry_config=retry, disable_bulk_delete=True, **more)


def _endpoint(scheme: str) -> str | None:
    """Give the address of the store that the environment names, if it does."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if scheme == "s3" else ("GOOGLE_BASE_URL",)
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _boto_credentials(url: str) -> dict[str, Any]:
    """Find credentials as the AWS tools do: profiles, single sign-on, roles of machines and containers."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}
    try:
        return {"credential_provider": Boto3CredentialProvider()}
    except Exception as error:  # botocore has dozens of kinds
        if "None" in str(error):
            raise _no_credentials(url) from None
        raise ObjectStoreError(errno.EACCES, f"the credentials cannot be used ({type(error).__name__})", url) from None


def _no_credentials(url: str) -> ObjectStoreError:
    remedy = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket AWS_SKIP_SIGNATURE=true"
    )
    if url.startswith("gs:"):
        remedy = "set GOOGLE_APPLICATION_CREDENTIALS; for a public bucket GOOGLE_SKIP_SIGNATURE=true"
    return ObjectStoreError(errno.EACCES, f"no credentials were found: {remedy}", url)


def _note_fork() -> None:
    _state["forked"] = True


def _repeat(request: Callable[[], T], address: object, patience_seconds: float) -> T:
    if _state["forked"]:  # the threads that would answer were not copied: it would wait for ever
        reason = "object stores cannot be used in a process that was forked: start it with 'spawn' or 'forkserver'"
        raise ObjectStoreError(errno.ENOTSUP, reason, str(address))
    deadline = time.monotonic() + patience_seconds
    pause = 0.05
    while True:
        try:
            return request()
        except Exception as error:
            failure, may_pass = _explained(error, str(address))
            if failure is None:
                raise
            if not may_pass or time.monotonic() + pause > deadline:
                raise failure from None
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _explained(error: Exception, url: str) -> tuple[OSError | None, bool]:
    """Say in plain words what a failure means, and whether it may pass.

    What the store wrote is not quoted: it can hold a key's id and what was signed.
    """
    text = str(error)
    code = _first(r"<Code>(\w+)</Code>", text)
    status = int(_first(r"status code: (\d{3})", text) or 0)
    scheme, _, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    kind = type(error).__module__.partition(".")[0]
    if kind != "obstore" and not isinstance(error, FileNotFoundError):
        return None, False
    if code == "NoSuchBucket":
        return ObjectStoreError(errno.ENXIO, f"there is no bucket {bucket!r} {_where(scheme)}", url), False
    if re.search(
        r"169\.254\.169\.254|metadata\.google|latest/api/token|credentials? (not|chain)|CredentialNotLoaded", text
    ):
        return _no_credentials(url), False
    if code in _BAD_CREDENTIALS or type(error).__name__ == "UnauthenticatedError":
        return ObjectStoreError(
            errno.EACCES, f"the object store rejects the credentials ({code or status})", url
        ), False
    if status == 403 or type(error).__name__ == "PermissionDeniedError":
        reason = "the object store denies access (403): these credentials may not do this there"
        return ObjectStoreError(errno.EPERM, reason, url), False
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", url), False
    if status == 412:
        return ObjectStoreError(errno.ESTALE, "it was changed while it was read; run again", url), False
    if status == 416:
        return ObjectStoreError(errno.ERANGE, "it ends before the part that was asked for", url), False
    if "redirect" in text or code in (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ):
        return ObjectStoreError(errno.EREMCHG, "its bucket is in another region: set AWS_REGION to that", url), False
    if status:
        reason = f"the object store answers with status {status}{f' ({code})' if code else ''}"
        return ObjectStoreError(errno.EIO, reason, url), status in _TRANSIENT_STATUS
    if re.search(r"HttpError|HTTP error|reqwest|hyper", text):
        how = "in time" if re.search(r"kind: Timeout|TimedOut", text) else "through the network"
        return ObjectStoreError(
            errno.EHOSTUNREACH, f"the object store cannot be reached {how} {_where(scheme)}", url
        ), True
    return ObjectStoreError(errno.EIO, f"the object store's answer cannot be used ({type(error).__name__})", url), False


def _where(scheme: str) -> str:
    """Name the store without a user's name or password."""
    endpoint = _endpoint(scheme)
    return (
        f"at {re.sub(r'//[^/@]*@', '//', endpoint)}" if endpoint else {"s3": "at Amazon S3", "gs": "at Google"}[scheme]
    )


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None
