from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.errors import InputFileError
from biolmm.results import record as records
from biolmm.results.record import RunRecord, fingerprint_file, machine_description, read_record
from biolmm.results.tables import TABLES, read_result_table, write_result_table

TRAIT_NAMES = ["NA", "a\tb", 'quo"te', "<i>&"]


def h2_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"trait": TRAIT_NAMES, "n": [1, 2, 3, 10**9]})
    for column in ("h2", "h2_se", "h2_mc_se", "sigma2_g", "sigma2_e", "lrt_p"):
        frame[column] = rng.normal(size=4) * 10.0 ** rng.integers(-300, 10, 4)
    frame.loc[1, "h2_mc_se"] = np.nan
    return frame


def test_tables_come_back_to_the_last_bit(tmp_path: Path) -> None:
    frame = h2_table()
    path = write_result_table(tmp_path, "h2", frame)
    assert path.read_text().splitlines()[0] == "trait\tn\th2\th2_se\th2_mc_se\tsigma2_g\tsigma2_e\tlrt_p"
    back = read_result_table(tmp_path, "h2")
    assert back is not None
    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_dtype=False)
    assert back["n"].dtype == np.int64


@pytest.mark.parametrize("name", sorted(TABLES))
def test_an_empty_table_keeps_its_header(tmp_path: Path, name: str) -> None:
    write_result_table(tmp_path, name, pd.DataFrame(columns=list(TABLES[name])))
    back = read_result_table(tmp_path, name)
    assert back is not None
    assert list(back.columns) == list(TABLES[name])
    assert len(back) == 0


def test_components_follow_the_sample(tmp_path: Path) -> None:
    write_result_table(
        tmp_path, "pcs", pd.DataFrame({"sample_id": ["001", "NA"], "PC1": [0.1, 0.2], "PC2": [1 / 3, 1.0]})
    )
    back = read_result_table(tmp_path, "pcs")
    assert back is not None
    assert back["sample_id"].tolist() == ["001", "NA"]
    assert back["PC2"].tolist() == [1 / 3, 1.0]


def test_booleans_come_back(tmp_path: Path) -> None:
    row = {"trait": "t", "contig": "X", "iterations": 3, "relative_residual": 1e-3, "converged": [True, False]}
    write_result_table(tmp_path, "loco", pd.DataFrame(row))
    back = read_result_table(tmp_path, "loco")
    assert back is not None
    assert back["converged"].tolist() == [True, False]
    path = tmp_path / "loco.tsv"
    path.write_text(path.read_text().replace("False", "maybe"))
    with pytest.raises(InputFileError, match="converged must hold True or False"):
        read_result_table(tmp_path, "loco")


def test_a_table_that_was_not_written_is_none_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    assert read_result_table(tmp_path, "loco") is None
    (tmp_path / "h2.tsv").write_text("trait\tn\nx\t1\n")
    with pytest.raises(InputFileError, match=r"h2.tsv lacks the columns h2, h2_se"):
        read_result_table(tmp_path, "h2")
    write_result_table(tmp_path, "eigen", pd.DataFrame({"component": [1], "eigenvalue": ["abc"], "residual": [0.1]}))
    with pytest.raises(InputFileError, match=r"eigen.tsv cannot be read"):
        read_result_table(tmp_path, "eigen")


def test_columns_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown columns \['extra'\]"):
        write_result_table(tmp_path, "h2", h2_table().assign(extra=1))


def test_record_has_the_agreed_keys_and_is_strict_json(tmp_path: Path) -> None:
    (tmp_path / "traits.tsv").write_text("IID\ty\n")
    record = RunRecord.start("biolmm gwas", seed=3, parameters={"tolerance": np.float64(5e-3), "path": tmp_path})
    record.add_input("traits", tmp_path / "traits.tsv")
    record.add_dropped("samples", "not in the genotypes", (f"S{i}" for i in range(9)))
    record.add_dropped("samples", "nothing to say", [])
    record.add_stage("fit", 1.5, 2.5, passes=7, peak_bytes=np.int64(10))
    record.traits["t"] = {"n": 5, "solver": "exact", "n_probes": np.nan, "lanczos_steps": None}
    record.warn("careful")
    record.warn("careful")
    record.write(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "run.json").read_text(), parse_constant=refuse)
    assert list(data) == [
        "biolmm_version", "command", "started", "finished", "seed", "parameters", "inputs", "machine", "counts",
        "dropped", "traits", "stages", "warnings",
    ]  # fmt: skip
    assert data == read_record(tmp_path)
    assert data["dropped"] == [
        {"what": "samples", "why": "not in the genotypes", "n": 9, "examples": ["S0", "S1", "S2", "S3", "S4"]}
    ]
    assert data["traits"]["t"]["n_probes"] is None
    assert data["warnings"] == ["careful"]
    assert data["inputs"]["traits"]["n_bytes"] == 6
    assert set(data["stages"][0]) == {
        "name", "wall_seconds", "cpu_seconds", "passes", "read_bytes", "flop", "peak_bytes", "resumed",
    }  # fmt: skip


def test_machine_says_what_it_is() -> None:
    machine = machine_description()
    assert {"cpu", "threads", "blas", "memory_bytes", "python", "packages"} <= set(machine)
    assert machine["packages"]["numpy"] == np.__version__
    assert machine["threads"] >= 1


def test_missing_or_broken_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"run.json is missing"):
        read_record(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputFileError, match=r"run.json cannot be read"):
        read_record(tmp_path)


def test_fingerprint_is_of_the_content_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 100)
    (tmp_path / "c").write_bytes(b"x" * 99 + b"y")
    assert fingerprint_file(tmp_path / "a") == fingerprint_file(tmp_path / "b") != fingerprint_file(tmp_path / "c")
    with pytest.raises(InputFileError, match="cannot be read: No such file"):
        fingerprint_file(tmp_path / "nothing")


def test_fingerprint_of_a_large_file_samples_head_tail_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "WHOLE_FILE_BYTES", 1_000)
    monkeypatch.setattr(records, "_BLOCK_BYTES", 10)
    content = bytearray(range(256)) * 10
    path = tmp_path / "large"
    seen = set()
    for change in (None, 0, len(content) - 1):
        changed = content.copy()
        if change is not None:
            changed[change] ^= 1
        path.write_bytes(changed)
        seen.add(fingerprint_file(path))
    path.write_bytes(content[:-1])
    seen.add(fingerprint_file(path))
    assert len(seen) == 4
