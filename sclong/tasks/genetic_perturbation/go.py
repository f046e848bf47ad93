"""Gene Ontology terms of the genes of a perturbation screen, where a benchmark's card names an annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scipy import sparse

from sclong.genes.go_terms import read_annotations, term_incidence
from sclong.tasks.genetic_perturbation.dataset import Profiles, graph_genes


def annotate_screen(dataset: Path, inputs: Mapping[str, Path]) -> dict[str, int]:
    """Write ``go_terms.npz``: which gene has which term, direct annotations, all aspects.

    Parameters
    ----------
    dataset
        Folder with the profiles of a screen.
    inputs
        ``obo`` and ``annotation`` (GAF, genes by symbol); without ``annotation`` nothing is written.

    Returns
    -------
    dict
        ``annotated_genes``, or nothing.
    """
    if "annotation" not in inputs:
        return {}
    annotations, _ = read_annotations(inputs["obo"], inputs["annotation"])
    incidence = term_incidence(graph_genes(Profiles.read(dataset)), annotations)
    sparse.save_npz(dataset / "go_terms.npz", incidence)
    return {"annotated_genes": int((incidence.getnnz(axis=1) > 0).sum())}
