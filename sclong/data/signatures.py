"""Drug signatures (L1000): how a compound at a dose changes the landmark genes of a cell line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import rankdata

from sclong.cards import Strict
from sclong.data.normalize import check_nonnegative
from sclong.errors import InputDataError, listing, nearest
from sclong.io.h5ad import read_expression
from sclong.io.tables import read_tsv, write_tsv

PARTS = ("train", "validation", "test")
# The published filter: 24 hours, seven lines, six doses, two compounds left out.
PUBLISHED_CELLS = ("A375", "HA1E", "HELA", "HT29", "MCF7", "PC3", "YAPC")
PUBLISHED_DOSES = ("0.04 um", "0.12 um", "0.37 um", "1.11 um", "3.33 um", "10.0 um")
PUBLISHED_LEFT_OUT = ("BRD-U41416256", "BRD-U60236422")
ID_COLUMNS = ("sig_id", "pert_id", "pert_type", "cell_id", "pert_idose")


class PrepareOptions(Strict):
    """Options of :func:`prepare_signatures`."""

    format: Literal["h5ad", "deepce_csv"] = Field(
        default="h5ad",
        description="h5ad: z-scores with obs pert_id, cell_id, dose_um; deepce_csv: [train, dev, test] files of DeepCE",
    )
    smiles_header: bool = Field(
        default=True, description="whether the table of compounds has a header with drug_id and smiles"
    )


@dataclass(frozen=True)
class Signatures:
    """Signatures of a data set.

    Attributes
    ----------
    samples
        Columns sample, pert_id, cell_id, dose_um (float), smiles, published_part ("" where none is published).
    genes : (G,) str
    values : (samples, G) float32
        z-scores.
    """

    samples: pd.DataFrame
    genes: np.ndarray
    values: np.ndarray

    def write(self, folder: Path) -> None:
        """Write samples.tsv and signatures.npz."""
        write_tsv(self.samples, folder / "samples.tsv")
        np.savez_compressed(folder / "signatures.npz", genes=self.genes, values=self.values)

    @classmethod
    def read(cls, folder: Path) -> Signatures:
        """Read what :meth:`write` wrote."""
        words = ("sample", "pert_id", "cell_id", "smiles", "published_part")
        samples = read_tsv(folder / "samples.tsv", dtype=dict.fromkeys(words, str))
        samples["published_part"] = samples["published_part"].fillna("")
        with np.load(folder / "signatures.npz", allow_pickle=False) as arrays:
            return cls(samples, arrays["genes"], arrays["values"])


def middle_replicates(values: np.ndarray, group: Sequence[Any]) -> np.ndarray:
    """Choose one signature of each group of replicates: the one that lies in the middle, as published.

    Each gene is ranked across the replicates, ranks are averaged over genes, and the replicate whose mean rank is
    nearest to (n - 1) / 2 is kept, the first of equals.

    Parameters
    ----------
    values : (n, G) float
    group : (n,)
        Key of each signature's group.

    Returns
    -------
    (groups,) int64
        Rows kept, ascending.
    """
    rows = pd.Series(range(len(values))).groupby(list(group), sort=False)
    kept = []
    for _, members in rows:
        rank = rankdata(values[members], axis=0).mean(axis=1) - 1
        kept.append(members.iloc[int(np.argmin(np.abs(rank - (len(members) - 1) / 2)))])
    return np.sort(np.array(kept, dtype=np.int64))


def read_h5ad_signatures(path: Path) -> Signatures:
    """Read signatures from AnnData: obs pert_id, cell_id, dose_um; X z-scores; SMILES come from elsewhere."""
    adata = read_expression(path, layer="X")
    for column in ("pert_id", "cell_id", "dose_um"):
        if column not in adata.obs:
            like = nearest(column, map(str, adata.obs.columns))
            raise InputDataError(
                f"{path}: no obs column {column!r}; the columns are {listing(adata.obs.columns, 12)}",
                "obs columns pert_id, cell_id and dose_um",
                f"rename {like[0]!r} to {column!r}" if like else f"add obs[{column!r}]",
            )
    samples = pd.DataFrame(
        {
            "sample": adata.obs_names.astype(str),
            "pert_id": adata.obs["pert_id"].astype(str).to_numpy(),
            "cell_id": adata.obs["cell_id"].astype(str).to_numpy(),
            "dose_um": adata.obs["dose_um"].astype(float).to_numpy(),
            "published_part": "",
        }
    )
    return Signatures(samples, np.asarray(adata.var_names, dtype=str), adata.X.toarray())


def read_deepce_signatures(paths: Sequence[Path]) -> Signatures:
    """Read DeepCE's signature tables (training, development, test), filter and collapse replicates as published."""
    if len(paths) != len(PARTS):
        raise InputDataError(
            f"{len(paths)} signature files", "three: training, development, test", "list them in this order in the card"
        )
    tables = [
        read_tsv(path, ID_COLUMNS, sep=",", dtype=dict.fromkeys(ID_COLUMNS, str)).assign(published_part=part)
        for path, part in zip(paths, PARTS, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    kept = (
        table["sig_id"].str.contains("24H", regex=False)
        & (table["pert_type"] == "trt_cp")
        & table["cell_id"].isin(PUBLISHED_CELLS)
        & table["pert_idose"].isin(PUBLISHED_DOSES)
        & ~table["pert_id"].isin(PUBLISHED_LEFT_OUT)
    )
    table = table[kept].reset_index(drop=True)
    if table.empty:
        raise InputDataError(
            f"{paths[0]}: no signature passes the published filter",
            "24 h signatures of compounds in seven lines at six doses",
            "use DeepCE's signature_train.csv, signature_dev.csv and signature_test.csv",
        )
    genes = np.array([c for c in table.columns if c not in (*ID_COLUMNS, "published_part")])
    values = table[genes].to_numpy(np.float32)
    replicate = table["published_part"].str.cat(table[["pert_id", "cell_id", "pert_idose"]], sep="|")
    rows = middle_replicates(values, replicate)
    samples = table.loc[rows, ["sig_id", "pert_id", "cell_id", "pert_idose", "published_part"]]
    samples = samples.rename(columns={"sig_id": "sample"}).reset_index(drop=True)
    samples.insert(3, "dose_um", samples.pop("pert_idose").str.removesuffix(" um").astype(float))
    return Signatures(samples, genes.astype(str), values[rows])


def to_symbols(ids: Sequence[str], annotation: Path) -> list[str]:
    """Replace gene ids (versions are ignored) by symbols; unknown ids and repeated symbols keep their id."""
    table = read_tsv(
        annotation, ("gene_id", "gene_name"), sep="," if ".csv" in Path(annotation).name else "\t", dtype=str
    )
    symbol = dict(zip(table["gene_id"].str.split(".").str[0], table["gene_name"], strict=True))
    taken: set[str] = set()
    names = []
    for gene in ids:
        name = symbol.get(gene.split(".")[0], gene)
        name = gene if name in taken or not isinstance(name, str) else name
        taken.add(name)
        names.append(name)
    return names


def prepare_signatures(inputs: Mapping[str, Any], chosen: PrepareOptions, out: Path) -> dict[str, Any]:
    """Read signatures and compounds, write the data set's folder.

    Parameters
    ----------
    inputs
        ``signatures`` (one AnnData file, or DeepCE's three tables), ``drugs`` (pert_id and SMILES), ``expression``
        (AnnData: untreated expression of cell lines, non-negative, becomes expression.h5ad) and, where its genes are
        named by id, ``annotation`` (columns gene_id, gene_name: gives the symbols that signatures use).
    chosen
        Options.
    out
        Folder.

    Returns
    -------
    dict
        Counts, and the compounds dropped for want of a structure.

    Raises
    ------
    InputDataError
        Missing columns, no structure for any compound, values that are not finite or negative expression.
    """
    if chosen.format == "h5ad":
        found = read_h5ad_signatures(inputs["signatures"])
    else:
        found = read_deepce_signatures(inputs["signatures"])
    separator = "," if Path(inputs["drugs"]).name.endswith((".csv", ".csv.gz")) else "\t"
    names = ("drug_id", "smiles")
    header = {} if chosen.smiles_header else {"header": None, "names": list(names)}
    drugs = read_tsv(inputs["drugs"], names, sep=separator, dtype=str, **header).drop_duplicates("drug_id")
    smiles = found.samples["pert_id"].map(drugs.set_index("drug_id")["smiles"])
    kept = smiles.notna().to_numpy()
    if not kept.any():
        raise InputDataError(
            f"{inputs['drugs']}: no structure for any compound of the signatures ({listing(found.samples['pert_id'])})",
            "a table whose drug_id are the signatures' pert_id",
            "correct the table of compounds, or smiles_header in the card's options",
        )
    if not np.isfinite(found.values).all():
        raise InputDataError(
            "signatures hold values that are not finite", "finite z-scores", "remove those signatures or genes"
        )
    samples = found.samples.assign(smiles=smiles)[kept].reset_index(drop=True)
    Signatures(samples, found.genes, found.values[kept]).write(out)

    lines = read_expression(inputs["expression"], layer="X")
    if "annotation" in inputs:
        lines.var_names = to_symbols(lines.var_names, inputs["annotation"])
    if not np.isin(found.genes, lines.var_names).any():
        raise InputDataError(
            f"{inputs['expression']}: its genes ({listing(lines.var_names, 3)}) have nothing in common with those of "
            f"the signatures ({listing(found.genes, 3)})",
            "the same gene symbols in both",
            "rename its genes, or name a table of gene_id and gene_name as the card's input 'annotation'",
        )
    check_nonnegative(lines.X, str(inputs["expression"]))
    lines.uns["value_kind"] = "nonnegative"
    lines.write_h5ad(out / "expression.h5ad", compression="gzip")
    return {
        "signatures": len(samples),
        "genes": len(found.genes),
        "compounds": int(samples["pert_id"].nunique()),
        "cell_lines": int(samples["cell_id"].nunique()),
        "lines_with_expression": int(lines.n_obs),
        "genes_with_expression": int(np.isin(found.genes, lines.var_names).sum()),
        "dropped_compounds_without_structure": sorted(found.samples.loc[~kept, "pert_id"].unique()),
    }
