"""Chemical perturbation, step prepare: signatures, compounds and untreated lines become the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import parse_options
from sclong.config.cards import Strict
from sclong.drugs.fingerprints import standardise
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv
from sclong.tasks.chemical_perturbation.dataset import Signatures, published_parts
from sclong.tasks.chemical_perturbation.lines import write_expression
from sclong.tasks.chemical_perturbation.signatures import (
    read_deepce_signatures,
    read_gene_vectors,
    read_h5ad_signatures,
)


class PrepareOptions(Strict):
    """Options of :func:`prepare`."""

    format: Literal["h5ad", "deepce_csv"] = Field(
        default="h5ad",
        description="h5ad: z-scores with obs pert_id, cell_id, dose_um; deepce_csv: DeepCE's layout, its three files "
        "[train, dev, test] or one",
    )
    smiles_header: bool = Field(
        default=True, description="whether the table of compounds has a header with drug_id and smiles"
    )


def prepare(inputs: Mapping[str, Any], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Read signatures, compounds and untreated lines; write the data set (:mod:`.dataset`).

    Parameters
    ----------
    inputs
        ``signatures`` (one AnnData file, or tables in DeepCE's layout), ``drugs`` (pert_id and SMILES), ``expression``
        (AnnData: untreated expression of cell lines, non-negative; those of the signatures become expression.h5ad,
        and a line without expression keeps its signatures). Optional: ``expression_genes`` (a table with a column
        gene_symbol: ``expression`` is then TranSiGen's pickle, see :func:`.read_transigen_lines`), ``annotation``
        (columns gene_id, gene_name: symbols, where the expression's genes are named by id), ``hgnc`` (HGNC's table:
        where signatures use older symbols), ``gene_vectors`` (:func:`read_gene_vectors`).
    options
        See :class:`PrepareOptions`.
    out
        Folder to fill.

    Returns
    -------
    dict
        Counts, and what was dropped and why.

    Raises
    ------
    InputDataError
        Missing columns, no structure for any compound, values that are not finite, an id or a gene twice, other genes
        than the gene vectors', a signature without a compound, a line or a dose, or expression that is not fit
        (:func:`.write_expression`).
    """
    chosen = parse_options(PrepareOptions, options, "chemical_perturbation")
    if chosen.format == "h5ad":
        found, counts = read_h5ad_signatures(inputs["signatures"]), dict[str, int]()
    else:
        paths = inputs["signatures"]
        found, counts = read_deepce_signatures(paths if isinstance(paths, (list, tuple)) else [paths])
    bad = np.argwhere(~np.isfinite(found.values))
    if len(bad):
        raise InputDataError(
            f"{len(bad)} values of signatures are not finite, the first in signature "
            f"{found.samples['sample'].iloc[bad[0, 0]]!r}, gene {str(found.genes[bad[0, 1]])!r}",
            "finite z-scores",
            "remove those signatures or genes",
        )
    separator = "," if Path(inputs["drugs"]).name.endswith((".csv", ".csv.gz")) else "\t"
    names = ("drug_id", "smiles")
    header = {} if chosen.smiles_header else {"header": None, "names": list(names)}
    drugs = read_tsv(inputs["drugs"], names, sep=separator, dtype=str, **header)[list(names)].dropna()
    samples, dropped = add_structures(found.samples, drugs, str(inputs["drugs"]))
    values = found.values[samples.index]
    vectors = read_gene_vectors(inputs["gene_vectors"], found.genes) if "gene_vectors" in inputs else None
    Signatures(samples.reset_index(drop=True), found.genes, values, vectors).write(out)

    cells = set(samples["cell_id"])
    expression = write_expression(inputs, found.genes, cells, out)
    parts = samples.groupby("structure")["published_part"].nunique()
    return {
        "signatures": len(samples),
        "genes": len(found.genes),
        "compounds": int(samples["pert_id"].nunique()),
        "structures": len(parts),
        "structures_in_several_published_parts": int((parts > 1).sum()),
        **published_parts(samples)[1],
        "same_compound_line_and_dose": int(samples.duplicated(["pert_id", "cell_id", "dose_um"]).sum()),
        "cell_lines": len(cells),
        **expression,
        **counts,
        **dropped,
    }


def add_structures(samples: pd.DataFrame, drugs: pd.DataFrame, where: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give signatures the SMILES and the structure of their compound; leave out those that have none.

    Parameters
    ----------
    samples
        As :attr:`Signatures.samples`, without smiles and structure.
    drugs
        Columns drug_id and smiles.
    where
        What the table of compounds is called in errors.

    Returns
    -------
    samples
        Those with a structure; the index says which rows they were.
    facts
        Which compounds were dropped because they have no SMILES, or one that RDKit cannot read.

    Raises
    ------
    InputDataError
        A compound has two different SMILES, or none of the compounds has a structure.
    """
    drugs = drugs[drugs["drug_id"].isin(samples["pert_id"])].drop_duplicates()
    twice = drugs["drug_id"][drugs["drug_id"].duplicated()]
    if len(twice):
        raise InputDataError(
            f"{where}: compounds with several SMILES: {listing(twice)}", "one for each compound", "remove the others"
        )
    smiles = samples["pert_id"].map(drugs.set_index("drug_id")["smiles"])
    structures, _ = standardise(smiles.fillna("").tolist())
    samples = samples.assign(smiles=smiles, structure=structures)
    absent, valid = smiles.isna(), samples["structure"] != ""
    if not valid.any():
        raise InputDataError(
            f"{where}: no structure for any compound of the signatures ({listing(samples['pert_id'])})",
            "a table whose drug_id are the signatures' pert_id, with valid SMILES",
            "correct the table of compounds, or smiles_header in the card's options",
        )
    return samples[valid], {
        "dropped_compounds_without_structure": sorted(samples["pert_id"][absent].unique()),
        "dropped_compounds_with_invalid_smiles": sorted(samples["pert_id"][~absent & ~valid].unique()),
        "signatures_without_structure": int((~valid).sum()),
    }
