"""Values that travel closed and are opened where they are used, so that what cannot be opened is an error of its task.

Otherwise the process that receives a value opens it while it reads the connection: what it cannot import costs it the
connection, and a cluster tries worker after worker before it gives up.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from biolmm.errors import ParameterError

REMEDY = "install the same packages everywhere, and put your own modules where all processes find them"


class Parcel:
    """A value, closed as soon as it is sent to another process; arrays in it are not copied.

    Examples
    --------
    >>> parcel = pickle.loads(pickle.dumps(Parcel({"a": 1})))
    >>> parcel.open()
    {'a': 1}
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._closed: tuple[bytes, tuple[Any, ...]] | None = None
        self._n_bytes = int(getattr(value, "nbytes", 0))

    def open(self) -> Any:
        """Return the value.

        Raises
        ------
        ParameterError
            When it needs a module that this process cannot import, or one that differs here.
        """
        closed = self._closed  # another thread may open it meanwhile
        if closed is not None:
            try:
                self._value = pickle.loads(closed[0], buffers=closed[1])
            except Exception as error:
                raise ParameterError(
                    f"a worker cannot read the tasks that it was sent ({type(error).__name__}: {error}): {REMEDY}."
                ) from error
            self._closed = None
        return self._value

    def __reduce__(self) -> tuple[Callable[..., Parcel], tuple[Any, ...]]:
        closed = self._closed
        if closed is not None:
            return _received, (closed[0], *closed[1])
        buffers: list[pickle.PickleBuffer] = []
        head = _dumped(self._value, buffers)
        return _received, (head, *buffers)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self._n_bytes


def call_opened(function: Parcel, *arguments: Parcel) -> Any:
    """Open a function and its arguments and call it."""
    return function.open()(*(argument.open() for argument in arguments))


def versions() -> dict[str, str]:
    """Return the versions that processes of one run must agree on."""
    import platform

    try:
        ours = version("biolmm")
    except PackageNotFoundError:
        ours = "none"
    return {"biolmm": ours, "Python": ".".join(platform.python_version_tuple()[:2])}


def _received(head: bytes, *buffers: Any) -> Parcel:
    parcel = Parcel(None)
    parcel._closed = (head, buffers)
    parcel._n_bytes = len(head) + sum(memoryview(buffer).nbytes for buffer in buffers)
    return parcel


def _dumped(value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    """Pickle a value, by cloudpickle what plain pickle cannot name in another process."""
    try:
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        if b"__main__" not in head:
            return head
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    buffers.clear()
    return bytes(cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append))
