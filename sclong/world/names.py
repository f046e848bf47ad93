"""Names of the simulated genes, in the styles that real files mix, and the table that ties the styles together."""

from __future__ import annotations

import numpy as np
import pandas as pd

# Families of symbols. They look like human symbols and are none (neither approved, nor alias, nor previous).
TF_FAMILIES = ("ZNQ", "FXO", "KLX", "GTQ", "HXQ", "RNQ", "STQ", "MYQ")
GENE_FAMILIES = (
    "ABQ",
    "BLQ",
    "CDQ",
    "DXR",
    "ELV",
    "FGQ",
    "GLQ",
    "HSQ",
    "IFQ",
    "JNQ",
    "KCQ",
    "LRQ",
    "NDQ",
    "PRQ",
    "QSO",
    "RPQ",
    "SLQ",
    "TMQ",
    "UBQ",
    "VPQ",
    "WDQ",
    "YQT",
)

N_RENAMED = 90  # genes with a previous or an alias symbol
FIRST_ENTREZ = 99_000_001
HGNC_COLUMNS = [
    "HGNC ID",
    "Approved symbol",
    "Approved name",
    "Status",
    "Alias symbols",
    "NCBI Gene ID(supplied by NCBI)",
    "UniProt ID(supplied by UniProt)",
    "Previous symbols",
    "Ensembl gene ID",
    "Locus type",
]


def name_genes(module: np.ndarray, is_tf: np.ndarray, generator: np.random.Generator) -> pd.DataFrame:
    """Name every gene.

    A symbol says nothing about the module: families are dealt at random.

    Parameters
    ----------
    module : (genes,) int
        Module of each gene, -1 for housekeeping genes.
    is_tf : (genes,) bool

    Returns
    -------
    DataFrame
        gene_id, symbol, previous, alias, entrez_id, uniprot_id, biotype, chromosome, start, end, module, is_tf; one row
        per gene, along the chromosomes.
    """
    n_genes = len(module)
    symbols = np.empty(n_genes, dtype=object)
    coding = is_tf | (generator.random(n_genes) >= 0.12)
    _deal(symbols, np.flatnonzero(is_tf), TF_FAMILIES, generator)
    _deal(symbols, np.flatnonzero(coding & ~is_tf), GENE_FAMILIES, generator)
    noncoding = np.flatnonzero(~coding)
    symbols[noncoding] = [f"LINC{90001 + i}" for i in range(len(noncoding))]

    # Half of the renamed genes were approved under another symbol once, half have a nickname.
    renamed = generator.choice(np.flatnonzero(~is_tf), N_RENAMED, replace=False)
    previous, alias = np.full(n_genes, "", dtype=object), np.full(n_genes, "", dtype=object)
    previous[renamed[: N_RENAMED // 2]] = [f"OXQ{101 + i}" for i in range(N_RENAMED // 2)]
    alias[renamed[N_RENAMED // 2 :]] = [f"SVQ{101 + i}" for i in range(N_RENAMED - N_RENAMED // 2)]
    alias[renamed[-1]] = alias[renamed[-2]]  # one nickname is shared by two genes: it names neither

    chromosome = np.sort(generator.integers(1, 24, n_genes))
    start = np.sort(generator.integers(100_000, 1_000_000_000, n_genes))
    number = range(1, n_genes + 1)
    return pd.DataFrame(
        {
            "gene_id": [f"ENSG09{i:09d}" for i in number],
            "symbol": symbols.astype(str),
            "previous": previous.astype(str),
            "alias": alias.astype(str),
            "entrez_id": [str(e) for e in FIRST_ENTREZ + generator.permutation(n_genes)],
            "uniprot_id": [f"Q9S{_letters(i)}{i % 10}" if c else "" for i, c in zip(number, coding, strict=True)],
            "biotype": np.where(coding, "protein_coding", "lncRNA"),
            "chromosome": [f"chr{'X' if c == 23 else c}" for c in chromosome],
            "start": start,
            "end": start + generator.integers(1_000, 60_000, n_genes),
            "module": module,
            "is_tf": is_tf,
        }
    )


def _deal(symbols: np.ndarray, members: np.ndarray, families: tuple[str, ...], generator: np.random.Generator) -> None:
    """Give each member the next free number of a family."""
    for position, gene in enumerate(generator.permutation(members)):
        number, family = divmod(position, len(families))
        symbols[gene] = f"{families[family]}{number + 1}"


def _letters(number: int) -> str:
    """Two letters, unique for numbers of which the last digit is told elsewhere."""
    return "".join(chr(ord("A") + digit) for digit in divmod(number // 10, 26))


def annotation_table(genes: pd.DataFrame) -> pd.DataFrame:
    """Return the gene annotation: gene_id, gene_name, biotype, chromosome, start, end."""
    return genes.rename(columns={"symbol": "gene_name"})[
        ["gene_id", "gene_name", "biotype", "chromosome", "start", "end"]
    ]


def hgnc_table(genes: pd.DataFrame) -> pd.DataFrame:
    """Return the genes in the layout of the HGNC download, with three withdrawn entries at the end."""
    coding = genes["biotype"] == "protein_coding"
    table = pd.DataFrame(
        {
            "HGNC ID": [f"HGNC:{990001 + i}" for i in range(len(genes))],
            "Approved symbol": genes["symbol"],
            "Approved name": "simulated gene " + genes["symbol"],
            "Status": "Approved",
            "Alias symbols": genes["alias"],
            "NCBI Gene ID(supplied by NCBI)": genes["entrez_id"],
            "UniProt ID(supplied by UniProt)": genes["uniprot_id"],
            "Previous symbols": genes["previous"],
            "Ensembl gene ID": genes["gene_id"],
            "Locus type": np.where(coding, "gene with protein product", "RNA, long non-coding"),
        }
    )
    withdrawn = pd.DataFrame(
        {
            "HGNC ID": [f"HGNC:{999001 + i}" for i in range(3)],
            "Approved symbol": [f"WQX{i + 1}~withdrawn" for i in range(3)],
            "Approved name": "symbol withdrawn",
            "Status": "Symbol Withdrawn",
        }
    )
    return pd.concat([table, withdrawn], ignore_index=True)[HGNC_COLUMNS].fillna("")
