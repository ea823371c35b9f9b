"""Verification finds every kind of damage, all of it, and nothing in a store that is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr

from biolmm import schema
from biolmm.errors import InputFileError, StoreFormatError
from biolmm.files.encoding import Encoding
from biolmm.store.convert import convert_sources
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c
from biolmm.store.layout import chunk_path, table_files, write_array
from biolmm.store.read import GenotypeStore
from biolmm.store.verify import verify

CHUNK = chunk_path(Encoding.CALLS, 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resum(path: Path, change: Callable[[dict[str, Any]], None] = lambda attributes: None) -> None:
    """Make every checksum fit again: what is wrong then is wrong in content only."""
    metadata = json.loads((path / "zarr.json").read_text())
    attributes = metadata["attributes"]
    attributes["checksums"] = {str(f): google_crc32c.value((path / f).read_bytes()) for f in table_files(path)}
    change(attributes)
    attributes[ATTRIBUTES_CRC32C] = attributes_crc32c(attributes)
    (path / "zarr.json").write_text(json.dumps(metadata))


def rewrite(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Write another table with its checksum, as a faulty program would."""

    def spoil(path: Path) -> None:
        table = GenotypeStore.open(path).read_table(name)
        write_array(zarr.open_group(path, mode="r+"), name, change(table.copy()))
        resum(path)

    return spoil


def replace_chunk(path: Path) -> None:
    """Put another chunk, with its checksum, in the place of one."""
    other = (path / chunk_path(Encoding.CALLS, 0)).read_bytes()
    (path / CHUNK).write_bytes(other)
    rewrite(schema.CHUNK_CRC32C, lambda crcs: np.array([crcs[0], crcs[0], crcs[2]]))(path)


def garbage_chunk(path: Path) -> None:
    (path / CHUNK).write_bytes(b"not zstd")
    crc = google_crc32c.value(b"not zstd")
    rewrite(schema.CHUNK_CRC32C, lambda crcs: np.array([crcs[0], crc, crcs[2]]))(path)


def one_more(table: Any) -> Any:
    table[70] += 1
    return table


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "flipped bit in a chunk": (lambda path: flip(path / CHUNK), CHUNK, r"chunk 1 .* has CRC-32C"),
    "truncated chunk": (lambda path: (path / CHUNK).write_bytes((path / CHUNK).read_bytes()[:-5]), CHUNK, "has CRC-32C"),
    "missing chunk": (lambda path: (path / CHUNK).unlink(), CHUNK, "is missing"),
    "empty chunk": (lambda path: (path / CHUNK).write_bytes(b""), CHUNK, "in 0 bytes"),
    "chunk of garbage": (garbage_chunk, CHUNK, "cannot be decoded"),
    "another chunk": (replace_chunk, "variant_alt_count", r"for variant 65, whose genotypes count 0.*of chunk 1"),
    "flipped bit in a table": (lambda path: flip(path / "variant_id/c/0"), "variant_id/c/0", "has CRC-32C"),
    "missing table": (lambda path: (path / "sample_id/c/0").unlink(), "sample_id/c/0", "is missing"),
    "truncated table": (
        lambda path: (path / "variant_allele/c/0/0").write_bytes(b"x"), "variant_allele/c/0/0", "in 1 bytes"
    ),
    "flipped bit in metadata": (lambda path: flip(path / "variant_id/zarr.json"), "variant_id/zarr.json", "has CRC-32C"),
    "wrong table": (rewrite("variant_position", one_more), "zarr.json", "has fingerprint"),
    "short table": (rewrite("variant_position", lambda table: table[:-1]), "variant_position", "149 values instead of 150"),
    "contig out of range": (rewrite("variant_contig", lambda table: table + 5), "variant_contig", "outside the 2 contigs"),
    "sample twice": (
        rewrite("sample_id", lambda table: np.array(["S0", *table[:-1].tolist()])), "sample_id", "more than once"
    ),
    "wrong counts": (
        rewrite("variant_het_count", one_more), "variant_het_count", r"for variant 71, .* wrong for 1 variants of chunk 1"
    ),
    "wrong number of chunks": (
        rewrite(schema.CHUNK_CRC32C, lambda crcs: crcs[:-1]), "zarr.json", "has 2 values for 3 chunks"
    ),
    "damaged list of chunks": (lambda path: flip(path / "chunk_crc32c/c/0"), "chunk_crc32c/c/0", "has CRC-32C"),
    "wrong size": (
        lambda path: resum(path, lambda each: each.update(encoded_bytes=3)), "zarr.json", "says 3 bytes of genotypes"
    ),
    "changed attribute": (
        lambda path: (path / "zarr.json").write_text((path / "zarr.json").read_text().replace('"biolmm ', '"biolmn ')),
        "zarr.json", "attributes in its zarr.json have CRC-32C",
    ),
    "not a group any more": (
        lambda path: (path / "zarr.json").write_text((path / "zarr.json").read_text().replace('"group"', '"array"')),
        "zarr.json", "its node_type are not those",
    ),
    "broken metadata": (lambda path: (path / "zarr.json").write_text("{"), "zarr.json", "is not a Zarr group"),
    "a file too many": (lambda path: (path / "variant_id/c/1").write_text(""), "variant_id/c/1", "does not belong"),
    "a chunk too many": (lambda path: (path / "call_alt_count/c/7").write_text(""), "call_alt_count/c/7", "does not belong"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_damage_is_found_and_placed(small_stores: Any, name: str) -> None:
    spoil, file, problem = CASES[name]
    path = small_stores.finished().path
    spoil(path)
    found = verify(path)
    assert not found.is_intact
    assert any(re.search(problem, each.problem) for each in found.damages if each.file == file), found.damages


def test_all_damage_is_listed_not_only_the_first(small_stores: Any) -> None:
    path = small_stores.finished().path
    for file in ("sample_sex/c/0", chunk_path(Encoding.CALLS, 0), chunk_path(Encoding.CALLS, 2)):
        flip(path / file)
    (path / "notes.txt").write_text("mine")
    assert [each.file for each in verify(path).damages] == [
        "call_alt_count/c/0/0", "call_alt_count/c/2/0", "notes.txt", "sample_sex/c/0"
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["calls", "dosage8", "dosage16"])
def test_a_whole_store_is_intact(memory_source: Any, tmp_path: Path, encoding: Any) -> None:
    values = np.random.default_rng(2).uniform(0, 2, (150, 11))
    values[:, 3] = np.nan
    store = convert_sources([memory_source(values)], tmp_path / "x.zarr", encoding=encoding, chunk_variants=64)

    def threads(function: Any, items: Any, shared: Any) -> Any:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(function, items, repeat(shared)))

    found = verify(store.path, map_tasks=threads)
    files = [file for file in store.path.rglob("*") if file.is_file()]
    assert found.is_intact
    assert (found.n_files, found.n_bytes) == (len(files), sum(file.stat().st_size for file in files))


def test_sums_of_dosages_are_counted_again(memory_source: Any, tmp_path: Path) -> None:
    store = convert_sources([memory_source(np.full((80, 5), 0.5))], tmp_path / "x.zarr")
    rewrite(schema.VARIANT_DOSAGE_SQUARES, one_more)(store.path)
    assert [each.file for each in verify(store.path).damages] == [schema.VARIANT_DOSAGE_SQUARES]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such store"):
        verify(tmp_path / "x.zarr")
    with pytest.raises(StoreFormatError, match="is not a store"):
        verify(tmp_path)
