"""A table of what goes wrong with studies, each with the check that must see it; and clean studies, which must pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.ingest.options import Rules
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.quality.config import QualityConfig
from biolmm.sumstats.quality.run import Quality, measure_quality
from sumstats.quality.studies import Wrong, clean, flip_alleles, make_store, set_p, study, texts, variants

BETA, SE, EAF, P = "BETA", "SE", "EAF", "P"
_SPOILT = 1
"""Number of the study that is spoilt, of four."""


@dataclass(frozen=True)
class Case:
    """One fault: what it does to a table, and the verdict that must name it."""

    name: str
    spoil: Wrong
    key: str
    level: str
    says: str
    rules: Rules = field(default_factory=Rules)
    config: QualityConfig = field(default_factory=QualityConfig)
    trait_type: str | None = None
    others_are_fine: bool = True


TRUST = Rules(palindromic="trust")


def _no_p(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=P)


def swapped_alleles(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return flip_alleles(table)


def some_alleles_swapped(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    wrong = rng.random(len(table)) < 0.15
    return pd.concat([table[~wrong], flip_alleles(table[wrong])]).sort_index()


def sign_turned(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(BETA=-table[BETA])


def frequency_of_other_allele(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(EAF=1 - table[EAF])


def minor_frequency(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(EAF=np.minimum(table[EAF], 1 - table[EAF]))


def shuffled_frequencies(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(EAF=rng.permutation(table[EAF]))


def other_ancestry(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    p = table[EAF].to_numpy()
    logit = np.log(p / (1 - p)) + rng.normal(0, 0.6, len(p))
    shifted = 1 / (1 + np.exp(-logit))
    se = table[SE] * np.sqrt(p * (1 - p) / (shifted * (1 - shifted)))
    return set_p(table.assign(EAF=shifted, BETA=table[BETA] * se / table[SE], SE=se))


def palindromes_on_other_strand(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    palindromic = (table["A1"] + table["A2"]).isin(["AT", "TA", "CG", "GC"])
    return pd.concat([table[~palindromic], flip_alleles(table[palindromic])]).sort_index()


def halved_se(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(SE=table[SE] / 2)


def halved_se_and_p(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(halved_se(table, rng))


def doubled_se(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(table.assign(SE=table[SE] * 2))


def raw_scale(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(BETA=table[BETA] * 6.5, SE=table[SE] * 6.5)


def two_scales(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    factor = np.where(table["CHR"] == 3, 4.0, 1.0)
    return table.assign(BETA=table[BETA] * factor, SE=table[SE] * factor)


def n_ten_times(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(N=table["N"] * 10)


def n_per_allele(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(N=table["N"] * 3)


def random_n(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(N=rng.integers(50, 50_000, len(table)))


def z_as_beta(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(BETA=table[BETA] / table[SE], SE=1.0)


def z_as_beta_with_se(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(BETA=table[BETA] / table[SE])


def se_as_variance(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(SE=table[SE] ** 2)


def se_of_other_rows(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(table.assign(SE=rng.permutation(table[SE])))


def inflated(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(table.assign(BETA=table[BETA] + rng.normal(0, 1.2, len(table)) * table[SE]))


def inflated_rare(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rare = np.minimum(table[EAF], 1 - table[EAF]) < 0.05
    return set_p(table.assign(BETA=table[BETA] * np.where(rare, 1.7, 1.0)))


def inflated_badly_imputed(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    bad = rng.random(len(table)) < 0.3
    info = np.where(bad, 0.45, table["INFO"])
    se = table[SE] * np.sqrt(table["INFO"] / info)
    return set_p(table.assign(INFO=info, SE=se, BETA=table[BETA] / table[SE] * se * np.where(bad, 1.7, 1.0)))


def deflated(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(table.assign(BETA=table[BETA] * 0.6))


def p_controlled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=texts(neg_log10_p(table[BETA] / table[SE] / np.sqrt(1.21))))


def p_winsorised(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=texts(np.minimum(neg_log10_p(table[BETA] / table[SE]), 3.0)))


def p_shuffled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=rng.permutation(table[P]))


def p_one_sided(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=texts(neg_log10_p(table[BETA] / table[SE]) + np.log10(2)))


def z_for_p(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=np.abs(table[BETA] / table[SE]).clip(0, 0.9999))


def p_zero(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(P=np.where(neg_log10_p(table[BETA] / table[SE]) > 5, "0", table[P]))


def truncated_contig(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table[(table["CHR"] != 2) | (table["BP"] < 28_000_000)]


def missing_contig(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table[table["CHR"] != 4]


def cut_file(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.iloc[: int(0.93 * len(table))]


def duplicated_rows(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return pd.concat([table, table.iloc[: len(table) // 10]])


def other_study_again(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return clean()[0]


def other_study_rounded(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    again = clean()[0]
    return set_p(again.assign(BETA=again[BETA].round(4), SE=(again[SE] * 1.01).round(4)))


def overlapping(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    other = clean()[0]
    z = 0.5 * other[BETA] / other[SE] + np.sqrt(0.75) * table[BETA] / table[SE]
    return set_p(table.assign(BETA=z * table[SE]))


def absolute_effects(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(BETA=np.abs(table[BETA]))


def huge_effects(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    wrong = rng.random(len(table)) < 0.003
    return set_p(table.assign(BETA=np.where(wrong, 40.0, table[BETA]), SE=np.where(wrong, 45.0, table[SE])))


def badly_imputed(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    info = np.where(rng.random(len(table)) < 0.3, rng.uniform(0.02, 0.28, len(table)), table["INFO"])
    factor = np.sqrt(table["INFO"] / info)
    return set_p(table.assign(INFO=info, SE=table[SE] * factor, BETA=table[BETA] * factor))


def no_frequencies(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.drop(columns=EAF)


def no_n(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.drop(columns="N")


def bad_errors(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(SE=np.where(rng.random(len(table)) < 0.2, -table[SE], table[SE]))


def strange_frequencies(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return table.assign(EAF=np.where(rng.random(len(table)) < 0.03, 1.7, table[EAF]))


def odds_ratios_kept(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    # One effect in a thousand below 0 gets past the check of the file as a whole.
    ratios = np.exp(table[BETA])
    ratios[::1000] = -1.0
    return _no_p(table.assign(BETA=ratios))


def linear_model(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return set_p(table.assign(BETA=table[BETA] * 0.09 / 2, SE=table[SE] * 0.3 / 2))


CASES = (
    Case("alleles exchanged", swapped_alleles, "frequency", "bad", "other allele", TRUST),
    Case("alleles exchanged, effects", swapped_alleles, "flips", "bad", "frequencies are too", TRUST),
    Case("some alleles exchanged", some_alleles_swapped, "frequency", "bad", "", TRUST),
    Case("sign of beta turned", sign_turned, "flips", "bad", "sign of β"),
    Case("frequency of the other allele", frequency_of_other_allele, "frequency", "bad", "other allele", TRUST),
    Case("minor allele frequency", minor_frequency, "frequency", "bad", "minor allele", TRUST),
    Case("minor allele frequency, file", minor_frequency, "ranges", "look", "minor", TRUST),
    Case("frequencies of other rows", shuffled_frequencies, "frequency", "bad", "joined by row", TRUST),
    Case("frequencies of other rows, SE", shuffled_frequencies, "se_slope", "bad", "frequencies", TRUST),
    Case("another ancestry", other_ancestry, "frequency", "look", "ancestry", TRUST),
    Case("palindromic on the other strand", palindromes_on_other_strand, "frequency", "bad", "alindromic", TRUST),
    Case("half of SE", halved_se, "p_z", "bad", "too small by the factor 2.00"),
    Case("half of SE, no p", lambda t, r: _no_p(halved_se(t, r)), "lambda", "bad", "too small"),
    Case("half of SE, scale", halved_se_and_p, "scale_between", "bad", "0.50"),
    Case("twice SE", doubled_se, "lambda", "bad", "too large"),
    Case("twice SE, scale", doubled_se, "scale_between", "bad", "2.0"),
    Case("raw scale of the trait", raw_scale, "scale_between", "bad", "6.5"),
    Case("raw scale, one number expected", raw_scale, "scale", "bad", "6.5", config=QualityConfig(expected_sd=1.0)),
    Case("two scales in a file", two_scales, "scale_contigs", "bad", "contigs are on another scale"),
    Case("N ten times", n_ten_times, "scale_between", "bad", "N wrong by 10"),
    Case("N of alleles and more", n_per_allele, "scale_between", "bad", "N wrong by 3"),
    Case("random N", random_n, "se_slope", "bad", "N"),
    Case("z as beta, 1 as SE", z_as_beta, "se_slope", "bad", "z-scores"),
    Case("z as beta", z_as_beta_with_se, "p_z", "bad", ""),
    Case("variance as SE", se_as_variance, "se_slope", "bad", "SE of something else"),
    Case("SE of other rows", se_of_other_rows, "se_slope", "bad", ""),
    Case("inflated", inflated, "lambda", "bad", "structure"),
    Case("rare variants inflated", inflated_rare, "lambda_maf", "bad", "--min-maf"),
    Case("badly imputed ones inflated", inflated_badly_imputed, "lambda_info", "bad", "--min-info"),
    Case("deflated", deflated, "lambda", "bad", "do not correct again"),
    Case("p by genomic control", p_controlled, "p_z", "look", "λ = 1.21"),
    Case("p winsorised", p_winsorised, "p_z", "look", "cut off at 10^−3"),
    Case("p of other rows", p_shuffled, "p_z", "bad", "another test"),
    Case("p one-sided", p_one_sided, "p_z", "bad", ""),
    Case("z for p", z_for_p, "p_z", "bad", ""),
    Case("p of 0", p_zero, "ranges", "look", "p-values are 0"),
    Case("contig cut off", truncated_contig, "coverage", "bad", "Parts of contigs"),
    Case("contig missing", missing_contig, "coverage", "bad", "Contigs 4"),
    Case("file cut off", cut_file, "coverage", "bad", "cut off"),
    Case("rows twice", duplicated_rows, "duplicates", "bad", "one line a variant"),
    Case("a study twice", other_study_again, "overlap", "bad", "same study", others_are_fine=False),
    Case("a study twice, rounded", other_study_rounded, "overlap", "bad", "same study", others_are_fine=False),
    Case("samples shared", overlapping, "overlap", "look", "Shared samples", others_are_fine=False),
    Case("absolute effects", absolute_effects, "effects", "bad", "signs were lost", TRUST),
    Case("huge effects", huge_effects, "effects", "look", "--max-se"),
    Case("badly imputed", badly_imputed, "info", "look", "--min-info"),
    Case("no frequencies", no_frequencies, "columns", "look", "frequencies", TRUST),
    Case("no N", no_n, "columns", "look", "--n"),
    Case("negative SE", bad_errors, "records", "look", "bad error"),
    Case("impossible frequencies", strange_frequencies, "ranges", "look", "outside 0 to 1"),
    Case("odds ratios as beta", odds_ratios_kept, "effects", "bad", "odds ratio", TRUST),
)  # fmt: skip


def found(case: Case, folder: Path) -> Quality:
    tables = clean()
    tables[_SPOILT] = case.spoil(tables[_SPOILT], np.random.default_rng(7))
    return measure_quality(make_store(folder, tables, case.rules, trait_type=case.trait_type), case.config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_faults_are_seen_in_the_study_that_has_them(case: Case, tmp_path: Path) -> None:
    quality = found(case, tmp_path)
    verdict = {each.key: each for each in quality.verdicts[_SPOILT]}[case.key]
    assert (verdict.level, case.says in verdict.text) == (case.level, True), verdict
    if case.others_are_fine:
        for other in {0, 2, 3}:
            wrong = [each for each in quality.verdicts[other] if each.level == "bad"]
            assert not wrong, (other, wrong)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("exact", [False, True])
def test_clean_studies_have_no_bad_verdict(k: int, exact: bool, tmp_path: Path) -> None:
    quality = measure_quality(make_store(tmp_path, clean(k), Rules(exact=exact)))
    levels = {
        (name, each.key): each.level
        for name, verdicts in zip(quality.names, quality.verdicts, strict=True)
        for each in verdicts
    }
    assert {key: level for key, level in levels.items() if level in ("look", "bad")} == {}
    assert sum(level == "good" for level in levels.values()) > 10 * k


@pytest.mark.parametrize(
    ("unit", "n", "cases", "level", "says"),
    [
        (4.0, 20_000, None, "good", "effective"),
        (2.0, 10_000, None, "look", "half"),
        (1 / (0.1 * 0.9), 40_000, None, "look", "total"),
        (1 / (0.1 * 0.9), 40_000, (4000.0, 36_000.0), "look", "total"),
        (4.0, 14_400, (4000.0, 36_000.0), "good", "effective"),
        (4.0, 90_000, (4000.0, 36_000.0), "bad", "none of the conventions"),
        (16.0, 14_400, (4000.0, 36_000.0), "bad", "cases and controls make"),
        (0.09, 40_000, None, "bad", "linear model"),
        (3.0, 10_000, None, "bad", "none of the conventions"),
    ],
)  # fmt: skip
def test_the_meaning_of_n_is_found(unit: float, n: int, cases: tuple[float, float] | None, level: str, says: str,
                                   tmp_path: Path) -> None:  # fmt: skip
    store = make_store(tmp_path, [study(variants(), n, 3, unit=unit)], trait_type="binary")
    quality = measure_quality(store, QualityConfig(cases={} if cases is None else {"s0": cases}))
    verdict = {each.key: each for each in quality.verdicts[0]}["scale"]
    assert verdict.level == level
    assert says in verdict.measured + verdict.text


def test_two_studies_of_which_one_is_flipped_are_both_told(tmp_path: Path) -> None:
    tables = clean(2)
    tables[1] = sign_turned(tables[1], np.random.default_rng(1))
    quality = measure_quality(make_store(tmp_path, tables))
    for verdicts in quality.verdicts:
        verdict = {each.key: each for each in verdicts}["flips"]
        assert verdict.level == "bad"
        assert "one is flipped" in verdict.text


def test_the_factor_of_p_is_that_of_z(tmp_path: Path) -> None:
    """The ratio that the verdict rests on, against its definition on the table itself."""
    table = halved_se(clean(1)[0], np.random.default_rng(1))
    quality = measure_quality(make_store(tmp_path, [table], Rules(exact=True, palindromic="trust")))
    tail = np.array([-np.log10(float(p.split("e")[0])) - int(p.split("e")[1]) for p in table[P]])
    ratio = z_from_neg_log10_p(tail) / np.abs(table[BETA] / table[SE])
    assert quality.measures[0].z_ratio.quantile(0.5) == pytest.approx(np.median(ratio), rel=1 / 128)
