"""Read the Gene Ontology and its annotation of genes, with goatools."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

from sclong.errors import InputDataError

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
    obo: str | Path, annotation: str | Path, *, aspects: Sequence[str] = ("BP", "MF", "CC"), propagate: bool = False
) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Return gene symbol -> GO terms, and the releases of the two files.

    Annotations qualified NOT and terms that are obsolete are left out; alternative ids are replaced by the primary one;
    all evidence codes count.

    Parameters
    ----------
    obo, annotation
        Ontology (OBO) and annotation (GAF 2.x), plain or gzipped.
    aspects
        Any of BP, MF, CC.
    propagate
        Whether an annotation counts for all ancestors of its term too. The published rule states none.

    Raises
    ------
    InputDataError
        When a file is not what it should be.
    """
    from goatools.anno.gaf_reader import GafReader
    from goatools.obo_parser import GODag

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        ontology_file, annotation_file = _plain(Path(obo), folder), _plain(Path(annotation), folder)
        try:
            dag = GODag(str(ontology_file), prt=None, load_obsolete=False)
            rows = GafReader(str(annotation_file), prt=None).associations
        except (SystemExit, Exception) as error:
            raise InputDataError(
                f"{obo}, {annotation}: goatools cannot read them ({type(error).__name__}: {error})",
                "an ontology in OBO format and an annotation in GAF format",
                "check go.obo and go.annotation in the preset",
            ) from error
        releases = {
            "ontology": _header(ontology_file, ("data-version", "date")),
            "annotation": _header(
                annotation_file, ("!date-generated", "!Generated", "!GOC Validation Date", "!gaf-version")
            ),
        }
    if not dag or not rows:
        raise InputDataError(
            f"{obo}: {len(dag)} terms; {annotation}: {len(rows)} annotations",
            "both files with content",
            "fetch them again",
        )
    wanted = {NAMESPACES[a] for a in aspects}
    return _terms_of_genes(rows, dag, wanted, propagate), releases


def _terms_of_genes(rows: Any, dag: Any, wanted: set[str], propagate: bool) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for row in rows:
        if row.GO_ID not in dag or "NOT" in row.Qualifier:
            continue
        term = dag[row.GO_ID]
        if term.namespace not in wanted:
            continue
        terms = {term.item_id} | (term.get_all_parents() if propagate else set())
        out.setdefault(row.DB_Symbol, set()).update(terms)
    return out


def gene_terms(annotations: Mapping[str, set[str]], vocabulary: Any) -> list[set[str]]:
    """Return the terms of each gene of the vocabulary: by its symbol, else by the first alias that is annotated."""
    known = set(vocabulary.table["symbol"])
    out = []
    for symbol, aliases in zip(vocabulary.table["symbol"], vocabulary.table["aliases"], strict=True):
        names = [symbol, *(a for a in str(aliases or "").split("|") if a and a not in known)]
        out.append(next((set(annotations[n]) for n in names if n in annotations), set()))
    return out
