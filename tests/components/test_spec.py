"""A model as a YAML file: the same as its formula, and mistakes that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from biolmm.components.formula import Effect, Formula, parse_formula
from biolmm.components.spec import ComponentTables, read_spec, spec_of
from biolmm.errors import InputFileError, ParameterError

WHOLE = """
terms:
  - genetic:smoking
  - {effect: genetic, sets: [maf, ld]}
  - {effect: spatial, columns: [lat, lon], kernel: matern52, range: 50.5, metric: earth}
  - effect: microbiome
    by: age group
  - residual
  - residual:batch
environment: people.tsv
features: {microbiome: sub/taxa.tsv}
matrices: {given: /data/m.grm.bin}
annotations: s3://bucket/annotations.tsv
regions: {coding: coding.bed}
pedigree: cohort.fam
categorical: [site, batch]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, WHOLE))
    assert spec.formula.effects == (
        Effect("genetic", by="smoking"),
        Effect("genetic", ("maf", "ld")),
        Effect("spatial", ("lat", "lon"), {"kernel": "matern52", "range": "50.5", "metric": "earth"}),
        Effect("microbiome", by="age group"),  # which a formula cannot spell
        Effect("residual", by="batch"),
    )
    assert spec.categorical == ("site", "batch")
    files = {name: str(path) for name, path in spec.tables.files().items()}
    assert files == {
        "environment": str(tmp_path / "people.tsv"),
        "features:microbiome": str(tmp_path / "sub" / "taxa.tsv"),
        "matrix:given": "/data/m.grm.bin",
        "annotations": "s3://bucket/annotations.tsv",
        "regions:coding": str(tmp_path / "coding.bed"),
        "pedigree": str(tmp_path / "cohort.fam"),
    }


@pytest.mark.parametrize(
    ("terms", "formula"),
    [
        (["genetic", "genetic:smoking"], "genetic + genetic:smoking"),
        ([{"effect": "genetic", "sets": "contigs", "by": "site"}], "genetic(contigs):site"),
        (["residual", {"effect": "spatial", "columns": ["x", "y"], "range": 1e-3}], "spatial(x, y, range=0.001)"),
        ([{"effect": "residual", "by": "batch"}, "family"], "residual:batch + family"),
    ],
)
def test_terms_by_keys_are_those_of_a_formula(terms: list[object], formula: str) -> None:
    found = spec_of({"terms": terms}).formula
    assert found == parse_formula(formula)
    assert isinstance(found, Formula)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no mapping: write 'terms:'"),
        ("[genetic]", "is no mapping"),
        ("term: [genetic]", r"has no key 'term' \(did you mean 'terms'\?\): there is terms, environment, annotations"),
        ("environment: a.tsv", "needs the key 'terms' with a list"),
        ("terms: genetic", "needs the key 'terms' with a list"),
        ("terms: [1]", "term 1 is 1: write a text"),
        ("terms: [{by: smoking}]", "term 1 lacks the key 'effect': it has by"),
        ("terms: [genetic, {effect: genetic, set: maf}]", r"term 2 \(genetic\) has no key 'set' \(did you mean 'sets'\?\): "
         "there is effect, sets, by"),
        ("terms: [{effect: microbiome, sets: [a]}]", "has no key 'sets': there is effect, by"),
        ("terms: [{effect: spatial, columns: [x, y], range: wide}]", "has range: 'wide', which is no number"),
        ("terms: [{effect: spatial, columns: [x, y], range: yes}]", "has range: True, which is no number"),
        ("terms: [{effect: genetic, by: no}]", "has by: False where a name is needed"),
        ("terms: [{effect: genetic, sets: 3}]", "has sets: 3 where a list of names is needed"),
        ("terms: [genetic + family]", "'genetic \\+ family' holds 2 effects"),
        ("terms: [genetic, genetic]", "has 'genetic' 2 times"),
        ("terms: [residual]", "has no term"),
        ("terms: [genetic]\nfeatures: taxa.tsv", "has features: 'taxa.tsv' where names and files are needed"),
        ("terms: [genetic]\nenvironment: 3", "has environment: 3 where a name is needed"),
    ],
)  # fmt: skip
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        read_spec(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("terms: [genetic\nfeatures: x", "line 2: "),
        ("terms: [genetic]\nterms: [family]", "line 2: the key 'terms' is there twice"),
        ("terms: !!python/object:os.system [x]", "line 1: could not determine a constructor"),
        ("[" * 3000 + "]" * 3000, "is no YAML file"),
        ("x" * (2**20 + 1), "has more than 1,048,576 bytes"),
        ("{[a]: 1, {b: c}: 2}", "unhashable"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message) as caught:
        read_spec(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        read_spec(tmp_path / "none.yaml")
    with pytest.raises(InputFileError, match="cannot be read: Is a directory"):
        read_spec(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"terms: [\xff]")
    with pytest.raises(InputFileError, match="is no YAML file"):
        read_spec(tmp_path / "bytes.yaml")


def test_a_table_is_given_once() -> None:
    one = ComponentTables(environment=Path("a"), features={"x": Path("b")})
    both = one.joined(ComponentTables(features={"y": Path("c")}, pedigree=Path("d")))
    assert sorted(both.files()) == ["environment", "features:x", "features:y", "pedigree"]
    with pytest.raises(ParameterError, match="features:x is given twice"):
        one.joined(ComponentTables(features={"x": Path("c")}))
