"""Pairs of genes: whether a static vector of each gene tells that the two belong together.

The published set (Du et al. 2019, Gene2vec) has labelled pairs in three files that share no gene. Test pairs are of two
kinds: *gene_disjoint*, whose genes are in no training pair (the published test file), and *shared_genes*, pairs held
out of the training file, both of whose genes are in other training pairs. In the second kind, counting how often a gene
is in positive training pairs goes very far: it measures which genes are studied, and the control ``pair_degree`` shows
it.

Files of a data set: ``pairs.tsv`` (pair, gene1, gene2, label, file: train, validation or test), ``go_terms.npz`` (genes
x terms, where annotations are given), ``genes.txt``, and ``expression.h5ad``, which has genes and no cell: only static
vectors are asked for.

Problem: `samples` are pairs (columns part, gene1, gene2), `targets` (pairs, 1) the label; `context` holds
``gene_names`` and, where annotations are given, ``go_terms`` ((genes, terms) csr float32, rows as ``gene_names``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.ranking import auroc, average_precision
from sclong.benchmark.task import PARTS, Features, Predictions, Problem, Task
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.genes.go_terms import term_incidence
from sclong.io.files import write_text
from sclong.io.tables import read_tsv, write_tsv
from sclong.seeding import rng
from sclong.tasks.gene_pairs.probe import cosine, fit_and_answer, pair_features, standardise_genes

SCENARIOS = {0: "gene_disjoint", 1: "one_gene_shared", 2: "shared_genes"}
COLUMNS = ("pair", "gene1", "gene2", "label", "file")


class PublishedSplit(Strict):
    """Options of the split policy "published"."""

    held_out_fraction: float = Field(
        default=0.05, gt=0, lt=1, description="share of the training file that becomes test pairs with shared genes"
    )


class GenePairs(Task):
    """Tell pairs that belong together from others (see the module)."""

    name = "gene_pairs"
    native = "pair_scores"
    needs = "static_gene_embedding"
    metrics: ClassVar[Mapping[str, str]] = {"auroc": "max", "average_precision": "max", "auroc_cosine": "max"}

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read pairs, labels and annotations; write the data set.

        Parameters
        ----------
        inputs
            ``train_pairs``, ``train_labels``, ``validation_pairs``, ``validation_labels``, ``test_pairs``,
            ``test_labels``: two symbols a line, and 0 or 1 a line. Optionally ``obo`` and ``annotation`` (GAF): Gene
            Ontology terms of each symbol, all aspects, direct annotations.
        options
            None.
        out
            Folder to fill.

        Returns
        -------
        dict
            Pairs per file; how many were left out: pairs of a gene with itself, repetitions (also in the other order),
            and pairs that stand there with both labels.

        Raises
        ------
        InputDataError
            Files that do not belong together, or a pair that stands in two of the files.
        """
        import anndata

        parse_options(Strict, options, self.name)
        tables, facts = [], {}
        for part in PARTS:
            table, facts[part] = clean_pairs(read_pairs(inputs[f"{part}_pairs"], inputs[f"{part}_labels"]))
            tables.append(table.assign(file=part))
        pairs = pd.concat(tables, ignore_index=True)
        twice = pairs["pair"][pairs["pair"].duplicated()]
        if len(twice):
            raise InputDataError(
                f"{len(twice)} pairs stand in two of the files: {listing(twice)}",
                "training, validation and test files without a common pair",
                "use the published files",
            )
        genes = sorted(set(pairs["gene1"]) | set(pairs["gene2"]))
        write_tsv(pairs[list(COLUMNS)], out / "pairs.tsv")
        write_text(out / "genes.txt", "".join(f"{g}\n" for g in genes))
        adata = anndata.AnnData(sparse.csr_matrix((0, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
        adata.uns["value_kind"] = "counts"
        adata.write_h5ad(out / "expression.h5ad")
        if "annotation" in inputs:
            from sclong.genes.go_terms import read_annotations

            annotations, _ = read_annotations(
                inputs["obo"], inputs["annotation"], aspects=("BP", "MF", "CC"), propagate=False
            )
            incidence = term_incidence(genes, annotations)
            sparse.save_npz(out / "go_terms.npz", incidence)
            facts["annotated_genes"] = int((incidence.getnnz(axis=1) > 0).sum())
        return facts | {"genes": len(genes)}

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut as published, and hold out a share of the training file too (policy "published").

        A held-out pair whose genes are not both in remaining training pairs goes back to training. The scenario of a
        test pair says how many of its genes are in training pairs: none (gene_disjoint), one (one_gene_shared), both
        (shared_genes).
        """
        check_policy(policy, ["published"], self.name)
        chosen = parse_options(PublishedSplit, options, f"{self.name}, split published")
        pairs = _pairs(dataset)
        part = pairs["file"].to_numpy(dtype=object)
        file = np.flatnonzero(part == "train")
        n_held = round(chosen.held_out_fraction * len(file))
        held = rng("gene_pairs", "held out", seed).choice(file, n_held, replace=False)
        part[held] = "test"
        back = held[shared_genes(pairs.iloc[held], pairs[part == "train"]) < 2]
        part[back] = "train"
        known = shared_genes(pairs, pairs[part == "train"])
        scenario = np.where(part == "test", pd.Series(known).map(SCENARIOS), "")
        return pd.DataFrame({"fold": "0", "sample": pairs["pair"], "part": part, "scenario": scenario})

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield the one problem (see the module for its layout)."""
        pairs = _pairs(dataset).set_index("pair")
        context: dict[str, Any] = {"gene_names": (dataset / "genes.txt").read_text(encoding="utf-8").split("\n")[:-1]}
        if (dataset / "go_terms.npz").is_file():
            context["go_terms"] = sparse.csr_matrix(sparse.load_npz(dataset / "go_terms.npz"))
        for fold, rows in split.groupby("fold", sort=False):
            of_fold = pairs.loc[rows["sample"]]
            targets = of_fold["label"].to_numpy(dtype=np.float32)[:, None]
            if not sees_truth:
                targets[(rows["part"] == "test").to_numpy()] = np.nan
            samples = pd.DataFrame(
                {"part": rows["part"].to_numpy(), "gene1": of_fold["gene1"], "gene2": of_fold["gene2"]},
                index=of_fold.index,
            )
            yield Problem(self.name, str(fold), samples, targets, ["interacts"], context)

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Answer with the probe; `seed` changes nothing.

        Returns
        -------
        (test samples, 2) float32
            Probability by the trained probe, and the cosine of the two vectors, for which nothing is trained.
        """
        assert features.gene_embedding is not None
        return probe(problem, features.gene_embedding, features.gene_mapped, features.genes)

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Return auroc and average_precision, and the auroc of the cosine where there is one, per scenario."""
        labels = _pairs(dataset).set_index("pair")["label"]
        parts = []
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            truth = labels.loc[rows["sample"]].to_numpy()
            for scenario in sorted(set(rows["scenario"])):
                of = (rows["scenario"] == scenario).to_numpy()
                found = {
                    "auroc": auroc(truth[of], values[of, 0]),
                    "average_precision": average_precision(truth[of], values[of, 0]),
                }
                if values.shape[1] > 1:
                    found["auroc_cosine"] = auroc(truth[of], values[of, 1])
                parts += [(scenario, metric, value, int(of.sum()), "gene pairs") for metric, value in found.items()]
        return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


def probe(problem: Problem, vectors_GD: np.ndarray, known_G: np.ndarray, genes: Sequence[str]) -> np.ndarray:
    """Answer a problem from vectors: the trained probe's probability, and the untrained cosine.

    Parameters
    ----------
    problem
        Of this task.
    vectors_GD : (genes, dimensions) float
    known_G : (genes,) bool
        Genes that have a vector; the others count as the mean gene.
    genes
        Names of the rows.

    Returns
    -------
    (test samples, 2) float32

    Raises
    ------
    InputDataError
        When a gene of the problem has no row.
    """
    first, second = gene_positions(problem, genes)
    test = problem.rows("test")
    probability = fit_and_answer(
        pair_features(standardise_genes(vectors_GD, known_G), first, second),
        problem.targets[:, 0],
        problem.rows("train"),
        problem.rows("validation"),
        test,
    )
    return np.stack([probability, cosine(vectors_GD, known_G, first[test], second[test])], axis=1).astype(np.float32)


def gene_positions(problem: Problem, genes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the first and of the second gene of every pair.

    Raises
    ------
    InputDataError
        When a gene has none.
    """
    index = pd.Index(genes)
    first, second = (index.get_indexer(pd.Index(problem.samples[c])) for c in ("gene1", "gene2"))
    if (first < 0).any() or (second < 0).any():
        missing = set(problem.samples["gene1"][first < 0]) | set(problem.samples["gene2"][second < 0])
        raise InputDataError(
            f"no row for {listing(sorted(missing))}",
            "one row for every gene of the data set's expression.h5ad",
            "delete the embedding's folder and let it be made again",
        )
    return first, second


def read_pairs(pairs: Path, labels: Path) -> pd.DataFrame:
    """Read gene1, gene2 and label, one row per line.

    Raises
    ------
    InputDataError
        A line that is not two names, a label that is not 0 or 1, or files of different lengths.
    """
    words = [line.split() for line in Path(pairs).read_text(encoding="utf-8").splitlines()]
    marks = Path(labels).read_text(encoding="utf-8").split()
    wrong = [i + 1 for i, w in enumerate(words) if len(w) != 2]
    if wrong or len(words) != len(marks) or not set(marks) <= {"0", "1"}:
        line = f", line {wrong[0]}: {len(words[wrong[0] - 1])} names" if wrong else ""
        raise InputDataError(
            f"{pairs}{line}: {len(words):,} lines; {labels}: {len(marks):,} labels, {listing(sorted(set(marks)), 3)}",
            "two gene symbols on each line, and as many labels 0 or 1",
            "fetch both files again",
        )
    return pd.DataFrame(words, columns=["gene1", "gene2"]).assign(label=[int(m) for m in marks])


def clean_pairs(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Give each pair its id (names in alphabetical order) and leave out what is no evidence.

    Returns
    -------
    pairs, facts
        Columns pair, gene1, gene2, label; and counts: in_file, pairs, positive, self_pairs, both_labels (pairs),
        repeated (lines).
    """
    ordered = np.sort(table[["gene1", "gene2"]].to_numpy(dtype=str), axis=1)
    out = pd.DataFrame({"gene1": ordered[:, 0], "gene2": ordered[:, 1], "label": table["label"]})
    out.insert(0, "pair", out["gene1"] + "|" + out["gene2"])
    selves = out["gene1"] == out["gene2"]
    labels = out[~selves].groupby("pair")["label"].nunique()
    contradicted = out["pair"].isin(labels.index[labels > 1])
    kept = out[~selves & ~contradicted].drop_duplicates("pair").reset_index(drop=True)
    facts = {
        "in_file": len(table),
        "pairs": len(kept),
        "positive": int(kept["label"].sum()),
        "self_pairs": int(selves.sum()),
        "both_labels": int((labels > 1).sum()),
        "repeated": int((~selves & ~contradicted).sum()) - len(kept),
    }
    return kept, facts


def shared_genes(pairs: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """Return how many of the two genes of each pair are in a training pair, (pairs,) 0, 1 or 2."""
    known = pd.unique(pd.concat([training["gene1"], training["gene2"]]))
    return pairs["gene1"].isin(known).to_numpy(int) + pairs["gene2"].isin(known).to_numpy(int)


def _pairs(dataset: Path) -> pd.DataFrame:
    return read_tsv(dataset / "pairs.tsv", COLUMNS, dtype={c: str for c in COLUMNS if c != "label"}, na_values=[])


TASK = GenePairs()
