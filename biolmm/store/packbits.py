"""The Zarr v3 codec `packbits`, restricted to what genotype calls need: the two lowest bits of uint8.

Element i of a chunk, in C order, occupies bits 2i and 2i + 1 of the encoded bytes, lowest bits first; the last byte
is padded with zero bits. This is the `packbits` extension codec with `first_bit` 0, `last_bit` 1 and no padding
byte, so any implementation of that extension reads these chunks.

References
----------
https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/packbits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

CONFIGURATION = {"padding_encoding": "none", "first_bit": 0, "last_bit": 1}

# Four calls as the bytes of one little-endian word, for each of the 256 packed bytes.
_byte = np.arange(256, dtype=np.uint32)
_UNPACKED = (_byte & 3 | (_byte & 12) << 6 | (_byte & 48) << 12 | (_byte & 192) << 18).astype("<u4")


def pack_calls(calls: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack values 0 to 3 at 2 bits each, the first in the lowest bits; higher bits are dropped.

    Examples
    --------
    >>> pack_calls(np.array([1, 2, 3, 0, 2], np.uint8)).tolist()
    [57, 2]
    """
    flat = np.ascontiguousarray(calls).reshape(-1)
    if flat.size % 4:
        flat = np.concatenate([flat, np.zeros(-flat.size % 4, np.uint8)])
    words = flat.view("<u4") & np.uint32(0x03030303)
    return (words | words >> 6 | words >> 12 | words >> 18).astype(np.uint8)


def unpack_calls(packed: NDArray[np.uint8], n_calls: int) -> NDArray[np.uint8]:
    """Undo `pack_calls`.

    Examples
    --------
    >>> unpack_calls(np.array([57, 2], np.uint8), 5).tolist()
    [1, 2, 3, 0, 2]
    """
    return _UNPACKED[packed.reshape(-1)].view(np.uint8)[:n_calls]


@dataclass(frozen=True)
class PackBits(ArrayBytesCodec):
    """Two bits a value, for uint8 arrays of values 0 to 3."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Accept the metadata of the `packbits` extension where it asks for the two lowest bits.

        Raises
        ------
        ValueError
            When the configuration asks for other bits or for a padding byte.
        """
        given = {"padding_encoding": "none", "first_bit": 0, "last_bit": None, **data.get("configuration", {})}
        given["first_bit"] = given["first_bit"] or 0
        if data.get("name") != "packbits" or given != CONFIGURATION:
            raise ValueError(f"biolmm's packbits codec supports the configuration {CONFIGURATION} only, not {given}.")
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Write the codec's entry of an array's metadata."""
        return {"name": "packbits", "configuration": dict(CONFIGURATION)}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse arrays of any other type than uint8.

        Raises
        ------
        ValueError
            When the array's type is not uint8.
        """
        native = dtype.to_native_dtype()
        if native != np.uint8:
            raise ValueError(f"biolmm's packbits codec packs uint8 arrays, not {native}.")

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Bytes after packing."""
        return -(-input_byte_length // 4)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        n_calls = int(np.prod(chunk_spec.shape))
        packed = np.frombuffer(chunk_data.as_numpy_array(), np.uint8)
        if packed.size != -(-n_calls // 4):
            raise ValueError(f"a packed chunk of {n_calls} calls has {packed.size} bytes instead of {-(-n_calls // 4)}")
        calls = unpack_calls(packed, n_calls).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(calls)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        packed = pack_calls(chunk_data.as_numpy_array())
        return chunk_spec.prototype.buffer.from_array_like(packed)


# Installed packages are found through their entry point; this line serves a checkout that is not installed.
register_codec("packbits", PackBits)
