"""A SOMA on the local disk, laid out as the CELLxGENE Census, written from cells that a test has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.h5ad import read_expression

if TYPE_CHECKING:
    import tiledbsoma

RELEASE = "2023-12-15"
TEXT = (
    "assay",
    "cell_type",
    "development_stage",
    "disease",
    "donor_id",
    "sex",
    "suspension_type",
    "tissue",
    "tissue_general",
)
# how the Census stores X, with smaller tiles, so that a test's few cells lie in several
X_LAYOUT = {
    "tiledb": {
        "create": {
            "capacity": 2**10,
            "dims": {"soma_dim_0": {"tile": 64}, "soma_dim_1": {"tile": 2048}},
            "cell_order": "row-major",
            "tile_order": "row-major",
            "allows_duplicates": True,
        }
    }
}


@dataclass(frozen=True)
class CensusDataset:
    """A data set of the Census: X holds counts, var_names gene ids, ``var["feature_name"]`` symbols.

    ``obs`` has the columns `TEXT` and is_primary_data.
    """

    dataset_id: str
    cells: anndata.AnnData
    organism: str = "homo_sapiens"
    collection: str = ""


def write_census(
    folder: Path,
    datasets: Sequence[CensusDataset],
    *,
    release: str = RELEASE,
    dictionary: bool = False,
    x_layout: Mapping[str, Any] = X_LAYOUT,
) -> Path:
    """Write data sets as a Census; with `dictionary`, labels are dictionaries, as in releases since 2024-04.

    Cells follow each other data set by data set, in the order given; genes in the order in which they first occur.
    """
    import tiledbsoma

    organisms = sorted({d.organism for d in datasets})
    info = pd.DataFrame(
        {
            "collection_id": [d.collection or f"id-{d.dataset_id}" for d in datasets],
            "collection_name": [f"collection of {d.dataset_id}" for d in datasets],
            "collection_doi": [f"10.0000/{d.dataset_id}" for d in datasets],
            "dataset_id": [d.dataset_id for d in datasets],
            "dataset_title": [f"cells of {d.dataset_id}" for d in datasets],
            "dataset_total_cell_count": [d.cells.n_obs for d in datasets],
        }
    )
    with tiledbsoma.Collection.create(str(folder)) as census:
        about = census.add_new_collection("census_info")
        _add_table(
            about,
            "summary",
            pd.DataFrame({"label": ["census_schema_version", "census_build_date"], "value": ["1.2.0", release]}),
        )
        _add_table(about, "datasets", info)
        _add_table(about, "organisms", pd.DataFrame({"organism": organisms}))
        data = census.add_new_collection("census_data")
        for organism in organisms:
            mine = [(number, d) for number, d in enumerate(datasets) if d.organism == organism]
            experiment = data.add_new_collection(organism, tiledbsoma.Experiment)
            _write_experiment(experiment, mine, len(datasets), dictionary, x_layout)
    return folder


def _write_experiment(
    experiment: tiledbsoma.Experiment,
    datasets: Sequence[tuple[int, CensusDataset]],
    n_datasets: int,
    dictionary: bool,
    x_layout: Mapping[str, Any],
) -> None:
    import pyarrow as pa
    import tiledbsoma

    names = pd.concat([d.cells.var["feature_name"] for _, d in datasets])
    names = names[~names.index.duplicated()]
    blocks, presence = [], sparse.lil_matrix((n_datasets, len(names)), dtype=np.uint8)
    for number, d in datasets:
        moved = sparse.coo_matrix(d.cells.X)
        columns = names.index.get_indexer(d.cells.var_names)
        block = sparse.csr_matrix((moved.data, (moved.row, columns[moved.col])), shape=(d.cells.n_obs, len(names)))
        presence[number] = np.diff(block.tocsc().indptr) > 0
        blocks.append(block)
    counts = sparse.vstack(blocks, format="csr")
    obs = pd.concat([d.cells.obs.assign(dataset_id=d.dataset_id) for _, d in datasets], ignore_index=True)
    obs = obs[["dataset_id", *TEXT, "is_primary_data"]]
    if dictionary:
        obs = obs.astype({name: "category" for name in ("dataset_id", *TEXT)})
        obs["observation_joinid"] = [f"joinid{k:05d}" for k in range(len(obs))]
    _add_table(experiment, "obs", obs)
    rna = experiment.add_new_collection("ms").add_new_collection("RNA", tiledbsoma.Measurement)
    var = pd.DataFrame(
        {
            "feature_id": names.index,
            "feature_name": names.to_numpy(dtype=str),
            "nnz": np.diff(counts.tocsc().indptr).astype(np.int64),
        }
    )
    _add_table(rna, "var", var)
    _add_matrix(rna, "feature_dataset_presence_matrix", presence.tocsr(), pa.uint8(), {})
    _add_matrix(rna.add_new_collection("X"), "raw", counts, pa.float32(), x_layout)


def _add_table(parent: tiledbsoma.Collection, name: str, table: pd.DataFrame) -> None:
    import pyarrow as pa
    import tiledbsoma

    table = table.assign(soma_joinid=np.arange(len(table), dtype=np.int64))
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    frame = parent.add_new_dataframe(
        name, schema=arrow.schema, index_column_names=["soma_joinid"], domain=[[0, len(table) - 1]]
    )
    frame.close()
    with tiledbsoma.open(frame.uri, "w") as again:  # written while it is new, dictionaries cannot be filtered by later
        again.write(arrow)


def _add_matrix(
    parent: tiledbsoma.Collection, name: str, values: sparse.csr_matrix, kind: Any, layout: Mapping[str, Any]
) -> None:
    import pyarrow as pa

    with parent.add_new_sparse_ndarray(name, type=kind, shape=values.shape, platform_config=layout) as matrix:
        matrix.write(pa.SparseCOOTensor.from_scipy(values.astype(kind.to_pandas_dtype()).tocoo()))


def labelled(
    adata: anndata.AnnData, tissue: str, primary: bool | Sequence[bool] = True, **labels: str
) -> anndata.AnnData:
    """Return cells with the columns of the Census: what is missing becomes "unknown"."""
    obs = pd.DataFrame(index=adata.obs_names)
    for name in TEXT:
        obs[name] = adata.obs[name].astype(str).to_numpy() if name in adata.obs else labels.get(name, "unknown")
    obs["tissue_general"] = tissue
    obs["is_primary_data"] = primary
    symbols = next((adata.var[c] for c in ("feature_name", "symbol") if c in adata.var), adata.var_names)
    var = pd.DataFrame({"feature_name": np.asarray(symbols, dtype=str)}, index=adata.var_names)
    return anndata.AnnData(sparse.csr_matrix(adata.X, dtype=np.float32), obs=obs, var=var)


def simulated_datasets(seed: int = 0) -> list[CensusDataset]:
    """Return three human data sets and one of mice, which measure different genes; every fourth cell is not primary."""
    random = np.random.default_rng(seed)
    genes = np.array([f"ENSG{k:011d}" for k in range(1, 61)])

    def cells(n: int, measured: np.ndarray, tissue: str) -> anndata.AnnData:
        counts = random.poisson(random.gamma(0.3, 3.0, len(measured)), (n, len(measured)))
        counts[:, 0] = 0  # a gene that is named and never seen
        obs = pd.DataFrame(
            {"donor_id": [f"donor{k % 3}" for k in range(n)], "cell_type": [f"type{k % 2}" for k in range(n)]}
        )
        var = pd.DataFrame({"feature_name": [f"G{g[-2:]}" for g in measured]}, index=measured)
        adata = anndata.AnnData(sparse.csr_matrix(counts), obs=obs.set_index(obs.index.astype(str)), var=var)
        return labelled(adata, tissue, np.arange(n) % 4 != 3, assay="10x 3' v3")

    mouse = cells(20, genes[:30], "lung")
    mouse.var_names = [name.replace("ENSG", "ENSMUSG") for name in mouse.var_names]
    return [
        CensusDataset("cc-lung-and-heart", cells(90, genes[:50], "lung")),
        CensusDataset("mouse-lung", mouse, "mus_musculus"),
        CensusDataset("aa-heart", cells(33, genes[20:], "heart")),
        CensusDataset("bb-lung", cells(140, genes[:40], "lung")),
    ]


def real_datasets(mirror: Path) -> list[CensusDataset]:
    """Return real cells: heart (90, all primary), blood (120), and 40 of the heart's cells again, not primary."""
    heart = read_expression(mirror / "heart_kanemaru_1k/human_val.h5ad")[:90]
    blood = read_expression(mirror / "corpus_converted/pbmc3k_10x.h5ad")[:120]
    heart = labelled(heart[:, ~heart.var_names.duplicated()], "heart")
    blood = labelled(blood[:, ~blood.var_names.duplicated()], "blood")
    again = heart[:40].copy()
    again.obs["is_primary_data"] = False
    return [CensusDataset("heart", heart), CensusDataset("again", again), CensusDataset("blood", blood)]
