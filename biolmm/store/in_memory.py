"""Zarr in memory: arrays are laid out there before their files go to a disk or an object store, and decoded from files that
were read and checked, so that Zarr itself reads and writes no storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

_N_READS = 8


class GroupInMemory:
    """A Zarr group whose files are taken out as bytes."""

    def __init__(self) -> None:
        self._files: dict[str, Buffer] = {}
        self.group = zarr.create_group(MemoryStore(self._files), zarr_format=3)

    def take(self) -> Iterator[tuple[str, bytes]]:
        """Give the names and contents of the files that were written since the last time, and forget them."""
        while self._files:
            name, content = self._files.popitem()
            yield name, content.to_bytes()


def decode_array(read: Callable[[str], bytes]) -> NDArray[Any]:
    """Decode an array, each of whose files is read once by `read(name)`; Zarr would take a missing one for fill values."""
    from_bytes = default_buffer_prototype().buffer.from_bytes
    files = {"zarr.json": from_bytes(read("zarr.json"))}
    array = zarr.open_array(MemoryStore(files), mode="r")
    names = [array.metadata.encode_chunk_key(indices) for indices in product(*(range(n) for n in array.cdata_shape))]
    if len(names) == 1:
        files[names[0]] = from_bytes(read(names[0]))
    else:
        with ThreadPoolExecutor(_N_READS) as threads:
            files.update(zip(names, map(from_bytes, threads.map(read, names)), strict=True))
    return np.asarray(array[...])
