"""VCF Zarr: what bio2zarr writes is read as its VCF or PLINK files are, and what is written opens everywhere."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, OutputError
from biolmm.files.bed import bed_files, read_packed_rows
from biolmm.files.encoding import Encoding, Rows, dosages_from_rows
from biolmm.files.genotypes import BLOCK_SUMS, Block, Source, concatenate_variants
from biolmm.files.vcf import open_vcf
from biolmm.store.convert import convert_sources
from biolmm.store.export_vcz import export_vcz, plan_export_vcz
from biolmm.store.read import GenotypeStore
from biolmm.store.vcz import is_vcz, open_vcz
from oracles.vcf_text import HEADER, Record, vcf_text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about optional parts of their own
    import sgkit
    from bio2zarr import plink as bio2zarr_plink
    from bio2zarr import vcf as bio2zarr_vcf

FIELDS = ("GT", "DS", "HDS", "GP")
N_SAMPLES = 7


def random_record(rng: random.Random, contig: str, position: int, fields: tuple[str, ...]) -> Record:
    """Draw a record with one to three ALT alleles, missing, half-missing and haploid calls."""
    n_alt = rng.choice([1, 1, 1, 2, 3])
    samples = []
    for _ in range(N_SAMPLES):
        alleles = [rng.choice([".", *map(str, range(n_alt + 1))]) for _ in range(2)]
        values = {"GT": rng.choice(["/", "|"]).join(alleles if rng.random() < 0.8 else alleles[:1])}
        values["DS"] = ",".join(f"{rng.random():.3f}" for _ in range(n_alt))
        values["HDS"] = f"{rng.random():.3f},{rng.random():.3f}"
        cuts = sorted(rng.randrange(1001) for _ in range((n_alt + 1) * (n_alt + 2) // 2 - 1))
        values["GP"] = ",".join(f"{(b - a) / 1000:.3f}" for a, b in zip([0, *cuts], [*cuts, 1000], strict=True))
        samples.append(":".join(values[f] if f == "GT" or rng.random() < 0.7 else "." for f in fields))
    return Record(
        contig, position, f"v{position}", "AT", ",".join(["C", "<DEL>", "*"][:n_alt]), ":".join(fields), samples
    )


@pytest.fixture(scope="module", params=[("GT",), FIELDS, ("DS",)], ids="-".join)
def vcfs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of one contig each: bio2zarr reads several contigs with an index only."""
    rng, folder = random.Random(1), tmp_path_factory.mktemp("vcf")
    paths = []
    for contig in ("chr2", "X"):
        records = [random_record(rng, contig, 10 * i + 1, request.param) for i in range(25)]
        paths.append(folder / f"{contig}.vcf")
        declared = [
            line for line in HEADER.splitlines(True) if "FORMAT" not in line or line[13:].split(",")[0] in request.param
        ]
        paths[-1].write_text(vcf_text(records, "".join(declared)))  # bio2zarr makes an array of every field declared
    return paths


@pytest.fixture(scope="module", params=[2, 3])
def vcz(request: pytest.FixtureRequest, vcfs: list[Path]) -> Path:
    """The same as VCF Zarr, in chunks that cut everything."""
    out = vcfs[0].parent / f"v{request.param}.vcz"
    bio2zarr_vcf.convert(vcfs, out, zarr_format=request.param, variants_chunk_size=8, samples_chunk_size=3)
    return out


def read_all(source: Source, encoding: Encoding) -> Block:
    return source.decoder.read(0, source.variants.n, encoding)


def test_values_are_those_of_the_vcf(vcfs: list[Path], vcz: Path) -> None:
    assert is_vcz(vcz)
    found, expected = open_vcz(vcz), [open_vcf(path) for path in vcfs]
    table, both = found.variants, concatenate_variants([source.variants for source in expected])
    for name in ("contig", "position", "variant_id", "ref", "alt"):
        assert getattr(table, name).tolist() == getattr(both, name).tolist()
    assert table.contig_id == both.contig_id
    assert found.samples.sample_id.tolist() == expected[0].samples.sample_id.tolist()
    assert found.has_dosages == expected[0].has_dosages
    for encoding in Encoding:
        block, blocks = read_all(found, encoding), [read_all(source, encoding) for source in expected]
        np.testing.assert_array_equal(block.rows, np.concatenate([each.rows for each in blocks]))
        for name in BLOCK_SUMS:
            parts = [getattr(each, name) for each in blocks]
            assert (getattr(block, name) is None) == (parts[0] is None)
            if parts[0] is not None:  # of values in single precision, 2⁻²⁴ of each
                np.testing.assert_allclose(getattr(block, name), np.concatenate(parts), rtol=4 * 2.0**-24)


def test_any_part_in_any_thread_and_process_is_the_same(vcz: Path) -> None:
    source = open_vcz(vcz)
    whole = read_all(source, Encoding.DOSAGE8)
    decoder = pickle.loads(pickle.dumps(source.decoder))
    cuts = np.sort(np.random.default_rng(2).integers(0, source.variants.n + 1, (30, 2)), axis=1)
    with ThreadPoolExecutor(4) as pool:
        for cut, block in zip(
            cuts, pool.map(lambda cut: decoder.read(*map(int, cut), Encoding.DOSAGE8), cuts), strict=True
        ):
            np.testing.assert_array_equal(block.rows, whole.rows[slice(*cut)])
            for name in BLOCK_SUMS:
                if getattr(block, name) is not None:
                    np.testing.assert_array_equal(getattr(block, name), getattr(whole, name)[slice(*cut)])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plink_files_are_read_as_bio2zarr_reads_them(write_plink, zarr_format: int, tmp_path: Path) -> None:
    calls = np.random.default_rng(0).integers(0, 4, (40, 13), dtype=np.uint8)
    calls[0] = 0
    bed = write_plink(calls, contigs=["1"] * 30 + ["4"] * 10)
    bio2zarr_plink.convert(bed.with_suffix(""), tmp_path / "p.vcz", variants_chunk_size=7, zarr_format=zarr_format)
    source = open_vcz(tmp_path / "p.vcz")
    np.testing.assert_array_equal(
        read_all(source, Encoding.CALLS).rows, read_packed_rows(bed_files(bed).bed, 13, 0, 40)
    )


@pytest.fixture(scope="module", params=["calls", "dosage8"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GenotypeStore:
    """A store of several chunks and contigs."""
    rng, folder = random.Random(5), tmp_path_factory.mktemp("store")
    fields = ("GT",) if request.param == "calls" else ("GT", "DS")
    records = [random_record(rng, c, i, fields) for c in ("chr2", "X") for i in range(1, 90)]
    (folder / "x.vcf").write_text(vcf_text(records))
    source = open_vcf(folder / "x.vcf")
    return convert_sources([source], folder / "x.zarr", encoding=request.param, chunk_variants=64)


@pytest.fixture
def exported(store: GenotypeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store as VCF Zarr, two of its chunks in one, in samples of five."""
    monkeypatch.setattr("biolmm.store.export_vcz.CHUNK_VARIANTS", 128)
    monkeypatch.setattr("biolmm.store.export_vcz.CHUNK_SAMPLES", 5)
    assert plan_export_vcz(store).n_tasks == -(-store.n_variants // 128)
    return export_vcz(store, tmp_path / "x.vcz", map_tasks=map_tasks)


def rows_of(store: GenotypeStore) -> Rows:
    return np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])


def test_what_is_exported_comes_back(store: GenotypeStore, exported: Path) -> None:
    assert not is_vcz(store.path)
    source = open_vcz(exported)
    assert source.has_dosages == store.encoding.is_dosage
    for mine, theirs in ((source.variants, store.variants), (source.samples, store.samples)):
        for name in vars(mine):
            assert list(getattr(mine, name)) == list(getattr(theirs, name)), name
    np.testing.assert_array_equal(read_all(source, store.encoding).rows, rows_of(store))


def test_vcztools_gives_a_vcf_of_it(store: GenotypeStore, exported: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vcztools", "view", "--no-version", str(exported)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "back.vcf").write_text(text)
    source = open_vcf(tmp_path / "back.vcf")
    assert source.variants.variant_id.tolist() == store.variant_id.tolist()
    assert source.variants.position.tolist() == store.variant_position.tolist()
    np.testing.assert_array_equal(read_all(source, store.encoding).rows, rows_of(store))
    region = subprocess.run(
        [*command, "--regions", "X:20-30", "--no-header"], capture_output=True, text=True, check=True
    )
    assert len(region.stdout.splitlines()) == int(
        np.sum((store.variant_position + 1 >= 20) & (store.variant_position <= 30) & (store.variant_contig == 1))
    )  # fmt: skip; REF has two bases


def test_sgkit_and_xarray_open_it(store: GenotypeStore, exported: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = sgkit.load_dataset(exported)
        stats = sgkit.variant_stats(dataset, merge=False).compute()
    np.testing.assert_array_equal(
        stats.variant_n_called, store.n_samples - (dataset.call_genotype_mask.any("ploidy")).sum("samples")
    )
    if not store.encoding.is_dosage:
        np.testing.assert_array_equal(stats.variant_allele_count[:, 1], store.alt_count)
    with xr.open_zarr(exported, consolidated=False) as opened:
        assert opened.call_genotype.dims == ("variants", "samples", "ploidy")
        if store.encoding.is_dosage:
            expected = dosages_from_rows(rows_of(store), store.encoding, store.n_samples)
            np.testing.assert_array_equal(opened.call_DS.values, expected)


def test_what_is_there_is_not_overwritten_unasked(store: GenotypeStore, tmp_path: Path) -> None:
    out = export_vcz(store, tmp_path / "x.vcz")
    with pytest.raises(
        OutputError, match=r"x\.vcz exists already\. Remove it, choose another name, or ask to overwrite"
    ):
        export_vcz(store, out)
    export_vcz(store, out, overwrite=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"folder exists already\. Remove it, choose another name\."):
        export_vcz(store, tmp_path / "folder", overwrite=True)
    (tmp_path / "y.vcz.partial").mkdir()
    with pytest.raises(OutputError, match=r"y\.vcz\.partial is in the way and was not written by biolmm"):
        export_vcz(store, tmp_path / "y.vcz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.vcz", "y.vcz.partial"]


def test_an_export_that_was_killed_is_begun_again(store: GenotypeStore, tmp_path: Path) -> None:
    def killed(*_: object) -> list[None]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_vcz(store, tmp_path / "x.vcz", map_tasks=killed)
    assert not (tmp_path / "x.vcz").exists()
    export_vcz(store, tmp_path / "x.vcz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.vcz"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small store of bio2zarr, to be damaged."""
    rng = random.Random(3)
    (tmp_path / "x.vcf").write_text(vcf_text([random_record(rng, "X", i, ("GT", "DS")) for i in range(1, 21)]))
    bio2zarr_vcf.convert([tmp_path / "x.vcf"], tmp_path / "x.vcz", variants_chunk_size=8, samples_chunk_size=4)
    return tmp_path / "x.vcz"


NEEDED = ("call_genotype", "call_DS", "sample_id", "contig_id", "variant_position", "variant_allele", "variant_id")


def read_everything(path: Path) -> list[Rows]:
    source = open_vcz(path)
    return [read_all(source, encoding).rows for encoding in Encoding]


def test_a_missing_chunk_is_not_taken_for_reference(small: Path) -> None:
    for name in NEEDED:
        for chunk in (path for path in (small / name).iterdir() if not path.name.startswith(".")):
            content = chunk.read_bytes()
            chunk.unlink()
            with pytest.raises(InputFileError, match=f"{name}/{chunk.name} is missing: a chunk of {name} was lost"):
                read_everything(small)
            chunk.write_bytes(content)
    read_everything(small)


def test_a_chunk_lost_after_opening_is_noticed(small: Path) -> None:
    source = open_vcz(small)
    (small / "call_genotype" / "1.1.0").unlink()
    source.decoder.read(0, 8, Encoding.CALLS)
    with pytest.raises(InputFileError, match=r"call_genotype/1\.1\.0 is missing"):
        read_all(source, Encoding.CALLS)


@pytest.mark.parametrize("name", ["call_genotype", "call_DS", "variant_position", "variant_contig", "variant_allele"])
def test_damage_is_refused_or_read_as_it_is(small: Path, name: str) -> None:
    rng, refused, n = random.Random(name), 0, 0
    files = list((small / name).iterdir())
    for _ in range(40):
        file = rng.choice(files)
        content = file.read_bytes()
        at, kind = rng.randrange(len(content)), rng.randrange(3)
        spoilt = [content[:at], content[:at] + rng.randbytes(4) + content[at + 4 :], content[:at] + content[at + 1 :]][
            kind
        ]
        file.write_bytes(spoilt)
        n += 1
        try:
            read_everything(small)
        except InputFileError as error:
            assert str(small) in str(error) and "\n" not in str(error)
            refused += 1
        file.write_bytes(content)
    assert refused > n / 4


def test_allele_numbers_and_shapes_are_checked(small: Path) -> None:
    calls = zarr.open_array(small / "call_genotype", mode="r+")
    good = calls[...]
    for value, expected in ((9, "an allele number that is none of its alleles"), (-3, "an allele number")):
        calls[17, 3, 1] = value
        with pytest.raises(InputFileError, match=rf"x\.vcz, variant 18, sample 4: {expected}"):
            read_everything(small)
    calls[...] = good
    zarr.open_array(small / "variant_position", mode="r+").resize((19,))
    with pytest.raises(
        InputFileError, match=r"call_genotype has shape \(20, 7, 2\) where there are 19 variants and 7 samples"
    ):
        read_everything(small)
