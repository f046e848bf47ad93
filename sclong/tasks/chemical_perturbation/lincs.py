"""LINCS L1000: from the public level 5 files to tables in DeepCE's layout, and the published filter.

The public files are matrices of all signatures (gctx) and tables that say what each signature, gene and compound is.
Two generations of them are read: GEO (GSE92742, GSE70138: sig_info, gene_info, pert_info) and CLUE 2020 (siginfo_beta,
geneinfo_beta, compoundinfo_beta). A gctx file is HDF5: ``/0/DATA/0/matrix`` holds signatures x genes,
``/0/META/COL/id`` and ``/0/META/ROW/id`` name them. It is read here with h5py, which reads no more than is asked for.

DeepCE's layout is one row per signature, separated by commas: :data:`ID_COLUMNS`, then one column for each landmark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from sclong.errors import InputDataError, listing
from sclong.io.files import atomic_path
from sclong.io.tables import read_tsv, write_tsv
from sclong.runlog import LOGGER

ID_COLUMNS = ("sig_id", "pert_id", "pert_type", "cell_id", "pert_idose")
# The published filter: 24 hours, seven lines, six doses, two compounds left out.
PUBLISHED_CELLS = ("A375", "HA1E", "HELA", "HT29", "MCF7", "PC3", "YAPC")
PUBLISHED_DOSES = ("0.04 um", "0.12 um", "0.37 um", "1.11 um", "3.33 um", "10.0 um")
PUBLISHED_LEFT_OUT = ("BRD-U41416256", "BRD-U60236422")
N_LANDMARKS = 978
DOSE_TOLERANCE = 0.05
SAME_DOSE = 1e-6  # one dose written in two ways
NO_VALUE = ("-666", "-666.0", "restricted", "")
MATRIX, SIGNATURE_IDS, GENE_IDS = "/0/DATA/0/matrix", "/0/META/COL/id", "/0/META/ROW/id"
ROWS_AT_ONCE = 1000
# What a column is called here -> what the generations call it.
SIGNATURE_TABLE = {
    "sig_id": ("sig_id",),
    "pert_id": ("pert_id",),
    "pert_type": ("pert_type",),
    "cell_id": ("cell_id", "cell_iname"),
    "pert_idose": ("pert_idose",),
}
GENE_TABLE = {
    "gene_id": ("pr_gene_id", "gene_id"),
    "symbol": ("pr_gene_symbol", "gene_symbol"),
    "landmark": ("pr_is_lm", "is_lm", "feature_space"),
}
COMPOUND_TABLE = {"drug_id": ("pert_id",), "smiles": ("canonical_smiles",)}


def passes_published_filter(table: pd.DataFrame) -> np.ndarray:
    """Say which rows of a table with :data:`ID_COLUMNS` are 24 h signatures of compounds, lines and doses as published.

    Returns
    -------
    (rows,) bool
    """
    kept = (
        table["sig_id"].str.contains("24H", regex=False)
        & (table["pert_type"] == "trt_cp")
        & table["cell_id"].isin(PUBLISHED_CELLS)
        & table["pert_idose"].isin(PUBLISHED_DOSES)
        & ~table["pert_id"].isin(PUBLISHED_LEFT_OUT)
    )
    return kept.to_numpy(dtype=bool)


def middle_replicates(values: np.ndarray, group: Sequence[Any]) -> np.ndarray:
    """Choose one signature of each group of replicates: the one that lies in the middle, as published.

    Each gene is ranked across the replicates, ranks are averaged over genes, and the replicate whose mean rank is
    nearest to (n - 1) / 2 is kept, the first of equals.

    Parameters
    ----------
    values : (n, G) float
    group : (n,)
        Key of each signature's group.

    Returns
    -------
    (groups,) int64
        Rows kept, ascending.
    """
    rows = pd.Series(range(len(values))).groupby(list(group), sort=False)
    kept = []
    for _, members in rows:
        rank = rankdata(values[members], axis=0).mean(axis=1) - 1
        kept.append(members.iloc[int(np.argmin(np.abs(rank - (len(members) - 1) / 2)))])
    return np.sort(np.array(kept, dtype=np.int64))


def read_signature_table(path: str | Path) -> pd.DataFrame:
    """Read a table in DeepCE's layout.

    Raises
    ------
    InputDataError
        When it begins with other columns, or a gene appears twice.
    """
    header = read_tsv(path, sep=",", header=None, nrows=1, dtype=str).iloc[0].tolist()
    twice = sorted({str(c) for c in header if header.count(c) > 1})
    if twice or header[: len(ID_COLUMNS)] != list(ID_COLUMNS):
        raise InputDataError(
            f"{path}: columns {listing(twice)} appear twice" if twice else f"{path}: begins with {listing(header, 5)}",
            f"{', '.join(ID_COLUMNS)}, then one column for each gene, as in DeepCE's signature files",
            "correct the file's header, or make the file again with sclong.tasks.chemical_perturbation.lincs",
        )
    return read_tsv(path, ID_COLUMNS, sep=",", dtype=dict.fromkeys(ID_COLUMNS, str))


def dose_name(written: str, tolerance: float = DOSE_TOLERANCE) -> str:
    """Return a dose as DeepCE writes it ("10.0 um"); within the tolerance of a published dose, that one.

    Parameters
    ----------
    written
        As LINCS writes it: "10 µM", "0.04 um", "500 nM".
    tolerance
        Relative.

    Returns
    -------
    str
        Empty where it is no concentration.

    Examples
    --------
    >>> dose_name("10 uM"), dose_name("0.125 uM"), dose_name("500 nM"), dose_name("-666")
    ('10.0 um', '0.12 um', '0.5 um', '')
    """
    match = re.fullmatch(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([^0-9.\s]+)\s*", str(written))
    unit = match[2].lower() if match else ""
    if match is None or not unit.endswith("m"):
        return ""
    prefix = unit[:-1]
    factor = {"n": 1e-3, "m": 1e3, "": 1e6}.get(prefix, 1.0 if prefix == "u" or not prefix.isascii() else 0.0)
    dose = float(match[1]) * factor
    for name in PUBLISHED_DOSES:
        if abs(dose / float(name.removesuffix(" um")) - 1) < tolerance:
            return name
    return f"{float(f'{dose:.4g}')} um" if dose > 0 else ""


def _read_columns(path: str | Path, wanted: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Read the wanted columns of a LINCS table (Latin-1, for its micro signs), by whichever name they have."""
    table = read_tsv(path, dtype=str, encoding="latin-1", quoting=3)
    found = {name: next((c for c in known if c in table.columns), None) for name, known in wanted.items()}
    lacking = [" or ".join(wanted[name]) for name, column in found.items() if column is None]
    if lacking:
        raise InputDataError(
            f"{path}: no column {listing(lacking)}; the columns are {listing(table.columns, 12)}",
            "a table of GEO (GSE92742, GSE70138) or of CLUE's release of 2020",
            "use the file that belongs to the matrix",
        )
    return pd.DataFrame({name: table[column].fillna("") for name, column in found.items()})


def read_landmarks(path: str | Path, n_landmarks: int = N_LANDMARKS) -> pd.DataFrame:
    """Read the landmark genes of a gene table, columns gene_id and symbol, in its order.

    Raises
    ------
    InputDataError
        Another number of landmarks, or one that appears twice.
    """
    table = _read_columns(path, GENE_TABLE)
    landmarks = table[table["landmark"].isin(["1", "landmark"])][["gene_id", "symbol"]].reset_index(drop=True)
    twice = landmarks["symbol"][landmarks["symbol"].duplicated()]
    if len(landmarks) != n_landmarks or len(twice):
        raise InputDataError(
            f"{path}: {len(landmarks)} landmark genes, {len(twice)} of them twice",
            f"{n_landmarks} landmark genes, once",
            "use gene_info of GEO or geneinfo_beta of CLUE, whole",
        )
    return landmarks


def _ids(dataset: Any) -> np.ndarray:
    """Read ids of a gctx file: bytes of any kind, or numbers."""
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in dataset[:].tolist()]).astype(str)


def read_gctx(path: str | Path, genes: Sequence[str], signatures: Collection[str]) -> tuple[np.ndarray, list[str]]:
    """Read some genes of some signatures of a gctx file; nothing else of the matrix stays in memory.

    Parameters
    ----------
    path
        File.
    genes
        Ids of rows, all of which must be there.
    signatures
        Ids of columns; those that the file does not have are not returned.

    Returns
    -------
    values : (n, G) float32
        In the file's order of signatures and the given order of genes.
    found : n x str
        Ids of the signatures.

    Raises
    ------
    InputDataError
        The file is no gctx, its parts do not fit, or a gene is not in it.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            matrix = file[MATRIX]
            names, rows = _ids(file[SIGNATURE_IDS]), _ids(file[GENE_IDS])
            if matrix.shape != (len(names), len(rows)):
                raise InputDataError(
                    f"{path}: a matrix {matrix.shape} for {len(names)} signatures and {len(rows)} genes",
                    "signatures x genes",
                    "fetch the file again",
                )
            place = pd.Index(rows).get_indexer(list(genes))
            if (place < 0).any():
                lacking = [g for g, p in zip(genes, place, strict=True) if p < 0]
                raise InputDataError(
                    f"{path}: {len(lacking)} of {len(genes)} landmark genes are not in it: {listing(lacking)}",
                    "a row for each landmark, named as in the gene table",
                    "use the gene table of this matrix",
                )
            wanted = np.flatnonzero(np.isin(names, list(signatures)))
            parts = [np.zeros((0, len(place)), dtype=np.float32)]
            for start in range(0, len(names), ROWS_AT_ONCE):
                here = wanted[(wanted >= start) & (wanted < start + ROWS_AT_ONCE)]
                if len(here):
                    block = matrix[here[0] : here[-1] + 1]
                    parts.append(np.asarray(block[here - here[0]][:, place], dtype=np.float32))
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise InputDataError(
            f"{path} cannot be read as gctx: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            f"HDF5 with {MATRIX}, {SIGNATURE_IDS} and {GENE_IDS}",
            "fetch the file again; a .gz must be unpacked",
        ) from error
    return np.concatenate(parts), names[wanted].tolist()


def write_signature_files(
    matrices: Sequence[str | Path],
    signatures: str | Path,
    genes: str | Path,
    compounds: str | Path,
    out: str | Path,
    *,
    n_landmarks: int = N_LANDMARKS,
) -> dict[str, Any]:
    """Make ``signatures.csv`` (DeepCE's layout) and ``drugs.tsv`` (drug_id, smiles) of public LINCS files.

    What the published filter takes is written, replicates and all; reading the file chooses among replicates. Compounds
    without a structure are left out of drugs.tsv only.

    Parameters
    ----------
    matrices
        Level 5 files, gctx.
    signatures, genes, compounds
        The tables that belong to them.
    out
        Folder.
    n_landmarks
        How many landmark genes the gene table must have.

    Returns
    -------
    dict
        Counts: signatures in the table, those that pass the filter, those found, compounds with and without SMILES.

    Raises
    ------
    InputDataError
        A file is not what it should be, nothing passes the filter, a signature stands in two matrices or nowhere, or
        values that are not finite.
    """
    table = _read_columns(signatures, SIGNATURE_TABLE)
    counts: dict[str, Any] = {"signatures_in_table": len(table)}
    table["pert_idose"] = table["pert_idose"].map(dose_name)
    table = table[passes_published_filter(table)].drop_duplicates()
    counts["pass_the_filter"] = len(table)
    landmarks = read_landmarks(genes, n_landmarks)
    read = [read_gctx(path, landmarks["gene_id"].tolist(), set(table["sig_id"])) for path in matrices]
    found = pd.Index([name for _, names in read for name in names])
    twice = found[found.duplicated()].append(pd.Index(table["sig_id"][table["sig_id"].duplicated()]))
    if len(twice):
        raise InputDataError(f"signatures appear twice: {listing(twice)}", "each once", "give each file once")
    if found.empty:
        raise InputDataError(
            f"none of {counts['pass_the_filter']} signatures of {signatures} that pass the published filter is in "
            f"{listing(matrices)}",
            "24 h signatures of compounds in seven lines at six doses",
            "use level 5 files and their own table",
        )
    values = np.concatenate([v for v, _ in read])
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputDataError(
            f"signature {found[row]!r}, gene {landmarks['symbol'][column]!r}: no finite value",
            "z-scores",
            "fetch the matrix again",
        )
    table = table.set_index("sig_id").loc[found].rename_axis("sig_id").reset_index()[list(ID_COLUMNS)]
    drugs = _read_columns(compounds, COMPOUND_TABLE)
    drugs = drugs[drugs["drug_id"].isin(table["pert_id"]) & ~drugs["smiles"].isin(NO_VALUE)].drop_duplicates()
    Path(out).mkdir(parents=True, exist_ok=True)
    with atomic_path(Path(out) / "signatures.csv") as tmp:
        numbers = pd.DataFrame(values, columns=landmarks["symbol"].tolist())
        pd.concat([table, numbers], axis=1).to_csv(tmp, index=False, lineterminator="\n", float_format="%.7g")
    write_tsv(drugs, Path(out) / "drugs.tsv")
    counts |= {
        "written": len(table),
        "not_in_the_matrices": counts["pass_the_filter"] - len(table),
        "compounds": int(table["pert_id"].nunique()),
        "compounds_without_smiles": int(table["pert_id"].nunique() - drugs["drug_id"].nunique()),
    }
    LOGGER.info("%s: %s", out, counts)
    return counts
