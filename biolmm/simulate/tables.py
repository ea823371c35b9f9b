"""The tables beside a simulated store: traits, covariates, samples and the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from biolmm.errors import OutputError, named
from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.effects import block_effects
from biolmm.simulate.people import People
from biolmm.simulate.traits import Traits
from biolmm.simulate.variants import VariantBlock, blocks_of, effect_allele, variant_id, variant_number
from biolmm.store.layout import SampleTable

_DECIMALS = 8


@dataclass(frozen=True)
class SimulatedFiles:
    """Where a simulated cohort lies; `bed` is there only when asked for.

    Examples
    --------
    >>> SimulatedFiles.beside(Path("cohort.zarr")).traits.name
    'cohort.traits.tsv'
    """

    store: Path
    traits: Path
    covariates: Path
    samples: Path
    truth: Path
    truth_json: Path
    bed: Path

    @classmethod
    def beside(cls, out: Path) -> SimulatedFiles:
        """Name the files that go with a store."""
        stem = out.name.removesuffix(".zarr")
        names = ("traits.tsv", "covariates.tsv", "samples.tsv", "truth.tsv", "truth.json", "bed")
        return cls(out, *(out.with_name(f"{stem}.{name}") for name in names))

    def refuse_existing(self, *, bed: bool) -> None:
        """Raise `OutputError` when a file that would be written is there."""
        paths = [getattr(self, field.name) for field in fields(self) if field.name != "bed"]
        if bed:
            paths += [self.bed, self.bed.with_suffix(".bim"), self.bed.with_suffix(".fam")]
        existing = [path for path in paths if path.exists()]
        if existing:
            raise OutputError(f"{named(existing)} would be overwritten. Remove what is there, or choose another name.")


def write_data(files: SimulatedFiles, samples: SampleTable, traits: pd.DataFrame, covariates: pd.DataFrame) -> None:
    """Write the tables that an analysis starts from: `FID IID` and one column per trait or covariate."""
    for path, table in ((files.traits, traits), (files.covariates, covariates)):
        _write(path, pd.concat([_ids(samples), table], axis=1))


def write_truth(
    config: SimulateConfig, files: SimulatedFiles, people: People, samples: SampleTable, traits: Traits
) -> None:
    """Write what an analysis should find: effects, genetic values, ancestry, families, realised heritability."""
    _write(files.samples, pd.concat([_ids(samples), _sample_columns(config, people, samples, traits)], axis=1))
    with _whole(files.truth) as aside:
        _write_effects(config, aside, traits)
    with _whole(files.truth_json) as aside:
        aside.write_text(json.dumps(_summary(config, people, traits), indent=2) + "\n", encoding="utf-8")


def _ids(samples: SampleTable) -> pd.DataFrame:
    return pd.DataFrame({"FID": samples.family_id.tolist(), "IID": samples.sample_id.tolist()})


def _sample_columns(config: SimulateConfig, people: People, samples: SampleTable, traits: Traits) -> pd.DataFrame:
    names = _population_names(config)
    with_none = np.append(samples.sample_id, "0")  # index −1: no such parent in the cohort
    columns: dict[str, Any] = {
        "father": with_none[people.father_index],
        "mother": with_none[people.mother_index],
        "sex": people.sex,
        "population": np.array(names)[people.ancestry.argmax(axis=1)],
    }
    columns |= {f"ancestry_{name}": people.ancestry[:, i] for i, name in enumerate(names)}
    columns |= {f"genetic_{name}": traits.genetic[:, t] for t, name in enumerate(config.trait_names)}
    return pd.DataFrame(columns)


def _population_names(config: SimulateConfig) -> list[str]:
    return [f"POP{i + 1}" for i in range(config.n_populations)]


def _write_effects(config: SimulateConfig, path: Path, traits: Traits) -> None:
    """Write one row per trait and causal variant, block by block."""
    schema = pa.schema(
        {
            "trait": pa.string(),
            "variant_id": pa.string(),
            "contig": pa.string(),
            "position": pa.int64(),
            "effect_allele": pa.string(),
            "beta": pa.float64(),
        }
    )
    path.write_text("\t".join(schema.names) + "\n", encoding="utf-8")
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("ab") as file, pa.csv.CSVWriter(file, schema, write_options=options) as writer:
        for contig in config.contigs:
            for block in blocks_of(config, contig) if config.may_be_causal(contig) else ():
                for columns in _effect_rows(config, block, traits):
                    writer.write_table(pa.table(columns, schema=schema))


def _effect_rows(config: SimulateConfig, block: VariantBlock, traits: Traits) -> Iterator[dict[str, Any]]:
    effects = block_effects(config, block) * traits.scale
    allele, number = effect_allele(block), variant_number(block)
    for t, name in enumerate(config.trait_names):
        rows = np.flatnonzero(effects[:, t])
        if len(rows):
            yield {
                "trait": [name] * len(rows),
                "variant_id": variant_id(number[rows]),
                "contig": [block.contig.name] * len(rows),
                "position": block.position[rows],
                "effect_allele": allele[rows].tolist(),
                "beta": effects[rows, t],
            }


def _summary(config: SimulateConfig, people: People, traits: Traits) -> dict[str, Any]:
    main = people.ancestry.argmax(axis=1)
    return {
        "config": config.as_dict(),
        "contigs": {
            contig.name: {"n_variants": contig.n_variants, "causal": config.may_be_causal(contig)}
            for contig in config.contigs
        },
        "populations": {name: int((main == i).sum()) for i, name in enumerate(_population_names(config))},
        "n_admixed": int((people.ancestry.max(axis=1) < 1).sum()),
        "n_families": people.n_families,
        "n_in_families": int((people.family >= 0).sum()),
        "traits": {
            name: {
                "h2": config.h2_of_traits[t],
                "realised_h2": float(traits.h2[t]),
                "realised_h2_within_ancestry": float(traits.h2_within[t]),
                "n_observed": int(np.isfinite(traits.values[:, t]).sum()),
            }
            for t, name in enumerate(config.trait_names)
        },
    }


def _write(path: Path, table: pd.DataFrame) -> None:
    """Write numbers with up to eight decimals, NA where they are missing (pandas would take ten times as long)."""
    columns = {name: _as_text(table[name]) for name in table.columns}
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with _whole(path) as aside, aside.open("wb") as file:
        file.write(("\t".join(columns) + "\n").encode())
        pa.csv.write_csv(pa.table(columns), file, write_options=options)


def _as_text(column: pd.Series[Any]) -> pa.Array:
    values = column.to_numpy()
    if values.dtype.kind == "f":
        values = values.round(_DECIMALS) + 0.0  # no negative zeros
    return pc.fill_null(pc.cast(pa.array(values, from_pandas=True), pa.string()), "NA")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a name to write under; the file takes its own name when it is whole."""
    aside = path.with_name(path.name + ".partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
