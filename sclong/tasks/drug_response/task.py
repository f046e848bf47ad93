"""Predict how strongly a drug inhibits a cell line (ln IC50), from the drug's structure and the line's expression.

Data layouts and the random split per cancer type follow DeepCDR (Liu et al. 2020), used in the scLong paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import SPLIT_COLUMNS, UNIT_COLUMNS, Features, Predictions, Problem
from sclong.benchmark.ranking import grouped_pearson
from sclong.benchmark.regression import pearson, spearman
from sclong.benchmark.task import Task
from sclong.config.cards import Strict
from sclong.drugs.features import fingerprints
from sclong.drugs.fingerprints import canonical_smiles, check_structures
from sclong.drugs.ids import pubchem_smiles
from sclong.drugs.lines import (
    LineTable,
    line_rows,
    read_ccle,
    read_gdsc,
    read_gdsc_table,
    read_line_csv,
    read_lines_h5ad,
    write_lines,
)
from sclong.errors import CardError, InputDataError, listing
from sclong.io.tables import read_tsv, write_tsv
from sclong.seeding import rng
from sclong.tasks.drug_response.files import (
    NamedGraphs,
    check_unit,
    measured,
    merge_repeats,
    one_tissue_per_line,
    read_deepcdr_graphs,
    read_deepcdr_layout,
    read_table_layout,
)
from sclong.tasks.drug_response.published_parts import read_published_parts
from sclong.tasks.drug_response.splits import POLICIES, SplitOptions, draw_parts, published_parts

COLUMNS = ("sample", "drug_id", "smiles", "cell_line", "tissue", "ln_ic50")
NEEDED = {
    "table": ("responses", "drugs", "expression"),
    "deepcdr": ("responses", "drug_list", "drugs", "annotation", "expression"),
}
"""Roles that the inputs of a layout must have."""
OMICS = ("methylation", "mutation")
"""Tables of lines that a data set may have beside expression."""
MIN_PER_DRUG = 5
"""Test pairs that a drug needs for a correlation within it."""


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


class DrugResponse(Task):
    """Pairs of drug and line; see the module.

    ``Problem.samples`` has the columns part, scenario, drug_id, smiles, cell_line, tissue; the target is ln IC50.
    ``Problem.context``: ``expression``, the lines' expression (data frame, lines x genes); where the data set has them
    ``methylation`` and ``mutation`` (data frames, lines x features) and ``graphs`` (drug graphs by SMILES).
    """

    name = "drug_response"
    native = "response_prediction"
    needs = "cell_embedding"
    metrics: ClassVar[Mapping[str, str]] = {
        "pearson": "max",
        "spearman": "max",
        "rmse": "min",
        "pearson_per_drug": "max",
    }

    def prepare(self, inputs: Mapping[str, Any], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read responses, drugs and lines; pairs without structure, expression or an omics table are counted."""
        chosen = parse_options(PrepareOptions, options, self.name)
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

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut pairs at random within each tissue, by drug, by line or by tissue; as published where files say how.

        What one structure did to one line stays together, also when it was measured under two drug ids.
        """
        check_policy(policy, POLICIES, self.name)
        chosen = parse_options(SplitOptions, options, f"{self.name}, split {policy}")
        pairs = read_pairs(dataset)
        published = _published(dataset, policy)
        if published is None:
            part = draw_parts(pairs, policy, chosen, seed)
        else:
            part = published_parts(pairs, published, policy, chosen, seed)
        pairs, part = pairs[part.notna()], part.dropna()
        scenario = np.where(part == "test", policy, "")
        return pd.DataFrame(
            {"fold": "0", "sample": pairs["sample"], "part": part, "scenario": scenario}, columns=list(SPLIT_COLUMNS)
        )

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield one problem per fold; samples in the order of the split."""
        pairs = read_pairs(dataset).set_index("sample")
        context: dict[str, Any] = {"expression": anndata.read_h5ad(dataset / "expression.h5ad").to_df()}
        for name in OMICS:
            if (dataset / f"{name}.npz").exists():
                context[name] = LineTable.read(dataset / f"{name}.npz").frame()
        if (dataset / "graphs.npz").exists():
            context["graphs"] = NamedGraphs.read(dataset / "graphs.npz")
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]].join(pairs)
            targets = samples.pop("ln_ic50").to_numpy(np.float32)[:, None].copy()
            if not sees_truth:
                targets[(samples["part"] == "test").to_numpy()] = np.nan
            yield Problem(self.name, str(fold), samples, targets, ["ln_ic50"], context)

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict with a small network from the drug's fingerprint and the line's embedding."""
        from sclong.benchmark.mlp import fit_predict_mlp  # torch: only models with embeddings need it

        lines = problem.samples["cell_line"].to_numpy(dtype=str)
        x = np.hstack(
            [fingerprints(problem), line_rows(features.cells, lines, features.model, features.cell_embedding)]
        )
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        y = problem.targets
        return fit_predict_mlp(
            x[train], y[train], x[validation], y[validation], x[test], seed, epochs=100, patience=10, batch_size=256
        )

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score all test pairs together, and within drugs (mean over drugs with at least five test pairs)."""
        out = []
        for scenario, table in self._answered(dataset, split, predictions):
            truth, answer = table["truth"].to_numpy(), table["answer"].to_numpy()
            scores = {
                "pearson": float(pearson(truth[None], answer[None])[0]),
                "spearman": float(spearman(truth[None], answer[None])[0]),
                "rmse": float(np.sqrt(np.mean((truth - answer) ** 2))),
                "pearson_per_drug": grouped_pearson(truth, answer, table["drug_id"].to_numpy(dtype=str), MIN_PER_DRUG),
            }
            out += [(scenario, m, v, len(table), "pairs") for m, v in scores.items()]
        return pd.DataFrame(out, columns=["scenario", "metric", "value", "n", "unit"])

    def unit_scores(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score by fold, and the correlation within drugs by drug."""
        folds = super().unit_scores(dataset, split, predictions)
        rows = [
            (scenario, f"drug {drug}", "pearson_per_drug", float(value))
            for scenario, table in self._answered(dataset, split, predictions)
            for drug, pairs in table.groupby("drug_id")
            if len(pairs) >= MIN_PER_DRUG
            for value in pearson(pairs["truth"].to_numpy()[None], pairs["answer"].to_numpy()[None])
        ]
        drugs = pd.DataFrame(rows, columns=list(UNIT_COLUMNS))
        return pd.concat([folds[folds["metric"] != "pearson_per_drug"], drugs], ignore_index=True)

    def _answered(
        self, dataset: Path, split: pd.DataFrame, predictions: Predictions
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield scenario and test pairs (drug_id, truth, answer) of each fold."""
        pairs = read_pairs(dataset).set_index("sample")
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            found = pairs.loc[rows["sample"], ["drug_id", "ln_ic50"]].rename(columns={"ln_ic50": "truth"})
            yield rows["scenario"].iloc[0], found.assign(answer=values[:, 0].astype(float))


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


def _published(dataset: Path, policy: str) -> pd.DataFrame | None:
    """Return the published parts of a policy; None where the data set has none."""
    path = dataset / "published_parts.tsv"
    if not path.exists():
        return None
    table = read_tsv(path, ["policy", "sample", "part"], dtype=str)
    table = table[table["policy"] == policy]
    return table if len(table) else None


def read_pairs(dataset: Path) -> pd.DataFrame:
    """Read the pairs of a prepared data set; ids stay strings."""
    text = {c: str for c in COLUMNS if c != "ln_ic50"}
    return read_tsv(dataset / "pairs.tsv", COLUMNS, dtype=text).fillna({"tissue": ""})


TASK = DrugResponse()
