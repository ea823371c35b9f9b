"""The codec against a packer written from the specification, bit by bit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from zarr.registry import get_codec_class

from biolmm.store.packbits import CONFIGURATION, PackBits, pack_calls, unpack_calls

Calls = NDArray[np.uint8]


def packed_by_specification(calls: Calls) -> bytes:
    """Element i takes bits [2i, 2i + 2) of the sequence, lowest first; byte j holds bits [8j, 8j + 8)."""
    bits = "".join(f"{call & 3:02b}"[::-1] for call in calls.ravel().tolist())
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))


@given(arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 23)), elements=st.integers(0, 3)))
def test_packing_follows_the_specification_and_is_undone(calls: Calls) -> None:
    packed = pack_calls(calls)
    assert packed.tobytes() == packed_by_specification(calls)
    np.testing.assert_array_equal(unpack_calls(packed, calls.size).reshape(calls.shape), calls)


def test_higher_bits_are_dropped_as_the_specification_says() -> None:
    assert pack_calls(np.array([0b111, 0b100, 0, 0xFF], np.uint8)).tobytes() == bytes([0b11_00_00_11])


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 41)), elements=st.integers(0, 3)),
    st.tuples(st.integers(1, 12), st.integers(1, 48)),
)
def test_a_zarr_array_of_any_chunks_gives_back_what_was_written(calls: Calls, chunks: tuple[int, int]) -> None:
    with TemporaryDirectory() as folder:
        array = zarr.create_array(
            Path(folder) / "x", shape=calls.shape, chunks=chunks, dtype=np.uint8, fill_value=3, serializer=PackBits(),
            compressors=None, config={"write_empty_chunks": True},
        )  # fmt: skip
        array[...] = calls
        again = zarr.open_array(Path(folder) / "x", mode="r")
        np.testing.assert_array_equal(again[...], calls)
        full = np.full((chunks[0], chunks[1]), 3, np.uint8)
        corner = calls[: chunks[0], : chunks[1]]
        full[: corner.shape[0], : corner.shape[1]] = corner
        assert (Path(folder) / "x" / "c" / "0" / "0").read_bytes() == packed_by_specification(full)


def test_zarr_finds_the_codec_by_its_name() -> None:
    assert get_codec_class("packbits") is PackBits


def test_metadata_make_the_same_codec_again() -> None:
    assert PackBits.from_dict(PackBits().to_dict()) == PackBits()
    assert PackBits.from_dict({"name": "packbits", "configuration": {"first_bit": None, "last_bit": 1}}) == PackBits()


@pytest.mark.parametrize(
    "configuration",
    [{}, {"first_bit": 1, "last_bit": 2}, {"last_bit": 3}, {**CONFIGURATION, "padding_encoding": "first_byte"}],
)
def test_configurations_beyond_two_bits_are_refused(configuration: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="supports the configuration"):
        PackBits.from_dict({"name": "packbits", "configuration": configuration})


def test_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="packs uint8 arrays, not int16"):
        zarr.create_array(tmp_path / "x", shape=(4,), dtype=np.int16, serializer=PackBits())


def test_a_chunk_of_another_length_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    array = zarr.create_array(path, shape=(8,), dtype=np.uint8, serializer=PackBits(), compressors=None)
    array[...] = 1
    (path / "c" / "0").write_bytes(b"\x00\x00\x00")
    with pytest.raises(ValueError, match="has 3 bytes instead of 2"):
        array[...]
