"""Drug combination, step prepare: triples, structures and expression become the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.options import parse_options
from sclong.config.cards import Strict
from sclong.drugs.fingerprints import canonical_smiles, check_structures
from sclong.drugs.ids import named_smiles, structures_of
from sclong.drugs.lines import check_values, read_deepdds_tpm, read_lines_h5ad, write_lines
from sclong.io.files import atomic_path
from sclong.io.tables import write_tsv
from sclong.tasks.drug_combination.dataset import COLUMNS
from sclong.tasks.drug_combination.splits import POLICIES, measured_unit, published_folds, read_labels


class PrepareOptions(Strict):
    """Options of the data."""

    expression_format: Literal["h5ad", "deepdds_tpm"] = "h5ad"


def prepare(inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Read triples and expression, and published test folds where the card names them (one file per fold).

    Roles: ``triples``; ``expression``; ``drugs``, a table of name and SMILES, where triples name drugs;
    ``independent``, more triples, which are the test set of the policy of that name, and
    ``independent_expression`` (transcripts per million), which adds their lines; the name of a policy, its folds.

    Nothing is put right in silence: triples whose line has no expression are left out, counted, and their lines
    named; drugs that are written as salts stay as they are and are named; triples that
    were measured more than once (A, B is B, A) stay, as published, and are counted, those with both labels apart.
    """
    chosen = parse_options(PrepareOptions, options, "drug_combination")
    files = [inputs[role] for role in ("triples", "independent") if role in inputs]
    triples = pd.concat([read_labels(path) for path in files], ignore_index=True)
    triples["sample"] = [f"t{i:05d}" for i in range(len(triples))]
    published = {p: published_folds(triples, _as_list(inputs[p])) for p in POLICIES if p in inputs}
    adata = (read_lines_h5ad if chosen.expression_format == "h5ad" else read_deepdds_tpm)(inputs["expression"])
    if "independent_expression" in inputs:
        adata = add_lines(adata, inputs["independent_expression"])
    facts: dict[str, Any] = {"triples_in": len(triples), **write_lines(adata, set(triples["cell"]), out)}
    ask_for_gene_vectors(out / "expression.h5ad")
    known = triples["cell"].isin(set(adata.obs_names))
    facts["triples_without_expression"] = int((~known).sum())
    triples = triples[known].reset_index(drop=True)
    names = named_smiles(inputs["drugs"]) if "drugs" in inputs else None
    given = pd.concat([triples["drug1"], triples["drug2"]])
    structures = given.tolist() if names is None else structures_of(given, names)
    facts |= check_structures(given, structures)
    triples["drug1"], triples["drug2"] = np.split(np.array(canonical_smiles(structures), dtype=object), 2)
    triples["combination"] = ["+".join(sorted(pair)) for pair in zip(triples["drug1"], triples["drug2"], strict=True)]
    tissue = adata.obs["tissue"].astype(str) if "tissue" in adata.obs else pd.Series(dtype=str)
    triples["tissue"] = triples["cell"].map(tissue).fillna("").astype(str)
    triples["label"] = triples["label"].astype(int)
    labels = triples.groupby(measured_unit(triples))["label"].agg(["size", "nunique"])
    facts["repeated_triples"] = int((labels["size"] - 1).sum())
    facts["triples_with_both_labels"] = int((labels["nunique"] > 1).sum())
    write_tsv(triples[list(COLUMNS)], out / "triples.tsv")
    for policy, folds in published.items():
        folds = folds[folds["sample"].isin(triples["sample"])]
        write_tsv(folds, out / f"{policy}.tsv")
        facts[f"{policy}_folds"] = folds["fold"].nunique()
    return {**facts, "triples": len(triples), "positive": int(triples["label"].sum())}


def ask_for_gene_vectors(path: Path) -> None:
    """Mark a data set's lines as wanting a vector of each gene in each line from models that have those."""
    adata = anndata.read_h5ad(path)
    adata.uns["contextual"] = True
    with atomic_path(path) as tmp:
        adata.write_h5ad(tmp)


def _as_list(value: Path | Sequence[Path]) -> list[Path]:
    return [value] if isinstance(value, Path) else list(value)


def add_lines(adata: anndata.AnnData, path: Path) -> anndata.AnnData:
    """Add the lines of a table of transcripts per million that `adata` lacks, as log(1 + TPM); complete genes only.

    Raises
    ------
    InputDataError
        A value that is negative, infinite or no number; an empty cell is none of these.
    """
    given = pd.read_csv(path, index_col=0)
    table = given.apply(pd.to_numeric, errors="coerce")
    wrong = (given.notna() & ~(np.isfinite(table) & (table >= 0))).to_numpy()
    check_values(path, given, wrong, "transcripts per million: numbers that are not negative")
    table = table.dropna(axis=1)
    table = table[~table.index.isin(adata.obs_names)]
    more = anndata.AnnData(sparse.csr_matrix(np.log1p(table.to_numpy()), dtype=np.float32))
    more.obs_names, more.var_names = table.index.astype(str), table.columns.astype(str)
    return anndata.concat([adata, more], join="inner")
