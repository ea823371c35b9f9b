"""VCF files of a test: written from strings, packed in small BGZF blocks, and read by the definition of every field."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

HEADER = """##fileformat=VCFv4.2
##FILTER=<ID=q10,Description="a, \\"quoted\\" <text>">
##contig=<ID=chr2,length=1000>
##contig=<ID=X>
##INFO=<ID=DP,Number=1,Type=Integer,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="x">
##FORMAT=<ID=HDS,Number=.,Type=Float,Description="x">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="x">
"""


@dataclass(frozen=True)
class Record:
    """One line: the columns that matter, and a string a sample."""

    contig: str
    position: int
    name: str
    ref: str
    alts: str
    format: str
    samples: Sequence[str]

    def line(self) -> str:
        """Write the line."""
        columns = (self.contig, self.position, self.name, self.ref, self.alts, 30, "PASS", "DP=5", self.format)
        return "\t".join(map(str, (*columns, *self.samples))) + "\n"


def vcf_text(records: Sequence[Record], header: str = HEADER) -> str:
    """Write a VCF with samples s0, s1, …"""
    names = [f"s{i}" for i in range(len(records[0].samples))]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    return header + "\t".join(columns + names) + "\n" + "".join(record.line() for record in records)


def bgzf(content: bytes, block: int = 200) -> bytes:
    """Pack in blocks of so few bytes that records lie across them."""
    packed = b""
    for start in range(0, len(content), block):
        part = content[start : start + block]
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = packer.compress(part) + packer.flush()
        header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
        packed += header + body + struct.pack("<II", zlib.crc32(part), len(part))
    return packed + END


def unpack_bgzf(packed: bytes) -> bytes:
    """Unpack every gzip member."""
    content = b""
    while packed:
        unpacker = zlib.decompressobj(31)
        content += unpacker.decompress(packed)
        packed = unpacker.unused_data
    return content


def write_bcf(vcf: Path, bcf: Path, block: int = 200) -> Path:
    """Have htslib write a VCF as BCF, and pack it again in small blocks."""
    import cyvcf2

    cyvcf2.cyvcf2.set_htslib_log_level(0)
    reader = cyvcf2.VCF(str(vcf))
    writer = cyvcf2.Writer(str(bcf), reader, "wb")
    for record in reader:
        writer.write_record(record)
    writer.close()
    bcf.write_bytes(bgzf(unpack_bgzf(bcf.read_bytes()), block))
    return bcf


Number = Callable[[str], float]


def alleles_of(field: str) -> list[int]:
    """Read a GT; −1 = missing."""
    return [-1 if a == "." else int(a) for a in field.replace("|", "/").split("/")]


def dosages_of(
    record: Record, number: Number = float, use: Sequence[str] = ("DS", "GP", "HDS", "GT")
) -> NDArray[np.float64]:
    """Dosages of a record, (ALT alleles, samples, 4): dosage, E[g²] and h₁² + h₂² as far as they are there, is it haploid."""
    n_alt = record.alts.count(",") + 1 if record.alts != "." else 0
    out = np.full((n_alt, len(record.samples), 4), np.nan)
    for s, text in enumerate(record.samples):
        fields = dict(zip(record.format.split(":"), text.split(":"), strict=False))
        values = {
            name: [number(v) if v != "." else np.nan for v in fields.get(name, ".").split(",")]
            for name in use
            if name != "GT"
        }
        gt = alleles_of(fields.get("GT", "."))
        haploid = haploidy(gt, values, n_alt)
        for k in range(1, n_alt + 1):
            found = dict.fromkeys(use, np.nan)
            found["GT"] = np.nan if -1 in gt else sum(a == k for a in gt) * (2 if len(gt) == 1 else 1)
            if "DS" in use and len(values["DS"]) == n_alt:
                found["DS"] = values["DS"][k - 1] * (2 if haploid == 1 else 1)
            if "GP" in use and len(values["GP"]) > 1 and sum(values["GP"]) > 0:
                pairs = [(j, i) for i in range(n_alt + 1) for j in range(i + 1)]
                if len(values["GP"]) == n_alt + 1:
                    pairs = [(i, i) for i in range(n_alt + 1)]
                copies = np.array([(a == k) + (b == k) for a, b in pairs])
                found["GP"] = float(np.sum(copies * values["GP"]))
                out[k - 1, s, 1] = np.sum(copies**2 * values["GP"])
            if "HDS" in use and n_alt == 1:
                h = (values["HDS"] * 2)[:2]
                found["HDS"], out[k - 1, s, 2] = h[0] + h[1], h[0] ** 2 + h[1] ** 2
            out[k - 1, s, 0] = next((found[name] for name in use if not np.isnan(found[name])), np.nan)
            out[k - 1, s, 3] = haploid
    return out


def haploidy(gt: Sequence[int], values: dict[str, list[float]], n_alt: int) -> float:
    """Say whether a sample is haploid: 1, 0, or NaN when neither its alleles nor how many values it has say it."""
    if gt[0] >= 0:
        return float(len(gt) == 1)
    if len(values.get("GP", ())) > 1 and sum(values["GP"]) > 0:
        return float(len(values["GP"]) == n_alt + 1)
    if n_alt == 1 and not np.isnan(values.get("HDS", [np.nan])[0]):
        return float(len(values["HDS"]) == 1)
    return 0.0 if len(gt) == 2 else np.nan
