"""Gene pairs, step prepare: files of pairs, labels and annotations become the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.options import parse_options
from sclong.benchmark.problem import PARTS
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.tasks.gene_pairs.dataset import write_pairs


def prepare(inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Read pairs, labels and annotations; write the data set (:mod:`.dataset`).

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
        and pairs that appear with both labels.

    Raises
    ------
    InputDataError
        Files that do not belong together, or a pair that appears in two of the files.
    """
    parse_options(Strict, options, "gene_pairs")
    tables, facts = [], {}
    for part in PARTS:
        table, facts[part] = clean_pairs(parse_pairs(inputs[f"{part}_pairs"], inputs[f"{part}_labels"]))
        tables.append(table.assign(file=part))
    pairs = pd.concat(tables, ignore_index=True)
    twice = pairs["pair"][pairs["pair"].duplicated()]
    if len(twice):
        raise InputDataError(
            f"{len(twice)} pairs appear in two of the files: {listing(twice)}",
            "training, validation and test files without a common pair",
            "use the published files",
        )
    genes = sorted(set(pairs["gene1"]) | set(pairs["gene2"]))
    write_pairs(out, pairs, genes)
    annotated = {}
    if "annotation" in inputs:
        from sclong.genes.go_terms import read_annotations, term_incidence

        annotations, _ = read_annotations(
            inputs["obo"], inputs["annotation"], aspects=("BP", "MF", "CC"), propagate=False
        )
        incidence = term_incidence(genes, annotations)
        sparse.save_npz(out / "go_terms.npz", incidence)
        annotated["annotated_genes"] = int((incidence.getnnz(axis=1) > 0).sum())
    return {**facts, **annotated, "genes": len(genes)}


def parse_pairs(pairs: Path, labels: Path) -> pd.DataFrame:
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
