"""Predict whether two drugs act synergistically on a cell line, from their structures and the line's expression.

Data and folds are those of DeepDDS (Wang et al. 2022), used in the scLong paper. Every model sees a pair without order:
features are the sum and the absolute difference of the two fingerprints, so no training row needs its mirror image.
Lines are matched by their whole name (SW48 is not SW480).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import SPLIT_COLUMNS, Features, Predictions, Problem
from sclong.benchmark.ranking import auroc, average_precision
from sclong.benchmark.task import Task
from sclong.config.cards import Strict
from sclong.drugs.features import pair_fingerprints
from sclong.drugs.fingerprints import canonical_smiles, check_structures
from sclong.drugs.ids import named_smiles, structures_of
from sclong.drugs.lines import check_values, line_rows, read_deepdds_tpm, read_lines_h5ad, write_lines
from sclong.errors import InputDataError
from sclong.io.files import atomic_path
from sclong.io.tables import read_tsv, write_tsv
from sclong.tasks.drug_combination.splits import (
    POLICIES,
    TRIPLE,
    drawn_folds,
    measured_unit,
    published_folds,
    read_labels,
    validation_rows,
)

COLUMNS = ("sample", *TRIPLE, "combination", "tissue")


class PrepareOptions(Strict):
    """Options of the data."""

    expression_format: Literal["h5ad", "deepdds_tpm"] = "h5ad"


class SplitOptions(Strict):
    """Options of every split policy."""

    folds: int = Field(default=3, ge=2, description="number of drawn folds, where the data has no published ones")
    max_folds: int | None = Field(default=None, ge=1, description="use only the first folds")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the training part's units")


class DrugCombination(Task):
    """Triples of two drugs and a line; see the module.

    ``Problem.samples`` has the columns part, scenario, drug1, drug2 (SMILES), cell; the target is 1 (synergy) or 0.
    ``Problem.context``: ``expression``, the lines' expression (data frame, lines x genes).
    """

    name = "drug_combination"
    native = "synergy_prediction"
    needs = "cell_embedding"
    metrics: ClassVar[Mapping[str, str]] = {"auroc": "max", "aupr": "max", "balanced_accuracy": "max", "kappa": "max"}

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read triples and expression, and published test folds where the card names them (one file per fold).

        Roles: ``triples``; ``expression``; ``drugs``, a table of name and SMILES, where triples name drugs;
        ``independent``, more triples, which are the test set of the policy of that name, and
        ``independent_expression`` (transcripts per million), which adds their lines; the name of a policy, its folds.

        Nothing is put right in silence: triples whose line has no expression are left out, counted, and their lines
        named; drugs that are written as salts stay as they are and are named; triples that
        were measured more than once (A, B is B, A) stay, as published, and are counted, those with both labels apart.
        """
        chosen = parse_options(PrepareOptions, options, self.name)
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
        triples["combination"] = [
            "+".join(sorted(pair)) for pair in zip(triples["drug1"], triples["drug2"], strict=True)
        ]
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

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Test folds as published where the data has them, else drawn; a validation part of the same kind in each."""
        check_policy(policy, POLICIES, self.name)
        chosen = parse_options(SplitOptions, options, f"{self.name}, split {policy}")
        triples = read_triples(dataset)
        published = dataset / f"{policy}.tsv"
        if published.is_file():
            table = read_tsv(published, ["fold", "sample"], dtype=str)
            tests = [set(rows["sample"]) for _, rows in table.groupby("fold", sort=False)]
        elif policy == "independent":
            raise InputDataError(
                f"{dataset} has no independent set",
                "a data set whose card names the input `independent`",
                "add it to the inputs, or use another split policy",
            )
        else:
            tests = drawn_folds(triples, policy, chosen.folds, seed)
        out = []
        for fold, test in enumerate(tests[: chosen.max_folds]):
            part = np.where(triples["sample"].isin(test), "test", "train").astype(object)
            part[validation_rows(triples, part, policy, chosen.validation_fraction, seed, fold)] = "validation"
            scenario = np.where(part == "test", policy, "")
            out.append(
                pd.DataFrame({"fold": str(fold), "sample": triples["sample"], "part": part, "scenario": scenario})
            )
        return pd.concat(out, ignore_index=True)[list(SPLIT_COLUMNS)]

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield one problem per fold; samples in the order of the split."""
        triples = read_triples(dataset).set_index("sample")[TRIPLE]
        expression = anndata.read_h5ad(dataset / "expression.h5ad").to_df()
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]].join(triples)
            targets = samples.pop("label").to_numpy(np.float32)[:, None].copy()
            if not sees_truth:
                targets[(samples["part"] == "test").to_numpy()] = np.nan
            yield Problem(self.name, str(fold), samples, targets, ["synergy"], {"expression": expression})

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict with a small network from both drugs (without order) and the line's embedding."""
        from sclong.benchmark.mlp import fit_predict_mlp  # torch: only models with embeddings need it

        lines = problem.samples["cell"].to_numpy(dtype=str)
        x = np.hstack(
            [pair_fingerprints(problem), line_rows(features.cells, lines, features.model, features.cell_embedding)]
        )
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        y = problem.targets
        return fit_predict_mlp(
            x[train],
            y[train],
            x[validation],
            y[validation],
            x[test],
            seed,
            loss="bce",
            epochs=100,
            patience=10,
            batch_size=256,
        )

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score each fold; the value is the mean over folds, n the test triples of all folds.

        Balanced accuracy and Cohen's kappa call "synergy" what is above 0.5. A fold with one class only has but AUPR
        (without positives, not even that) and is left out of the other means.
        """
        labels = read_triples(dataset).set_index("sample")["label"]
        scores, n, scenario = [], 0, ""
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            truth = labels[rows["sample"]].to_numpy()
            scores.append(scores_of(truth, values[:, 0]))
            n, scenario = n + len(rows), rows["scenario"].iloc[0]
        means = pd.DataFrame(scores).mean()
        return pd.DataFrame(
            [(scenario, metric, value, n, "triples") for metric, value in means.items()],
            columns=["scenario", "metric", "value", "n", "unit"],
        )


def scores_of(truth: np.ndarray, answer: np.ndarray) -> dict[str, float]:
    """Return every metric of one fold; see :meth:`DrugCombination.score`."""
    found = {"auroc": auroc(truth, answer), "aupr": average_precision(truth, answer)}
    if len(np.unique(truth)) < 2:
        return {**found, "balanced_accuracy": float("nan"), "kappa": float("nan")}
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

    called = (answer > 0.5).astype(int)
    return {
        **found,
        "balanced_accuracy": float(balanced_accuracy_score(truth, called)),
        "kappa": float(cohen_kappa_score(truth, called)),
    }


def ask_for_gene_vectors(path: Path) -> None:
    """Mark a data set's lines as wanting a vector of each gene in each line from models that have those."""
    adata = anndata.read_h5ad(path)
    adata.uns["contextual"] = True
    with atomic_path(path) as tmp:
        adata.write_h5ad(tmp)


def _as_list(value: Path | Sequence[Path]) -> list[Path]:
    return [value] if isinstance(value, Path) else list(value)


def read_triples(dataset: Path) -> pd.DataFrame:
    """Read the triples of a prepared data set; ids stay strings."""
    text = {c: str for c in COLUMNS if c != "label"}
    return read_tsv(dataset / "triples.tsv", COLUMNS, dtype=text).fillna({"tissue": ""})


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


TASK = DrugCombination()
