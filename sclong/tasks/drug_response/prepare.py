"""Drug response, step prepare: responses, drugs and cell lines become the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import parse_options
from sclong.config.cards import Strict
from sclong.drugs.fingerprints import canonical_smiles, check_structures
from sclong.drugs.ids import pubchem_smiles
from sclong.drugs.lines import (
    LineTable,
    read_ccle,
    read_gdsc,
    read_gdsc_table,
    read_line_csv,
    read_lines_h5ad,
    write_lines,
)
from sclong.errors import CardError, InputDataError, listing
from sclong.io.tables import write_tsv
from sclong.seeding import rng
from sclong.tasks.drug_response.dataset import COLUMNS, OMICS
from sclong.tasks.drug_response.files import (
    check_unit,
    measured,
    merge_repeats,
    one_tissue_per_line,
    read_deepcdr_graphs,
    read_deepcdr_layout,
    read_table_layout,
)
from sclong.tasks.drug_response.published_parts import read_published_parts
from sclong.tasks.drug_response.splits import POLICIES

NEEDED = {
    "table": ("responses", "drugs", "expression"),
    "deepcdr": ("responses", "drug_list", "drugs", "annotation", "expression"),
}
"""Roles that the inputs of a layout must have."""


class PrepareOptions(Strict):
    """Options of the data."""

    layout: Literal["table", "deepcdr"] = Field(default="table", description="one table, or DeepCDR's files")
    expression_format: Literal["gdsc", "ccle", "csv"] = Field(
        default="gdsc",
        description="layout deepcdr: GDSC values standardised within lines (npz, with a map of lines), "
        "log2(TPM+1) (npz), or lines x genes as published (csv)",
    )
    max_pairs: int | None = Field(default=None, ge=10, description="at most so many pairs, drawn at random")
    check_unit: bool = Field(default=True, description="whether values that do not look like ln(uM) are an error")


def prepare(inputs: Mapping[str, Any], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Read responses, drugs and lines; pairs without structure, expression or an omics table are counted."""
    chosen = parse_options(PrepareOptions, options, "drug_response")
    deepcdr = chosen.layout == "deepcdr"
    check_roles(inputs, chosen)
    pairs = read_deepcdr_layout(inputs) if deepcdr else read_table_layout(inputs["responses"], inputs["drugs"])
    adata = _expression(inputs, chosen.expression_format if deepcdr else "h5ad")
    every = measured(pairs, inputs["responses"])
    pairs = every = every.assign(sample=every["drug_id"] + "|" + every["cell_line"])
    unit = check_unit(pairs["ln_ic50"].to_numpy(float), inputs["responses"]) if chosen.check_unit else "not checked"
    lost = pairs["smiles"].isna()
    unknown = sorted(set(pairs.loc[lost, "drug_id"]))
    if lost.all():
        raise InputDataError(
            f"{inputs['drugs']}: no structure of the drugs that have responses ({listing(unknown)})",
            "the SMILES of drugs",
            "add them",
        )
    facts: dict[str, Any] = {
        "pairs_in": len(pairs),
        "unit": unit,
        "pairs_without_structure": int(lost.sum()),
        "drugs_without_structure": len(unknown),
        "names_of_drugs_without_structure": unknown,
    }
    pairs = pairs[~lost]
    wanted = set(pairs["cell_line"])
    for name, table in _omics(inputs, wanted).items():
        table.write(out / f"{name}.npz")
        missing = sorted(wanted - table.names)
        if missing == sorted(wanted):
            raise InputDataError(
                f"none of the {len(wanted)} cell lines ({listing(missing, 3)}) is in {inputs[name]}",
                "the same names in both files",
                "check which name (line name, DepMap id) each file uses",
            )
        facts |= {
            f"{name}_features": table.values.shape[1],
            f"lines_without_{name}": len(missing),
            f"names_of_lines_without_{name}": missing,
        }
        adata = adata[[line in table.names or line not in wanted for line in adata.obs_names]]
    facts |= write_lines(adata, wanted, out)
    pairs = pairs[pairs["cell_line"].isin(set(adata.obs_names))].reset_index(drop=True)
    pairs = one_tissue_per_line(pairs, inputs["responses"])
    if chosen.max_pairs is not None and len(pairs) > chosen.max_pairs:
        drawn = rng("drug response pairs").choice(len(pairs), chosen.max_pairs, replace=False)
        pairs = pairs.iloc[np.sort(drawn)].reset_index(drop=True)
    facts |= check_structures(pairs["drug_id"], pairs["smiles"])
    pairs["smiles"] = canonical_smiles(pairs["smiles"])
    pairs, repeats = merge_repeats(pairs)
    write_tsv(pairs[list(COLUMNS)], out / "pairs.tsv")
    facts |= repeats | {
        "pairs": len(pairs),
        "drugs": pairs["drug_id"].nunique(),
        "structures": pairs["smiles"].nunique(),
    }
    if "graphs" in inputs:
        used = set(pairs["pubchem"])
        smiles = {key: value for key, value in pubchem_smiles(inputs["drugs"]).items() if key in used}
        graphs = read_deepcdr_graphs(inputs["graphs"], smiles)
        graphs.write(out / "graphs.npz")
        facts["graphs_read"] = len(graphs.smiles)
    return facts | _write_published(inputs, every, pairs, out)


def _expression(inputs: Mapping[str, Any], kind: str) -> anndata.AnnData:
    if _is_csv(inputs["expression"]):
        return read_line_csv(inputs["expression"])
    if kind == "gdsc":
        return read_gdsc(inputs["expression"], inputs["lines"])
    return {"h5ad": read_lines_h5ad, "ccle": read_ccle, "csv": read_line_csv}[kind](inputs["expression"])


def check_roles(inputs: Mapping[str, Any], chosen: PrepareOptions) -> None:
    """Check that a card's inputs are those that its layout reads.

    Raises
    ------
    CardError
        Names the roles that are missing, or that the layout does not read.
    """
    needed = list(NEEDED[chosen.layout])
    npz = [name for name in OMICS if name in inputs and not _is_csv(inputs[name])]
    gdsc = chosen.layout == "deepcdr" and chosen.expression_format == "gdsc"
    if npz or (gdsc and "expression" in inputs and not _is_csv(inputs["expression"])):
        needed.append("lines")
    missing = [role for role in needed if role not in inputs]
    unread = [role for role in ("graphs", *POLICIES) if role in inputs and chosen.layout == "table"]
    if missing or unread:
        raise CardError(
            f"drug_response, layout {chosen.layout}: "
            + (f"no input {listing(missing)}" if missing else f"inputs {listing(unread)}"),
            f"the inputs {', '.join(needed)}" + ("; those are of layout deepcdr" if unread else ""),
            "correct the inputs, or the option layout, in the benchmark's card",
        )


def _is_csv(path: Path) -> bool:
    return str(path).endswith((".csv", ".csv.gz"))


def _omics(inputs: Mapping[str, Any], lines: set[str]) -> dict[str, LineTable]:
    """Return the tables of lines, of `lines` only, that the card names: lines x features as csv, or npz like GDSC's."""
    return {name: _line_table(inputs, name).only(lines) for name in OMICS if name in inputs}


def _line_table(inputs: Mapping[str, Any], name: str) -> LineTable:
    if _is_csv(inputs[name]):
        return LineTable.of(read_line_csv(inputs[name]))
    return read_gdsc_table(inputs[name], inputs["lines"])


def _write_published(
    inputs: Mapping[str, Any], measured_pairs: pd.DataFrame, pairs: pd.DataFrame, out: Path
) -> dict[str, Any]:
    """Write the published parts of `pairs`, for every policy whose files the card names; return what facts say."""
    facts: dict[str, Any] = {}
    tables = []
    for policy in (p for p in POLICIES if p in inputs):
        found, lost = read_published_parts(inputs[policy], measured_pairs)
        found = found[found["sample"].isin(pairs["sample"])]
        facts[f"published_{policy}"] = found["part"].value_counts().to_dict()
        facts[f"published_{policy}_rows_not_measured"] = lost
        empty = sorted(set(lost) - set(found["part"]))
        if empty:
            raise InputDataError(
                f"published split {policy}: of {len(pairs)} pairs with structure and expression none is in the part "
                f"{listing(empty)}",
                "pairs in every part",
                "raise max_pairs, or leave this split out of the card's inputs: it is then drawn",
            )
        tables.append(found.assign(policy=policy))
    if tables:
        write_tsv(pd.concat(tables), out / "published_parts.tsv")
    return facts
