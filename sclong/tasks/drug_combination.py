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

from sclong.cards import Strict
from sclong.data.drugs import canonical_smiles, morgan_fingerprints
from sclong.data.lines import line_rows, read_deepdds_tpm, read_lines_h5ad, write_lines
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv, write_tsv
from sclong.metrics.ranking import auroc, average_precision
from sclong.seeding import rng
from sclong.tasks.base import SPLIT_COLUMNS, Features, Predictions, Problem, Task
from sclong.tasks.options import check_policy, parse_options
from sclong.tasks.predictions import answers_to

POLICIES = ("leave_combination_out", "leave_drug_out", "independent")
TRIPLE = ["drug1", "drug2", "cell", "label"]
COLUMNS = ("sample", *TRIPLE, "combination")


class PrepareOptions(Strict):
    """Options of the data."""

    expression_format: Literal["h5ad", "deepdds_tpm"] = "h5ad"


class SplitOptions(Strict):
    """Options of every split policy."""

    folds: int = Field(default=3, ge=2, description="number of drawn folds, where the data has no published ones")
    max_folds: int | None = Field(default=None, ge=1, description="use only the first folds")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of training combinations or drugs")


class DrugCombination(Task):
    """Triples of two drugs and a line; see the module.

    ``Problem.samples`` has the columns part, scenario, drug1, drug2 (SMILES), cell; the target is 1 (synergy) or 0.
    ``Problem.context``: ``expression``, the lines' expression (data frame, lines x genes).
    """

    name = "drug_combination"
    native = "synergy_prediction"
    needs = "cell_embedding"
    metrics: ClassVar[Mapping[str, str]] = {"auroc": "max", "aupr": "max"}

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read triples and expression, and published test folds where the card names them (one file per fold).

        A card that names an ``independent`` file of triples adds them to the data, as the test set of the policy of
        that name; ``independent_expression`` (transcripts per million) then adds their lines.
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
        triples = triples[triples["cell"].isin(set(adata.obs_names))].reset_index(drop=True)
        facts["repeated_triples"] = int(triples.duplicated(["drug1", "drug2", "cell"]).sum())
        for column in ("drug1", "drug2"):
            triples[column] = canonical_smiles(triples[column])
        triples["combination"] = [
            "+".join(sorted(pair)) for pair in zip(triples["drug1"], triples["drug2"], strict=True)
        ]
        triples["label"] = triples["label"].astype(int)
        write_tsv(triples[list(COLUMNS)], out / "triples.tsv")
        for policy, folds in published.items():
            write_tsv(folds[folds["sample"].isin(triples["sample"])], out / f"{policy}.tsv")
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
                f"{dataset} has no independent set", "a data set whose card names the input `independent`",
                "add it to the inputs, or use another split policy",
            )  # fmt: skip
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
        triples = read_triples(dataset).set_index("sample").drop(columns="combination")
        expression = anndata.read_h5ad(dataset / "expression.h5ad").to_df()
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]].join(triples)
            targets = samples.pop("label").to_numpy(np.float32)[:, None].copy()
            if not sees_truth:
                targets[(samples["part"] == "test").to_numpy()] = np.nan
            yield Problem(self.name, str(fold), samples, targets, ["synergy"], {"expression": expression})

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict with a small network from both drugs (without order) and the line's embedding."""
        from sclong.heads.mlp import fit_predict_mlp  # torch: only models with embeddings need it

        lines = problem.samples["cell"].to_numpy(dtype=str)
        x = np.hstack(
            [pair_fingerprints(problem), line_rows(features.cells, lines, features.model, features.cell_embedding)]
        )
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        y = problem.targets
        return fit_predict_mlp(
            x[train], y[train], x[validation], y[validation], x[test], seed,
            loss="bce", epochs=100, patience=10, batch_size=256,
        )  # fmt: skip

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score each fold; the value is the mean over folds, n the test triples of all folds.

        A fold with one class only has no AUROC (without positives, no AUPR either) and is left out of that mean.
        """
        labels = read_triples(dataset).set_index("sample")["label"]
        scores, n, scenario = [], 0, ""
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            truth = labels[rows["sample"]].to_numpy()
            scores.append({"auroc": auroc(truth, values[:, 0]), "aupr": average_precision(truth, values[:, 0])})
            n, scenario = n + len(rows), rows["scenario"].iloc[0]
        means = pd.DataFrame(scores).mean()
        return pd.DataFrame(
            [(scenario, metric, value, n, "triples") for metric, value in means.items()],
            columns=["scenario", "metric", "value", "n", "unit"],
        )


def _as_list(value: Path | Sequence[Path]) -> list[Path]:
    return [value] if isinstance(value, Path) else list(value)


def read_triples(dataset: Path) -> pd.DataFrame:
    """Read the triples of a prepared data set; ids stay strings."""
    text = {c: str for c in COLUMNS if c != "label"}
    return read_tsv(dataset / "triples.tsv", COLUMNS, dtype=text)


def read_labels(path: Path) -> pd.DataFrame:
    """Read triples with labels: columns drug1, drug2 (SMILES), cell, label; comma separated if the file is a .csv.

    Raises
    ------
    InputDataError
        For a label that is neither 0 nor 1.
    """
    sep = "," if path.suffix == ".csv" else "\t"
    triples = read_tsv(path, TRIPLE, sep=sep, dtype={"drug1": str, "drug2": str, "cell": str})[TRIPLE]
    wrong = triples[~triples["label"].isin([0, 1])]
    if len(wrong):
        raise InputDataError(
            f"{path}: labels {listing(wrong['label'].unique())}", "0 or 1 in the column label",
            "cut the synergy score at a threshold first",
        )  # fmt: skip
    return triples


def add_lines(adata: anndata.AnnData, path: Path) -> anndata.AnnData:
    """Add the lines of a table of transcripts per million that `adata` lacks, as log(1 + TPM); complete genes only."""
    table = pd.read_csv(path, index_col=0).dropna(axis=1)
    table = table[~table.index.isin(adata.obs_names)]
    more = anndata.AnnData(sparse.csr_matrix(np.log1p(table.to_numpy()), dtype=np.float32))
    more.obs_names, more.var_names = table.index.astype(str), table.columns.astype(str)
    return anndata.concat([adata, more], join="inner")


def published_folds(triples: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """Find the triples of each published test fold: columns fold, sample.

    Raises
    ------
    InputDataError
        When a file has triples that the data does not.
    """
    key = pd.MultiIndex.from_frame(triples[["drug1", "drug2", "cell"]])
    out = []
    for fold, path in enumerate(files):
        rows = read_labels(path)
        wanted = pd.MultiIndex.from_frame(rows[["drug1", "drug2", "cell"]])
        unknown = ~wanted.isin(key)
        if unknown.any():
            raise InputDataError(
                f"{path}: {int(unknown.sum())} triples that the data does not have", "folds of the same data",
                "name the files of one release in the card",
            )  # fmt: skip
        samples = triples.loc[key.isin(wanted), "sample"]
        out.append(pd.DataFrame({"fold": str(fold), "sample": samples}))
    return pd.concat(out, ignore_index=True)


def drugs_of(triples: pd.DataFrame) -> np.ndarray:
    """Return the distinct drugs, sorted."""
    return np.unique(triples[["drug1", "drug2"]].to_numpy(dtype=str))


def with_drug(triples: pd.DataFrame, drugs: set[str]) -> np.ndarray:
    """Return which triples have one of some drugs, (n,) bool."""
    return (triples["drug1"].isin(drugs) | triples["drug2"].isin(drugs)).to_numpy()


def drawn_folds(triples: pd.DataFrame, policy: str, folds: int, seed: int) -> list[set[str]]:
    """Draw test folds: combinations are divided among folds, or drugs (a triple with any of them is in the test)."""
    units = np.unique(triples["combination"]) if policy == "leave_combination_out" else drugs_of(triples)
    parts = np.array_split(rng("drug combination folds", policy, seed).permutation(units), folds)
    if policy == "leave_combination_out":
        rows = [triples["combination"].isin(set(part)).to_numpy() for part in parts]
    else:
        rows = [with_drug(triples, set(part)) for part in parts]
    return [set(triples.loc[chosen, "sample"]) for chosen in rows]


def validation_rows(
    triples: pd.DataFrame, part: np.ndarray, policy: str, fraction: float, seed: int, fold: int
) -> np.ndarray:
    """Return the positions of a fold's validation triples: combinations, or drugs, held out of the training."""
    train = np.flatnonzero(part == "train")
    rows = triples.iloc[train]
    by_combination = policy == "leave_combination_out"
    units = np.unique(rows["combination"]) if by_combination else drugs_of(rows)
    n = max(1, round(fraction * len(units)))
    held = set(rng("drug combination validation", policy, seed, fold).choice(units, n, replace=False))
    chosen = rows["combination"].isin(held).to_numpy() if by_combination else with_drug(rows, held)
    return train[chosen]


def pair_fingerprints(problem: Problem) -> np.ndarray:
    """Return the sum and the absolute difference of both drugs' fingerprints, (samples, 1024): order does not count."""
    samples = problem.samples
    smiles = drugs_of(samples)
    bits = morgan_fingerprints(smiles.tolist())
    first, second = (bits[np.searchsorted(smiles, samples[c].to_numpy(dtype=str))] for c in ("drug1", "drug2"))
    return np.hstack([first + second, np.abs(first - second)])


TASK = DrugCombination()
