"""Read the Gene Ontology and its annotation of genes, with goatools."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sclong.errors import InputDataError

HUMAN = 9606
NAMESPACES = {"BP": "biological_process", "MF": "molecular_function", "CC": "cellular_component"}


def _plain(path: Path, folder: str) -> Path:
    """Return an unpacked copy of a gzipped file (goatools reads plain ones), or the file itself."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    out = Path(folder) / path.name.removesuffix(".gz")
    with gzip.open(path, "rb") as packed, out.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return out


def _header(path: Path, starts: tuple[str, ...]) -> str:
    """Return the header's line that starts with the first of `starts` that is there ("": none is)."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = list(islice(file, 200))
    return next((line.strip() for start in starts for line in lines if line.startswith(start)), "")


def read_annotations(
    obo: str | Path,
    annotation: str | Path,
    *,
    format: Literal["gaf", "gene2go", "tables"] = "gaf",
    parents: str | Path | None = None,
    aspects: Sequence[str] = ("BP", "MF", "CC"),
    evidence: Sequence[str] | None = None,
    evidence_excluded: Sequence[str] = (),
    propagate: bool = False,
) -> tuple[dict[str, set[str]], dict[str, Any]]:
    """Return gene -> GO terms, and facts: releases of the two files, and how many annotations were left out and why.

    Annotations qualified NOT, terms that are obsolete or unknown, and genes of other species are left out; alternative
    ids are replaced by the primary one.

    Parameters
    ----------
    obo, annotation
        "gaf": ontology (OBO) and annotation (GAF 2.x; genes by symbol). "gene2go": OBO and NCBI's gene2go (genes by
        Entrez id). "tables": a table of terms (go_id, ontology, name) and one of annotations (ensembl, symbol, go_id,
        aspect, evidence), as exported from Bioconductor. Plain or gzipped.
    format
        Which of these.
    parents
        Table child, parent: needed for `propagate` with "tables".
    aspects
        Any of BP, MF, CC.
    evidence, evidence_excluded
        Evidence codes that count (None: all), and codes that do not.
    propagate
        Whether an annotation counts for all ancestors of its term too. The published rule states none.

    Raises
    ------
    InputDataError
        When a file is not what it should be, or of another species.
    """
    read = _read_tables if format == "tables" else _read_goatools
    try:
        dag, rows, facts = read(Path(obo), Path(annotation), format, parents if propagate else None)
    except InputDataError:
        raise
    except (SystemExit, Exception) as error:
        raise InputDataError(
            f"{obo}, {annotation}: cannot be read as {format} ({type(error).__name__}: {str(error)[:200]})",
            "a whole ontology and a whole annotation of the format that go.format names",
            "check go.obo, go.annotation and go.format; fetch damaged files again",
        ) from error
    if not dag or not rows:
        raise InputDataError(
            f"{obo}: {len(dag)} terms; {annotation}: {len(rows)} annotations of human genes",
            "both files with content, the annotation of human genes (taxon 9606)", "fetch them again",
        )  # fmt: skip
    if propagate and format == "tables" and parents is None:
        raise InputDataError("go.propagate with go.format tables", "a table of parents", "set go.parents")
    out: dict[str, set[str]] = {}
    left_out = {"unknown_term": 0, "not_qualified": 0, "aspect": 0, "evidence": 0}
    wanted = {NAMESPACES[a] for a in aspects}
    for gene, go_id, qualifier, code in rows:
        if go_id not in dag:
            left_out["unknown_term"] += 1
        elif "NOT" in qualifier:
            left_out["not_qualified"] += 1
        elif dag[go_id].namespace not in wanted:
            left_out["aspect"] += 1
        elif (evidence is not None and code not in evidence) or code in evidence_excluded:
            left_out["evidence"] += 1
        else:
            term = dag[go_id]
            terms = {term.item_id} | (term.get_all_parents() if propagate else set())
            out.setdefault(gene, set()).update(terms)
    counts = {f"annotations_left_out_{reason}": n for reason, n in left_out.items()}
    return out, {**facts, "annotations": len(rows), **counts}


Row = tuple[str, str, Any, str]  # gene, GO id, qualifiers, evidence code


def _read_goatools(
    obo: Path, annotation: Path, format: str, parents: object
) -> tuple[Mapping[str, Any], list[Row], dict[str, Any]]:
    from goatools.anno.gaf_reader import GafReader
    from goatools.anno.genetogo_reader import Gene2GoReader
    from goatools.obo_parser import GODag

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        ontology_file, annotation_file = _plain(obo, folder), _plain(annotation, folder)
        dag = GODag(str(ontology_file), prt=None, load_obsolete=False)
        if format == "gaf":
            found = GafReader(str(annotation_file), prt=None).associations
            rows = [(a.DB_Symbol, a.GO_ID, a.Qualifier, a.Evidence_Code) for a in found if HUMAN in a.Taxon]
            others = {taxon for a in found for taxon in a.Taxon} - {HUMAN}
        else:
            found = Gene2GoReader(str(annotation_file), taxids=True, prt=None).associations
            rows = [(str(a.DB_ID), a.GO_ID, a.Qualifier, a.Evidence_Code) for a in found if a.tax_id == HUMAN]
            others = {a.tax_id for a in found} - {HUMAN}
        if found and not rows:
            raise InputDataError(
                f"{annotation}: annotations of taxon {', '.join(map(str, sorted(others)[:5]))} only",
                f"annotations of human genes (taxon {HUMAN})", "fetch the human file, for instance goa_human.gaf.gz",
            )  # fmt: skip
        marks = ("!date-generated", "!Generated", "!GOC Validation Date", "!gaf-version")
        facts = {
            "ontology": _header(ontology_file, ("data-version", "date")), "annotation": _header(annotation_file, marks)
        }  # fmt: skip
    return dag, rows, facts


@dataclass(frozen=True)
class _Term:
    """What is used of a term, as goatools names it."""

    item_id: str
    namespace: str
    parents_of: Mapping[str, list[str]]

    def get_all_parents(self) -> set[str]:
        """Return all ancestors."""
        found: set[str] = set()
        ahead = list(self.parents_of.get(self.item_id, ()))
        while ahead:
            term = ahead.pop()
            if term not in found:
                found.add(term)
                ahead += self.parents_of.get(term, ())
        return found - {"all", self.item_id}


def _read_tables(
    terms: Path, annotation: Path, format: str, parents: str | Path | None
) -> tuple[Mapping[str, Any], list[Row], dict[str, Any]]:
    from sclong.io.tables import read_tsv

    above: dict[str, list[str]] = {}
    if parents is not None:
        table = read_tsv(parents, ["child", "parent"], dtype=str)
        for child, parent in zip(table["child"], table["parent"], strict=True):
            above.setdefault(child, []).append(parent)
    names = read_tsv(terms, ["go_id", "ontology", "name"], dtype=str)
    known = names[names["ontology"].isin(list(NAMESPACES))]
    dag = {
        go_id: _Term(go_id, NAMESPACES[ontology], above)
        for go_id, ontology in zip(known["go_id"], known["ontology"], strict=True)
    }
    table = read_tsv(annotation, ["ensembl", "symbol", "go_id", "aspect", "evidence"], dtype=str).fillna("")
    genes = table["ensembl"].where(table["ensembl"] != "", table["symbol"])
    rows = [(gene, go, "", code) for gene, go, code in zip(genes, table["go_id"], table["evidence"], strict=True)]
    return dag, rows, {"ontology": terms.name, "annotation": annotation.name}


def gene_terms(annotations: Mapping[str, set[str]], vocabulary: Any) -> list[set[str]]:
    """Return the terms of each gene of the vocabulary.

    A gene is found by its Ensembl id, else its symbol, its Entrez id, or the first alias that is annotated.
    """
    table = vocabulary.table
    known = set(table["symbol"])
    out = []
    for ids in zip(table["ensembl_id"], table["symbol"], table["entrez_id"], table["aliases"], strict=True):
        *names, aliases = (str(x or "") for x in ids)
        names += [a for a in aliases.split("|") if a not in known]
        out.append(next((set(annotations[n]) for n in names if n and n in annotations), set()))
    return out
