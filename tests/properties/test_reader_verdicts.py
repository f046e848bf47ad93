"""Over generated files, check, embed, the Python function, the tasks' reader and the corpus say the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import counts_of, coverage_of, write_file_part
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from toy_training import ARCH, toy_corpus

from sclong.cells.h5ad import read_expression
from sclong.cells.normalize import check_counts
from sclong.checkpoint.folder import LoadedModel, initialise, load_checkpoint
from sclong.embed.check import check_file
from sclong.embed.embedding import embed_adata, embed_file
from sclong.errors import InputDataError
from sclong.genes.align import align_genes, harmonize

G, N = 40, 10
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": lambda values: np.asarray(values),
}
NAMES = {
    "ids": [f"ENSG9{i:010d}" for i in range(G)],
    "versions": [f"ENSG9{i:010d}.3" for i in range(G)],
    "symbols": [f"TOY{i}" for i in range(G)],
    "numbers": [str(i) for i in range(G)],
    "mouse": [f"ENSMUSG{i:011d}" for i in range(G)],
}
VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "counts": lambda c: c,
    "logged": lambda c: np.log1p(1e4 * c / c.sum(1, keepdims=True)),
    "almost": lambda c: c * (1 + 3e-6),
    "corrected": lambda c: c * 0.93,
    "part": lambda c: np.floor(c / 2),
    "other": lambda c: c[::-1],
    "negative": lambda c: c - 1,
    "none": lambda c: c,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    _, vocabulary, graph = toy_corpus(folder)
    initialise(folder / "toy", ARCH, vocabulary, graph, 0)
    return folder / "toy"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_checkpoint(folder)


@st.composite
def files(draw: st.DrawFn) -> ad.AnnData:
    counts = np.random.default_rng(draw(st.integers(0, 9))).poisson(3.0, (N, G)).astype(np.float64) + np.eye(N, G)
    layout = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]

    def values(allowed: list[str]) -> Any:
        kind = draw(st.sampled_from(allowed))
        dtype = draw(st.sampled_from([np.float32, np.float64]))
        return None if kind == "none" else layout(VALUES[kind](counts).astype(dtype))

    index = NAMES[draw(st.sampled_from(list(NAMES)))]
    var = pd.DataFrame(index=index)
    if draw(st.booleans()):
        var["gene_ids"] = NAMES["ids"]
    if draw(st.booleans()):
        var["feature_types"] = ["Gene Expression"] * (G - 3) + ["Antibody Capture"] * 3
    obs = pd.DataFrame(index=[f"c{i}" for i in range(N)])
    if draw(st.booleans()):
        obs["organism"] = draw(st.sampled_from(["Homo sapiens", "Mus musculus"]))
    adata = ad.AnnData(values(["counts", "counts", "logged", "almost", "corrected", "negative"]), obs, var)
    raw = values(["none", "none", "counts", "logged", "other"])
    if raw is not None:
        adata.raw = ad.AnnData(raw, obs, var)
    for name in draw(st.lists(st.sampled_from(["counts", "raw", "spliced", "umi"]), max_size=2, unique=True)):
        adata.layers[name] = values(["counts", "logged", "part", "other"])
    return adata


def verdict(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except InputDataError as error:
        return error.found.split(": ")[-1] or "refused"


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(adata=files())
def test_all_readers_agree(adata: ad.AnnData, folder: Path, loaded: LoadedModel) -> None:
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        path = tmp / "x.h5ad"
        adata.write_h5ad(path)
        checked = verdict(lambda: check_file(path, folder))
        file = verdict(lambda: embed_file(path, loaded, tmp / "out.h5ad", progress=False))
        memory = verdict(lambda: embed_adata(adata, loaded, progress=False))
        part = verdict(lambda: write_file_part(path, tmp / "part", loaded.vocabulary, minimum_genes=1))
        accepted = isinstance(checked, dict)
        assert accepted == (file is None) == (not isinstance(memory, str)) == isinstance(part, Path), (checked, part)
        if not accepted:
            return
        assert checked["values_from"] == memory.facts["values_from"] == coverage_of(part)["counts_from"]
        back = ad.read_h5ad(tmp / "out.h5ad")
        np.testing.assert_array_equal(back.obsm["X_sclong"], memory.cell_embedding)
        assert back.uns["X_sclong"]["read"] == checked["read"] == memory.facts["read"]
        task = read_expression(path)
        assert (task.uns["counts_from"], task.uns["genes_from"]) == (checked["values_from"], checked["genes_from"])
        check_counts(task.X, "task")
        alignment = align_genes(list(task.var_names), loaded.vocabulary, extra=task.var)
        np.testing.assert_array_equal(
            harmonize(task.X, alignment, len(loaded.vocabulary)).toarray(), counts_of(part).toarray()
        )
