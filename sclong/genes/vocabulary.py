"""The gene vocabulary: which genes, in which order. Its hash travels with everything that depends on it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, VocabularyMismatchError, listing
from sclong.io.files import sha256_file, write_text
from sclong.io.tables import read_tsv

COLUMNS = ("index", "ensembl_id", "symbol", "biotype", "aliases", "entrez_id")
PAD = "PAD"
VERSION = r"\.\d+(_PAR_Y)?$"
CHROMOSOME = re.compile(r"(chr)?(\d{1,2}|X|Y|MT?)")
SCAFFOLD = re.compile(r"(GL|KI)(\d{6})\.\d+")


@dataclass(frozen=True)
class Vocabulary:
    """Genes in the order of the model.

    Attributes
    ----------
    table
        Columns index, ensembl_id (no version), symbol, biotype, aliases (joined by "|"), entrez_id; all but index str.
    metadata
        Where it comes from.
    """

    table: pd.DataFrame
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ensembl_ids(self) -> list[str]:
        """Ensembl ids in order."""
        return self.table["ensembl_id"].tolist()

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the ids in order."""
        return hashlib.sha256("\n".join(self.ensembl_ids).encode()).hexdigest()[:16]

    def write(self, path: str | Path) -> None:
        """Write as tab-separated table below ``# key: value`` lines, atomically."""
        head = {**self.metadata, "genes": len(self), "hash": self.hash}
        lines = "".join(f"# {key}: {value}\n" for key, value in head.items())
        write_text(path, lines + self.table[list(COLUMNS)].to_csv(sep="\t", index=False, lineterminator="\n"))

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read a vocabulary and check its hash.

        Raises
        ------
        InputDataError
            Missing or empty file, not UTF-8, missing columns, no genes, duplicated ids, a damaged index.
        VocabularyMismatchError
            The ids are not those whose hash the file carries: it was edited.
        """
        path = Path(path)
        lines = _lines(path, "a vocabulary.tsv", "make it: rule vocabulary")
        head = [line for line in lines if line.startswith("# ")]
        metadata = {key: value for key, _, value in (line[2:].partition(": ") for line in head)}
        if len(head) == len(lines):
            raise InputDataError(
                f"{path}: {f'{len(head)} lines of metadata and no table' if head else 'an empty file'}",
                "a vocabulary.tsv, one gene a line",
                "restore the file, or make it again: rule vocabulary",
            )
        table = read_tsv(path, COLUMNS, skiprows=len(head), dtype=str).fillna("")
        index = table["index"].tolist()
        table["index"] = np.arange(len(table))
        out = cls(table, metadata)
        twice = table["ensembl_id"][table["ensembl_id"].duplicated()]
        if len(twice):
            raise InputDataError(
                f"{path}: {listing(twice)} appear twice", "each gene once", "make the vocabulary again"
            )
        if metadata.get("hash") != out.hash:
            raise VocabularyMismatchError(
                f"{path}: its {len(table)} genes have hash {out.hash}",
                f"hash {metadata['hash']}, which the file carries" if "hash" in metadata else "a line '# hash: ...'",
                "the file was edited: restore it, or build a new vocabulary and everything that depends on it",
            )
        if not index or index != [str(i) for i in range(len(index))]:
            raise InputDataError(
                f"{path}: {len(index)} genes, which the column index does not count from 0",
                "genes, numbered in the order of the model",
                "restore the file, or make it again: rule vocabulary",
            )
        return out


def require_same_vocabulary(hash_a: str | None, what_a: str, hash_b: str | None, what_b: str) -> None:
    """Check that two things were made with one vocabulary.

    Raises
    ------
    VocabularyMismatchError
        When they were not.
    """
    if hash_a != hash_b:
        raise VocabularyMismatchError(
            f"{what_a} was made with vocabulary {hash_a}, {what_b} with vocabulary {hash_b}",
            "one vocabulary",
            "make both from one configuration",
        )


def _lines(path: Path, what: str, action: str) -> list[str]:
    """Return the lines of a text file; a byte order mark and the line ends of other systems do no harm."""
    if not path.is_file():
        raise InputDataError(f"{path}: no such file", what, action)
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputDataError(
            f"{path}: not UTF-8 text (byte {error.start + 1} is {error.object[error.start]:#04x})",
            what,
            "save it as plain UTF-8 text (not gzip, not UTF-16), or restore it",
        ) from error


def on_primary_assembly(contig: str) -> bool:
    """Say whether a contig of GRCh38 is a chromosome or an unplaced scaffold, not an alternate haplotype or a patch.

    Names of Ensembl ("6", "CHR_HSCHR6_MHC_COX"), GENCODE ("chr6", "KI270711.1") and UCSC ("chr14_GL000009v2_random").
    Of the scaffolds that are named by their accession, those below GL000250 and KI270758 are unplaced.
    """
    if CHROMOSOME.fullmatch(contig) or contig.endswith("_random") or contig.startswith("chrUn_"):
        return True
    scaffold = SCAFFOLD.fullmatch(contig)
    return scaffold is not None and int(scaffold[2]) < {"GL": 250, "KI": 270758}[scaffold[1]]


def read_annotation(path: str | Path) -> pd.DataFrame:
    """Read a gene annotation table, one row per gene: ensembl_id (no version), symbol, biotype, primary, copies.

    Genes on alternate haplotypes and patches whose symbol also stands on the primary assembly are collapsed into the
    first gene of that symbol there: they have no row of their own, and `copies` of that gene holds their ids, joined by
    "|". Of several rows of one id (``_PAR_Y`` of older releases) the first is kept.

    Raises
    ------
    InputDataError
        When a column is missing or there is no gene.
    """
    sep = "\t" if ".tsv" in Path(path).name else ","
    table = read_tsv(path, ["gene_id", "gene_name", "biotype", "chromosome"], sep=sep, dtype=str).fillna("")
    primary = {contig: on_primary_assembly(contig) for contig in table["chromosome"].unique()}
    out = pd.DataFrame(
        {
            "ensembl_id": table["gene_id"].str.strip().str.replace(VERSION, "", regex=True),
            "symbol": table["gene_name"].str.strip(),
            "biotype": table["biotype"],
            "primary": table["chromosome"].map(primary).astype(bool),
        }
    )
    out = out[out["ensembl_id"] != ""].drop_duplicates("ensembl_id").reset_index(drop=True)
    if out.empty:
        raise InputDataError(f"{path}: no gene", "a gene annotation table", "fetch it again")
    original = _row_of(out["symbol"], out["symbol"].where(out["primary"], ""))
    copy = ~out["primary"].to_numpy() & (original >= 0)
    out["copies"] = out["ensembl_id"][copy].groupby(original[copy]).agg("|".join).reindex(out.index, fill_value="")
    return out[~copy].reset_index(drop=True)


def read_symbols(path: str | Path) -> pd.DataFrame:
    """Read the approved entries of HGNC: ensembl_id (may be empty), symbol, previous, alias (tuples), entrez_id."""
    names = {
        "Ensembl gene ID": "ensembl_id",
        "Approved symbol": "symbol",
        "Previous symbols": "previous",
        "Alias symbols": "alias",
        "NCBI Gene ID(supplied by NCBI)": "entrez_id",
        "Status": "status",
    }
    table = read_tsv(path, list(names), dtype=str).fillna("").rename(columns=names)
    table = table[table["status"] == "Approved"].copy()
    for column in ("previous", "alias"):
        table[column] = [tuple(s.strip() for s in text.split(",") if s.strip()) for text in table[column]]
    return table[["ensembl_id", "symbol", "previous", "alias", "entrez_id"]].reset_index(drop=True)


def gene_table(annotation: str | Path, symbols: str | Path | None) -> pd.DataFrame:
    """Return every annotated gene with its names: ensembl_id, symbol, biotype, primary, aliases, entrez_id.

    The HGNC entry of a gene is found by its Ensembl id, else by its symbol. Of several genes with one symbol, the one
    that HGNC gives it to keeps it; the others are named by their Ensembl id, as GENCODE names genes without a symbol.
    A name that is or was a gene's symbol is not another gene's alias: data sets name genes by the symbols of their
    time. Ids of copies on alternate haplotypes are aliases too.
    """
    genes = read_annotation(annotation)
    copies = genes.pop("copies")
    genes["aliases"], genes["entrez_id"] = copies, ""
    if symbols is None:
        return genes
    hgnc = read_symbols(symbols)
    by_id = _row_of(genes["ensembl_id"], hgnc["ensembl_id"])
    owned = (by_id >= 0) & (hgnc["symbol"].to_numpy()[by_id] == genes["symbol"].to_numpy())
    shared = genes["symbol"].isin(set(genes.loc[owned, "symbol"])) & ~owned
    genes["symbol"] = genes["symbol"].where(~shared, genes["ensembl_id"])
    once = genes["symbol"].where(~genes["symbol"].duplicated(keep=False), "")
    taken = hgnc["symbol"].where(~hgnc.index.isin(by_id[by_id >= 0]), "")
    row = np.where(by_id >= 0, by_id, _row_of(once, taken))
    known = row >= 0
    rows = hgnc.iloc[row[known]]
    genes.loc[known, "entrez_id"] = rows["entrez_id"].to_numpy()
    once_symbols = {name for names in hgnc["previous"] for name in names} | set(hgnc["symbol"])
    aliases = [
        [approved, *previous, *(name for name in alias if name not in once_symbols)]
        for approved, previous, alias in zip(rows["symbol"], rows["previous"], rows["alias"], strict=True)
    ]
    genes.loc[known, "aliases"] = [
        "|".join(dict.fromkeys(name for name in (*names, *more.split("|")) if name not in ("", symbol)))
        for symbol, names, more in zip(genes.loc[known, "symbol"], aliases, copies[known], strict=True)
    ]
    return genes


def _row_of(names: pd.Series, table: pd.Series) -> np.ndarray:
    """Return the row of `table` that holds each name (the first), or -1; empty names have none."""
    first = table[(table != "") & ~table.duplicated()]
    return names.map(pd.Series(first.index, index=first)).fillna(-1).to_numpy(dtype=np.int64)


def _own_names(chosen: pd.DataFrame, everything: pd.DataFrame) -> pd.DataFrame:
    """Take from the chosen genes the names that they share with genes that were not chosen.

    A name that is ambiguous among all genes must not become unambiguous because only one of them was chosen.
    """
    rest = everything[~everything["ensembl_id"].isin(set(chosen["ensembl_id"]))]
    symbols = set(rest["symbol"])
    foreign = symbols | {name for names in rest["aliases"] for name in names.split("|")}
    out = chosen.copy()
    out["symbol"] = out["symbol"].where(~out["symbol"].isin(symbols), out["ensembl_id"])
    out["aliases"] = ["|".join(n for n in names.split("|") if n not in foreign) for names in out["aliases"]]
    return out


def build_vocabulary(
    annotation: str | Path,
    symbols: str | Path | None,
    detection: pd.DataFrame | None,
    size: int | None,
    genes: str | Path | None = None,
    *,
    release: str | None = None,
    ranked_by: Sequence[str] = (),
) -> Vocabulary:
    """Choose the genes of the model.

    All protein-coding genes on the primary assembly, by id; then non-coding genes by the number of corpus data sets
    that detect them, then by cells, ties by id, up to `size`. Without `size`: every annotated gene, in file order.
    A chosen gene keeps only names that no other annotated gene has.

    Parameters
    ----------
    annotation
        Gene annotation table (GENCODE or Ensembl release): gene_id, gene_name, biotype, chromosome.
    symbols
        HGNC table, for previous and alias symbols and Entrez ids.
    detection
        Columns ensembl_id, datasets, cells: how often the corpus detects each gene.
    size
        Number of genes; with `genes`, the number that the list must have.
    genes
        A list of Ensembl ids, one per line, to take as they are, in order; a last line PAD is left out. Ids that the
        annotation does not know stay, without names.
    release, ranked_by
        Release of the annotation; names of the data sets behind `detection`. Both for the metadata.

    Raises
    ------
    InputDataError
        Fewer genes than `size`; a list with duplicates, of another length, or one that the annotation mostly does not
        know.
    """
    table = gene_table(annotation, symbols)
    facts: dict[str, Any] = {"annotation": Path(annotation).name, "annotation_sha256": sha256_file(annotation)}
    facts["annotation_release"] = release or "not stated"
    if symbols is not None:
        facts |= {"symbols": Path(symbols).name, "symbols_sha256": sha256_file(symbols)}
    if genes is not None:
        ids = read_gene_list(genes, size)
        facts |= {"rule": f"list {Path(genes).name}, in its order", "list_sha256": sha256_file(genes)}
        annotated = set(table["ensembl_id"])
        unknown = [gene for gene in ids if gene not in annotated]
        if 2 * len(unknown) >= len(ids):
            raise InputDataError(
                f"{genes}: {len(ids) - len(unknown)} of its {len(ids)} names are in the annotation "
                f"({listing(unknown, 3)} are not)",
                "a list of human Ensembl ids, one per line",
                "map the names to Ensembl ids, or correct vocabulary.genes",
            )
        facts["unknown_to_annotation"] = f"{len(unknown)}: {listing(unknown, 10)}" if unknown else "0"
        table = _own_names(_listed(table, ids), table)
    elif size is not None:
        facts["rule"] = "protein-coding, then non-coding by data sets and cells that detect them"
        facts["ranked_by"] = ", ".join(ranked_by) or "ids"
        table = _own_names(_ranked(table, detection, size), table)
    else:
        facts["rule"] = "every annotated gene"
    counts = Counter(table["biotype"].replace("", "unknown"))
    facts["biotypes"] = ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda x: (-x[1], x[0])))
    table = table.reset_index(drop=True)
    table.insert(0, "index", np.arange(len(table)))
    return Vocabulary(table[list(COLUMNS)], facts)


def read_gene_list(path: str | Path, size: int | None = None) -> list[str]:
    """Read a list of Ensembl ids, one per line, in its order; a last line PAD is left out.

    Versions are stripped; where two ids differ by nothing else, both stay as they are.

    Raises
    ------
    InputDataError
        Missing or empty file, not UTF-8, a header, more than a name in a line, PAD before the end, a name that stands
        twice, or another number of genes than `size`.
    """
    what = "a list of Ensembl ids, one per line, in the order of the model"
    names = [line.strip() for line in _lines(Path(path), what, "correct vocabulary.genes")]
    names = [name for name in names if name]
    if names and names[-1] == PAD:
        names.pop()
    if not names:
        raise InputDataError(f"{path}: no gene", what, "give the list as it was released")
    wide = [name for name in names if len(name.split()) > 1 or "," in name]
    if wide:
        raise InputDataError(f"{path}: more than a name in a line: {listing(wide, 2)}", what, "keep the column of ids")
    if PAD in names or (not names[0].startswith("ENS") and len(names) > 1 and names[1].startswith("ENS")):
        odd = names.index(PAD) if PAD in names else 0
        raise InputDataError(
            f"{path}: {names[odd]!r} stands in place {odd + 1} of {len(names)}",
            f"{what}, without a header, {PAD} at its end or nowhere",
            "remove what is no gene, but only if the model's list lacks it too: every gene after it moves",
        )
    ids = pd.Series(names, dtype=str).str.replace(VERSION, "", regex=True)
    ids = ids.where(~ids.duplicated(keep=False), pd.Series(names, dtype=str))
    twice = ids[ids.duplicated()]
    if len(twice):
        raise InputDataError(f"{path}: {listing(twice)} appear twice", "each gene once", "remove the duplicates")
    if size is not None and len(ids) != size:
        raise InputDataError(
            f"{path}: {len(ids)} genes",
            f"{size} (vocabulary.size)",
            f"give the whole list, or write vocabulary.size: {len(ids)} if this is it",
        )
    return ids.tolist()


def _listed(table: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    out = table.set_index("ensembl_id").reindex(ids).rename_axis("ensembl_id").reset_index()
    return out.drop(columns="primary").fillna("")


def _ranked(table: pd.DataFrame, detection: pd.DataFrame | None, size: int) -> pd.DataFrame:
    coding = table[(table["biotype"] == "protein_coding") & table["primary"]].sort_values("ensembl_id")
    if len(coding) >= size:
        return coding.head(size)
    others = table[table["biotype"] != "protein_coding"].copy()
    for column in ("datasets", "cells"):
        seen = {} if detection is None else detection.set_index("ensembl_id")[column]
        others[column] = others["ensembl_id"].map(seen).fillna(0)
    others = others.sort_values(["datasets", "cells", "ensembl_id"], ascending=[False, False, True])
    if len(coding) + len(others) < size:
        raise InputDataError(
            f"the annotation has {len(coding)} protein-coding and {len(others)} other genes",
            f"at least {size} genes (vocabulary.size)",
            "lower vocabulary.size or use a fuller annotation",
        )
    return pd.concat([coding, others.head(size - len(coding))])
