"""Gene Ontology annotations of a data set, for the models of any task that read them."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from sclong.benchmark.problem import Context, Problem
from sclong.errors import InputDataError


@dataclass(frozen=True, kw_only=True)
class AnnotatedGenes(Context):
    """Context of a task whose data set may come with annotations; a base of the task's own context.

    Attributes
    ----------
    annotated_genes
        Names of the genes that the annotations speak of.
    go_terms : (genes, terms) csr float32 or None
        1 where a gene has a term, rows as `annotated_genes`; None where the data set has no annotations.

    Raises
    ------
    InputDataError
        Another number of rows than genes.
    """

    annotated_genes: list[str]
    go_terms: sparse.csr_matrix | None = None

    def __post_init__(self) -> None:
        if self.go_terms is not None and self.go_terms.shape[0] != len(self.annotated_genes):
            raise InputDataError(
                f"annotations of {self.go_terms.shape[0]} genes for {len(self.annotated_genes)} genes",
                "one row of annotations for each gene",
                "prepare the data set again",
            )


def go_terms(problem: Problem[AnnotatedGenes]) -> sparse.csr_matrix:
    """Return the annotations of a problem, (genes, terms) csr float32.

    Raises
    ------
    InputDataError
        When the data set has none.
    """
    if problem.context.go_terms is None:
        raise InputDataError(
            "the data set has no GO annotations",
            "inputs obo and annotation in the benchmark's card",
            "add them, or leave this model out",
        )
    return problem.context.go_terms
