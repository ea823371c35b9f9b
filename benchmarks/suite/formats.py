"""Every genotype format: converting it, reading it, and scanning it, beside other programs on the same files.

The cohort is simulated as hard calls; PLINK 2 writes it in each format, and dosages around a twentieth of its variants.
What cannot be written or run here (a program that is not installed) is left out and said so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from suite.cohorts import cohort
from suite.common import BIOLMM, Command, Outcome, Process, Settings, empty_folder, launch

DOSAGE_SHARE = 20
READERS = Path(__file__).with_name("readers.py")


@dataclass(frozen=True)
class Bench:
    """Where the files are, and how programs are run."""

    settings: Settings
    folder: Path
    bed: Path
    traits: Path

    @property
    def n_dosages(self) -> int:
        """Variants of the files of dosages."""
        return max((self.settings.variants or 0) // DOSAGE_SHARE, 64)

    def genotypes(self, what: str) -> int:
        """Genotypes that a job is about."""
        n_variants = self.n_dosages if "dosages" in what else self.settings.variants or 0
        return (self.settings.samples or 0) * n_variants

    @property
    def threads(self) -> tuple[str, str]:
        """The option for threads of biolmm and PLINK 2."""
        return "--threads", str(self.settings.threads)

    def measure(self, program: str, what: str, command: Command, *, out: Path | None = None) -> dict[str, Any]:
        """Run a program so often; return the row of the run of median CPU time."""
        runs = []
        for repetition in range(self.settings.repetitions or (1 if self.settings.toy else 3)):
            if out is not None and out.exists():
                shutil.rmtree(out) if out.is_dir() else out.unlink()
            log = self.folder / f"{program}-{what}-{repetition}.launched".replace(" ", "_").replace("/", "_")
            runs.append(launch(command, log, self.settings.limit_seconds))
        middle = sorted(runs, key=lambda run: run.cpu_seconds)[len(runs) // 2]
        bits = {} if out is None else {"bits_per_genotype": 8 * _size(out) / self.genotypes(what)}
        return middle.row(program=program, job=what, **self._rates(middle, what), **bits)

    def read(self, library: str, path: Path) -> dict[str, Any]:
        """Decode a file with a library; the reader itself says how long that took, without start-up."""
        log = self.folder / f"{library}-{path.name}.launched"
        runs = [
            launch([sys.executable, READERS, library, path], log, self.settings.limit_seconds).output.split()
            for _ in range(self.settings.repetitions or (1 if self.settings.toy else 3))
        ]
        seconds = sorted(float(words[-1]) for words in runs)[len(runs) // 2]
        rate = self.genotypes(path.name) / 1e9 / seconds
        return {"library": library, "file": path.name, "cpu_seconds": seconds, "billion_genotypes_per_cpu_second": rate}

    def _rates(self, process: Process, what: str) -> dict[str, float]:
        rate = self.genotypes(what) / 1e9
        return {
            "billion_genotypes_per_cpu_second": rate / process.cpu_seconds,
            "billion_genotypes_per_second": rate / process.wall_seconds,
        }


def run(settings: Settings) -> Outcome:
    """Convert, read and scan in every format."""
    settings = settings.sized(*((400, 300) if settings.toy else (20_000, 100_000)))
    assert settings.samples and settings.variants
    files = cohort(settings.work, settings.samples, settings.variants)
    bench = Bench(settings, empty_folder(settings.work / "formats"), files.bed, files.traits)
    outcome = Outcome("formats", settings.parameters())
    if shutil.which("plink2") is None:
        outcome.remarks.append("plink2 is not installed: only PLINK 1 files are measured")
    else:
        _write_formats(bench)
    outcome.tables["conversion, whole process"] = _conversions(bench, outcome)
    outcome.tables["decoding everything, one thread, without start-up"] = _readings(bench, outcome)
    outcome.tables["plain regression of one trait, whole process"] = _scans(bench)
    outcome.remarks.append("start-up (about a CPU second of Python) is in all times: larger files weigh it less")
    return outcome


def _write_formats(bench: Bench) -> None:
    """Write the calls as `calls.*` and dosages around them as `dosages.*`."""
    plink, folder = ["plink2", *bench.threads], bench.folder

    def plink2(name: str, *arguments: str | Path) -> None:
        launch([*plink, *arguments, "--out", folder / name], folder / f"{name}-write.launched", 3600.0)

    calls = ("--bfile", bench.bed.with_suffix(""))
    plink2("calls", *calls, "--make-pgen")
    _write_dosages(bench)
    plink2("dosages", "--import-dosage", folder / "dosages.txt", "noheader", "--fam", bench.bed.with_suffix(".fam"),
           "--make-pgen")  # fmt: skip
    plink2("dosages", "--pfile", folder / "dosages", "--export", "bgen-1.2", "bits=8", "ref-first", "id-paste=iid")
    plink2("dosages", "--pfile", folder / "dosages", "--export", "vcf", "bgz", "vcf-dosage=DS", "id-paste=iid")
    (folder / "dosages.txt").unlink()


def _write_dosages(bench: Bench) -> None:
    """Write uncertain dosages around the calls as text: one in five samples of a variant is off a whole number."""
    from biolmm.files.bed import open_bed
    from biolmm.files.encoding import Encoding, dosages_from_rows

    rng = np.random.default_rng(1)
    source = open_bed(bench.bed)
    n = source.samples.n
    with (bench.folder / "dosages.txt").open("w") as file:
        for start in range(0, bench.n_dosages, 256):
            stop = min(start + 256, bench.n_dosages)
            block = source.decoder.read(start, stop, Encoding.CALLS)
            d = np.nan_to_num(dosages_from_rows(block.rows, Encoding.CALLS, n))
            noise = np.where(rng.random(d.shape) < 0.2, rng.normal(0, 0.2, d.shape), 0.0)
            d = np.clip(d + noise, 0, 2)
            for row, j in zip(d, range(start, stop), strict=True):
                names = (source.variants.variant_id[j], source.variants.alt[j], source.variants.ref[j])
                file.write(" ".join([*names, *np.char.mod("%.3f", row)]) + "\n")


def _conversions(bench: Bench, outcome: Outcome) -> list[dict[str, Any]]:
    """Convert every file to a store, and by the program that the format is at home in."""
    out, few, stem = bench.folder / "out", bench.threads, bench.bed.with_suffix("")
    rows = [bench.measure("biolmm", "BED to store", [*BIOLMM, "convert", bench.bed, out, *few], out=out)]
    if shutil.which("plink2"):
        pgen = bench.folder / "made.pgen"
        for job in ("--make-pgen", "--make-bed"):
            made = pgen if job == "--make-pgen" else pgen.with_suffix(".bed")
            command: Command = ["plink2", "--bfile", stem, job, *few, "--out", pgen.with_suffix("")]
            rows.append(bench.measure("plink2", f"BED, {job}", command, out=made))
    if find_spec("bio2zarr"):
        command = [sys.executable, "-m", "bio2zarr", "plink2zarr", "convert", "-f", "-Q", stem, out, "-p",
                   str(bench.settings.threads)]  # fmt: skip
        rows.append(_tried(lambda: bench.measure("bio2zarr", "BED to VCF Zarr", command, out=out), outcome))
    for name in ("calls.pgen", "dosages.pgen", "dosages.bgen", "dosages.vcf.gz"):
        path = bench.folder / name
        if path.exists():
            rows.append(bench.measure("biolmm", f"{name} to store", [*BIOLMM, "convert", path, out, *few], out=out))
            rows[-1]["source_bits_per_genotype"] = 8 * path.stat().st_size / bench.genotypes(name)
    if find_spec("bio2zarr") and (bench.folder / "dosages.vcf.gz").exists():
        command = [sys.executable, "-m", "bio2zarr", "vcf2zarr", "convert", "-f", "-Q",
                   bench.folder / "dosages.vcf.gz", out, "-p", str(bench.settings.threads)]  # fmt: skip
        rows.append(_tried(lambda: bench.measure("bio2zarr", "dosages.vcf.gz to VCF Zarr", command, out=out), outcome))
    if shutil.which("plink2") and (bench.folder / "dosages.bgen").exists():
        command = ["plink2", "--bgen", bench.folder / "dosages.bgen", "ref-first", "--sample",
                   bench.folder / "dosages.sample", "--make-pgen", *few, "--out", bench.folder / "made"]  # fmt: skip
        rows.append(bench.measure("plink2", "dosages.bgen, --make-pgen", command, out=bench.folder / "made.pgen"))
    return [row for row in rows if row]


def _readings(bench: Bench, outcome: Outcome) -> list[dict[str, Any]]:
    """Decode all rows of a file in one thread, by biolmm and by the format's own library."""
    rows = []
    for name, library in (("dosages.bgen", "cbgen"), ("dosages.pgen", "pgenlib"), ("calls.pgen", "pgenlib"),
                          ("dosages.vcf.gz", "cyvcf2")):  # fmt: skip
        path = bench.folder / name
        if not path.exists():
            continue
        for reader in ("biolmm", library):
            if reader != "biolmm" and not find_spec(reader):
                outcome.remarks.append(f"{reader} is not installed")
                continue
            rows.append(bench.read(reader, path))
    return rows


def _scans(bench: Bench) -> list[dict[str, Any]]:
    """Regress one trait on every variant, from the store and straight from the files, beside `plink2 --glm`."""
    few, out = bench.threads, bench.folder / "out"
    store = bench.bed.with_suffix(".zarr")
    rows = []
    tables: Command = ["--traits", bench.traits, "--method", "linear-only", "--out", out, *few]
    for name, path in (
        ("store", store), ("BED", bench.bed), ("calls.pgen", bench.folder / "calls.pgen"),
        ("dosages.pgen", bench.folder / "dosages.pgen"), ("dosages.bgen", bench.folder / "dosages.bgen"),
    ):  # fmt: skip
        if path.exists():
            # The plain regression makes no relatedness matrix: the model's genotypes only say who is analysed.
            command = [*BIOLMM, "gwas", "--genotypes", path, "--model-genotypes", store, *tables]
            rows.append(bench.measure("biolmm", f"scan {name}", command, out=out))
            rows[-1].pop("bits_per_genotype")
    for name in ("calls.pgen", "dosages.pgen") if shutil.which("plink2") else ():
        command = ["plink2", "--pfile", (bench.folder / name).with_suffix(""), "--pheno", bench.traits, "--glm",
                   "allow-no-covars", "hide-covar", *few, "--out", bench.folder / "glm"]  # fmt: skip
        rows.append(bench.measure("plink2", f"--glm {name}", command))
    return rows


def _tried(measure: Callable[[], dict[str, Any]], outcome: Outcome) -> dict[str, Any]:
    """Measure a rival; where it fails, say so instead."""
    try:
        return measure()
    except RuntimeError as error:
        outcome.remarks.append(str(error).splitlines()[0])
        return {}


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(int(file.stat().st_size) for file in files)
