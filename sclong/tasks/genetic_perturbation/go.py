"""Gene Ontology terms of the genes of a perturbation screen, where a benchmark's card names an annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy import sparse

from sclong.genes.go_terms import read_annotations, term_incidence
from sclong.tasks.genetic_perturbation.profiles import Profiles


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


def graph_genes(profiles: Profiles) -> list[str]:
    """Return the symbols of the measured genes, in order, then of the perturbed genes that are not measured."""
    symbols = [str(s) for s in profiles.symbols]
    measured = set(symbols)
    return [*symbols, *(str(g) for g in profiles.perturbed if g not in measured)]


def go_context(dataset: Path, profiles: Profiles) -> dict[str, Any]:
    """Return what a problem's context holds of it: go_genes (names), and go_terms ((genes, terms) csr) if written."""
    context: dict[str, Any] = {"go_genes": graph_genes(profiles)}
    if (dataset / "go_terms.npz").is_file():
        context["go_terms"] = sparse.csr_matrix(sparse.load_npz(dataset / "go_terms.npz"))
    return context
