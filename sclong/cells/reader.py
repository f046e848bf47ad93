"""The one reader: which matrix, which genes, under which names, which cells. Everything that reads cells uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.choose_matrix import NO_COUNTS, Choice, choose_matrix
from sclong.cells.kinds import kind_of, read_kind, reading
from sclong.cells.names import ORIGINAL_NAMES, choose_gene_names, gene_features
from sclong.cells.normalize import check_counts, check_nonnegative, has_one_total, is_almost_integer, looks_logged
from sclong.cells.sources import AdataSource, FileSource, Source
from sclong.cells.species import foreign_genes, require_human
from sclong.cells.structure import check_shape

if TYPE_CHECKING:
    import anndata


class Reader:
    """The cells of a file or AnnData, in order, a block at a time; close it, or use it in a ``with`` statement.

    Made by :func:`open_reader` and :func:`reader_of`, which say what it decides and what it refuses.

    Attributes
    ----------
    where : str
        How it is called in messages.
    n_cells : int
    layer : str
        Where the values are read: "X", "raw" or "layers['NAME']".
    choice : Choice
        Why, and whether values are rounded.
    value_kind : str
        ``uns["value_kind"]``, else "counts".
    genes : list of str, var : DataFrame, genes_from : str
        Names of the columns that are read, their rows in the table they are from (raw's own, if that is read), and the
        column of it.
    left_out : mapping of str to int
        Features that are no genes, by type.
    output_genes : list of str, output_var : DataFrame, output_kept : (genes of the file,) bool
        The same of the file's ``var``, with the features that are left out, and which these are not.
    foreign : (genes,) bool
        Genes of another species.
    """

    def __init__(self, source: Source, layer: str | None, gene_column: str | None, round: bool) -> None:
        self._source, self.where, self.n_cells = source, source.where, source.n_cells
        self.value_kind, self._round = source.value_kind, round
        self.output_var = source.var()
        check_shape((self.n_cells, len(self.output_var)), self.n_cells, len(self.output_var), self.where)
        require_human(source.said_of_all(), self.where, "uns")
        self.choice = choose_matrix(source.places(), layer, self.value_kind, self.where)
        place = self.choice.place
        self.layer, self._matrix = place.label, place.matrix
        raw = place.label == "raw"
        self.var = source.var(raw=True) if raw else self.output_var.copy()
        check_shape(self._matrix.shape, self.n_cells, len(self.var), f"{self.where} ({self.layer})")
        names, self.genes_from = choose_gene_names(self.var, gene_column, self.where, self.output_var if raw else None)
        self._kept, self.left_out = gene_features(self.var, self.where)
        if raw and not self.left_out:  # raw often has no columns of its own
            types = self.output_var.reindex(self.var.index) if not self.output_var.index.has_duplicates else self.var
            self._kept, self.left_out = gene_features(types, self.where)
        self.output_kept, _ = gene_features(self.output_var, self.where)
        self.output_genes = names
        if raw:
            known = gene_column is None or gene_column in self.output_var
            self.output_genes, _ = choose_gene_names(self.output_var, gene_column if known else None, self.where)
        if self.genes_from != "var_names":
            for table in (self.var, self.output_var):
                if ORIGINAL_NAMES not in table:
                    table[ORIGINAL_NAMES] = table.index.astype(str)
        self.foreign = foreign_genes(names)[self._kept]
        self.genes = [name for name, kept in zip(names, self._kept, strict=True) if kept]
        self.var = self.var[self._kept]
        if round and self.value_kind == "counts":
            check_nonnegative(place.sample, f"{self.where} ({self.layer})")
            if has_one_total(place.sample) or looks_logged(place.sample):
                check_counts(place.sample, f"{self.where} ({self.layer})")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._source.close()

    def cell_names(self, rows: slice | np.ndarray) -> list[str]:
        """Return names of cells; `rows` ascending."""
        return self._source.cell_names(rows)

    def obs(self) -> pd.DataFrame:
        """Return the table of cells, whole."""
        return self._source.obs()

    def require_human(self) -> None:
        """Check that obs names no other species; what uns says of all cells was checked when the file was opened.

        Raises
        ------
        InputDataError
            It does.
        """
        require_human(self._source.organisms(), self.where)

    def blocks(self, multiple: int = 1) -> Iterator[sparse.csr_matrix]:
        """Give all cells in order, as CSR float32 blocks of a multiple of `multiple` cells (the last: what is left).

        Columns are the genes; values that are integers but for rounding are integers where all are counts.
        """
        parts = self._matrix.blocks(multiple)
        while True:
            with reading(Path(self.where)):
                block = next(parts, None)
            if block is None:
                return
            yield self._tidied(block)

    def _tidied(self, block: sparse.csr_matrix) -> sparse.csr_matrix:
        block = block if self._kept.all() else block[:, np.flatnonzero(self._kept)]
        if self.value_kind == "counts" and (self.choice.rounds or self._round):
            whole = np.rint(block.data)
            block.data = whole if self._round else np.where(is_almost_integer(block.data), whole, block.data)
        return block

    def whole(self) -> anndata.AnnData:
        """Return everything in memory: X (cells, genes) CSR float32, obs, var; names of genes are var_names."""
        import anndata

        values = sparse.vstack(list(self.blocks()), format="csr", dtype=np.float32)
        var = self.var.copy()
        var.index = pd.Index(self.genes, dtype=str)
        with reading(Path(self.where)):
            adata = anndata.AnnData(values, obs=self.obs().copy(), var=var)
        adata.uns["counts_from"], adata.uns["genes_from"] = self.layer, self.genes_from
        return adata

    def describe(self, report: Mapping[str, Any] | None = None) -> str:
        """Say in a line what is read and by which rule; `report` is that of an alignment of the genes."""
        table = "raw.var" if self.layer == "raw" else "var"
        names = f"{table}_names" if self.genes_from == "var_names" else f"{table}[{self.genes_from!r}]"
        what = "counts" if self.choice.rule != NO_COUNTS else "values"
        what = what if self.value_kind == "counts" else f"values ({self.value_kind})"
        parts = [
            f"{what} from {self.layer} ({self.choice.rule})",
            f"{self.n_cells:,} cells",
            f"{len(self.genes):,} genes",
            f"names from {names}",
        ]
        if report:
            parts.append(f"{report['mapped'] / report['names']:.0%} found")
        if self.left_out:
            parts.append("left out: " + ", ".join(f"{n:,} {kind}" for kind, n in self.left_out.items()))
        if self._round:
            parts.append("rounded to integers")
        return ", ".join(parts)


def open_reader(
    path: str | Path,
    layer: str | None = None,
    gene_column: str | None = None,
    *,
    member: str | None = None,
    round: bool = False,
) -> Reader:
    """Open a file of cells: h5ad a block at a time; other kinds are read whole.

    Parameters
    ----------
    path
        h5ad (anndata 0.6 to 0.12, SeuratDisk, zellkonverter; also .gz), zarr store of anndata, h5 of Cell Ranger or
        CellBender, folder with matrix.mtx, loom, h5mu. The content says which.
    layer
        Where the values are; default: the rule of :func:`.choose_matrix`.
    gene_column
        Column of var with the gene names; default: the rule of :func:`.choose_gene_names`.
    member
        Modality of a h5mu file, genome of an old Cell Ranger file, matrix of a folder with several.
    round
        Round values that are no integers, as those of ambient correction or expected counts of a quantifier.

    Raises
    ------
    InputDataError
        Missing, damaged, locked or foreign file; a layer or column that is not there; no content; several places that
        may hold the counts.
    """
    path, kind = Path(path), kind_of(path)
    if kind != "h5ad":
        return reader_of(read_kind(path, kind, member), layer, gene_column, where=str(path), round=round)
    source = FileSource(path)
    try:
        with reading(path):
            return Reader(source, layer, gene_column, round)
    except BaseException:
        source.close()
        raise


def reader_of(
    adata: anndata.AnnData,
    layer: str | None = None,
    gene_column: str | None = None,
    *,
    where: str = "adata",
    round: bool = False,
) -> Reader:
    """Return the reader of an AnnData, by the same rules as :func:`open_reader`."""
    with reading(Path(where), "AnnData"):
        return Reader(AdataSource(adata, where), layer, gene_column, round)


__all__ = ["Choice", "Reader", "open_reader", "reader_of"]
