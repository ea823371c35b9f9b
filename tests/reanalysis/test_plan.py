"""Plans: what may stand in them, where they say a mistake is, and that the example of the documentation is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from biolmm.cli.reanalyse import plan_config
from biolmm.errors import UserError
from biolmm.reanalysis.plan import read_plan
from running import run_command

DOCUMENT = Path(__file__).parents[2] / "docs" / "reanalysis.md"

GOOD = """release: '2026-10'   # a name, not a number
out: releases
gwas:
  genotypes: [chr1.bgen, "chr2.bgen"]
  traits: tables/traits.tsv
  covariates: /data/covariates.tsv
  trait: [bmi, 1e5]
  loco: no
  exact_leads: true
  missing-value: -9
  exclude-region: mhc
  build: GRCh38
  ld-scores: scores/ld.@
  memory: 2GiB
"""


def plan_of(folder: Path, text: str) -> Path:
    """Write a plan."""
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_options_are_those_of_the_command(tmp_path: Path) -> None:
    plan = read_plan(plan_of(tmp_path, GOOD))
    assert (plan.release, plan.out, plan.previous, plan.model) == ("2026-10", tmp_path / "releases", None, "keep")
    config = plan_config(plan)
    assert config.inputs.genotypes == (tmp_path / "chr1.bgen", tmp_path / "chr2.bgen")
    assert config.inputs.traits == tmp_path / "tables" / "traits.tsv"
    assert config.inputs.covariates == Path("/data/covariates.tsv")
    assert config.cohort.trait_names == ("bmi", "1e5")
    assert (config.fit.loco, config.scan.exact_leads) == (False, True)
    assert (config.inputs.missing_value, config.inputs.exclude_regions) == ("-9", ("mhc",))
    assert config.ld_scores == str(tmp_path / "scores" / "ld.@")
    assert config.resources.memory_bytes == 2 * 2**30


def test_the_documented_plan_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    plan = read_plan(plan_of(tmp_path, text))
    config = plan_config(plan)
    assert config.inputs.model_genotypes
    assert config.n_pcs == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a plan: it needs keys"),
        ("- a\n- b\n", "is not a plan: it needs keys"),
        ("out: [\n", "line 2 is not YAML: "),
        ("out: x\nrelaese: y\ngwas: {}\n", "line 2: there is no key 'relaese' (did you mean 'release'?): use release, out"),
        ("release: x\ngwas:\n  traits: t\n", "does not say where the releases go: add a line such as `out: releases`"),
        ("out: x\n", "must say what to run, once: `gwas:` or `fit:` with its options below it; it has neither"),
        ("out: x\ngwas:\n  traits: t\nfit:\n  traits: t\n", "must say what to run, once"),
        ("out: x\ngwas:\n", "line 2: gwas needs its options below it"),
        ("out: x\nout: y\ngwas:\n  traits: t\n", "line 2: 'out' is there already, on line 1"),
        ("out:\n  a: b\ngwas:\n  traits: t\n", "line 1: out must be a word"),
        ("out:\ngwas:\n  traits: t\n", "line 1: out needs one word behind it"),
        ("out: x\n? [a]\n: b\n", "line 2: a key must be a word"),
        ("out: x\nrelease: ../y\ngwas:\n  traits: t\n", "line 2: '../y' cannot be the name of a release"),
        ("out: x\nrelease: pieces\ngwas:\n  traits: t\n", "line 2: 'pieces' cannot be the name of a release"),
        (f"out: x\nrelease: {'r' * 201}\ngwas:\n  traits: t\n", "line 2: the name of a release has 201 letters"),
        ("out: x\nmodel: old\ngwas:\n  traits: t\n", "line 2: model is 'old' but must be keep or refresh"),
        ("out: s3://bucket/x\ngwas:\n  traits: t\n", "the folder of releases must be local"),
        ("out: x\ngwas:\n  genotypes: [[a]]\n", "line 3: genotypes must be a list of words or numbers"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_plan(plan_of(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("genotype: x.zarr", "line 5: `biolmm gwas` has no option 'genotype' (did you mean 'genotypes'?): it has "),
        ("out: y", "line 5: 'out' has no place in a plan: the releases go below the plan's own `out`"),
        ("workers: 4", "line 5: 'workers' has no place in a plan: where to run is said on the command line"),
        ("known_model: y", "line 5: 'known-model' has no place in a plan: the last release's model"),
        ("loco: maybe", "line 5: loco must be true or false"),
        ("method: maximal", "line 5: Invalid value for '--method': 'maximal' is not one of 'mixed'"),
        ("pcs: many", "line 5: Invalid value for '--pcs': 'many' is not a valid integer"),
        ("pcs: [1, 2]", "line 5: pcs needs one value, and has 2"),
        ("covariates:", "line 5: covariates needs one value, and has 0"),
        ("pcs: 1000", "1000 principal components were asked for but must be between 0 and 100"),
        ("eigenpairs: 0", "0 eigenpairs were asked for"),
    ],
)
def test_options_are_checked_by_the_code_of_the_command(tmp_path: Path, line: str, message: str) -> None:
    plan = read_plan(plan_of(tmp_path, f"out: x\ngwas:\n  genotypes: a\n  traits: b\n  {line}\n"))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        plan_config(plan)
    assert str(plan.path) in str(caught.value)


def test_what_the_command_needs_is_asked_for(tmp_path: Path) -> None:
    done = run_command("reanalyse", plan_of(tmp_path, "out: x\nfit:\n  traits: b\n"))
    assert done.code == 2
    assert "Missing option '--genotypes'" in done.err
    assert run_command("reanalyse", tmp_path / "absent.yaml").code == 2
    assert not (tmp_path / "x").exists()


def test_latin_text_is_not_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"out: caf\xe9\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(path)
