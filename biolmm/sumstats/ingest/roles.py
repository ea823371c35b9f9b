"""The header dictionary: what the columns of each program's results are, written once as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from biolmm.errors import InputFileError, ParameterError, named

ROLES: dict[str, str] = {
    "contig": "chromosome",
    "position": "1-based position",
    "rsid": "identifier of the variant; markers such as chr1:123:A:G give contig, position and alleles too",
    "effect_allele": "allele whose copies beta counts",
    "other_allele": "the other allele",
    "ref_allele": "REF, where the effect allele may be REF or ALT (PLINK 2) or where it is named EA or OA (GWAS-SSF); "
    "given to the other allele's column it says that this is REF",
    "alt_allele": "ALT, beside ref_allele",
    "beta": "effect of a copy of the effect allele; of a logistic model the log odds ratio",
    "odds_ratio": "odds ratio of a copy of the effect allele; hazard ratios too",
    "se": "standard error of beta, or of the log odds ratio",
    "ci_lower": "lower 95 % limit of beta or of the odds ratio, where there is no standard error",
    "ci_upper": "upper 95 % limit",
    "p": "two-sided p-value",
    "neg_log10_p": "−log10 of the two-sided p-value",
    "log10_p": "log10 of the two-sided p-value, negative",
    "ln_p": "natural logarithm of the two-sided p-value, negative",
    "z": "signed statistic with a standard normal null",
    "direction": "+ or -, for p-values without effects",
    "eaf": "frequency of the effect allele",
    "eaf_cases": "frequency of the effect allele in cases",
    "eaf_controls": "frequency of the effect allele in controls",
    "other_allele_frequency": "frequency of the other allele",
    "info": "imputation quality",
    "n": "sample size",
    "n_cases": "cases",
    "n_controls": "controls",
    "n_missing": "samples without a genotype, taken off --n",
    "n_half": "half the sample size",
    "test": "the model's term of this line; ADD is kept",
}
"""What a column can be; the names that `--map COLUMN=ROLE` takes."""


@dataclass(frozen=True)
class Format:
    """One program's results: columns that tell it, and what each is.

    Attributes
    ----------
    name
        As people call it.
    signature
        Columns, in lower case, that only it has together.
    columns
        Role of each column, in lower case; where several have one role, the earlier one counts.
    declares_ref
        The other allele is REF of a reference genome. regenie's ALLELE0 and SAIGE's Allele1 are only the first allele of
        the genotypes, which in a .bed or a .bgen need not be REF.
    """

    name: str
    signature: frozenset[str]
    columns: Mapping[str, str]
    declares_ref: bool = False


def _format(name: str, signature: str, columns: str, *, declares_ref: bool = False) -> Format:
    """Read `column=role` words; a column's name may hold blanks written as `~`."""
    pairs = (word.split("=") for word in columns.split())
    known = {column.replace("~", " "): role for column, role in pairs}
    return Format(name, frozenset(signature.split()), known, declares_ref)


FORMATS: tuple[Format, ...] = (
    _format(
        "GWAS-SSF", "chromosome base_pair_location effect_allele other_allele",
        "chromosome=contig base_pair_location=position effect_allele=effect_allele other_allele=other_allele beta=beta "
        "odds_ratio=odds_ratio hazard_ratio=odds_ratio standard_error=se effect_allele_frequency=eaf p_value=p "
        "neg_log_10_p_value=neg_log10_p rsid=rsid variant_id=rsid rs_id=rsid ref_allele=ref_allele ci_lower=ci_lower "
        "ci_upper=ci_upper info=info n=n z_score=z",
    ),
    _format(
        "regenie", "chrom genpos allele0 allele1 log10p",
        "chrom=contig genpos=position id=rsid allele0=other_allele allele1=effect_allele a1freq=eaf a1freq_cases=eaf_cases "
        "a1freq_controls=eaf_controls info=info n=n n_cases=n_cases n_controls=n_controls test=test beta=beta se=se "
        "log10p=neg_log10_p",
    ),
    _format(
        "SAIGE", "chr pos allele1 allele2 p.value",
        "chr=contig pos=position markerid=rsid snpid=rsid rsid=rsid allele1=other_allele allele2=effect_allele "
        "af_allele2=eaf af_case=eaf_cases af_ctrl=eaf_controls imputationinfo=info n=n n_case=n_cases n_ctrl=n_controls "
        "n.cases=n_cases n.controls=n_controls beta=beta se=se p.value=p",
    ),
    _format(
        "BOLT-LMM", "snp chr bp allele1 allele0 p_bolt_lmm_inf",
        "snp=rsid chr=contig bp=position allele1=effect_allele allele0=other_allele a1freq=eaf info=info beta=beta se=se "
        "p_bolt_lmm=p p_bolt_lmm_inf=p",
    ),
    _format(
        "BOLT-LMM", "snp chr bp allele1 allele0 p_linreg",
        "snp=rsid chr=contig bp=position allele1=effect_allele allele0=other_allele a1freq=eaf info=info beta=beta se=se "
        "p_linreg=p",
    ),
    _format(
        "fastGWA", "chr snp pos a1 a2 af1",
        "chr=contig snp=rsid pos=position a1=effect_allele a2=other_allele n=n af1=eaf beta=beta se=se p=p info=info",
    ),
    _format(
        "PLINK 2", "chrom pos ref alt a1 obs_ct",
        "chrom=contig pos=position id=rsid ref=ref_allele alt=alt_allele a1=effect_allele omitted=other_allele "
        "a1_freq=eaf a1_case_freq=eaf_cases a1_ctrl_freq=eaf_controls mach_r2=info minimac3_r2=info "
        "test=test obs_ct=n beta=beta or=odds_ratio hr=odds_ratio se=se log(or)_se=se log(hr)_se=se l95=ci_lower "
        "u95=ci_upper p=p log10_p=neg_log10_p neg_log10_p=neg_log10_p", declares_ref=True,
    ),
    _format(
        "PLINK 1", "chr snp bp a1 f_a f_u a2",
        "chr=contig snp=rsid bp=position a1=effect_allele a2=other_allele f_a=eaf_cases f_u=eaf_controls or=odds_ratio "
        "se=se l95=ci_lower u95=ci_upper p=p",
    ),
    _format(
        "PLINK 1", "chr snp bp a1 test nmiss p",
        "chr=contig snp=rsid bp=position a1=effect_allele a2=other_allele test=test nmiss=n beta=beta or=odds_ratio se=se "
        "l95=ci_lower u95=ci_upper p=p",
    ),
    _format(
        "GEMMA", "chr rs ps allele1 allele0 af",
        "chr=contig rs=rsid ps=position n_miss=n_missing allele1=effect_allele allele0=other_allele af=eaf beta=beta se=se "
        "p_wald=p p_lrt=p p_score=p",
    ),
    _format(
        "METAL", "markername allele1 allele2 direction",
        "chromosome=contig position=position markername=rsid allele1=effect_allele allele2=other_allele freq1=eaf effect=beta "
        "stderr=se p-value=p log(p)=log10_p zscore=z weight=n n=n",
    ),
    _format("LDSC", "snp a1 a2 z n", "snp=rsid a1=effect_allele a2=other_allele z=z n=n p=p frq=eaf"),
    _format(
        "GCTA-COJO", "snp a1 a2 freq b se p n",
        "snp=rsid a1=effect_allele a2=other_allele freq=eaf b=beta se=se p=p n=n",
    ),
)  # fmt: skip
"""Known layouts; the first whose signature is there is taken."""

SYNONYMS: dict[str, str] = {
    name: role
    for role, names in {
        "contig": "chromosome chrom chr contig #chrom hm_chrom scaffold",
        "position": "base_pair_location position pos bp genpos ps basepair hm_pos bp_hg19 bp_hg38",
        "rsid": "rsid snp snpid rs_id rs id markername marker variant_id variant markerid rs_number hm_rsid",
        "effect_allele": "effect_allele ea a1 allele1 alt tested_allele coded_allele risk_allele hm_effect_allele",
        "other_allele": "other_allele nea a2 allele2 allele0 ref non_effect_allele noncoded_allele reference_allele "
        "other hm_other_allele a0",
        "beta": "beta effect b log_odds logor log(or) es effect_size beta1 hm_beta",
        "odds_ratio": "odds_ratio or hazard_ratio hr hm_odds_ratio",
        "se": "standard_error se stderr standarderror sebeta se_beta log(or)_se logor_se",
        "ci_lower": "ci_lower l95 or_95l ci_lower_95 beta_95l hm_ci_lower",
        "ci_upper": "ci_upper u95 or_95u ci_upper_95 beta_95u hm_ci_upper",
        "p": "p_value p pval pvalue p-value p.value p_bolt_lmm p_wald pval_nominal",
        "neg_log10_p": "neg_log_10_p_value log10p mlogp neg_log10_p -log10p nlog10p neglog10_pval lp mlog10p _-log10_p-value",
        "log10_p": "log(p) log10_p",
        "z": "z zscore z_score z-score zstat z_stat",
        "direction": "direction_of_effect",
        "eaf": "effect_allele_frequency eaf freq1 af1 a1freq a1_freq freq af alt_freqs af_alt effect_allele_freq frq "
        "hm_effect_allele_frequency",
        "info": "info imputationinfo info_score imputation_quality r2 rsq",
        "n": "n n_total sample_size ns nmiss obs_ct weight n_samples ntotal totalsamplesize neff n_eff ss",
        "n_cases": "n_cases n_case ncases cases nca",
        "n_controls": "n_controls n_ctrl ncontrols controls nco",
        "n_half": "neff_half neffdiv2",
    }.items()
    for name in names.split()
}
"""What columns are usually called, for files of no known program; earlier names count first."""

_ALSO = ("contig", "position", "info", "n", "n_cases", "n_controls")
"""Roles for which usual names count in files of known programs too."""


@dataclass(frozen=True)
class Layout:
    """How to read one file's columns.

    Attributes
    ----------
    format
        Name of the program, or `table`.
    column
        Number of the column with each role, from 0.
    declares_ref
        The other allele is REF.
    """

    format: str
    column: Mapping[str, int]
    declares_ref: bool = False
    names: tuple[str, ...] = field(default=(), repr=False)

    def has(self, *roles: str) -> bool:
        """Whether every one of these roles has a column."""
        return all(role in self.column for role in roles)


def find_layout(
    source: str, header: Sequence[str], chosen: Mapping[str, str] | None = None, bim: Path | None = None
) -> Layout:
    """Give columns their roles: by `chosen`, then by the first known program, then by usual names.

    Parameters
    ----------
    source
        The file, for messages.
    header
        Names of its columns.
    chosen
        Roles of columns, by the columns' names; the role `ignore` leaves one out. A role that is chosen is taken from
        the column that it had.
    bim
        Tells the other allele, where the file names one only.

    Raises
    ------
    InputFileError
        When a name is there twice, or what is needed is not there.
    ParameterError
        When `chosen` names a column that is not there, or no role.

    Examples
    --------
    >>> layout = find_layout("f", ["SNP", "CHR", "BP", "EA", "NEA", "BETA", "SE", "Pcol"], {"Pcol": "p"})
    >>> layout.format, layout.column["p"], layout.column["other_allele"]
    ('table', 7, 4)
    """
    chosen = dict(chosen or {})
    names = [name.strip().strip('"').removeprefix("#").lower() for name in header]
    repeated = {name for name in names if names.count(name) > 1 and name}
    spelled = {name.strip().strip('"'): at for at, name in enumerate(header)} | {n: at for at, n in enumerate(names)}
    for given, role in chosen.items():
        if given not in spelled and given.lower() not in spelled:
            raise ParameterError(
                f"--map names a column {given!r} that {source} does not have; it has {named(header, 20)}."
            )
        if role not in ROLES and role != "ignore":
            raise ParameterError(
                f"--map {given}={role} of {source}: there is no such role; there are {named(ROLES, len(ROLES))}, ignore."
            )
    by_hand = {spelled.get(each, spelled.get(each.lower())): role for each, role in chosen.items()}
    known = next((each for each in FORMATS if each.signature <= set(names)), None)
    dictionary = known.columns if known else SYNONYMS
    column: dict[str, int] = {role: at for at, role in by_hand.items() if role != "ignore" and at is not None}
    for name, role in dictionary.items():
        if role in column or name not in names or names.index(name) in by_hand:
            continue
        if name in repeated:
            raise InputFileError(f"{source} has {names.count(name)} columns '{name}': rename or drop the others.")
        column[role] = names.index(name)
    for name, role in SYNONYMS.items():  # of a known program's file that somebody has added places to
        if role in _ALSO and role not in column and names.count(name) == 1 and names.index(name) not in by_hand:
            column[role] = names.index(name)
    if "ref_allele" in by_hand.values() and not column.keys() & {"other_allele", "alt_allele"}:
        column["other_allele"] = column["ref_allele"]
    layout = Layout(known.name if known else "table", column, bool(known and known.declares_ref), tuple(header))
    _check(source, layout, header, bim)
    return layout


def _check(source: str, layout: Layout, header: Sequence[str], bim: Path | None) -> None:
    """Refuse a layout without what is needed, saying which column could be it."""
    found = f"the columns are {named(header, 20)}"
    say = "Say which column it is: --map COLUMN="
    if not layout.has("rsid") and not layout.has("contig", "position"):
        raise InputFileError(f"{source} has neither contig and position nor an identifier; {found}. {say}contig …")
    has_alleles = layout.has("effect_allele") and layout.has("other_allele")
    has_alleles |= layout.has("effect_allele", "ref_allele", "alt_allele")
    if not has_alleles and layout.has("effect_allele", "rsid"):
        if bim is None:
            raise InputFileError(f"{source} names one allele only; {found}. Give the .bim that it was made with: "
                                 f"--bim FILE; or {say[0].lower()}{say[1:]}other_allele.")  # fmt: skip
    elif not has_alleles:
        raise InputFileError(f"{source} has no column with the effect allele and the other allele; {found}. "
                             f"{say}effect_allele …")  # fmt: skip
    if not any(layout.has(role) for role in ("beta", "odds_ratio", "z", "direction")):
        raise InputFileError(f"{source} has no effect: no beta, odds ratio, z or direction; {found}. {say}beta …")
    evidence = ("se", "ci_lower", "p", "neg_log10_p", "log10_p", "ln_p", "z")
    if not any(layout.has(role) for role in evidence):
        raise InputFileError(f"{source} has no standard error, p-value or z; {found}. {say}se …")
