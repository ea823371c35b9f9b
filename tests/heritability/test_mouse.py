"""The mice of Valdar et al. 2006 with GCTA's REML: h², components, LRT and log-likelihood of CD8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biolmm.heritability.tables import read_heritability_table
from running import succeed


def printed(path: Path) -> dict[str, float]:
    """Read a `.hsq`: a name and a number a line."""
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    return {words[0]: float(words[1]) for words in lines}


@pytest.mark.slow
def test_reml_is_gctas(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "mouse_hs1940"
    out = tmp_path / "h2"
    succeed("h2", folder / "mouse_hs1940.bed", "--traits", folder / "traits.tsv", "--trait", "CD8", "--trait", "MCH",
            "--extract", folder / "mapped_variants.txt", "--out", out, "--method", "reml", "--threads", "1")  # fmt: skip
    table = read_heritability_table(out, "h2").set_index("trait")
    for trait, name in (("CD8", "p1"), ("MCH", "p6")):
        theirs, ours = printed(folder / "gcta" / f"{name}.reml.hsq"), table.loc[trait]
        assert ours.n == theirs["n"]
        # GCTA stops where a step changes the likelihood by less than 1e-4: its components are good to 1e-5.
        assert ours.h2 == pytest.approx(theirs["V(G)/Vp"], abs=1e-5)
        assert ours.sigma2_g == pytest.approx(theirs["V(G)"], abs=1e-5)
        assert ours.sigma2_e == pytest.approx(theirs["V(e)"], abs=1e-5)
        assert ours.lrt == pytest.approx(theirs["LRT"], abs=2e-3)
        # GCTA leaves out (n−1)/2 · log 2π and counts −½ log|XᵀX|, which of the intercept alone is −½ log n.
        shift = (ours.n - 1) / 2 * np.log(2 * np.pi) - np.log(ours.n) / 2
        assert ours.log_likelihood + shift == pytest.approx(theirs["logL"], abs=2e-3)
