"""What the command line says to malformed input: one line, exit code 2, and nothing in the way of a corrected run.

`docs/errors.md` is made of this table: `python tests/bad_input/test_command_line.py` (with `tests` on the path) writes
it again, and a test holds it to the table.
"""

# ruff: noqa: E501
from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from running import Outcome, run_command, simulate, succeed

N_SAMPLES, N_VARIANTS = 60, 192
DOC = Path(__file__).parents[2] / "docs" / "errors.md"
CHUNK = "c.zarr/call_alt_count/c/1/0"

Spoil = Callable[[Path], object]


def put(name: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def unlink(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def head(content: bytes) -> Spoil:
    return lambda folder: (folder / "c.bed").write_bytes(content + (folder / "c.bed").read_bytes()[len(content) :])


def drop_lines(name: str, n_lines: int) -> Spoil:
    def spoil(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:-n_lines]))

    return spoil


def truncate(name: str, n_bytes: int) -> Spoil:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - n_bytes)


def longer_bed(folder: Path) -> None:
    (folder / "c.bed").write_bytes((folder / "c.bed").read_bytes() + b"x")


def another_cohort(folder: Path) -> None:
    simulate(folder, "--seed", "4", samples=9, variants=64, name="e")


def no_store(folder: Path) -> None:
    shutil.rmtree(folder / "c.zarr")


def every_variant(folder: Path) -> None:
    ids = [line.split()[1] for line in (folder / "c.bim").read_text().splitlines()]
    (folder / "list.txt").write_text("\n".join(ids))


def traits_as_covariates(folder: Path) -> None:
    shutil.copy(folder / "c.traits.tsv", folder / "c.covariates.tsv")


def repeat_first_sample(folder: Path) -> None:
    lines = (folder / "c.fam").read_text().splitlines(keepends=True)
    (folder / "c.fam").write_text("".join([*lines[:-1], lines[0]]))


def strangers(folder: Path) -> None:
    """Write a second file set about other people."""
    for suffix in ("bed", "bim", "fam"):
        shutil.copy(folder / f"c.{suffix}", folder / f"d.{suffix}")
    (folder / "d.fam").write_text((folder / "d.fam").read_text().replace("S0", "T0"))


def traits(**columns: Any) -> Spoil:
    """Write other traits for the same samples."""

    def spoil(folder: Path) -> None:
        table = pd.read_csv(folder / "c.traits.tsv", sep="\t")[["FID", "IID"]].assign(**columns)
        table.to_csv(folder / "c.traits.tsv", sep="\t", index=False, na_rep="NA")

    return spoil


def covariates(**columns: Any) -> Spoil:
    """Write other covariates for the same samples."""

    def spoil(folder: Path) -> None:
        table = pd.read_csv(folder / "c.covariates.tsv", sep="\t")[["FID", "IID"]].assign(**columns)
        table.to_csv(folder / "c.covariates.tsv", sep="\t", index=False, na_rep="NA")

    return spoil


def one_value(value: Any) -> list[Any]:
    return [*np.linspace(-1, 1, N_SAMPLES - 1).tolist(), value]


def rename_samples(folder: Path) -> None:
    table = pd.read_csv(folder / "c.traits.tsv", sep="\t")
    table["IID"] = "X" + table["IID"]
    table.to_csv(folder / "c.traits.tsv", sep="\t", index=False, na_rep="NA")


def flip_byte(folder: Path) -> None:
    data = bytearray((folder / CHUNK).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / CHUNK).write_bytes(data)


def store_attribute(name: str, value: object) -> Spoil:
    def spoil(folder: Path) -> None:
        metadata = json.loads((folder / "c.zarr" / "zarr.json").read_text())
        metadata["attributes"][name] = value
        (folder / "c.zarr" / "zarr.json").write_text(json.dumps(metadata))

    return spoil


def half_finished(folder: Path) -> None:
    (folder / "c.zarr").rename(folder / "c.zarr.partial")


def out_is_a_file(folder: Path) -> None:
    (folder / "out").write_text("")


def other_results(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "analysis.json").write_text('{"identity": "of something else"}')


def fewer_samples(folder: Path) -> None:
    simulate(folder, "--seed", "2", samples=N_SAMPLES - 10, variants=64, name="fewer")


def refitted_store(folder: Path) -> None:
    """Put another store where the model's store was."""
    shutil.rmtree(folder / "c.zarr")
    for path in folder.glob("c.*"):
        path.unlink()
    simulate(folder, "--seed", "3", samples=N_SAMPLES, variants=N_VARIANTS, name="c")


def no_left_out(folder: Path) -> None:
    shutil.rmtree(folder / "fitted")
    fit = [word.format(d=folder) for word in ("fit", *GWAS[1:-1])]
    succeed(*fit, folder / "fitted", "--no-loco")


def damaged_model(folder: Path) -> None:
    (folder / "fitted" / "model" / "null.zarr" / "h2" / "c" / "0").write_bytes(b"x")


GWAS = ("gwas", "--genotypes", "{d}/c.zarr", "--traits", "{d}/c.traits.tsv", "--out", "{d}/out")
GWAS_BED = ("gwas", "--genotypes", "{d}/c.bed", "--traits", "{d}/c.traits.tsv", "--out", "{d}/out")
WITH_COVARIATES = (*GWAS, "--covariates", "{d}/c.covariates.tsv")
SCAN = ("scan", "--genotypes", "{d}/c.zarr", "--model", "{d}/fitted", "--out", "{d}/out")


def nothing(folder: Path) -> None:
    """Leave the files as they are: the options are what is wrong."""


@dataclass(frozen=True)
class Case:
    """A mistake: how to make it, the command that meets it, and how the answer begins; `{d}` is the folder."""

    name: str
    spoil: Spoil
    command: tuple[str, ...]
    message: str
    fresh: bool = False
    """Run in a process of its own, which has not read the genotypes before."""
    late: bool = False
    """Found only while computing: the folder belongs to this analysis already, and the same command continues."""


# fmt: off
SECTIONS: dict[str, list[Case]] = {
    "PLINK files": [
        Case("no such file", unlink("c.bed"), GWAS_BED, "InputFileError: {d}/c.bed: no such file."),
        Case("truncated .bed", truncate("c.bed", 7), GWAS_BED, "InputFileError: {d}/c.bed is truncated: 2,876 bytes where 60 samples × 192 variants take 2,883; the data end at variant 192 (rs1000192). Copy the file again, or give the c.fam and c.bim that belong to it."),
        Case(".bed with bytes too many", longer_bed, GWAS_BED, "InputFileError: {d}/c.bed is too long: 2,884 bytes where 60 samples × 192 variants take 2,883. Give the c.fam and c.bim that belong to it."),
        Case("empty .bed", put("c.bed", b""), GWAS_BED, "InputFileError: {d}/c.bed is empty."),
        Case("not a .bed (wrong magic number)", head(b"PK\x03"), GWAS_BED, "InputFileError: {d}/c.bed is not a PLINK .bed: it begins with 50 4b 03 instead of 6c 1b 01."),
        Case(".bed in the order of samples", head(b"\x6c\x1b\x00"), GWAS_BED, "InputFileError: {d}/c.bed is stored sample by sample (mode 00); biolmm reads variant by variant (mode 01). Rewrite it: plink --bfile {d}/c --make-bed --out {d}/c_by_variant"),
        Case(".bim with a variant less than .bed", drop_lines("c.bim", 1), GWAS_BED, "InputFileError: {d}/c.bed is too long: 2,883 bytes where 60 samples × 191 variants take 2,868. Give the c.fam and c.bim that belong to it."),
        Case(".fam with a sample less than .bed", drop_lines("c.fam", 1), GWAS_BED, "InputFileError: {d}/c.bed holds calls of more than the 59 samples of c.fam: lines are missing there. Give the .fam that belongs to it."),
        Case(".fam with four samples less than .bed", drop_lines("c.fam", 4), GWAS_BED, "InputFileError: {d}/c.bed is too long: 2,883 bytes where 56 samples × 192 variants take 2,691. Give the c.fam and c.bim that belong to it."),
        Case("a trait found wrong before the conversion", nothing, (*GWAS_BED, "--trait", "trait3"), "TraitError: No trait 'trait3' (did you mean 'trait2'?) in '{d}/c.traits.tsv': it has trait1, trait2."),
        Case("no .bim beside .bed", unlink("c.bim"), GWAS_BED, "InputFileError: {d}/c.bim is missing: c.bed is read with the .bim and .fam of the same name."),
        Case("no .fam beside .bed", unlink("c.fam"), GWAS_BED, "InputFileError: {d}/c.fam is missing: c.bed is read with the .bim and .fam of the same name."),
        Case("empty .fam", put("c.fam", ""), GWAS_BED, "InputFileError: {d}/c.fam is empty."),
        Case("malformed .bim", put("c.bim", "1 rs1 0 x A G\n"), GWAS_BED, "InputFileError: {d}/c.bim, line 1: position 'x' (column 4) is not an integer."),
        Case("sample id twice in .fam", repeat_first_sample, GWAS_BED, "InputFileError: {d}/c.fam names 1 sample ids (column 2) more than once: S000001. Samples are matched by this id alone: make it unique, for example with plink2 --update-ids."),
        Case("file sets without a common sample", strangers, (*GWAS_BED, "--genotypes", "{d}/d.bed"), "SampleMismatchError: "),
        Case("the same file twice", nothing, (*GWAS_BED, "--genotypes", "{d}/c.bed"), "ParameterError: {d}/c.bed was given twice."),
        Case("a store and a .bed file", nothing, (*GWAS_BED, "--genotypes", "{d}/c.zarr"), "ParameterError: '{d}/c.zarr' is a store: give one store, or genotype files, not both."),
        Case("neither .bed nor store", nothing, ("gwas", "--genotypes", "{d}/c.bim", *GWAS[3:]), "InputFileError: {d}/c.bim is not a genotype file that biolmm knows: it reads .bed, .bgen, .pgen, .vcf, .vcf.gz, .vcf.bgz, .bcf, and VCF Zarr."),
        Case("converting a store", nothing, ("convert", "{d}/c.zarr", "{d}/new.zarr"), "ParameterError: {d}/c.zarr is a store already: give genotype files."),
        Case("converting onto another store", another_cohort, ("convert", "{d}/e.bed", "{d}/c.zarr"), "OutputError: {d}/c.zarr exists already. Remove it, choose another name, or ask to overwrite it."),
    ],
    "Stores": [
        Case("no such store", no_store, GWAS, "InputFileError: {d}/c.zarr: no such store."),
        Case("a folder that is no store", unlink("c.zarr/zarr.json"), GWAS, "StoreFormatError: {d}/c.zarr is not a store: it has no zarr.json. Make one with biolmm convert."),
        Case("another version of the format", store_attribute("biolmm_format", 99), GWAS, "StoreFormatError: {d}/c.zarr has store format 99; this biolmm reads format 2. Use the biolmm that wrote it, or convert the genotypes again."),
        Case("an unfinished conversion", half_finished, GWAS, "InputFileError: {d}/c.zarr: no such store (c.zarr.partial is unfinished: run the command that writes it again)."),
        Case("a damaged chunk of genotypes", flip_byte, GWAS, "DamagedStoreError: {d}/c.zarr is damaged: chunk 1 (variants 65 to 128) has CRC-32C ", fresh=True, late=True),
        Case("a lost chunk of genotypes", unlink(CHUNK), GWAS, "DamagedStoreError: {d}/c.zarr is damaged: chunk 1 (variants 65 to 128) is missing. Its file is call_alt_count/c/1/0. Restore it from a backup, or remove the store and write it again.", fresh=True, late=True),
        Case("a lost table", unlink("c.zarr/sample_id/c/0"), GWAS, "DamagedStoreError: {d}/c.zarr is damaged: sample_id/c/0 is missing. Restore it from a backup, or remove the store and write it again."),
    ],
    "Tables of traits and covariates": [
        Case("no such table", unlink("c.traits.tsv"), GWAS, "InputFileError: '{d}/c.traits.tsv' does not exist: check the path."),
        Case("empty table", put("c.traits.tsv", ""), GWAS, "InputFileError: '{d}/c.traits.tsv' is empty: a header and one row a sample are needed."),
        Case("no column of sample ids", put("c.traits.tsv", "person\theight\nS1\t1\n"), GWAS, "InputFileError: '{d}/c.traits.tsv' has no sample id column: its header is person, height (tab-separated). Name it 'IID' or 'sample_id'."),
        Case("sample id twice in a table", put("c.traits.tsv", "IID\ty\nS000001\t1\nS000001\t2\n"), GWAS, "InputFileError: '{d}/c.traits.tsv' repeats 1 of 1 sample ids: S000001. Keep one row a sample (the id is IID alone, whatever FID says)."),
        Case("ids of nobody in the genotypes", rename_samples, GWAS, "SampleMismatchError: None of the 60 sample ids in '{d}/c.traits.tsv' is in the genotypes (60 samples): 'XS000001' there, 'S000001' in the genotypes. Is one of them FID_IID, or another numbering? The IID must be spelled alike in both."),
        Case("text in a trait", traits(trait1=one_value("tall")), GWAS, "TraitError: Trait 'trait1' in '{d}/c.traits.tsv' is not numeric: sample 'S000060' has 'tall' (use numbers, and NA where missing); or choose other traits by name."),
        Case("infinite trait value", traits(trait1=one_value("inf")), GWAS, "TraitError: Infinite values in '{d}/c.traits.tsv': 'trait1' (sample 'S000060' has inf). Write NA where a value is missing."),
        Case("constant trait", traits(trait1=1.5), GWAS, "TraitError: No variation in 'trait1' (60 times 1.5) among the analysed samples ('{d}/c.traits.tsv'): leave it out."),
        Case("trait without any value", traits(trait1="NA"), GWAS, "TraitError: No value for 'trait1' in any of the 60 analysed samples ('{d}/c.traits.tsv'): leave it out."),
        Case("unknown trait", nothing, (*GWAS, "--trait", "trait3"), "TraitError: No trait 'trait3' (did you mean 'trait2'?) in '{d}/c.traits.tsv': it has trait1, trait2."),
        Case("trait named twice", nothing, (*GWAS, "--trait", "trait1", "--trait", "trait1"), "ParameterError: The list of traits names trait1 more than once: name each once."),
        Case("unknown covariate", nothing, (*WITH_COVARIATES, "--covariate", "Age"), "CovariateError: No covariate 'Age' (did you mean 'age'?) in '{d}/c.covariates.tsv': it has age, sex, batch."),
        Case("covariates named without a table", nothing, (*GWAS, "--covariate", "age"), "CovariateError: Covariates age are named but there is no table of covariates."),
        Case("unknown categorical covariate", nothing, (*WITH_COVARIATES, "--categorical", "site"), "CovariateError: No categorical covariate 'site' in '{d}/c.covariates.tsv': it has age, sex, batch."),
        Case("categorical covariate with too many levels", covariates(site=[f"s{i}" for i in range(N_SAMPLES)]), WITH_COVARIATES, "CovariateError: Covariate 'site' in '{d}/c.covariates.tsv' has 60 categories, more than 50: s0, s1, s10, s11, s12 and 55 more. Group them or leave it out (in Python, max_categories can be raised)."),
        Case("covariate without any value", covariates(age="NA"), WITH_COVARIATES, "CovariateError: No value for covariate 'age' in any of the 60 samples ('{d}/c.covariates.tsv'): leave it out."),
        Case("a slip in a numeric covariate", covariates(age=one_value("4o")), WITH_COVARIATES, "CovariateError: Covariate 'age' in '{d}/c.covariates.tsv' is a number for 59 of 60 samples, but sample 'S000060' has '4o'. Mend it (NA where missing), or name it as categorical."),
        Case("fewer samples than covariates", covariates(**{f"x{i}": np.random.default_rng(i).normal(size=N_SAMPLES) for i in range(N_SAMPLES)}), WITH_COVARIATES, "TraitError: Too few samples for the covariates: 'trait1' (60 observed, 60 covariates with the intercept), 'trait2' (58 observed, 58 covariates with the intercept). At least two more samples than covariates are needed: use fewer covariates or leave the trait out."),
        Case("a trait that is also a covariate", traits_as_covariates, WITH_COVARIATES, "TraitError: Nothing is left of 'trait1', 'trait2' after the covariates: is the trait itself among them? Leave out the covariate or the trait."),
    ],
    "Lists of samples and variants": [
        Case("no such list", nothing, (*GWAS, "--keep", "{d}/absent.txt"), "InputFileError: '{d}/absent.txt' does not exist: check the path."),
        Case("empty list", put("list.txt", ""), (*GWAS, "--keep", "{d}/list.txt"), "InputFileError: '{d}/list.txt' lists no samples: it is empty. Give one id a line."),
        Case("--keep with nobody of the genotypes", put("list.txt", "A\nB\n"), (*GWAS, "--keep", "{d}/list.txt"), "SampleMismatchError: None of the 2 sample ids in the keep list is in the genotypes (60 samples): 'A' there, 'S000001' in the genotypes. Is one of them FID_IID, or another numbering? The IID must be spelled alike in both."),
        Case("--remove of everybody", nothing, (*GWAS, "--remove", "{d}/c.fam"), "SampleMismatchError: No samples are left of 60 in the genotypes: 60 in the remove list. Check that the lists and tables are about the same samples."),
        Case("--extract with no variant of the genotypes", put("list.txt", "snp_1\n"), (*GWAS, "--extract", "{d}/list.txt"), "VariantMismatchError: None of the 1 variants in '{d}/list.txt' is in the genotypes: it lists snp_1, the genotypes have rs1000001, rs1000002, rs1000003. Check the spelling of the ids."),
        Case("--exclude of every variant", every_variant, (*GWAS, "--exclude", "{d}/list.txt"), "VariantMismatchError: No variant of '{d}/c.zarr' is left for the scan: check --extract, --exclude, --region, --exclude-region."),
        Case("a .bim as list of variants", nothing, (*GWAS, "--model-extract", "{d}/c.bim"), "InputFileError: '{d}/c.bim', line 1: 6 columns and no header naming one of them 'ID', 'SNP' or 'rsid'. Give one variant id a line."),
    ],
    "Options": [
        Case("a required option left out", nothing, ("gwas", "--genotypes", "{d}/c.zarr"), "UsageError: Missing option '--traits'."),
        Case("unknown option", nothing, (*GWAS, "--trait-name", "y"), "UsageError: No such option"),
        Case("unknown command", nothing, ("gwass",), "UsageError: No such command 'gwass'."),
        Case("an option without its value", nothing, (*GWAS, "--seed"), "UsageError: Option '--seed' requires an argument."),
        Case("text for a number", nothing, (*GWAS, "--threads", "many"), "UsageError: Invalid value for '--threads': 'many' is not a valid integer."),
        Case("unknown method", nothing, (*GWAS, "--method", "magic"), "UsageError: Invalid value for '--method': 'magic' is not one of 'mixed', 'linear', 'linear-only', 'exact', 'exact-p3d'."),
        Case("no threads", nothing, (*GWAS, "--threads", "0"), "ParameterError: threads is 0 but must be at least 1."),
        Case("negative seed", nothing, (*GWAS, "--seed", "-1"), "UsageError: Invalid value for '--seed': -1 is not in the range x>=0."),
        Case("memory that is no size", nothing, (*GWAS, "--memory", "lots"), "ParameterError: 'lots' is not a size: give a number with a unit, for example 4GiB or 512MB."),
        Case("too little memory", nothing, (*GWAS, "--memory", "100MB"), "MemoryBudgetError: exact fit would use "),
        Case("too little memory to convert", nothing, ("convert", "{d}/c.bed", "{d}/new.zarr", "--memory", "1kB"), "MemoryBudgetError: convert would use "),
        Case("alpha out of range", nothing, (*GWAS, "--alpha", "7"), "ParameterError: alpha is 7.0 but must be between -2 and 1 (-1 is usual)."),
        Case("heritability above 1", nothing, (*GWAS, "--fixed-h2", "1.5"), "ParameterError: h2 is fixed at 1.5 but must be at least 0 and below 1."),
        Case("tolerance of 0", nothing, (*GWAS, "--loco-tolerance", "0"), "ParameterError: loco_tolerance is 0.0 but must be between 1e-7 and 0.1."),
        Case("no eigenpairs", nothing, (*GWAS, "--eigenpairs", "0"), "ParameterError: 0 eigenpairs were asked for but must be between 1 and 500."),
        Case("too many principal components", nothing, (*GWAS, "--pcs", "1000"), "ParameterError: 1000 principal components were asked for but must be between 0 and 100."),
        Case("more components than samples", nothing, (*GWAS, "--pcs", "70"), "ParameterError: 70 principal components were asked for, but 60 samples with 0 covariates allow at most 58: lower --pcs."),
        Case("a model to start from that is none", nothing, (*GWAS, "--known-model", "{d}/c.zarr"), "DamagedStoreError: '{d}/c.zarr' holds no fitted model (null.zarr is not there): run `biolmm fit` first.", late=True),
        Case("chunks of 100 variants", nothing, ("convert", "{d}/c.bed", "{d}/new.zarr", "--chunk-variants", "100"), "ParameterError: 100 variants a chunk: give a positive multiple of 64."),
        Case("a mistake found while planning", nothing, (*GWAS, "--trait", "trait3", "--plan"), "TraitError: No trait 'trait3' (did you mean 'trait2'?) in '{d}/c.traits.tsv': it has trait1, trait2."),
        Case("simulating nobody", nothing, ("simulate", "{d}/s.zarr", "--samples", "0", "--variants", "100"), "ParameterError: n_samples is 0: it must lie in [2, 1.07374e+09]."),
        Case("simulated heritability that is no number", nothing, ("simulate", "{d}/s.zarr", "--samples", "9", "--variants", "64", "--h2", "half"), "ParameterError: --h2 'half' is not a number or a list of numbers such as 0.2,0.5."),
        Case("simulating over existing files", nothing, ("simulate", "{d}/c.zarr", "--samples", "9", "--variants", "64"), "OutputError: {d}/c.zarr, {d}/c.traits.tsv, {d}/c.covariates.tsv, {d}/c.samples.tsv, {d}/c.truth.tsv and 1 more would be overwritten. Remove what is there, or choose another name."),
    ],
    "Results and models": [
        Case("a file where the results should go", out_is_a_file, GWAS, "OutputError: {d}/out cannot be written: File exists. Choose another place, or make this one writable, and run again."),
        Case("results of another analysis", other_results, GWAS, "OtherAnalysisError: '{d}/out' holds the results of another analysis (other inputs or options): choose another --out, or pass --overwrite to replace them."),
        Case("a folder without a model", nothing, (*SCAN[:4], "{d}/c.zarr", *SCAN[5:]), "DamagedStoreError: '{d}/c.zarr' holds no fitted model (null.zarr is not there): run `biolmm fit` first."),
        Case("a damaged model", damaged_model, SCAN, "DamagedStoreError: '{d}/fitted/model/null.zarr/h2/c/0' is missing or has changed since it was written: fit it again (with --overwrite)."),
        Case("left-out predictors of a model without", no_left_out, (*SCAN, "--loco"), "ParameterError: the model in '{d}/fitted' was fitted with --no-loco, so no predictor leaves a contig out: scan with --no-loco, or fit it with --loco."),
        Case("a model whose store was replaced", refitted_store, SCAN, "SampleMismatchError: '{d}/c.zarr' is not the store that the model was fitted on: it has changed since. Put it back, or fit the model again."),
        Case("genotypes that lack samples of the model", fewer_samples, ("scan", "--genotypes", "{d}/fewer.zarr", *SCAN[3:]), "SampleMismatchError: 10 of 60 samples of the model are not in '{d}/fewer.zarr': S000051, S000052, S000053, S000054, S000055 and 5 more. Scan genotypes that hold every sample of the model, or fit again with --keep."),
        Case("no such results", nothing, ("report", "{d}/absent"), "InputFileError: {d}/absent holds no results: is it a directory written by biolmm?"),
        Case("a report of no results", nothing, ("report", "{d}"), "InputFileError: {d} holds no results: is it a directory written by biolmm?"),
    ],
}
# fmt: on

CASES = [case for section in SECTIONS.values() for case in section]


def page() -> str:
    """Write the table as `docs/errors.md` has it."""
    lines = [
        "# What biolmm says when something is wrong",
        "",
        "A mistake in what was asked or given is answered with one line on standard error and exit code 2. The line says",
        "what was found, where, and what to do. Inputs are read and checked before genotypes are converted or fitted, and nothing is",
        "left in `--out` that stands in the way of the corrected command. Exit code 1 is anything else (please report it),",
        "130 an interruption; after both, the same command continues. `biolmm --debug …` shows the traceback.",
        "",
        "This page is generated from the table in `tests/bad_input/test_command_line.py`, which runs every line of it. The",
        "files are called `c.…`; some messages go on.",
    ]
    for title, cases in SECTIONS.items():
        lines += ["", f"## {title}", "", "| What is wrong | What biolmm says |", "|---|---|"]
        lines += [f"| {case.name} | {case.message.replace('{d}/', '').replace('|', chr(92) + '|')} |" for case in cases]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a good cohort, and a model fitted on it."""
    folder = tmp_path_factory.mktemp("good")
    simulate(folder, samples=N_SAMPLES, variants=N_VARIANTS, name="c")
    fit = [word.format(d=folder) for word in ("fit", *GWAS[1:-1])]
    succeed(*fit, folder / "fitted")
    return folder


@pytest.fixture
def good(template: Path, tmp_path: Path) -> Path:
    """Copy the good files to a fresh folder; the model points at the copy of its store."""
    folder = tmp_path / "files"
    shutil.copytree(template, folder)
    model = folder / "fitted" / "model" / "null.zarr" / "zarr.json"
    model.write_text(model.read_text().replace(str(template), str(folder)))
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistakes_are_named_in_one_line(good: Path, case: Case) -> None:
    case.spoil(good)
    run = run_fresh if case.fresh else run_command
    done = run("--quiet", *(word.format(d=good) for word in case.command))
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.startswith(case.message.format(d=good)), done.err
    assert done.err.endswith("\n") and done.err.count("\n") == 1
    assert "Traceback" not in done.err
    if case.spoil is not other_results and not case.late:
        assert not (good / "out" / "analysis.json").exists(), "an analysis that cannot run has claimed the folder"
    assert not (good / "out" / "genotypes.zarr").exists(), "genotypes were converted for an analysis that cannot run"


def run_fresh(*arguments: str) -> Outcome:
    """Run `biolmm ARGUMENTS` in a new process."""
    done = subprocess.run([sys.executable, "-m", "biolmm.cli", *arguments], capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_there_are_many_and_each_has_its_name() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_documentation_is_this_table() -> None:
    assert DOC.read_text(encoding="utf-8") == page(), (
        "run: PYTHONPATH=tests python tests/bad_input/test_command_line.py"
    )


@pytest.mark.parametrize("mistake", ["trait", "covariate", "keep", "memory"])
def test_the_corrected_command_runs_in_the_same_folder(good: Path, mistake: str) -> None:
    command = [word.format(d=good) for word in (*GWAS_BED, "--covariates", "{d}/c.covariates.tsv")]
    wrong = {"trait": "trait9", "covariate": "height", "keep": str(good / "absent"), "memory": "1MB"}[mistake]
    assert run_command(*command, f"--{mistake}", wrong).code == 2
    succeed(*command)
    assert (good / "out" / "report.html").is_file()


def test_other_genotypes_in_the_same_folder_are_refused_or_replaced(good: Path) -> None:
    command = [word.format(d=good) for word in GWAS_BED]
    succeed(*command)
    simulate(good, "--seed", "7", samples=N_SAMPLES, variants=64, name="other")
    other = [word.replace("c.bed", "other.bed") for word in command]
    done = run_command("--quiet", *other)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "exists already" in done.err
    succeed(*other, "--overwrite")
    assert json.loads((good / "out" / "run.json").read_text())["counts"]["variants"]["scanned"] == 64


def test_a_damaged_chunk_stops_the_run_and_the_repaired_store_continues_it(good: Path) -> None:
    command = [word.format(d=good) for word in GWAS]
    intact = (good / CHUNK).read_bytes()
    flip_byte(good)
    assert run_fresh(*command).code == 2
    (good / CHUNK).write_bytes(intact)
    succeed(*command)


@pytest.mark.parametrize("name", ["part-00000.parquet", "h2.tsv", "run.json", "null.zarr", "report.html"])
def test_a_full_disk_is_one_line_and_the_same_command_continues(
    good: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [word.format(d=good) for word in GWAS]
    really = os.replace

    def full(path: str | Path, target: str | Path) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        done = run_command("--quiet", *command)
    assert (done.code, done.err.count("\n")) == (1, 1), done.err  # nobody's mistake: schedulers try again
    assert done.err.startswith("OutputError: ")
    assert f"{name} cannot be written: No space left on device. Free space there" in done.err
    succeed(*command)


def test_a_failure_that_is_not_the_users_is_one_line_with_exit_code_1(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("biolmm.pipeline.steps.fit_null_model", fail)
    command = [word.format(d=good) for word in GWAS]
    done = run_command("--quiet", *command)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("ZeroDivisionError: first line second line (run `biolmm --debug")
    with pytest.raises(ZeroDivisionError):
        run_command("--debug", "--quiet", *command)


if __name__ == "__main__":
    DOC.write_text(page(), encoding="utf-8")
