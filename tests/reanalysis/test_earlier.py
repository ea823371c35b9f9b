"""A store as it was before variants were appended to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.errors import VariantMismatchError
from biolmm.store.append import append
from biolmm.store.convert import convert
from biolmm.store.data import GenotypeData
from biolmm.store.earlier import as_of, variants_at
from biolmm.store.read import GenotypeStore

WritePlink = Callable[..., Path]


def calls(n_variants: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 4, (n_variants, 9), dtype=np.uint8)


def content(data: GenotypeData) -> dict[str, Any]:
    """Return everything that the statistics see."""
    n_chunks = -(-data.n_variants // data.chunk_variants)
    rows = [data.read_rows(chunk) for chunk in range(n_chunks)]
    assert [data.chunk_range(chunk) for chunk in range(n_chunks)][-1][1] == data.n_variants
    names = ("sample_id", "family_id", "sex", "variant_contig", "variant_position", "variant_id", "ref", "alt")
    tables = {name: np.asarray(getattr(data, name)).tolist() for name in names}
    plain = {
        name: getattr(data, name)
        for name in ("fingerprint", "n_samples", "n_variants", "contig_id", "encoding", "path")
    }
    return {**tables, **plain, "rows": np.concatenate(rows).tolist(), "quality": data.read_quality(np.arange(2))}


def test_it_is_the_store_that_was_there(write_plink: WritePlink, tmp_path: Path) -> None:
    """Also of whole chunks, of a part of one, and before more than one addition."""
    path = tmp_path / "x.zarr"
    convert([write_plink(calls(150, 1), name="a")], path, chunk_variants=64)
    states = [GenotypeStore.open(path)]
    before = [content(states[0])]
    for step, (n_variants, contig) in enumerate(((42, "2"), (64, "3"), (5, "4"))):
        more = write_plink(calls(n_variants, 2 + step), name=f"b{step}", contigs=[contig] * n_variants)
        append(path, [more])
        states.append(GenotypeStore.open(path))
        before.append(content(states[-1]))
    now = states[-1]
    assert [variants_at(now, state.fingerprint) for state in states] == [150, 192, 256, 261]
    for state, expected in zip(states, before, strict=True):
        assert content(pickle.loads(pickle.dumps(as_of(now, state.fingerprint)))) == expected
    assert as_of(now, now.fingerprint) is now


def test_another_store_is_refused(write_plink: WritePlink, tmp_path: Path) -> None:
    store = convert([write_plink(calls(150, 1), name="a")], tmp_path / "x.zarr")
    other = convert([write_plink(calls(150, 2), name="b")], tmp_path / "y.zarr")
    assert variants_at(store, other.fingerprint) is None
    with pytest.raises(VariantMismatchError, match="nor was it made of that one"):
        as_of(store, other.fingerprint)
