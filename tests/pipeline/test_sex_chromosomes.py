"""X, Y and mitochondria: PLINK 2's plain regression as the reference, and the frequencies by counting alleles."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.files.bed import write_bed
from biolmm.files.encoding import Encoding, rows_from_calls
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from running import run_command, statistics, succeed

N = 300
CONTIGS = ("1", "X", "Y", "MT")


@dataclass(frozen=True)
class People:
    """A cohort with all kinds of contigs: `x.bed`, `traits.tsv`, `covariates.tsv`."""

    folder: Path
    calls: NDArray[np.int8]
    contig: NDArray[np.int32]
    position: NDArray[np.int64]
    sex: NDArray[np.int8]

    def linear(self, out: Path, *options: str) -> pd.DataFrame:
        """Run the plain regression; return its table by variant id."""
        succeed(
            "gwas", "--genotypes", self.folder / "x.bed", "--traits", self.folder / "traits.tsv", "--covariates",
            self.folder / "covariates.tsv", "--method", "linear-only", "--out", out, *options,
        )  # fmt: skip
        return statistics(out, "y").set_index("rsid")


def draw_calls(rng: np.random.Generator, male: NDArray[np.bool_]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Draw autosomes, X inside and outside PAR1 (some males heterozygous, as arrays have it), Y and MT; their contigs."""
    calls, contigs = [], []
    for contig, n in ((0, 40), (1, 5), (1, 15), (2, 6), (3, 6)):
        for _ in range(n):
            p = rng.uniform(0.1, 0.9)
            g = rng.binomial(2, p, N)
            if contig == 1 and len(calls) >= 45:
                g[male] = 2 * rng.binomial(1, p, male.sum())
                g[np.flatnonzero(male)[:3]] = 1
            if contig in (2, 3):
                g = 2 * rng.binomial(1, p, N)
            if contig == 2:
                g[~male] = -9
            calls.append(g)
            contigs.append(contig)
    return np.array(calls, np.int8), np.array(contigs, np.int32)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    """Give 300 people, five of unknown sex."""
    folder = tmp_path_factory.mktemp("sexes")
    rng = np.random.default_rng(11)
    sex = rng.integers(1, 3, N).astype(np.int8)
    sex[:5] = 0
    calls, contig = draw_calls(rng, sex == 1)
    position = np.concatenate([np.arange(40) * 1000 + 1, np.arange(5) * 1000 + 100_000,
                               np.arange(15) * 1000 + 5_000_000, np.arange(6) * 1000 + 5_000_000, np.arange(6) + 1])  # fmt: skip
    ids = np.array([f"S{i}" for i in range(N)])
    names = as_strings([f"v{j}" for j in range(len(calls))])
    alleles = [as_strings([allele] * len(calls)) for allele in "AG"]
    variants = VariantTable(contig, CONTIGS, position.astype(np.int64), names, *alleles)
    write_bed(folder / "x", SampleTable(ids, ids, sex), variants, [rows_from_calls(calls, Encoding.CALLS)])
    y = rng.standard_normal(N) + 0.4 * calls[48] + 0.5 * (sex == 1)
    table = pd.DataFrame({"FID": ids, "IID": ids, "y": y})
    table.to_csv(folder / "traits.tsv", sep="\t", index=False)
    covariates = {"FID": ids, "IID": ids, "male": (sex == 1).astype(float), "age": rng.standard_normal(N)}
    pd.DataFrame(covariates).to_csv(folder / "covariates.tsv", sep="\t", index=False)
    return People(folder, calls, contig, position.astype(np.int64), sex)


@pytest.mark.parametrize(("male_x", "model"), [("0/2", "2"), ("0/1", "1")])
def test_effects_are_those_of_plink2(people: People, plink2: str, tmp_path: Path, male_x: str, model: str) -> None:
    """X in both codings, autosomes and MT with everybody; every variant to the digits that PLINK prints."""
    found = people.linear(tmp_path / "out", "--male-x", male_x)
    command = [plink2, "--bfile", people.folder / "x", "--pheno", people.folder / "traits.tsv", "--covar",
               people.folder / "covariates.tsv", "--glm", "hide-covar", "no-x-sex", "omit-ref", "--xchr-model", model,
               "--chr", "1,X,MT", "--out", tmp_path / "p"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    truth = pd.read_csv(tmp_path / "p.y.glm.linear", sep="\t").set_index("ID")
    assert len(truth) == 66
    mine = found.loc[truth.index]
    np.testing.assert_allclose(mine["beta"], truth["BETA"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(mine["standard_error"], truth["SE"], rtol=2e-5)
    np.testing.assert_allclose(mine["neg_log_10_p_value"], -np.log10(truth["P"]), rtol=1e-4, atol=2e-5)


def test_y_is_tested_among_males(people: People, plink2: str, tmp_path: Path) -> None:
    """Analysed alone, males give PLINK's numbers; among everybody, n says how many males there are."""
    males = tmp_path / "males.txt"
    males.write_text("".join(f"S{i}\n" for i in np.flatnonzero(people.sex == 1)))
    found = people.linear(tmp_path / "out", "--keep", str(males), "--covariate", "age")
    command = [plink2, "--bfile", people.folder / "x", "--pheno", people.folder / "traits.tsv", "--covar",
               people.folder / "covariates.tsv", "--covar-name", "age", "--glm", "hide-covar", "omit-ref", "--chr", "Y",
               "--out", tmp_path / "p"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    truth = pd.read_csv(tmp_path / "p.y.glm.linear", sep="\t").set_index("ID")
    np.testing.assert_allclose(found.loc[truth.index, "beta"], truth["BETA"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.loc[truth.index, "standard_error"], truth["SE"], rtol=2e-5)
    everybody = people.linear(tmp_path / "all")
    assert set(everybody.loc[truth.index, "n"]) == {int((people.sex == 1).sum())}
    assert set(everybody.loc[["v0", "v50"], "n"]) == {N}


def test_frequencies_count_alleles(people: People, tmp_path: Path) -> None:
    found = people.linear(tmp_path / "out", "--build", "GRCh38")
    male = people.sex == 1
    inside_par = np.arange(40, 45)
    for j, calls in enumerate(people.calls):
        copies = np.full(N, 2)
        if people.contig[j] == 1 and j not in inside_par:
            copies[male] = 1
        if people.contig[j] in (2, 3):
            copies[:] = 1
        called = calls >= 0
        expected = (calls * copies / 2)[called].sum() / copies[called].sum()
        assert found.loc[f"v{j}", "effect_allele_frequency"] == pytest.approx(expected, abs=1e-12)


def test_par_is_diploid_where_the_build_is_known(people: People, tmp_path: Path) -> None:
    """In the coding 0/1 the pseudo-autosomal variants change with the build, and only they."""
    without = people.linear(tmp_path / "one", "--male-x", "0/1")
    known = people.linear(tmp_path / "two", "--male-x", "0/1", "--build", "hg38")
    differ = ~np.isclose(without["beta"], known.loc[without.index, "beta"], rtol=1e-6)
    assert set(without.index[differ]) == {f"v{j}" for j in range(40, 45)}


def test_the_mixed_model_is_made_of_autosomes(people: People, tmp_path: Path) -> None:
    common = ("--genotypes", people.folder / "x.bed", "--traits", people.folder / "traits.tsv")
    succeed("gwas", *common, "--out", tmp_path / "all")
    only = tmp_path / "autosomes.txt"
    only.write_text("".join(f"v{j}\n" for j in range(40)))
    succeed("gwas", *common, "--model-extract", only, "--out", tmp_path / "one")
    mine, theirs = (pd.read_csv(tmp_path / name / "h2.tsv", sep="\t") for name in ("all", "one"))
    pd.testing.assert_frame_equal(mine, theirs)
    assert (tmp_path / "all" / "run.json").read_text().count("not on autosomes") == 1
    table = statistics(tmp_path / "all", "y")
    assert set(table["chromosome"]) == set(CONTIGS)
    assert np.isfinite(table["chisq"]).all()


def test_a_coding_that_does_not_exist_is_refused(people: People, tmp_path: Path) -> None:
    done = run_command("gwas", "--genotypes", people.folder / "x.bed", "--traits", people.folder / "traits.tsv",
                       "--male-x", "0/3", "--out", tmp_path / "x")  # fmt: skip
    assert done.code == 2
    assert "0/3" in done.err
