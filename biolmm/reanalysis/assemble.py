"""From pieces to a release: one folder of ordinary results, whose parts are links to those of the pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from biolmm.atomic import atomic_path, saving
from biolmm.pipeline.calibration import calibrate_scan
from biolmm.pipeline.config import AnalysisConfig
from biolmm.reanalysis.pieces import Work, link
from biolmm.reanalysis.release import PIECES, TABLES_NAME, Release, TraitRecord
from biolmm.reanalysis.state import Look
from biolmm.reml.model import LOCO_NAME, MODEL_FOLDER, NULL_NAME
from biolmm.results.folder import write_tsv
from biolmm.results.paths import ASSOCIATIONS, LINEAR, list_parts, list_traits, natural_key, part_path, quote_name
from biolmm.results.record import RunRecord, read_record
from biolmm.results.ssf import write_ssf
from biolmm.results.tables import read_result_table, write_result_table

_NOT_OURS = "scanned before others were appended"


@dataclass(frozen=True)
class Assembly:
    """Everything that a release is put together from.

    Attributes
    ----------
    config, seen, work
        The analysis, its inputs, and its pieces.
    previous
        The release before.
    out
        Folder of the releases.
    folder
        Where the release is built.
    """

    config: AnalysisConfig
    seen: Look
    work: Work
    previous: Release | None
    out: Path
    folder: Path

    @property
    def traits(self) -> dict[str, TraitRecord]:
        """Traits with results."""
        return {name: record for name, record in self.work.traits.items() if record.status != "failed"}

    def piece(self, name: str | None) -> Path:
        """Return the folder of a piece."""
        return self.out / PIECES / str(name)

    def build(self) -> RunRecord:
        """Link and write everything but the comparison with the release before and its record."""
        with saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._link_parts()
        self._write_tables()
        self._link_model()
        self._write_ssf()
        run = self._record()
        run.write(self.folder, finished=False)
        if self.config.ld_scores is not None and list_traits(self.folder):
            calibrate_scan(self.folder, self.config.ld_scores)
        with atomic_path(self.folder / TABLES_NAME) as aside:
            self.seen.snapshot().to_parquet(aside)
        self._write_traits()
        return run

    def _link_parts(self) -> None:
        """Link every trait's parts, those of each piece numbered behind those of the one before."""

        @cache
        def parts_of(piece: str, kind: str) -> dict[str, list[tuple[str, Path]]]:
            found: dict[str, list[tuple[str, Path]]] = {}
            folder = self.piece(piece)
            for trait, contig, path in list_parts(folder, kind=kind) if (folder / kind).is_dir() else []:
                found.setdefault(trait, []).append((contig, path))
            return found

        for trait, record in self.traits.items():
            for kind in (ASSOCIATIONS, LINEAR):
                n_parts: Counter[str] = Counter()
                for contig, path in (part for piece in record.scans for part in parts_of(piece, kind).get(trait, [])):
                    link(path, part_path(self.folder / kind, trait, contig, n_parts[contig]))
                    n_parts[contig] += 1

    def _write_tables(self) -> None:
        """Put together `h2`, `loco`, `gamma` and `leads` from the rows of every trait; link those of the cohort."""
        wanted = {"h2": True, "loco": True, "gamma": False}
        for table, of_model in wanted.items():
            rows = [self._rows(table, name, record, of_model) for name, record in self.traits.items()]
            found = [row for row in rows if row is not None and len(row)]
            if found:
                write_result_table(self.folder, table, pd.concat(found, ignore_index=True))
        first = next(iter(self.traits.values()))
        for table in ("eigen", "pcs"):
            path = self.piece(first.model) / f"{table}.tsv"
            if path.is_file():
                link(path, self.folder / path.name)
        leads = [merged_leads(self._leads(name, record), self._window) for name, record in self.traits.items()]
        found = [frame for frame in leads if frame is not None]
        if found:
            filled = [frame for frame in found if len(frame)] or found[:1]
            write_result_table(self.folder, "leads", pd.concat(filled, ignore_index=True))

    @property
    def _window(self) -> int:
        return self.config.scan.lead_window_bp

    def _rows(self, table: str, trait: str, record: TraitRecord, of_model: bool) -> pd.DataFrame | None:
        piece = record.model if of_model or not record.scans else record.scans[0]
        found = read_result_table(self.piece(piece), table)
        return None if found is None else found[found["trait"] == trait]

    def _leads(self, trait: str, record: TraitRecord) -> list[pd.DataFrame]:
        tables = [read_result_table(self.piece(piece), "leads") for piece in record.scans]
        return [table[table["trait"] == trait] for table in tables if table is not None]

    def _link_model(self) -> None:
        """Link the model, where all traits have the same, so that the release can be scanned with and predicted from."""
        models = {record.model for record in self.traits.values()}
        if len(models) != 1:
            return
        source = self.piece(models.pop()) / MODEL_FOLDER
        for name in (NULL_NAME, LOCO_NAME, f"{NULL_NAME}.done.json", f"{LOCO_NAME}.done.json"):
            if (source / name).exists():
                link(source / name, self.folder / MODEL_FOLDER / name)

    def _write_ssf(self) -> None:
        """Write GWAS-SSF files, or link those of the release before for traits whose results are the same."""
        if not self.config.ssf:
            return
        for name, record in self.traits.items():
            file = Path("ssf") / f"{quote_name(name)}.tsv.gz"
            before = None if self.previous is None else self.previous.path / "ssf"
            files = [] if before is None else sorted(before.glob(f"{file.name}*"))
            if record.status == "taken over" and files:
                for each in files:
                    link(each, self.folder / "ssf" / each.name)
                continue
            with saving(self.folder):
                (self.folder / "ssf").mkdir(exist_ok=True)
            write_ssf(self.folder, name, self.folder / file)

    def _record(self) -> RunRecord:
        """Return the record of the release: its inputs, what was dropped, and what the pieces made for it cost."""
        config, cohort = self.config, self.seen.cohort
        run = RunRecord.start(config.command, seed=config.scan.seed, parameters=config.parameters())
        run.add_input("genotypes", self.seen.genotypes.scan.path, self.seen.state.scan.fingerprint)
        if self.seen.state.model.fingerprint != self.seen.state.scan.fingerprint:
            run.add_input("model_genotypes", self.seen.genotypes.model.path, self.seen.state.model.fingerprint)
        for name, path in config.inputs.files().items():
            run.add_input(name, path)
        records = {name: read_record(self.piece(name)) for name in self._pieces()}
        for piece in self.work.pieces:
            stages = records[piece.name]["stages"]
            run.stages += [{**stage, "name": f"{stage['name']} ({piece.label})"} for stage in stages]
        run.counts["samples"] = dict(cohort.counts.get("samples", {}))
        run.counts["variants"] = self._variants(records)
        dropped = [item for record in records.values() for item in record["dropped"] if item["why"] != _NOT_OURS]
        run.dropped = [item for i, item in enumerate(dropped) if item not in dropped[:i]]
        for message in (message for record in records.values() for message in record["warnings"]):
            run.warn(message)
        for name, trait in self.work.traits.items():
            if trait.status == "failed":
                run.warn(f"trait {name!r} failed: {trait.why}")
            else:
                run.traits[name] = records[str(trait.model)]["traits"].get(name, {})
        return run

    def _pieces(self) -> Iterable[str]:
        """Name the pieces of the release, each once."""
        names = [name for record in self.traits.values() for name in (record.model, *record.scans) if name is not None]
        return dict.fromkeys([*names, *(piece.name for piece in self.work.pieces)])

    def _variants(self, records: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Count variants over the pieces of the first trait."""
        first = next(iter(self.traits.values()))
        found = [records[piece]["counts"].get("variants", {}) for piece in first.scans]
        counts = {name: sum(each.get(name, 0) for each in found) for name in ("scanned", "monomorphic")}
        model = records[str(first.model)]["counts"].get("variants", {}).get("model")
        model = self.seen.state.model.n_variants if model is None else model
        return {"genotypes": self.seen.state.scan.n_variants, "model": model, **counts}

    def _write_traits(self) -> None:
        rows = [
            {"trait": name, "status": record.status, "why": record.why,
             "model": None if record.model is None else f"{PIECES}/{record.model}",
             "scans": ",".join(f"{PIECES}/{piece}" for piece in record.scans) or None}
            for name, record in self.work.traits.items()
        ]  # fmt: skip
        write_tsv(self.folder / "traits.tsv", pd.DataFrame(rows))

    def finish(self, run: RunRecord) -> None:
        """Write `run.json` and the report."""
        run.write(self.folder)
        from biolmm.report import write_report  # matplotlib is slow to import and only wanted here

        write_report(self.folder)


def merged_leads(tables: list[pd.DataFrame], window_bp: int) -> pd.DataFrame | None:
    """Put the leads of one trait's pieces together, in genome order.

    A piece without any locus names its best variant all the same, with no significant variants; of these one is left where no
    piece has a locus. A locus whose lead is within `window_bp` of a stronger one of another piece is joined to that: their
    extents and numbers of significant variants are added up.

    Returns
    -------
    DataFrame or None
        None without any table.
    """
    if not tables:
        return None
    if len(tables) == 1:
        return tables[0]
    leads = pd.concat([table.assign(_piece=i) for i, table in enumerate(tables)], ignore_index=True)
    leads = leads.sort_values("chisq", ascending=False, kind="stable")
    loci = leads[leads["n_significant"] > 0]
    kept: list[dict[str, Any]] = []
    for row in (loci if len(loci) else leads.head(1)).to_dict("records"):
        near = [
            each
            for each in kept
            if each["chromosome"] == row["chromosome"]
            and each["_piece"] != row["_piece"]
            and abs(each["base_pair_location"] - row["base_pair_location"]) <= window_bp
        ]
        if near:
            near[0]["locus_start_bp"] = min(near[0]["locus_start_bp"], row["locus_start_bp"])
            near[0]["locus_end_bp"] = max(near[0]["locus_end_bp"], row["locus_end_bp"])
            near[0]["n_significant"] += row["n_significant"]
        else:
            kept.append({str(name): value for name, value in row.items()})
    kept.sort(key=lambda row: (natural_key(row["chromosome"]), row["base_pair_location"]))
    return pd.DataFrame(kept, columns=leads.columns).drop(columns="_piece")
