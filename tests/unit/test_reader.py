"""Files as people have them: each kind with the values, names, genes and cells that are right, or the refusal."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from corpus_files import counts_of, coverage_of, write_file_part
from scipy import sparse
from scipy.io import mmwrite
from toy_training import ARCH, toy_corpus

from sclong.cells.choose_matrix import what_values_are
from sclong.cells.h5ad import read_expression
from sclong.cells.kinds import cannot_read, kind_of
from sclong.cells.reader import open_reader, reader_of
from sclong.checkpoint.folder import LoadedModel, initialise, load_checkpoint
from sclong.cli import main
from sclong.config.sections import CorpusSource
from sclong.embed.check import check_file
from sclong.embed.embedding import embed_adata, embed_file
from sclong.errors import InputDataError

G, N = 40, 12
IDS = [f"ENSG9{i:010d}" for i in range(G)]
SYMBOLS = [f"TOY{i}" for i in range(G)]
RNG = np.random.default_rng(0)
COUNTS = sparse.csr_matrix(RNG.poisson(RNG.gamma(0.6, 3.0, (N, G))).astype(np.float32))


def adata(values: Any = COUNTS, names: list[str] = IDS, **var: list[Any]) -> ad.AnnData:
    return ad.AnnData(values.copy(), pd.DataFrame(index=[f"c{i}" for i in range(N)]), pd.DataFrame(var, index=names))


def logged(values: sparse.csr_matrix = COUNTS) -> sparse.csr_matrix:
    out = sparse.csr_matrix(sparse.diags(1e4 / np.asarray(values.sum(1)).ravel()) @ values)
    return out.log1p().astype(np.float32)


def parts() -> dict[str, sparse.csr_matrix]:
    """Spliced, unspliced and ambiguous counts that sum to the counts."""
    whole = COUNTS.toarray().astype(int)
    ambiguous = RNG.binomial(whole, 0.1)
    unspliced = RNG.binomial(whole - ambiguous, 0.3)
    values = {"spliced": whole - ambiguous - unspliced, "unspliced": unspliced, "ambiguous": ambiguous}
    return {name: sparse.csr_matrix(v, dtype=np.float32) for name, v in values.items()}


def binned() -> np.ndarray:
    """Bins 1 to 10 of each cell's detected genes, as scGPT makes them; zeros stay."""
    out = np.zeros((N, G), np.float32)
    for row, values in zip(out, COUNTS.toarray(), strict=True):
        found = values > 0
        row[found] = np.digitize(values[found], np.quantile(values[found], np.linspace(0, 1, 10)))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    _, vocabulary, graph = toy_corpus(folder)
    initialise(folder / "toy", ARCH, vocabulary, graph, 0)
    return folder / "toy"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def right(loaded: LoadedModel) -> np.ndarray:
    return embed_adata(adata(), loaded).cell_embedding


def write(data: ad.AnnData, folder: Path, name: str = "x.h5ad") -> Path:
    data.write_h5ad(folder / name)
    return folder / name


def read(path: Path, **options: Any) -> tuple[np.ndarray, str]:
    """Counts in the order of IDS, and where they are from."""
    out = read_expression(path, **options)
    return out.X.toarray(), out.uns["counts_from"]


def refused(path: Path, folder: Path, loaded: LoadedModel, said: str, corpus: bool = True, **options: Any) -> str:
    """Look that check, embed, the Python function's reader and the corpus refuse a file alike; return the error."""
    with pytest.raises(InputDataError, match=said) as caught:
        check_file(path, folder, **options)
    with pytest.raises(InputDataError, match=said):
        embed_file(path, loaded, path.parent / "refused.h5ad", **options)
    if corpus and not options:
        with pytest.raises(InputDataError, match=said):
            write_file_part(path, path.parent / "part", loaded.vocabulary, minimum_genes=1)
    assert all(len(part) > 5 for part in (caught.value.found, caught.value.expected, caught.value.action))
    return str(caught.value)


def embedded(path: Path, folder: Path, loaded: LoadedModel, tmp_path: Path, right: np.ndarray, **options: Any) -> dict:
    """Look that check accepts a file, and embed and the corpus read the same counts; return what check says."""
    facts = check_file(path, folder, **options)
    embed_file(path, loaded, tmp_path / "out.h5ad", **options)
    with h5py.File(tmp_path / "out.h5ad") as file:
        np.testing.assert_allclose(file["obsm/X_sclong"][:], right, atol=1e-5)
        assert file["uns/X_sclong/read"].asstr()[()] == facts["read"]
    if not options:
        part = write_file_part(path, tmp_path / "part", loaded.vocabulary, minimum_genes=1)
        np.testing.assert_array_equal(counts_of(part).toarray(), COUNTS.toarray())
        assert coverage_of(part)["counts_from"] == facts["values_from"]
    return facts


# -------------------- which matrix


def with_layers(x: Any, **layers: Any) -> ad.AnnData:
    out = adata(x)
    out.layers.update({name: sparse.csr_matrix(values) for name, values in layers.items()})
    return out


def with_raw(x: Any, raw: ad.AnnData) -> ad.AnnData:
    out = adata(x)
    out.raw = raw
    return out


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: adata(), "X"),
        (lambda: with_raw(logged(), adata()), "raw"),
        (lambda: with_layers(logged(), counts=COUNTS), "layers['counts']"),
        (lambda: with_layers(logged(), umi=COUNTS), "layers['umi']"),
        (lambda: with_layers(logged(), raw=COUNTS), "layers['raw']"),
        (lambda: with_layers(COUNTS, **parts()), "X"),  # each layer is a part of X
        (lambda: with_layers(logged(), counts=COUNTS, **parts()), "layers['counts']"),
        (lambda: with_layers(logged(), counts=COUNTS, X_binned=binned()), "layers['counts']"),
        (lambda: with_layers(logged(), umi=COUNTS, bins=binned()), "layers['umi']"),
        (lambda: with_layers(binned(), umi=COUNTS), "layers['umi']"),
        (lambda: with_layers(logged(), detected=COUNTS > 0, umi=COUNTS), "layers['umi']"),
        (lambda: with_layers(COUNTS, twice=COUNTS * 2), "X"),  # the same after normalisation
        (lambda: with_raw(COUNTS, adata()), "X"),
    ],
)
def test_the_matrix_of_counts(make: Callable[[], ad.AnnData], place: str, folder, loaded, right, tmp_path) -> None:
    facts = embedded(write(make(), tmp_path), folder, loaded, tmp_path, right)
    assert facts["values_from"] == place
    assert facts["read"].startswith(f"counts from {place} (")
    result = embed_adata(make(), loaded)  # the Python function chooses as the command does
    np.testing.assert_allclose(result.cell_embedding, right, atol=1e-5)
    assert result.facts["values_from"] == place


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: with_layers(logged(), **parts()), "only parts"),
        (lambda: with_layers(logged(), spliced=parts()["spliced"]), "only parts"),
        (lambda: with_layers(parts()["spliced"], **parts()), "hold different integers"),
        (lambda: with_layers(logged(), a=COUNTS, b=COUNTS[::-1]), "hold different integers"),
        (lambda: with_layers(logged(), counts=COUNTS, b=COUNTS[::-1]), "hold different integers"),
        (lambda: with_layers(COUNTS, b=COUNTS[::-1]), "hold different integers"),
        (lambda: with_raw(COUNTS, adata(COUNTS[::-1])), "X and raw hold different counts"),
        (lambda: adata(sparse.csr_matrix(binned())), "bin numbers"),
    ],
)
def test_nothing_is_guessed(make: Callable[[], ad.AnnData], said: str, folder, loaded, tmp_path) -> None:
    error = refused(write(make(), tmp_path), folder, loaded, said)
    assert "--layer" in error
    with pytest.raises(InputDataError, match=said):
        embed_adata(make(), loaded)


def test_a_layer_that_is_named_is_read(folder, loaded, right, tmp_path) -> None:
    data = with_layers(logged(), a=COUNTS, b=COUNTS[::-1])
    for name in ("a", "layers/a", "layers['a']"):
        assert embedded(write(data, tmp_path), folder, loaded, tmp_path, right, layer=name)["values_from"] == (
            "layers['a']"
        )


def test_raw_and_a_layer_called_raw_are_two_things(folder, loaded, right, tmp_path) -> None:
    data = with_layers(logged(), raw=COUNTS)
    data.raw = adata(COUNTS[::-1])
    path = write(data, tmp_path)
    assert "layers/raw" in refused(path, folder, loaded, "a layer called raw", layer="raw")
    refused(path, folder, loaded, "hold different integers")
    assert embedded(path, folder, loaded, tmp_path, right, layer="layers/raw")["values_from"] == "layers['raw']"
    assert read(path, layer=".raw")[1] == "raw"


def test_raw_with_more_genes_is_preferred_and_said(folder, loaded, right, tmp_path) -> None:
    data = adata()
    data.raw = data.copy()
    facts = embedded(write(data[:, 5:20].copy(), tmp_path), folder, loaded, tmp_path, right)
    assert facts["values_from"] == "raw" and "25 more genes" in facts["read"]
    assert ad.read_h5ad(tmp_path / "out.h5ad").varm["X_sclong"].shape[0] == 15


def test_names_belong_to_the_matrix_that_is_read(folder, loaded, right, tmp_path) -> None:
    data = adata(logged(), SYMBOLS[::-1])  # var is of X alone; the rows of raw.var are in another order
    data.raw = adata(COUNTS, SYMBOLS)
    assert embedded(write(data, tmp_path), folder, loaded, tmp_path, right)["values_from"] == "raw"
    data.var["my_ids"] = IDS[::-1]  # only var has the column: it is looked up by the names that both have
    facts = embedded(write(data, tmp_path), folder, loaded, tmp_path, right, gene_column="my_ids")
    assert facts["genes_from"] == "my_ids"


def test_values_are_told_from_counts() -> None:
    ranks = np.argsort(np.argsort(RNG.random((30, 25)), axis=1), axis=1) + 1
    for values, said in (
        (COUNTS, "counts"),
        (COUNTS > 0, "ones"),
        (binned(), "bins"),
        (ranks, "ranks"),
        (logged(), "fractions"),
        (-COUNTS, "negative"),
        (COUNTS * 0, "empty"),
        (COUNTS.toarray() * (1 + 3e-6), "counts"),
    ):
        assert what_values_are(sparse.csr_matrix(values, dtype=np.float32)) == said


def test_the_end_of_a_file_counts_too(folder, loaded, tmp_path) -> None:
    """Integers at the beginning do not make a matrix of counts."""
    values = np.tile(COUNTS.toarray(), (100, 1))
    values[600:] = logged().toarray()[RNG.integers(N, size=len(values) - 600)]
    data = ad.AnnData(sparse.csr_matrix(values), var=pd.DataFrame(index=IDS))
    assert open_reader(write(data, tmp_path)).choice.rule == "no place holds counts"


# -------------------- which genes


def test_antibodies_are_left_out_and_said(folder, loaded, right, tmp_path) -> None:
    values = sparse.hstack([COUNTS, RNG.poisson(150, (N, 3))]).tocsr().astype(np.float32)
    kinds = ["Gene Expression"] * G + ["Antibody Capture"] * 2 + ["Peaks"]
    names = [*SYMBOLS, "TOY0-1", "TOY1-1", "chr1:1-2"]
    data = adata(values, names, gene_ids=[*IDS, "TOY0", "TOY1", "chr1:1-2"], feature_types=kinds)
    facts = embedded(write(data, tmp_path), folder, loaded, tmp_path, right)
    assert facts["left_out"] == {"Antibody Capture": 2, "Peaks": 1}
    assert "left out: 2 Antibody Capture, 1 Peaks" in facts["read"]
    assert not ad.read_h5ad(tmp_path / "out.h5ad").var["X_sclong_mapped"].iloc[-3:].any()
    np.testing.assert_allclose(embed_adata(data, loaded).cell_embedding, right, atol=1e-5)
    refused(write(data[:, -3:].copy(), tmp_path), folder, loaded, "features are 'Antibody Capture', 'Peaks'")


@pytest.mark.parametrize("hole", [np.nan, "", "nan", "None", "NA"])
def test_ids_with_holes_fall_back_to_names(hole: Any, folder, loaded, right, tmp_path) -> None:
    ids = [hole if i % 3 == 0 else name for i, name in enumerate(IDS)]
    for options in ({}, {"gene_column": "gene_ids"}):
        facts = embedded(
            write(adata(COUNTS, SYMBOLS, gene_ids=ids), tmp_path), folder, loaded, tmp_path, right, **options
        )
        assert facts["genes_from"] == "gene_ids" and facts["alignment"]["mapped"] == G


@pytest.mark.parametrize("order", ["as text", "shuffled", "filtered", "joined"])
def test_row_numbers_are_refused_in_any_order(order: str, folder, loaded, tmp_path) -> None:
    names = [str(i) for i in range(G)]
    names = {
        "as text": sorted(names),
        "shuffled": RNG.permutation(names).tolist(),
        "filtered": [str(i) for i in RNG.permutation(60_000)[:G]],
        "joined": [*names[: G // 2], *SYMBOLS[G // 2 :]],
    }[order]
    error = refused(write(adata(COUNTS, names, label=SYMBOLS), tmp_path), folder, loaded, "running numbers")
    assert "--gene-column label" in error


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}.5_2" for i in IDS],
        [f"{i}_{s}" for i, s in zip(IDS, SYMBOLS, strict=True)],
        [f"{s}|{i}" for i, s in zip(IDS, SYMBOLS, strict=True)],
        [f"GRCh38_{i}" for i in IDS],
        [f"hg19_{s}" for s in SYMBOLS],
        [f"GRCh38______{s}" for s in SYMBOLS],
    ],
)
def test_names_with_something_around_them(names: list[str], folder, loaded, right, tmp_path) -> None:
    facts = embedded(write(adata(COUNTS, names), tmp_path), folder, loaded, tmp_path, right)
    assert facts["alignment"]["mapped"] == G and facts["alignment"]["species"] == "human"


# -------------------- which cells


@pytest.mark.parametrize(
    ("column", "name"), [("organism", "Mus musculus"), ("Species", "mouse"), ("organism_ontology_term_id", "10090")]
)
def test_cells_of_another_species_by_obs(column: str, name: str, folder, loaded, tmp_path) -> None:
    data = adata()
    data.obs[column] = ["Homo sapiens"] * 8 + [name] * 4
    refused(write(data, tmp_path), folder, loaded, f"says '{name}' .4 of 12 cells.")
    with pytest.raises(InputDataError, match="human cells"):
        embed_adata(data, loaded)


def test_cells_of_another_species_by_their_genes(folder, loaded, tmp_path) -> None:
    mouse = sparse.csr_matrix(([500.0] * 4, ([8, 9, 10, 11], [0, 1, 2, 3])), (N, 10))
    names = [*IDS, *(f"ENSMUSG{i:011d}" for i in range(10))]
    data = adata(sparse.hstack([COUNTS, mouse]).tocsr().astype(np.float32), names)
    refused(
        write(data, tmp_path), folder, loaded, "4 of 12 cells have most of their counts in genes of another species"
    )


def test_a_file_that_says_its_species_in_uns(folder, loaded, right, tmp_path) -> None:
    data = adata()
    data.uns["organism"] = "Mus musculus"
    refused(write(data, tmp_path), folder, loaded, r"uns\['organism'\] says 'Mus musculus'")
    data.uns["organism"] = "Homo sapiens"
    embedded(write(data, tmp_path), folder, loaded, tmp_path, right)


@pytest.mark.parametrize("name", ["Homo sapiens", "human", "homo_sapiens", "NCBITaxon:9606", "H. sapiens"])
def test_human_cells_by_any_name(name: str, folder, loaded, right, tmp_path) -> None:
    data = adata()
    data.obs["organism"] = pd.Categorical([name] * N)
    embedded(write(data, tmp_path), folder, loaded, tmp_path, right)


def test_empty_cells_have_a_stated_treatment(folder, loaded, right, tmp_path) -> None:
    values = COUNTS.toarray()
    values[3] = 0
    path = write(adata(sparse.csr_matrix(values)), tmp_path)
    error = refused(path, folder, loaded, "1 of 12 cells have none of the vocabulary's genes: 'c3'", corpus=False)
    assert "--empty nan" in error and "min_genes" not in error
    assert check_file(path, folder, empty="nan")["empty_cells"] == 1
    for pooling in ("nonzero_mean", "mean", "reconstruction_profile"):
        embed_file(path, loaded, tmp_path / "out.h5ad", empty="nan", pooling=pooling)
        back = ad.read_h5ad(tmp_path / "out.h5ad")
        assert np.isnan(back.obsm["X_sclong"][3]).all()
        assert np.isfinite(np.delete(back.obsm["X_sclong"], 3, axis=0)).all()
        assert np.isfinite(back.varm["X_sclong"]).all(), "means over cells leave it out"
    part = write_file_part(path, tmp_path / "part", loaded.vocabulary, minimum_genes=1)
    assert coverage_of(part)["cells_empty"] == 1


# -------------------- files


def break_file(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file[name] = values


DAMAGES: dict[str, Callable[[h5py.File], None]] = {
    "wrapped": lambda f: put(f, "X/indptr", np.append(f["X/indptr"][:9], f["X/indptr"][9:].astype(np.int64) - 2**32)),
    "falling": lambda f: put(f, "X/indptr", f["X/indptr"][:][[0, 3, 2, 1, *range(4, len(f["X/indptr"]))]]),
    "beyond": lambda f: put(f, "X/indptr", np.append(f["X/indptr"][:-1], 10**9)),
    "short": lambda f: put(f, "X/indptr", f["X/indptr"][:-1]),
    "foreign index": lambda f: put(f, "X/indices", np.append(f["X/indices"][:-1], 10**6)),
    "negative index": lambda f: put(f, "X/indices", np.append(f["X/indices"][:-1].astype(np.int64), -5)),
    "fewer values": lambda f: put(f, "X/data", f["X/data"][:-3]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("layout", [sparse.csr_matrix, sparse.csc_matrix])
def test_damaged_sparse_matrices_are_refused(damage: str, layout: Any, folder, loaded, tmp_path) -> None:
    path = break_file(write(adata(layout(COUNTS)), tmp_path), DAMAGES[damage])
    refused(path, folder, loaded, "damaged sparse matrix")


def test_damaged_matrices_in_memory_are_refused(loaded: LoadedModel) -> None:
    for part in ("indptr", "indices"):
        data = adata()
        getattr(data.X, part)[-1] = 10**6
        with pytest.raises(InputDataError, match="damaged sparse matrix"):
            embed_adata(data, loaded)


def test_rows_that_are_not_those_of_obs(folder, loaded, tmp_path) -> None:
    def fewer(file: h5py.File) -> None:
        del file["obs"]
        write_elem(file, "obs", pd.DataFrame(index=["c0", "c1"]))

    refused(break_file(write(adata(), tmp_path), fewer), folder, loaded, "obs has 2 rows")


def old_layout(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group["data"], group["indices"], group["indptr"] = COUNTS.data, COUNTS.indices, COUNTS.indptr
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", COUNTS.shape
        file["var"] = np.array([(i.encode(),) for i in IDS], dtype=[("index", "S20")])
        file["obs"] = np.array([(b"c%d" % i,) for i in range(N)], dtype=[("index", "S9")])


def cell_ranger(path: Path, version: int) -> None:
    columns = sparse.csc_matrix(COUNTS.T)
    text = {"genes": IDS, "names": SYMBOLS, "cells": [f"c{i}" for i in range(N)]}
    coded = {name: np.array(values, dtype="S") for name, values in text.items()}
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["data"], group["indices"], group["indptr"] = columns.data.astype(int), columns.indices, columns.indptr
        group["shape"], group["barcodes"] = np.array(columns.shape), coded["cells"]
        if version == 3:
            group["features/id"], group["features/name"] = coded["genes"], coded["names"]
            group["features/feature_type"] = np.array([b"Gene Expression"] * G)
            file.create_group("droplet_latents")["cell_probability"] = np.ones(N)  # as CellBender adds
        else:
            group["genes"], group["gene_names"] = coded["genes"], coded["names"]


def loom(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["matrix"] = COUNTS.toarray().T
        file["row_attrs/Gene"], file["row_attrs/Accession"] = np.array(SYMBOLS, "S"), np.array(IDS, "S")
        file["col_attrs/CellID"] = np.array([f"c{i}" for i in range(N)], "S")
        file.create_group("layers")


def h5mu(path: Path) -> None:
    with h5py.File(path, "w") as file:
        write_elem(file, "mod/rna", adata())
        write_elem(file, "mod/prot", adata(COUNTS[:, ::-1]))
        write_elem(file, "obs", adata().obs)
        write_elem(file, "var", adata().var)


def mtx(path: Path) -> None:
    path.mkdir()
    mmwrite(path / "matrix.mtx", COUNTS.T.astype(int))
    rows = "".join(f"{i}\t{s}\tGene Expression\n" for i, s in zip(IDS, SYMBOLS, strict=True))
    (path / "features.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    (path / "barcodes.tsv").write_text("".join(f"c{i}\n" for i in range(N)))


def seurat_disk(path: Path) -> None:
    data = adata(logged(), SYMBOLS)
    data.raw = adata(COUNTS, SYMBOLS)
    data.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["raw/var"]
        names = file.create_dataset("raw/var/_index", data=np.array(SYMBOLS, object), dtype=h5py.string_dtype())
        names.parent.attrs["_index"] = "_index"


def changed(path: Path, change: Callable[[h5py.File], None]) -> None:
    adata().write_h5ad(path)
    break_file(path, change)


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "anndata 0.6": ("old.h5ad", old_layout),
    "SeuratDisk": ("seurat.h5ad", seurat_disk),
    "MuDataSeurat": ("m.h5ad", lambda p: changed(p, lambda f: f.attrs.__setitem__("encoding-type", "AnnData"))),
    "float16": ("half.h5ad", lambda p: changed(p, lambda f: put(f, "X/data", f["X/data"][:].astype(np.float16)))),
    "indptr of 64 bits": (
        "long.h5ad",
        lambda p: changed(p, lambda f: put(f, "X/indptr", f["X/indptr"][:].astype(np.int64))),
    ),
    "unreadable uns": (
        "uns.h5ad",
        lambda p: changed(
            p,
            lambda f: f.create_group("uns/x").attrs.update({"encoding-type": "of the future", "encoding-version": "9"}),
        ),
    ),
    "zarr": ("store.zarr", lambda p: adata().write_zarr(p)),
    "Cell Ranger 3, CellBender": ("v3.h5", lambda p: cell_ranger(p, 3)),
    "Cell Ranger 2": ("v2.h5", lambda p: cell_ranger(p, 2)),
    "folder of Cell Ranger": ("mtx", mtx),
    "loom": ("x.loom", loom),
    "h5mu": ("x.h5mu", h5mu),
    "gzip": ("x.h5ad.gz", lambda p: p.write_bytes(gzip.compress(write(adata(), p.parent, "plain.h5ad").read_bytes()))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_files_of_other_kinds_are_read(kind: str, folder, loaded, right, tmp_path) -> None:
    name, make = KINDS[kind]
    make(tmp_path / name)
    before = sorted(p.name for p in tmp_path.iterdir())
    embedded(tmp_path / name, folder, loaded, tmp_path, right)
    assert sorted(p.name for p in tmp_path.iterdir() if "part" not in p.name and p.name != "out.h5ad") == before


@pytest.mark.parametrize(
    ("name", "content", "said", "call"),
    [
        ("x.rds", gzip.compress(b"RDX3", mtime=0), "an R object", "zellkonverter::writeH5AD"),
        ("x.parquet", b"PAR1....", "a parquet table", "read_parquet"),
        ("x.csv", b"cell,TOY1\nc,1\n", "a table of text", "scanpy.read_csv"),
        ("x.zip", b"PK\x03\x04....", "a zip archive", "unzip"),
        ("empty.h5ad", b"", "an empty file", "fetch"),
    ],
)
def test_kinds_that_are_not_read_are_named_with_the_call(
    name: str, content: bytes, said: str, call: str, folder, loaded, tmp_path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert call in refused(tmp_path / name, folder, loaded, said)


def test_h5seurat_and_modalities_are_named(folder, loaded, tmp_path) -> None:
    with h5py.File(tmp_path / "x.h5seurat", "w") as file:
        file.create_group("assays/RNA")
    assert "SeuratDisk::Convert" in refused(tmp_path / "x.h5seurat", folder, loaded, "h5Seurat")
    h5mu(tmp_path / "x.h5mu")
    with h5py.File(tmp_path / "x.h5mu", "r+") as file:
        file.move("mod/rna", "mod/transcriptome")
    assert "--member" in refused(tmp_path / "x.h5mu", folder, loaded, "'prot', 'transcriptome'")
    assert check_file(tmp_path / "x.h5mu", folder, member="transcriptome")["usable"]


def test_a_table_of_spatialdata_is_named(folder, loaded, tmp_path) -> None:
    (tmp_path / "x.zarr" / "tables").mkdir(parents=True)
    (tmp_path / "x.zarr" / "zarr.json").write_text("{}")
    assert "tables/NAME" in refused(tmp_path / "x.zarr", folder, loaded, "a store of SpatialData")


def test_a_file_without_x(folder, loaded, right, tmp_path) -> None:
    data = with_layers(COUNTS, counts=COUNTS)
    data.X = None
    path = write(data, tmp_path)
    embedded(path, folder, loaded, tmp_path, right)
    break_file(path, lambda file: file.create_dataset("X", data=h5py.Empty("f")))
    with open_reader(path) as reader:
        assert reader.layer == "layers['counts']"


def test_locked_files_are_called_locked(folder, loaded, tmp_path) -> None:
    path = write(adata(), tmp_path)
    hold = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); sys.stdin.read()"
    held = subprocess.Popen(
        [sys.executable, "-c", hold, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"},
    )
    try:
        assert held.stdout is not None and held.stdout.readline()
        with pytest.raises(InputDataError, match="locked: another program"):
            open_reader(path)
    finally:
        held.communicate()


def test_a_missing_filter_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((10,))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((100,)), dcpl=plist)
    error = cannot_read(tmp_path / "x.h5ad", OSError("can't synchronously read data"))
    if h5py.h5z.filter_avail(32015):
        pytest.skip("the plug-in is installed")
    assert "zstd" in error.found and "hdf5plugin" in error.action


def test_the_kind_is_told_by_content(tmp_path: Path) -> None:
    cell_ranger(tmp_path / "wrong_name.h5ad", 3)
    assert kind_of(tmp_path / "wrong_name.h5ad") == "10x_h5"
    with pytest.raises(InputDataError, match="no such file"):
        kind_of(tmp_path / "none.h5ad")


# -------------------- almost counts


def test_counts_but_for_rounding_are_counts(folder, loaded, right, tmp_path) -> None:
    values = COUNTS.copy()
    values.data = (values.data * np.float32(1 + 3e-6)).astype(np.float32)
    embedded(write(adata(values), tmp_path), folder, loaded, tmp_path, right)
    back = logged().astype(np.float64).expm1()  # recovered from logs
    back = sparse.csr_matrix(sparse.diags(np.asarray(COUNTS.sum(1)).ravel() / 1e4) @ back).astype(np.float32)
    embedded(write(adata(back), tmp_path), folder, loaded, tmp_path, right)


def test_fractions_are_refused_and_can_be_rounded(folder, loaded, right, tmp_path) -> None:
    values = COUNTS.copy()
    values.data = (values.data + RNG.uniform(-0.3, 0.3, len(values.data))).astype(np.float32)
    path = write(adata(values), tmp_path)
    error = refused(path, folder, loaded, "not integers")
    assert "--round" in error and "--layer" in error and "value_kind" in error
    shown = float(error.split("for example ")[1].split(",")[0])
    assert abs(shown - round(shown)) > 0.05
    facts = embedded(path, folder, loaded, tmp_path, right, round=True)
    assert "rounded to integers" in facts["read"] and "--round" in facts["command"]
    np.testing.assert_array_equal(read(path, round=True)[0], COUNTS.toarray())
    rounded = CorpusSource(name="x", input="file:x", round=True)
    part = write_file_part(path, tmp_path / "part", loaded.vocabulary, rounded, minimum_genes=1)
    np.testing.assert_array_equal(counts_of(part).toarray(), COUNTS.toarray())
    with pytest.raises(InputDataError, match="looks"):  # logs do not become counts by rounding
        check_file(write(adata(logged()), tmp_path), folder, round=True)


# -------------------- the command


def test_check_ends_with_the_command_that_works(folder: Path, tmp_path: Path, capsys) -> None:
    data = with_layers(logged(), a=COUNTS, b=COUNTS[::-1])
    data.var["my ids"], data.var_names = IDS, SYMBOLS
    path = str(write(data, tmp_path))
    options = ["--checkpoint", str(folder), "--layer", "a", "--gene-column", "my ids"]
    assert main(["check", path, *options]) == 0
    last = capsys.readouterr().out.splitlines()[-1].strip()
    words = shlex.split(last)
    assert words[:2] == ["sclong", "embed"] and main(words[1:]) == 0
    assert Path(words[words.index("--output") + 1]).is_file()
    capsys.readouterr()
    assert main(["check", path, *options, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["usable"] and facts["command"] == last and facts["values_from"] == "layers['a']"
    assert main(["check", path, "--checkpoint", str(folder), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert not facts["usable"] and "--layer" in facts["what_to_do"]


def test_the_line_is_printed_on_every_run(folder: Path, tmp_path: Path) -> None:
    path = write(adata(logged(), SYMBOLS, gene_ids=IDS), tmp_path)
    data = with_layers(logged(), counts=COUNTS)
    data.var["gene_ids"], data.var_names = IDS, SYMBOLS
    path = write(data, tmp_path)
    words = ["embed", str(path), "--checkpoint", str(folder), "--output", str(tmp_path / "out.h5ad")]
    done = subprocess.run([sys.executable, "-m", "sclong", *words], capture_output=True, text=True, check=True)
    line = "counts from layers['counts'] (holds counts), 12 cells, 40 genes, names from var['gene_ids'], 100% found"
    assert line in done.stdout + done.stderr


def test_check_reads_in_bounded_memory(folder: Path, tmp_path: Path) -> None:
    n_cells = 60_000
    with h5py.File(tmp_path / "big.h5ad", "w") as file:
        write_elem(file, "obs", pd.DataFrame(index=[str(i) for i in range(n_cells)]))
        write_elem(file, "var", pd.DataFrame(index=[*IDS, *(f"x{i}" for i in range(560))]))
        matrix = file.create_dataset("X", (n_cells, 600), np.float32, fillvalue=0)
        matrix.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, n_cells, 2000):
            matrix[start : start + 2000, :G] = RNG.poisson(2.0, (2000, G)) + np.eye(1, G)
    run = (
        "import resource, sys; from sclong.embed.check import check_file; "
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; check_file(sys.argv[1], sys.argv[2]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    words = [sys.executable, "-c", run, str(tmp_path / "big.h5ad"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 100_000, "KiB; the matrix has 144 MB"


def test_python_function_reads_as_the_command(loaded: LoadedModel, right: np.ndarray) -> None:
    half = adata(COUNTS.toarray().astype(np.float16))
    np.testing.assert_allclose(embed_adata(half, loaded).cell_embedding, right, atol=1e-5)
    data = with_layers(COUNTS, counts=COUNTS)
    data.X = None
    np.testing.assert_allclose(embed_adata(data, loaded).cell_embedding, right, atol=1e-5)
    with pytest.raises(InputDataError, match="no matrix"):
        reader_of(ad.AnnData(obs=data.obs, var=data.var))


def test_mouse_symbols_beside_human_ones(folder, loaded, tmp_path) -> None:
    mouse = sparse.csr_matrix(([500.0] * 2, ([8, 9], [0, 3])), (N, 5))
    names = [*SYMBOLS, "Xkr4", "Gm1992", "Rp1l1", "Sox17", "4930594M22Rik"]
    data = adata(sparse.hstack([COUNTS, mouse]).tocsr().astype(np.float32), names)
    refused(write(data, tmp_path), folder, loaded, "2 of 12 cells have most of their counts")
    data.var["gene_ids"] = [*IDS, *(f"ENSG8{i:010d}" for i in range(5))]  # named by their human orthologues
    assert check_file(write(data, tmp_path), folder)["usable"]


def test_backed_and_sliced(loaded: LoadedModel, right: np.ndarray, tmp_path: Path) -> None:
    for layout in (sparse.csr_matrix, sparse.csc_matrix, np.asarray):
        values = COUNTS.toarray() if layout is np.asarray else layout(COUNTS)
        backed = ad.read_h5ad(write(adata(values), tmp_path), backed="r")
        np.testing.assert_allclose(embed_adata(backed, loaded).cell_embedding, right, atol=1e-5)
        backed.file.close()
        view = adata(values)[::-1]
        np.testing.assert_allclose(embed_adata(view, loaded).cell_embedding, right[::-1], atol=1e-5)


def test_velocyto_loom(folder, loaded, right, tmp_path) -> None:
    loom(tmp_path / "x.loom")
    with h5py.File(tmp_path / "x.loom", "r+") as file:
        for name, values in parts().items():
            file[f"layers/{name}"] = values.toarray().T
    assert embedded(tmp_path / "x.loom", folder, loaded, tmp_path, right)["values_from"] == "X"
    with h5py.File(tmp_path / "x.loom", "r+") as file:
        put(file, "matrix", file["layers/spliced"][:])
    refused(tmp_path / "x.loom", folder, loaded, "hold different integers")


def test_ids_of_any_type_of_column(folder, loaded, right, tmp_path) -> None:
    for column in (pd.Categorical(IDS), pd.array([None, *IDS[1:]], dtype="string")):
        data = adata(COUNTS, SYMBOLS, gene_ids=list(column))
        data.var["gene_ids"] = column
        with ad.settings.override(allow_write_nullable_strings=True):
            embedded(write(data, tmp_path), folder, loaded, tmp_path, right)
