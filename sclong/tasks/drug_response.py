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

from sclong.cards import Strict
from sclong.data.drugs import canonical_smiles, morgan_fingerprints
from sclong.data.lines import line_rows, read_gdsc, read_lines_h5ad, write_lines
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv, write_tsv
from sclong.metrics.ranking import grouped_pearson
from sclong.metrics.regression import pearson, spearman
from sclong.seeding import rng
from sclong.tasks.base import SPLIT_COLUMNS, Features, Predictions, Problem, Task
from sclong.tasks.options import check_policy, parse_options
from sclong.tasks.predictions import answers_to

POLICIES = ("random_pairs", "leave_drug_out", "leave_cell_out")
COLUMNS = ("sample", "drug_id", "smiles", "cell_line", "tissue", "ln_ic50")


class PrepareOptions(Strict):
    """Options of the data."""

    layout: Literal["table", "deepcdr"] = Field(default="table", description="one table, or DeepCDR's files")
    max_pairs: int | None = Field(default=None, ge=10, description="at most so many pairs, drawn at random")


class SplitOptions(Strict):
    """Options of every split policy."""

    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)


class DrugResponse(Task):
    """Pairs of drug and line; see the module.

    ``Problem.samples`` has the columns part, scenario, drug_id, smiles, cell_line, tissue; the target is ln IC50.
    ``Problem.context``: ``expression``, the lines' expression (data frame, lines x genes).
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

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read responses, drugs and expression; pairs without structure or expression are left out and counted."""
        chosen = parse_options(PrepareOptions, options, self.name)
        if chosen.layout == "table":
            pairs = read_table_layout(inputs["responses"], inputs["drugs"])
            adata = read_lines_h5ad(inputs["expression"])
        else:
            pairs = read_deepcdr_layout(inputs)
            adata = read_gdsc(inputs["expression"], inputs["lines"])
        pairs = measured(pairs, inputs["responses"])
        facts: dict[str, Any] = {"pairs_in": len(pairs), "pairs_without_structure": int(pairs["smiles"].isna().sum())}
        pairs = pairs.dropna(subset=["smiles"])
        facts |= write_lines(adata, set(pairs["cell_line"]), out)
        pairs = pairs[pairs["cell_line"].isin(set(adata.obs_names))].reset_index(drop=True)
        if chosen.max_pairs is not None and len(pairs) > chosen.max_pairs:
            drawn = rng("drug response pairs").choice(len(pairs), chosen.max_pairs, replace=False)
            pairs = pairs.iloc[np.sort(drawn)].reset_index(drop=True)
        pairs["smiles"] = canonical_smiles(pairs["smiles"])
        pairs["sample"] = pairs["drug_id"] + "|" + pairs["cell_line"]
        facts["repeated_pairs_averaged"] = int(pairs["sample"].duplicated().sum())
        pairs["ln_ic50"] = pairs.groupby("sample")["ln_ic50"].transform("mean")
        pairs = pairs.drop_duplicates("sample")
        write_tsv(pairs[list(COLUMNS)], out / "pairs.tsv")
        structures = pairs["smiles"].nunique()
        return {**facts, "pairs": len(pairs), "drugs": pairs["drug_id"].nunique(), "structures": structures}

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut pairs at random within each tissue, or by drug, or by line.

        What one structure did to one line stays together, also when it was measured under two drug ids.
        """
        check_policy(policy, POLICIES, self.name)
        chosen = parse_options(SplitOptions, options, f"{self.name}, split {policy}")
        pairs = read_pairs(dataset)
        units = {
            "random_pairs": pairs["smiles"] + "|" + pairs["cell_line"],
            "leave_drug_out": pairs["smiles"],
            "leave_cell_out": pairs["cell_line"],
        }[policy]
        strata = pairs["tissue"] if policy == "random_pairs" else pd.Series("", index=pairs.index)
        part = np.empty(len(pairs), dtype=object)
        for stratum, rows in pairs.groupby(strata):
            part[rows.index] = _draw(units[rows.index], chosen, seed, str(stratum))
        scenario = np.where(part == "test", policy, "")
        return pd.DataFrame(
            {"fold": "0", "sample": pairs["sample"], "part": part, "scenario": scenario}, columns=list(SPLIT_COLUMNS)
        )

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield one problem per fold; samples in the order of the split."""
        pairs = read_pairs(dataset).set_index("sample")
        adata = anndata.read_h5ad(dataset / "expression.h5ad")
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]].join(pairs)
            targets = samples.pop("ln_ic50").to_numpy(np.float32)[:, None].copy()
            if not sees_truth:
                targets[(samples["part"] == "test").to_numpy()] = np.nan
            yield Problem(self.name, str(fold), samples, targets, ["ln_ic50"], {"expression": adata.to_df()})

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict with a small network from the drug's fingerprint and the line's embedding."""
        from sclong.heads.mlp import fit_predict_mlp  # torch: only models with embeddings need it

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
        """Score all test pairs together, and within drugs."""
        pairs = read_pairs(dataset).set_index("sample")
        out = []
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            truth = pairs.loc[rows["sample"], "ln_ic50"].to_numpy(float)
            drugs = pairs.loc[rows["sample"], "drug_id"].to_numpy(dtype=str)
            answer = values[:, 0].astype(float)
            scores = {
                "pearson": float(pearson(truth[None], answer[None])[0]),
                "spearman": float(spearman(truth[None], answer[None])[0]),
                "rmse": float(np.sqrt(np.mean((truth - answer) ** 2))),
                "pearson_per_drug": grouped_pearson(truth, answer, drugs),
            }
            out += [(rows["scenario"].iloc[0], m, v, len(rows), "pairs") for m, v in scores.items()]
        return pd.DataFrame(out, columns=["scenario", "metric", "value", "n", "unit"])


def measured(pairs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the pairs that have a response.

    Raises
    ------
    InputDataError
        When a response is not a finite number.
    """
    pairs = pairs.dropna(subset=["ln_ic50"])
    values = pd.to_numeric(pairs["ln_ic50"], errors="coerce")
    wrong = ~np.isfinite(values.to_numpy(float))
    if wrong.any():
        raise InputDataError(
            f"{path}: ln_ic50 {listing(pairs.loc[wrong, 'ln_ic50'].unique())}",
            "a finite number, or an empty cell where nothing was measured", "correct the table of responses",
        )  # fmt: skip
    return pairs.assign(ln_ic50=values)


def _draw(units: pd.Series, chosen: SplitOptions, seed: int, stratum: str) -> np.ndarray:
    """Return the part of each sample: samples of a unit go together, and no part is empty if there are three units."""
    names = np.unique(units.to_numpy(dtype=str))
    drawn = rng("drug response split", seed, stratum).permutation(names)
    if len(names) < 3:
        return np.full(len(units), "train", dtype=object)
    n_test = max(1, round(chosen.test_fraction * len(names)))
    n_validation = max(1, round(chosen.validation_fraction * len(names)))
    test, validation = set(drawn[:n_test]), set(drawn[n_test : n_test + n_validation])
    return np.array(
        ["test" if u in test else "validation" if u in validation else "train" for u in units], dtype=object
    )


def fingerprints(problem: Problem) -> np.ndarray:
    """Return the Morgan fingerprint of each sample's drug, (samples, 512)."""
    smiles, which = np.unique(problem.samples["smiles"].to_numpy(dtype=str), return_inverse=True)
    return morgan_fingerprints(smiles.tolist())[which]


def read_pairs(dataset: Path) -> pd.DataFrame:
    """Read the pairs of a prepared data set; ids stay strings."""
    text = {c: str for c in COLUMNS if c != "ln_ic50"}
    return read_tsv(dataset / "pairs.tsv", COLUMNS, dtype=text).fillna({"tissue": ""})


def read_table_layout(responses: Path, drugs: Path) -> pd.DataFrame:
    """Read a table of pairs (drug_id, cell_line, tissue, ln_ic50) and one of drugs (drug_id, smiles)."""
    text = {"drug_id": str, "cell_line": str, "tissue": str}
    pairs = read_tsv(responses, [*text, "ln_ic50"], dtype=text)
    smiles = read_tsv(drugs, ["drug_id", "smiles"], dtype=str).drop_duplicates("drug_id").set_index("drug_id")["smiles"]
    lost = sorted(set(pairs["drug_id"]) - set(smiles.index))
    if lost:
        raise InputDataError(
            f"{responses}: drugs {listing(lost)} are not in {drugs}", "a structure for every drug", "add their SMILES"
        )
    return pairs.assign(smiles=pairs["drug_id"].map(smiles))


def read_deepcdr_layout(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Read DeepCDR's files: ln IC50 (drugs x lines), PubChem ids and SMILES of drugs, cancer type of lines.

    Drugs without a PubChem id or a structure have an empty ``smiles``, lines without a cancer type an empty ``tissue``:
    as published, the latter stay (with the 561 lines of the published set: 107,446 pairs of 238 drug ids).
    """
    table = pd.read_csv(inputs["responses"], index_col=0)
    drugs = pd.read_csv(inputs["drug_list"], dtype=str)
    pubchem = drugs.set_index("drug_id")["PubCHEM"]
    smiles = pd.read_csv(inputs["drugs"], sep="\t", header=None, names=["pubchem", "smiles"], dtype=str)
    smiles = smiles.drop_duplicates("pubchem").set_index("pubchem")["smiles"]
    lines = pd.read_csv(inputs["annotation"], sep="\t", dtype=str)
    tissue = lines.drop_duplicates("depMapID").set_index("depMapID")["tcga_code"]
    pairs = table.rename_axis("drug_id").reset_index().melt("drug_id", var_name="cell_line", value_name="ln_ic50")
    pairs["drug_id"] = pairs["drug_id"].str.removeprefix("GDSC:")
    pairs["smiles"] = pairs["drug_id"].map(pubchem).map(smiles)
    pairs["tissue"] = pairs["cell_line"].map(tissue)
    return pairs


TASK = DrugResponse()
