"""A store as an xarray Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from biolmm import schema
from biolmm.files.encoding import Rows, dosages_from_rows
from biolmm.store.layout import genotype_array
from biolmm.store.packbits import unpack_calls
from biolmm.store.read import GenotypeStore
from biolmm.store.summary import counted, measured

STORE_ATTRIBUTE = "biolmm_store"
"""Dataset attribute with the path of the store, from which `genotype_store` opens it again."""

_COORDS = (
    schema.SAMPLE_ID, schema.SAMPLE_FAMILY_ID, schema.SAMPLE_SEX, schema.CONTIG_ID, schema.VARIANT_CONTIG,
    schema.VARIANT_POSITION, schema.VARIANT_ID, schema.VARIANT_ALLELE,
)  # fmt: skip
_ATTRIBUTES = ("source", "created", "dosage_allele", "fingerprint", "biolmm_format", "encoding", "provenance")


def open_store(path: Path | str) -> xr.Dataset:
    """Open a store as a lazy Dataset, of which every part is checked against its checksum when it is read.

    Parameters
    ----------
    path
        A store that `convert` or `simulate` has written.

    Returns
    -------
    Dataset with `call_alt_count` (variants × samples; copies of ALT, 3 = missing), or of a store of dosages
    `call_dosage` (float32, NaN = missing), as a Dask array in the chunks of the store; the counts of each variant, and
    who and what the samples and variants are as coordinates. `sample_id` is an index, so that
    `.sel(sample_id=[...])` selects people. Only the sample ids and contig names are read.

    Raises
    ------
    InputFileError, StoreFormatError, DamagedStoreError
        As `GenotypeStore.open`; also when a part is read that is damaged.
    """
    store = GenotypeStore.open(path)
    sizes = {
        schema.VARIANTS: store.n_variants,
        schema.SAMPLES: store.n_samples,
        schema.ALLELES: 2,
        schema.CONTIGS: len(store.contig_id),
    }
    counts = counted(store.encoding) + measured(store.encoding)
    tables = {name: _lazy(_Table(store, name, _shape(name, sizes), _dtype(name)), name) for name in _COORDS + counts}
    tables[schema.SAMPLE_ID] = xr.Variable(schema.SAMPLES, store.sample_id.astype(object), _described(schema.SAMPLE_ID))
    name = genotype_array(store.encoding)
    dtype = np.dtype(np.float32 if store.encoding.is_dosage else np.uint8)
    genotypes = _lazy(_Genotypes(store, (store.n_variants, store.n_samples), dtype), name)
    chunks = {schema.VARIANTS: store.chunk_variants, schema.SAMPLES: store.n_samples}
    dataset = xr.Dataset(
        {name: genotypes.chunk(chunks), **{each: tables[each] for each in counts}},
        coords={each: tables[each] for each in _COORDS},
        attrs={each: store.attributes[each] for each in _ATTRIBUTES} | {STORE_ATTRIBUTE: str(store.path)},
    )
    indexed: xr.Dataset = dataset.set_xindex(schema.SAMPLE_ID)
    return indexed


def genotype_store(store: GenotypeStore | xr.Dataset | Path | str) -> GenotypeStore:
    """Give the `GenotypeStore` of a Dataset that `open_store` made, of a path, or itself.

    Raises
    ------
    ValueError
        When a Dataset does not come from `open_store`, or is only a part of its store.
    InputFileError, StoreFormatError, DamagedStoreError
        As `GenotypeStore.open`.
    """
    if isinstance(store, GenotypeStore):
        return store
    if not isinstance(store, xr.Dataset):
        return GenotypeStore.open(store)
    if STORE_ATTRIBUTE not in store.attrs:
        raise ValueError("this Dataset was not opened by open_store; give the path of a store instead.")
    opened = GenotypeStore.open(store.attrs[STORE_ATTRIBUTE])
    same_size = store.sizes.get(schema.VARIANTS) == opened.n_variants
    if not same_size or not np.array_equal(store[schema.SAMPLE_ID].values.astype(str), opened.sample_id):
        raise ValueError("this Dataset is a selection of its store: select samples and variants through the options.")
    return opened


@dataclass
class _Table(BackendArray):
    """One of the small arrays, read as a whole when any of it is asked for."""

    store: GenotypeStore
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        return self.store.read_table(self.name)[key]


@dataclass
class _Genotypes(BackendArray):
    """The genotypes, decoded from the chunks that hold the rows that are asked for."""

    store: GenotypeStore
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        picked = np.arange(self.shape[0])[key[0]]
        variants = np.atleast_1d(picked)
        values = np.empty((len(variants), self.shape[1]), self.dtype)
        chunk_of = variants // self.store.chunk_variants
        for chunk in np.unique(chunk_of).tolist():
            wanted = chunk_of == chunk
            rows = self.store.read_rows(chunk)[variants[wanted] - chunk * self.store.chunk_variants]
            values[wanted] = self._decode(rows)
        return (values if np.ndim(picked) else values[0])[..., key[1]]

    def _decode(self, rows: Rows) -> NDArray[Any]:
        if self.store.encoding.is_dosage:
            return dosages_from_rows(rows, self.store.encoding, self.shape[1])
        return unpack_calls(rows, rows.size * 4).reshape(len(rows), -1)[:, : self.shape[1]]


def _lazy(array: BackendArray, name: str) -> xr.Variable:
    return xr.Variable(schema.STORE_VARIABLES[name].dims, indexing.LazilyIndexedArray(array), _described(name))


def _described(name: str) -> dict[str, str]:
    return {"description": schema.STORE_VARIABLES[name].description}


def _shape(name: str, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[dim] for dim in schema.STORE_VARIABLES[name].dims)


def _dtype(name: str) -> np.dtype[Any]:
    kind = schema.STORE_VARIABLES[name].dtype
    return np.dtypes.StringDType() if kind == "str" else np.dtype(kind)
