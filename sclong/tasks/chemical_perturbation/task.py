"""Predict how compounds never seen change the expression of landmark genes in a cell line (L1000 signatures).

Metrics and the published split are those of DeepCE (Pham et al. 2021), as used in the scLong paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import PARTS, SPLIT_COLUMNS, UNIT_COLUMNS, Features, Predictions, Problem
from sclong.benchmark.regression import mse, pearson, precision_at_k, spearman
from sclong.benchmark.task import Task
from sclong.config.cards import Strict
from sclong.drugs.fingerprints import morgan_fingerprints
from sclong.errors import InputDataError, listing
from sclong.runlog import LOGGER
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.signatures import (
    PrepareOptions,
    Signatures,
    prepare_signatures,
    published_parts,
)

RANKS = (1, 2, 4, 8, 16, 32, 64)


class SplitOptions(Strict):
    """Options of the split policy ``compound``."""

    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)


class PublishedSplitOptions(Strict):
    """The split policy ``published`` has no options."""


def precision_k(n_genes: int) -> int:
    """Return k, also the number of true positives: 100 as published, 20 when there are fewer than 500 genes."""
    return 100 if n_genes >= 500 else 20


class ChemicalPerturbation(Task):
    """Signatures of compounds; see the module.

    ``Problem.samples`` has the columns part, scenario, pert_id, cell_id, dose_um, smiles; targets are z-scores.
    ``Problem.context``: gene_names (the outputs); gene_vectors (outputs, d), where the data set comes with some.
    """

    name = "chemical_perturbation"
    native = "signature_prediction"
    needs = "gene_embedding"
    metrics: ClassVar[Mapping[str, str]] = {
        "rmse": "min",
        "pearson": "max",
        "spearman": "max",
        "pos_precision_at_100": "max",
        "neg_precision_at_100": "max",
        "pos_precision_at_20": "max",
        "neg_precision_at_20": "max",
    }

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read signatures, compounds and untreated lines: :func:`.prepare_signatures`."""
        return prepare_signatures(inputs, parse_options(PrepareOptions, options, self.name), out)

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut by compound: ``compound`` draws structures (without salts), ``published`` takes the files' parts.

        No structure stands in two parts: see :func:`.published_parts`.
        """
        check_policy(policy, ["compound", "published"], self.name)
        samples = Signatures.read(dataset).samples
        if policy == "published":
            parse_options(PublishedSplitOptions, options, f"{self.name}, split published")
            part = _published(samples)
            samples, part = samples[part.notna()], part.dropna()
        else:
            chosen = parse_options(SplitOptions, options, f"{self.name}, split compound")
            part = _draw_compounds(samples["structure"], chosen, seed)
        scenario = np.where(part == "test", "test", "")
        return pd.DataFrame(
            {"fold": "0", "sample": samples["sample"], "part": part, "scenario": scenario}, columns=list(SPLIT_COLUMNS)
        )

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield the fold; samples in the order of the split."""
        signatures = Signatures.read(dataset)
        table = signatures.samples.set_index("sample")[["pert_id", "cell_id", "dose_um", "smiles"]]
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]].join(table)
            targets = signatures.values[table.index.get_indexer(samples.index)].copy()
            if not sees_truth:
                targets[(samples["part"] == "test").to_numpy()] = np.nan
            genes = signatures.genes.tolist()
            context: dict[str, Any] = {"gene_names": genes}
            if signatures.gene_vectors is not None:
                context["gene_vectors"] = signatures.gene_vectors
            yield Problem(self.name, str(fold), samples, targets, genes, context)

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict signatures inside the space that the gene vectors span, on top of the training mean.

        Each gene's change from the training mean is written as a combination of the first r principal components of
        the gene vectors; a small network predicts the r coefficients from compound, line and dose. Genes with like
        vectors get like predictions, so vectors that group genes as compounds do predict better. r is chosen on the
        validation part. A gene that the model does not know gets its training mean.
        """
        from sclong.benchmark.mlp import fit_predict_mlp  # torch: only models with embeddings need it

        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        x = describe(problem)
        mean_G = problem.targets[train].mean(axis=0, dtype=np.float64)
        basis_GR = gene_basis(problem.outputs, features)
        coefficients = (problem.targets - mean_G) @ basis_GR
        answered = np.concatenate([validation, test])
        predicted_R = fit_predict_mlp(
            x[train], coefficients[train], x[validation], coefficients[validation], x[answered], seed
        ).astype(np.float64)
        of_validation, of_test = predicted_R[: len(validation)], predicted_R[len(validation) :]

        def answer(part_R: np.ndarray, rank: int) -> np.ndarray:
            return mean_G + part_R[:, :rank] @ basis_GR[:, :rank].T

        ranks = [r for r in RANKS if r <= basis_GR.shape[1]]
        best = min(ranks, key=lambda r: float(mse(problem.targets[validation], answer(of_validation, r)).mean()))
        return answer(of_test, best).astype(np.float32)

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score all test signatures: RMSE over all entries, the other metrics averaged over signatures."""
        scores = signature_scores(dataset, split, predictions).drop(columns="structure")
        means = {"rmse": float(np.sqrt(scores.pop("mse").mean())), **scores.mean().to_dict()}
        return pd.DataFrame(
            [("test", metric, value, len(scores), "signatures") for metric, value in means.items()],
            columns=["scenario", "metric", "value", "n", "unit"],
        )

    def unit_scores(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score compound by compound (by structure): the unit that was left out of training."""
        scores = signature_scores(dataset, split, predictions).groupby("structure").mean()
        scores.insert(0, "rmse", np.sqrt(scores.pop("mse")))
        long = scores.rename_axis("unit").reset_index().melt("unit", var_name="metric")
        return long.assign(scenario="test")[list(UNIT_COLUMNS)]


def signature_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score each test signature.

    Returns
    -------
    DataFrame
        One row per test signature: structure, mse, and the metrics of the task but for the rmse.
    """
    signatures = Signatures.read(dataset)
    place = pd.Index(signatures.samples["sample"])
    k = precision_k(len(signatures.genes))
    out = []
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold)
        at = place.get_indexer(rows["sample"])
        truth = signatures.values[at]
        out.append(
            pd.DataFrame(
                {
                    "structure": signatures.samples["structure"].to_numpy()[at],
                    "mse": mse(truth, values),
                    "pearson": pearson(truth, values),
                    "spearman": spearman(truth, values),
                    f"pos_precision_at_{k}": precision_at_k(truth, values, k, relevant=k),
                    f"neg_precision_at_{k}": precision_at_k(truth, values, k, relevant=k, lowest=True),
                }
            )
        )
    return pd.concat(out, ignore_index=True)


def _published(samples: pd.DataFrame) -> pd.Series:
    """Return the published part of each signature; NaN for those that are left out, which is logged."""
    if not samples["published_part"].isin(PARTS).all():
        raise InputDataError(
            "the data set has no published parts",
            "data of the format deepce_csv",
            "write split: compound in the card",
        )
    part, facts = published_parts(samples)
    if part.isna().any():
        LOGGER.warning(
            "published: %d training and %d validation signatures are of structures that are also in a later part "
            "and are left out: %d compounds, the first %s",
            facts["published_train_signatures_left_out"],
            facts["published_validation_signatures_left_out"],
            facts["published_compounds_left_out"],
            listing(facts["some_published_compounds_left_out"]),
        )
    empty = [name for name in PARTS if not (part == name).any()]
    if empty:
        raise InputDataError(
            f"the published parts {listing(empty)} have no signatures that can be used",
            "signatures of compounds of its own in every part",
            "look at dataset.json for what was left out and why, or write split: compound in the card",
        )
    return part


def _draw_compounds(structures: pd.Series, chosen: SplitOptions, seed: int) -> np.ndarray:
    """Return the part of each signature: all signatures of a structure go together."""
    compounds = np.unique(structures.to_numpy(dtype=str))
    n_test, n_validation = (
        max(1, round(f * len(compounds))) for f in (chosen.test_fraction, chosen.validation_fraction)
    )
    if n_test + n_validation >= len(compounds):
        raise InputDataError(
            f"{len(compounds)} compounds: none left for training",
            "compounds enough for three parts",
            "use more data or smaller fractions in the card's split_options",
        )
    drawn = rng("compound split", seed).permutation(compounds)
    test, validation = set(drawn[:n_test]), set(drawn[n_test : n_test + n_validation])
    return np.array(["test" if s in test else "validation" if s in validation else "train" for s in structures])


def describe(problem: Problem) -> np.ndarray:
    """Describe each signature by what was done.

    Returns
    -------
    (samples, 512 + lines + 1) float64
        Morgan fingerprint, one-hot cell line (lines of the training part; zeros for others), log10 of the dose.
    """
    samples = problem.samples
    smiles, which = np.unique(samples["smiles"].to_numpy(dtype=str), return_inverse=True)
    fingerprints = morgan_fingerprints(smiles.tolist())[which]
    lines = np.unique(samples["cell_id"].iloc[problem.rows("train")].to_numpy(dtype=str))
    one_hot = samples["cell_id"].to_numpy(dtype=str)[:, None] == lines
    dose = np.log10(samples["dose_um"].to_numpy(float))[:, None]
    return np.hstack([fingerprints, one_hot, dose]).astype(np.float64)


def gene_basis(outputs: list[str], features: Features, most: int = RANKS[-1]) -> np.ndarray:
    """Return the first principal components of the output genes' vectors.

    Parameters
    ----------
    outputs
        Genes (G); those that the data set's expression does not have count as unknown.
    features
        Gene vectors (standardised by dimension here).
    most
        Upper bound of the number of components; at most a quarter of the genes and the rank of the vectors are used.

    Returns
    -------
    (G, r) float64
        Orthonormal columns, by falling variance; rows of unknown genes are (about) zero.
    """
    assert features.gene_embedding is not None
    row = {name: i for i, name in enumerate(features.genes)}
    known = np.array([g in row and bool(features.gene_mapped[row[g]]) for g in outputs])
    if not known.any():
        raise InputDataError(
            f"model {features.model!r} knows none of the {len(outputs)} genes of the signatures",
            "gene vectors for the landmark genes",
            "check the gene ids of the untreated expression and of the signatures",
        )
    vectors = np.zeros((len(outputs), features.gene_embedding.shape[1]))
    vectors[known] = features.gene_embedding[[row[g] for g, k in zip(outputs, known, strict=True) if k]]
    mean, sd = vectors[known].mean(axis=0), vectors[known].std(axis=0)
    vectors[known] = (vectors[known] - mean) / (sd + 1e-8)
    left, scale, _ = np.linalg.svd(vectors, full_matrices=False)
    rank = max(1, min(most, len(outputs) // 4, int((scale > 1e-6 * scale[0]).sum())))
    return left[:, :rank]


TASK = ChemicalPerturbation()
