"""Files of the Gene Ontology: read into one form, by goatools (OBO, GAF, gene2go) or from exported tables."""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from sclong.errors import InputDataError
from sclong.io.tables import read_tsv

HUMAN = "9606"
ASPECTS = {"biological_process": "BP", "molecular_function": "MF", "cellular_component": "CC"}
PIECE = 5000
"""Lines that goatools holds at a time: its objects take 2.7 kB a line."""
DATES = ("!date-generated", "!Generated", "!GOC Validation Date", "!gaf-version")


class Annotation(NamedTuple):
    """One line of an annotation; the gene by all names that the file has for it."""

    genes: tuple[str, ...]
    term: str
    negated: bool
    evidence: str


@dataclass(frozen=True)
class Ontology:
    """Terms in use.

    Attributes
    ----------
    primary
        Any id of a term, alternative ones included -> its primary id. Obsolete terms are not there.
    aspect
        Primary id -> BP, MF or CC.
    parents
        Primary id -> ids of the terms it is a kind of (is_a).
    """

    primary: dict[str, str]
    aspect: dict[str, str]
    parents: dict[str, list[str]]
    _above: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def ancestors(self, term: str) -> frozenset[str]:
        """Return all terms above one (a primary id), itself not.

        Raises
        ------
        InputDataError
            When a term is above itself.
        """
        known = self._above
        path = [] if term in known else [term]
        ahead = [iter(self.parents.get(term, ()))]
        while path:
            parent = next(ahead[-1], None)
            if parent is None:
                done = path.pop()
                ahead.pop()
                above = [p for p in self.parents.get(done, ()) if p in self.aspect]
                known[done] = frozenset(above).union(*(known[p] for p in above))
            elif parent in path:
                raise cycle(f"{parent} is above itself")
            elif parent in self.aspect and parent not in known:
                path.append(parent)
                ahead.append(iter(self.parents.get(parent, ())))
        return known[term]


def cycle(found: str) -> InputDataError:
    """Return the error of an ontology that is no hierarchy."""
    return InputDataError(
        f"the ontology's is_a relations go in a circle ({found})",
        "a hierarchy of terms",
        "take a released file",
    )


def open_text(path: Path) -> io.TextIOBase:
    """Open a plain or gzipped file for reading text."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8")  # type: ignore[return-value]
    return path.open(encoding="utf-8")


def read_obo(path: Path) -> tuple[Ontology, str]:
    """Return the ontology of an OBO file, and the line of its header that says the release.

    Raises
    ------
    InputDataError
        When a term is above itself.
    """
    from goatools.obo_parser import GODag

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "go.obo"
        with open_text(path) as file, plain.open("w", encoding="utf-8") as out:
            shutil.copyfileobj(file, out)
        try:
            with redirect_stdout(io.StringIO()):
                dag = GODag(str(plain), prt=None, load_obsolete=False)
        except RecursionError as error:
            raise cycle(f"{path}: goatools finds no end") from error
        with plain.open(encoding="utf-8") as file:
            release = header(list(islice(file, 200)), ("data-version", "date"))
    terms = {term.item_id: term for term in dag.values() if term.namespace in ASPECTS}
    return Ontology(
        {go_id: term.item_id for go_id, term in dag.items() if term.item_id in terms},
        {go_id: ASPECTS[term.namespace] for go_id, term in terms.items()},
        {go_id: sorted(parent.item_id for parent in term.parents) for go_id, term in terms.items()},
    ), release or path.name


def header(lines: list[str], starts: tuple[str, ...]) -> str:
    """Return the line that starts with the first of `starts` that any line starts with ("": none does)."""
    return next((line.strip() for start in starts for line in lines if line.startswith(start)), "")


def read_gaf(path: Path) -> tuple[list[Annotation], str]:
    """Return the annotations of human genes (by symbol) of a GAF file, and the line that says its date.

    Raises
    ------
    InputDataError
        When they are of other species.
    """
    from goatools.anno.gaf_reader import GafReader

    rows = []
    with open_text(path) as file:
        first = list(islice(file, 1000))
        comments = [line for line in first if line.startswith("!")]
        version = header(comments, ("!gaf-version",)) or "!gaf-version: 2.2"
        body = (line for line in chain(first, file) if not line.startswith("!"))
        for piece in _pieces(path, body, f"{version}\n", column=12, prefix="taxon:"):
            rows += [
                Annotation((sys.intern(a.DB_Symbol),), sys.intern(a.GO_ID), "NOT" in a.Qualifier, a.Evidence_Code)
                for a in GafReader(piece, prt=None).associations
            ]
    return rows, header(comments, DATES) or path.name


def read_gene2go(path: Path) -> tuple[list[Annotation], str]:
    """Return the annotations of human genes (by Entrez id) of NCBI's gene2go, and the file's name: it has no date.

    Raises
    ------
    InputDataError
        When they are of other species.
    """
    from goatools.anno.genetogo_reader import Gene2GoReader

    rows = []
    with open_text(path) as file:
        body = (line for line in file if not line.startswith("#"))
        for piece in _pieces(path, body, "", column=0, prefix=""):
            rows += [
                Annotation((sys.intern(str(a.DB_ID)),), sys.intern(a.GO_ID), "NOT" in a.Qualifier, a.Evidence_Code)
                for a in Gene2GoReader(piece, taxid=int(HUMAN), prt=None).taxid2asscs.get(int(HUMAN), ())
            ]
    return rows, path.name


def _pieces(path: Path, lines: Iterator[str], head: str, column: int, prefix: str) -> Iterator[str]:
    """Write the lines about human genes to short files, one after the other, for goatools to read.

    The first taxon of a line is the gene's, a second one that of an organism it acts on. What goatools writes to the
    screen is held back.
    """
    species: set[str] = set()

    def human(line: str) -> bool:
        fields = line.split("\t")
        if len(fields) <= column:
            return True  # goatools says what is wrong
        taxon = fields[column].split("|")[0].removeprefix(prefix)
        species.add(taxon)
        return taxon == HUMAN

    chosen = filter(human, lines)
    with tempfile.TemporaryDirectory() as folder:
        piece = Path(folder) / "piece"
        while some := list(islice(chosen, PIECE)):
            piece.write_text(head + "".join(some), encoding="utf-8")
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield str(piece)
    if species and HUMAN not in species:
        raise InputDataError(
            f"{path}: annotations of taxon {', '.join(sorted(species)[:5])} only",
            f"annotations of human genes (taxon {HUMAN})",
            "fetch the human file, for instance goa_human.gaf.gz",
        )


def read_term_tables(terms: Path, parents: Path | None) -> tuple[Ontology, str]:
    """Return the ontology of tables exported from Bioconductor's GO.db, and the file's name: it states the release.

    Parameters
    ----------
    terms
        Columns go_id, ontology (BP, MF, CC), name.
    parents
        Columns child, parent, relation, of which ``isa`` counts. None: no term has parents.
    """
    table = read_tsv(terms, ["go_id", "ontology", "name"], dtype=str)
    table = table[table["ontology"].isin(list(ASPECTS.values()))]
    above: dict[str, list[str]] = {}
    if parents is not None:
        relations = read_tsv(parents, ["child", "parent", "relation"], dtype=str)
        relations = relations[relations["relation"] == "isa"]
        for child, parent in zip(relations["child"], relations["parent"], strict=True):
            above.setdefault(child, []).append(parent)
    aspect = dict(zip(table["go_id"], table["ontology"], strict=True))
    return Ontology({go_id: go_id for go_id in aspect}, aspect, above), terms.name


def read_annotation_table(path: Path) -> tuple[list[Annotation], str]:
    """Return the annotations of a table exported from Bioconductor's org.Hs.eg.db, and the file's name.

    A gene is named by its symbol and by all its Ensembl ids, which are joined by ``;`` (copies on alternate haplotypes
    have their own). The export has no negated annotations.
    """
    table = read_tsv(path, ["ensembl", "symbol", "go_id", "evidence"], dtype=str)
    joined = table["symbol"].fillna("") + ";" + table["ensembl"].fillna("")
    names = {text: tuple(name for name in text.split(";") if name) for text in joined.unique()}
    wanted = zip(joined, table["go_id"], table["evidence"], strict=True)
    return [Annotation(names[text], go_id, False, code) for text, go_id, code in wanted], path.name
