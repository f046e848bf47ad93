"""Which terms of the Gene Ontology a gene has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError
from sclong.genes.go_files import (
    Annotation,
    Ontology,
    read_annotation_table,
    read_gaf,
    read_gene2go,
    read_obo,
    read_term_tables,
)

Format = Literal["gaf", "gene2go", "tables"]
UNKNOWN_AT_MOST = 0.5
"""Of the annotations may name terms that the ontology does not have; above, the two do not belong together."""


def read_annotations(
    obo: str | Path,
    annotation: str | Path,
    *,
    format: Format = "gaf",
    parents: str | Path | None = None,
    aspects: Sequence[str] = ("BP", "MF", "CC"),
    evidence: Sequence[str] | None = None,
    evidence_excluded: Sequence[str] = (),
    propagate: bool = False,
) -> tuple[dict[str, set[str]], dict[str, Any]]:
    """Return gene -> GO terms, and facts: the two releases, and how many annotations were left out and why.

    Annotations qualified NOT, terms that are obsolete or unknown, and genes of other species are left out; alternative
    ids are replaced by the primary one.

    Parameters
    ----------
    obo, annotation
        "gaf": ontology (OBO) and annotation (GAF 2.x; genes by symbol). "gene2go": OBO and NCBI's gene2go (genes by
        Entrez id). "tables": a table of terms (go_id, ontology, name) and one of annotations (ensembl, symbol, go_id,
        evidence; genes by either name), as exported from Bioconductor. Plain or gzipped.
    format
        Which of these.
    parents
        Table child, parent, relation (``isa`` counts): needed for `propagate` with "tables".
    aspects
        Any of BP, MF, CC.
    evidence, evidence_excluded
        Evidence codes that count (None: all), and codes that do not.
    propagate
        Whether an annotation counts for all ancestors of its term (is_a) too. The published rule states none.

    Raises
    ------
    InputDataError
        When a file is not what it should be, or of another species.
    """
    if propagate and format == "tables" and parents is None:
        raise InputDataError(
            "go.propagate with go.format tables, and no go.parents",
            "a table of parents",
            "set go.parents, or go.propagate: false",
        )
    try:
        ontology, annotations, facts = _read(Path(obo), Path(annotation), format, Path(parents) if parents else None)
    except InputDataError:
        raise
    except (SystemExit, Exception) as error:  # goatools exits on a line that it cannot read
        raise InputDataError(
            f"{obo}, {annotation}: cannot be read as {format} ({type(error).__name__}: {str(error)[:200]})",
            "a whole ontology and a whole annotation of the format that go.format names",
            "check go.obo, go.annotation and go.format; fetch damaged files again",
        ) from error
    if not ontology.aspect or not annotations:
        raise InputDataError(
            f"{obo}: {len(ontology.aspect)} terms; {annotation}: {len(annotations)} annotations",
            "both files with content",
            "check go.obo and go.annotation; fetch them again",
        )
    terms, left_out = _terms_of_genes(annotations, ontology, aspects, evidence, evidence_excluded, propagate)
    if left_out["unknown_or_obsolete_term"] > UNKNOWN_AT_MOST * len(annotations):
        raise InputDataError(
            f"{left_out['unknown_or_obsolete_term']:,} of {len(annotations):,} annotations of {annotation} name terms "
            f"that {obo} does not have",
            "an ontology and an annotation of about the same date",
            "check go.obo: it may be of another release, or cut short",
        )
    counts = {f"annotations_left_out_{reason}": n for reason, n in left_out.items()}
    return terms, {**facts, "annotations": len(annotations), **counts}


def _read(
    obo: Path, annotation: Path, format: Format, parents: Path | None
) -> tuple[Ontology, list[Annotation], dict[str, Any]]:
    if format == "tables":
        (ontology, release), (annotations, date) = read_term_tables(obo, parents), read_annotation_table(annotation)
    else:
        ontology, release = read_obo(obo)
        annotations, date = (read_gaf if format == "gaf" else read_gene2go)(annotation)
    dates = {f"{what}_date": _date(text) for what, text in (("ontology", release), ("annotation", date))}
    return ontology, annotations, {"ontology": release, "annotation": date, **dates}


def _date(text: str) -> str | None:
    """Return the date in a line of a header or the name of a file, None if there is none."""
    found = re.search(r"\d{4}-\d\d-\d\d", text)
    return found.group() if found else None


def _terms_of_genes(
    annotations: Sequence[Annotation],
    ontology: Ontology,
    aspects: Sequence[str],
    evidence: Sequence[str] | None,
    evidence_excluded: Sequence[str],
    propagate: bool,
) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Return gene -> terms, and the number of annotations left out for each reason (the first that applies)."""
    out: dict[str, set[str]] = {}
    left_out = {"unknown_or_obsolete_term": 0, "negated": 0, "aspect": 0, "evidence": 0}
    for genes, go_id, negated, code in annotations:
        term = ontology.primary.get(go_id)
        if term is None:
            left_out["unknown_or_obsolete_term"] += 1
        elif negated:
            left_out["negated"] += 1
        elif ontology.aspect[term] not in aspects:
            left_out["aspect"] += 1
        elif (evidence is not None and code not in evidence) or code in evidence_excluded:
            left_out["evidence"] += 1
        else:
            above = ontology.ancestors(term) if propagate else ()
            for gene in genes:
                out.setdefault(gene, set()).update((term,), above)
    return out, left_out


def gene_terms(annotations: Mapping[str, set[str]], vocabulary: Any) -> list[set[str]]:
    """Return the terms of each gene of the vocabulary.

    A gene is found by its Ensembl id, else its symbol, its Entrez id, or the first alias that is annotated.
    """
    found = ((annotations[name] for name in names if name in annotations) for names in _names(vocabulary))
    return [set(next(terms, ())) for terms in found]


def names_of(vocabulary: Any) -> set[str]:
    """Return all names by which :func:`gene_terms` finds a gene."""
    return {name for names in _names(vocabulary) for name in names}


def _names(vocabulary: Any) -> Iterator[list[str]]:
    """Return each gene's names, the best first; an alias that is another gene's symbol is none."""
    table = vocabulary.table
    symbols = set(table["symbol"])
    for ids in zip(table["ensembl_id"], table["symbol"], table["entrez_id"], table["aliases"], strict=True):
        *names, aliases = (str(x or "") for x in ids)
        yield [n for n in names if n] + [a for a in aliases.split("|") if a and a not in symbols]


def term_incidence(genes: Sequence[str], annotations: Mapping[str, set[str]]) -> sparse.csr_matrix:
    """Return which gene has which term, (genes, terms) float32; terms in order of their ids."""
    terms = {t: k for k, t in enumerate(sorted(set().union(*(annotations.get(g, set()) for g in genes))))}
    columns = [sorted(terms[t] for t in annotations.get(g, ())) for g in genes]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    indices = np.array([k for c in columns for k in c], dtype=np.int64)
    return sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), (len(genes), len(terms)))
