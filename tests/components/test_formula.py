"""From formulas and tables to terms: what names mean, and what is said when they mean nothing."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.components import Formula, Sources, build_terms, parse_formula
from biolmm.components.build import _Builder, check_names, complete_samples, interacting_columns
from biolmm.components.formula import Effect
from biolmm.components.matrices import UserMatrix
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.pedigree import read_pedigree
from biolmm.errors import InputFileError, ParameterError, SampleMismatchError
from oracles.toy import Toy

WORDS = st.text("abcxyz_.-019", min_size=1, max_size=6)
EFFECTS = st.builds(
    Effect, WORDS, st.lists(WORDS, max_size=3).map(tuple), st.dictionaries(WORDS, WORDS, max_size=2), st.none() | WORDS
)


@pytest.fixture(scope="module")
def sources(toy: Toy) -> Sources:
    rng = np.random.default_rng(0)
    ids = toy.store.sample_id.tolist()
    n = len(ids)
    environment = pd.DataFrame(
        {
            "smoking": rng.standard_normal(n),
            "batch": rng.choice(["a", "b"], n),
            "site": rng.integers(0, 9, n).astype(float),
            "lat": rng.uniform(40, 50, n),
            "lon": rng.uniform(0, 10, n),
            "alone": [f"p{i}" for i in range(n)],
        },
        index=ids,
    )
    taxa = pd.DataFrame(rng.standard_normal((n, 8)), index=ids).rename(columns=str)
    matrix = UserMatrix(tuple(ids), np.eye(n) + 0.1)
    annotations = pd.DataFrame({"coding": np.arange(1200) % 2.0, "L2": rng.random(1200)}, index=toy.store.variant_id)
    return Sources(environment, {"taxa": taxa}, {"mine": matrix}, annotations, categorical=("site",))


@given(st.lists(EFFECTS, min_size=1, max_size=4, unique_by=str))
def test_formulas_are_read_as_they_are_written(effects: list[Effect]) -> None:
    effects = [effect for effect in effects if str(effect) != "residual"]
    if effects:
        formula = Formula(tuple(effects))
        assert parse_formula(str(formula)) == formula
        assert parse_formula(str(formula).replace(" ", "")) == formula


@given(st.text("ab +:(),=*", max_size=20))
def test_no_text_makes_the_parser_fail_otherwise_than_in_words(text: str) -> None:
    try:
        parse_formula(text)
    except ParameterError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genetic + + family", "has '\\+' where a name should be: 'genetic \\+ ⟨\\+⟩ family'"),
        ("genetic(maf", "ends where ',' or '\\)' should be"),
        ("genetic * family", "has '\\*' where '\\+' or the end should be"),
        ("genetic family", "has 'family' where '\\+' or the end"),
        ("", "ends where a name should be"),
        ("residual", "has no term"),
        ("genetic + genetic", "'genetic' 2 times"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_formula(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genetik", "names 'genetik' \\(did you mean 'genetic'\\?\\).*--features genetik=FILE"),
        ("genetic:smokng", "column 'smokng' of --environment \\(did you mean 'smoking'\\?\\)"),
        ("pedigree", "give --pedigree FILE"),
        ("residual:nothing", "column 'nothing'"),
        ("residual(batch)", "write residual:COLUMN"),
        ("genetic(range=3)", "only spatial terms take options"),
        ("taxa(x)", "takes nothing between parentheses"),
        ("spatial(lat)", "names 1 columns"),
        ("spatial(lat, x)", "needs the columns x"),
        ("spatial(lat, lon, nugget=1)", "no option 'nugget'"),
        ("spatial(lat, lon, kernel=cubic)", "no kernel 'cubic'"),
        ("spatial(lat, lon, metric=moon)", "no metric 'moon'"),
    ],
)
def test_names_without_meaning_are_refused(sources: Sources, text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_names(parse_formula(text), sources)


def names_of(text: str, toy: Toy, sources: Sources) -> list[str]:
    panel = GenotypePanel(toy.operator().genotypes)
    candidates = build_terms(parse_formula(text), sources, toy.store.sample_id.tolist(), panel)
    assert all(term.trace == pytest.approx(toy.store.n_samples) for term in candidates[0].terms)
    return [term.name for term in candidates[0].terms]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("genetic + dominance + taxa + mine", ["genetic", "dominance", "taxa", "mine", "residual"]),
        ("genetic(coding)", ["genetic[coding]", "genetic[other]", "residual"]),
        ("genetic(annotations):smoking", ["genetic[coding]:smoking", "genetic[other]:smoking", "residual"]),
        ("genetic(contigs)", [*(f"genetic[chr:c{i}]" for i in range(4)), "residual"]),
        ("genetic(ld)", [*(f"genetic[ld:q{i}]" for i in range(1, 5)), "residual"]),
        ("site + residual:batch", ["site", "residual:batch=a", "residual:batch=b"]),
        ("taxa:batch + residual:smoking", ["taxa:batch", "residual", "residual:smoking"]),
        ("mine + residual:site", ["mine", *(f"residual:site={i}" for i in range(9))]),
        ("spatial(lat, lon, range=80)", ["spatial(lat, lon, range=80)", "residual"]),
        ("epistasis", ["epistasis", "residual"]),
    ],
)
def test_formulas_make_terms(toy: Toy, sources: Sources, text: str, expected: list[str]) -> None:
    assert names_of(text, toy, sources) == expected


def test_ranges_that_are_not_given_are_tried(toy: Toy, sources: Sources) -> None:
    ids = toy.store.sample_id.tolist()
    candidates = build_terms(parse_formula("site + spatial(lat, lon)"), sources, ids, None)
    assert len(candidates) > 3
    assert len({next(iter(candidate.ranges.values())) for candidate in candidates}) == len(candidates)
    assert candidates[0].terms[0] is candidates[1].terms[0]
    with pytest.raises(ParameterError, match="two spatial terms"):
        build_terms(parse_formula("spatial(lat, lon) + spatial(smoking, lat)"), sources, ids, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alone", "no two samples in one group"),
        ("genetic(codin)", "no annotation 'codin' \\(did you mean 'coding'\\?\\)"),
        ("taxa:alone", "317 categories"),
        ("spatial(lat, batch, range=1)", "holds text where numbers"),
    ],
)
def test_tables_that_do_not_fit_are_refused(toy: Toy, sources: Sources, text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        names_of(text, toy, sources)


def test_genotypes_are_asked_for_where_they_are_needed(toy: Toy, sources: Sources) -> None:
    with pytest.raises(ParameterError, match="'genetic' needs genotypes"):
        build_terms(parse_formula("genetic"), sources, toy.store.sample_id.tolist(), None)


def test_truth_values_are_categories(toy: Toy, sources: Sources, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert sources.environment is not None
    ids = toy.store.sample_id.tolist()
    smokes = np.arange(len(ids)) % 3 == 0
    table = sources.environment.assign(truth=smokes, text=np.where(smokes, "yes", "no"), number=smokes.astype(float))
    given = Sources(table, matrices=sources.matrices)
    (made,) = build_terms(parse_formula("mine:truth + mine:text + mine:number"), given, ids, None)
    one, other, number = (term.kernel.dense() for term in made.terms[:3])
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - number).max() > 0.1
    assert [m for m in caplog.messages if m.startswith("environment")] == [
        "environment: truth, text as categories",
        "environment: number as numbers",
    ]


def test_families_are_shared_by_those_who_have_one(toy: Toy) -> None:
    ids = toy.store.sample_id.tolist()
    unknown = dict(zip(ids, itertools.cycle(["", "0", "NA", "."]), strict=False))
    # A family that is called like somebody who has none.
    family = {**unknown, ids[0]: "f1", ids[1]: "f1", ids[2]: ids[5], ids[3]: ids[5]}
    (made,) = build_terms(parse_formula("family"), Sources(family=family), ids, None)
    K = made.terms[0].kernel.dense()
    expected = np.eye(len(ids))
    expected[0, 1] = expected[1, 0] = expected[2, 3] = expected[3, 2] = 1
    np.testing.assert_allclose(K, expected)


def test_ld_scores_rank_the_variants_that_vary_and_have_one(toy: Toy, sources: Sources) -> None:
    assert sources.annotations is not None
    given = Sources(annotations=sources.annotations.iloc[:-100])
    panel = GenotypePanel(toy.operator().genotypes)
    (made,) = build_terms(parse_formula("genetic(ld)"), given, toy.store.sample_id.tolist(), panel)
    assert [term.name for term in made.terms[:-1]] == [f"genetic[ld:{q}]" for q in ("q1", "q2", "q3", "q4", "unknown")]
    effect = parse_formula("genetic(ld)").effects[0]
    sizes = _Builder(given, [], panel, 0)._sets(effect, panel).weights.sum(axis=0)
    assert sizes[:4].max() - sizes[:4].min() <= 1
    assert sizes.sum() == np.sum(panel.genotypes.scaling.scale > 0)


def test_samples_that_a_table_lacks_are_left_out(sources: Sources) -> None:
    table = sources.environment
    assert table is not None
    ids = [str(name) for name in table.index]
    holes = table.copy()
    holes.loc[ids[3], "smoking"] = np.nan
    partial = Sources(holes, {"taxa": sources.features["taxa"].iloc[:-2]}, sources.matrices)
    kept = complete_samples(parse_formula("taxa + mine + taxa:smoking"), partial, ids)
    assert kept == [name for name in ids[:-2] if name != ids[3]]
    assert complete_samples(parse_formula("mine + mine:batch"), partial, ids) == ids
    assert interacting_columns(parse_formula("mine:batch + residual:smoking + mine:site")) == ["batch", "site"]


# Files


def test_matrices_are_opened_and_cut(tmp_path: Path) -> None:
    ids = ["c", "a", "b"]
    K = np.array([[3.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 2.0]])
    np.save(tmp_path / "k.npy", K)
    (tmp_path / "k.id").write_text("\n".join(ids) + "\n")
    kernel = UserMatrix.open(tmp_path / "k.npy").kernel(["a", "c"])
    assert kernel.dense().tolist() == [[1.0, 0.1], [0.1, 3.0]]
    with pytest.raises(SampleMismatchError, match="lacks 1 of 2 samples: x"):
        UserMatrix.open(tmp_path / "k.npy").kernel(["a", "x"])
    (tmp_path / "k.id").write_text("a\nb\n")
    with pytest.raises(InputFileError, match="2 ids"):
        UserMatrix.open(tmp_path / "k.npy")


def test_matrices_of_gcta_are_operators(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 12
    A = rng.standard_normal((n, n))
    K = (A @ A.T).astype(np.float32)
    (tmp_path / "g.grm.bin").write_bytes(K[np.tril_indices(n)].astype("<f4").tobytes())
    (tmp_path / "g.grm.id").write_text("".join(f"F\tS{i}\n" for i in range(n)))
    chosen = [7, 2, 11]
    kernel = UserMatrix.open(tmp_path / "g.grm.bin").kernel([f"S{i}" for i in chosen])
    expected = K[np.ix_(chosen, chosen)]
    np.testing.assert_allclose(kernel.dense(), expected)
    np.testing.assert_allclose(kernel.diagonal(), np.diag(expected))
    X = rng.standard_normal((3, 2)).astype(np.float32)
    np.testing.assert_allclose(kernel.product(X), expected @ X, rtol=1e-5, atol=1e-5)


def test_pedigrees_are_read_from_fam_files_and_tables(tmp_path: Path) -> None:
    fam, table = tmp_path / "a.fam", tmp_path / "b.tsv"
    fam.write_text("F kid dad mum 0 -9\nF dad 0 0 1 -9\n")
    table.write_text("IID\tfather\tmother\nkid\tdad\tmum\ndad\tNA\tNA\n")
    one, other = read_pedigree(fam), read_pedigree(table)
    for pedigree in (one, other):
        kid = pedigree.ids.index("kid")
        assert {pedigree.ids[pedigree.father[kid]], pedigree.ids[pedigree.mother[kid]]} == {"dad", "mum"}
    for text, message in [
        ("IID\tfather\nkid\tdad\n", "no column of mother"),
        ("F kid dad mum\nF kid dad mum\n", "line 2: 'kid' is listed twice"),
        ("F kid dad mum\nF x\n", "line 2: 2 fields instead of 4"),
    ]:
        fam.write_text(text)
        with pytest.raises(InputFileError, match=message):
            read_pedigree(fam)
