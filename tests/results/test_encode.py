"""Parts of many traits: to the byte what each would be alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from biolmm import atomic
from biolmm.errors import OutputError
from biolmm.results import encode
from biolmm.results.associations import read_associations, write_part, write_parts

Columns = dict[str, NDArray[Any]]
STATISTICS = ("beta", "standard_error", "effect_allele_frequency", "neg_log_10_p_value", "chisq")


def labels(n: int) -> Columns:
    return {
        "base_pair_location": np.arange(1, n + 1) * 7,
        "effect_allele": np.array(["A", "GT"] * n, dtype=object)[:n],
        "other_allele": np.array(["C"] * n, dtype=object),
        "rsid": np.array([f"rs{i}" for i in range(n)], dtype=object),
    }


def numbers(n: int, seed: int, absent: list[int] | None = None, observed: int = 90) -> Columns:
    rng = np.random.default_rng(seed)
    found: Columns = {name: rng.standard_normal(n) for name in STATISTICS}
    for name in STATISTICS[:2]:
        found[name][absent or []] = np.nan
    return {**found, "n": np.full(n, observed, np.int32), "exact": np.zeros(n, dtype=bool)}


def both(folder: Path, common: Columns, traits: Mapping[str, Columns]) -> tuple[list[Path], list[Path]]:
    """Write the traits together, and one by one."""
    alone = [write_part(folder / "alone", name, "7", 3, {**common, **columns}) for name, columns in traits.items()]
    return write_parts(folder / "together", "7", 3, common, traits), alone


@pytest.mark.parametrize("n", [1, 5, 25_000])
def test_files_are_those_of_the_traits_alone(tmp_path: Path, n: int) -> None:
    """Alike, lacking other statistics, of other people: the order of traits is kept whatever goes with what."""
    traits = {
        "a": numbers(n, 1),
        "lacks": numbers(n, 2, [0]),
        "b": numbers(n, 3),
        "fewer": numbers(n, 4, observed=80),
        "lacks too": numbers(n, 5, [0]),
        "nothing": numbers(n, 6, list(range(n))),
        "nothing too": numbers(n, 7, list(range(n))),
    }
    together, alone = both(tmp_path, labels(n), traits)
    assert [path.relative_to(tmp_path / "together") for path in together] == [
        path.relative_to(tmp_path / "alone") for path in alone
    ]
    for path, other in zip(together, alone, strict=True):
        assert path.read_bytes() == other.read_bytes()
    assert not list(tmp_path.rglob(".*"))


def test_strings_are_encoded_once_for_traits_that_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    encode_one = encode.encode
    monkeypatch.setattr(encode, "encode", lambda table: done.append(0) or encode_one(table))
    write_parts(tmp_path, "7", 0, labels(9), {f"t{i}": numbers(9, i, [3] if i == 4 else None) for i in range(8)})
    assert len(done) == 2


def test_numbers_that_are_not_where_they_should_be_are_encoded_as_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that lays files out otherwise makes this slower, not wrong."""
    options = encode.write_options
    monkeypatch.setattr(encode, "write_options", lambda schema: {**options(schema), "compression": "zstd"})
    traits = {f"t{i}": numbers(50, i, [2]) for i in range(3)}
    write_parts(tmp_path / "associations", "7", 0, labels(50), traits)
    for name, columns in traits.items():
        frame = read_associations(tmp_path, name)
        for statistic in STATISTICS:
            np.testing.assert_array_equal(frame[statistic], columns[statistic])


def test_info_and_columns_of_the_exact_model_are_written(tmp_path: Path) -> None:
    common = {**labels(6), "info": np.linspace(0.3, 1.0, 6)}
    more = {"l_remle": np.arange(6.0), "l_mle": np.arange(6.0)}
    traits = {name: {**numbers(6, seed), **more} for seed, name in enumerate("ab")}
    together, alone = both(tmp_path, common, traits)
    for path, other, columns in zip(together, alone, traits.values(), strict=True):
        assert path.read_bytes() == other.read_bytes()
        table = pq.read_table(path, partitioning=None).to_pandas()
        np.testing.assert_array_equal(table["info"], common["info"])
        np.testing.assert_array_equal(table["beta"], columns["beta"])
        np.testing.assert_array_equal(table["l_mle"], more["l_mle"])


def test_a_disk_that_is_full_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    with pytest.raises(OutputError, match=r"trait=t2.*No space left on device"):
        write_parts(tmp_path, "7", 0, labels(4), {f"t{i}": numbers(4, i) for i in range(5)})
    assert sorted(path.parent.parent.name for path in tmp_path.rglob("*.*")) == ["trait=t0", "trait=t1"]


def test_columns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    lacking = {name: values for name, values in numbers(3, 0).items() if name != "beta"}
    with pytest.raises(ValueError, match=r"missing columns \['beta'\]"):
        write_parts(tmp_path, "7", 0, labels(3), {"t": lacking})
    with pytest.raises(ValueError, match=r"unknown columns \['pvalue'\]"):
        write_parts(tmp_path, "7", 0, labels(3), {"t": {**numbers(3, 0), "pvalue": np.ones(3)}})
    assert write_parts(tmp_path, "7", 0, labels(3), {}) == []
