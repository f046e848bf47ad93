"""The gene vocabulary: which genes, in which order. Its hash travels with everything that depends on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
PRIMARY_CONTIGS = {f"chr{c}" for c in [*range(1, 23), "X", "Y", "M", "MT"]} | {
    str(c) for c in [*range(1, 23), "X", "Y", "M", "MT"]
}


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
            Missing file or columns, duplicated ids.
        VocabularyMismatchError
            The ids are not those whose hash the file carries: it was edited.
        """
        path = Path(path)
        if not path.is_file():
            raise InputDataError(f"{path}: no such file", "a vocabulary.tsv", "make it: rule vocabulary")
        metadata = {}
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith("# "):
                    break
                key, _, value = line[2:].rstrip("\n").partition(": ")
                metadata[key] = value
        table = read_tsv(path, COLUMNS, skiprows=len(metadata), dtype=str).fillna("")
        table["index"] = table["index"].astype(int)
        out = cls(table, metadata)
        twice = table["ensembl_id"][table["ensembl_id"].duplicated()]
        if len(twice):
            raise InputDataError(f"{path}: {listing(twice)} stand twice", "each gene once", "make the vocabulary again")
        if metadata.get("hash") != out.hash:
            raise VocabularyMismatchError(
                f"{path}: its {len(table)} genes have hash {out.hash}",
                f"hash {metadata['hash']}, which the file carries" if "hash" in metadata else "a line '# hash: ...'",
                "the file was edited: restore it, or build a new vocabulary and everything that depends on it",
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
            "one vocabulary", "make both from one configuration",
        )  # fmt: skip


def read_annotation(path: str | Path) -> pd.DataFrame:
    """Read a gene annotation table, one row per gene: ensembl_id (no version), symbol, biotype, chromosome.

    Genes on alternate haplotypes whose symbol also stands on the primary assembly are left out; of several rows of one
    id (a gene in both pseudoautosomal regions) the first is kept.

    Raises
    ------
    InputDataError
        When a column is missing or there is no gene.
    """
    sep = "\t" if ".tsv" in Path(path).name else ","
    table = read_tsv(path, ["gene_id", "gene_name", "biotype", "chromosome"], sep=sep, dtype=str).fillna("")
    out = pd.DataFrame(
        {
            "ensembl_id": table["gene_id"].str.strip().str.replace(r"\.\d+(_PAR_Y)?$", "", regex=True),
            "symbol": table["gene_name"].str.strip(),
            "biotype": table["biotype"],
            "primary": table["chromosome"].isin(PRIMARY_CONTIGS),
        }
    )
    out = out.drop_duplicates("ensembl_id")
    named = out.loc[out["primary"] & (out["symbol"] != ""), "symbol"]
    out = out[out["primary"] | ~out["symbol"].isin(set(named))]
    if out.empty:
        raise InputDataError(f"{path}: no gene", "a gene annotation table", "fetch it again")
    return out.reset_index(drop=True)


def read_symbols(path: str | Path) -> pd.DataFrame:
    """Read the approved entries of HGNC: ensembl_id (may be empty), symbol, previous, alias (tuples), entrez_id."""
    names = {
        "Ensembl gene ID": "ensembl_id", "Approved symbol": "symbol", "Previous symbols": "previous",
        "Alias symbols": "alias", "NCBI Gene ID(supplied by NCBI)": "entrez_id", "Status": "status",
    }  # fmt: skip
    table = read_tsv(path, list(names), dtype=str).fillna("").rename(columns=names)
    table = table[table["status"] == "Approved"].copy()
    for column in ("previous", "alias"):
        table[column] = [tuple(s.strip() for s in text.split(",") if s.strip()) for text in table[column]]
    return table[["ensembl_id", "symbol", "previous", "alias", "entrez_id"]].reset_index(drop=True)


def gene_table(annotation: str | Path, symbols: str | Path | None) -> pd.DataFrame:
    """Return every annotated gene with its names: ensembl_id, symbol, biotype, primary, aliases, entrez_id.

    The HGNC entry of a gene is found by its Ensembl id, else by its symbol. Of several genes with one symbol, the one
    that HGNC gives it to keeps it; the others are named by their Ensembl id, as GENCODE names genes without a symbol.
    """
    genes = read_annotation(annotation)
    genes["aliases"], genes["entrez_id"] = "", ""
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
    genes.loc[known, "aliases"] = [
        "|".join(dict.fromkeys(name for name in (approved, *previous, *alias) if name != symbol))
        for symbol, approved, previous, alias in zip(
            genes.loc[known, "symbol"], rows["symbol"], rows["previous"], rows["alias"], strict=True
        )
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
        Number of genes.
    genes
        A list of Ensembl ids, one per line, to take as they are, in order.

    Raises
    ------
    InputDataError
        Fewer genes than `size`; a list with duplicates, or one that the annotation mostly does not know.
    """
    table = gene_table(annotation, symbols)
    metadata: dict[str, Any] = {"annotation": Path(annotation).name, "annotation_sha256": sha256_file(annotation)}
    if genes is not None:
        table = _own_names(_listed(table, Path(genes)), table)
        metadata["rule"] = f"list {Path(genes).name}, in its order"
    elif size is not None:
        table = _own_names(_ranked(table, detection, size), table)
        metadata["rule"] = "protein-coding, then non-coding by data sets and cells that detect them"
    else:
        metadata["rule"] = "every annotated gene"
    counts = table["biotype"].value_counts()
    metadata["biotypes"] = ", ".join(f"{name} {n}" for name, n in counts.head(6).items())
    table = table.reset_index(drop=True)
    table.insert(0, "index", np.arange(len(table)))
    return Vocabulary(table[list(COLUMNS)], metadata)


def _listed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    lines = pd.Series(path.read_text(encoding="utf-8").split(), dtype=str)
    ids = lines[lines != "PAD"].str.replace(r"\.\d+$", "", regex=True)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise InputDataError(f"{path}: {listing(twice)} stand twice", "each gene once", "remove the duplicates")
    known = int(ids.isin(set(table["ensembl_id"])).sum())
    if 2 * known <= len(ids):
        raise InputDataError(
            f"{path}: {known} of its {len(ids)} names are in the annotation ({listing(ids, 3)})",
            "a list of human Ensembl ids, one per line", "map the names to Ensembl ids, or correct vocabulary.genes",
        )  # fmt: skip
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
            f"at least {size} genes (vocabulary.size)", "lower vocabulary.size or use a fuller annotation",
        )  # fmt: skip
    return pd.concat([coding, others.head(size - len(coding))])
