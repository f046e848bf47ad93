"""Gene2Vec: vectors of genes learned from co-expression, from which the model's two gene tables may start.

Published vectors (Du et al. 2019, BMC Genomics 20:82) are text in the format of word2vec: a gene symbol and 200 numbers
a line, after an optional line ``genes dimensions``. scLong's own copy is an array in the order of its vocabulary.

Shapes: G genes of the vocabulary, D dimensions of the vectors, W width of the model's gene tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sclong.errors import ConfigError, InputDataError
from sclong.genes.align import RULES, align_genes
from sclong.genes.vocabulary import Vocabulary
from sclong.io.files import atomic_dir, sha256_file
from sclong.seeding import rng

FILE = "gene_vectors.npz"
FORMATS = "text with a gene and its numbers on each line, or a .npy array (genes, dimensions)"


@dataclass(frozen=True)
class GeneVectors:
    """Vectors of the genes of a vocabulary.

    Attributes
    ----------
    vectors : (G, D) float32
        Zeros where a gene has none; D is 0 when no vectors are used.
    known : (G,) bool
        Which genes have one.
    metadata
        vocabulary_hash, file and its sha256 (null when no vectors are used), counts of the alignment.
    """

    vectors: np.ndarray
    known: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether there are vectors at all."""
        return bool(self.known.any())

    def write(self, folder: str | Path, vocabulary: Vocabulary) -> None:
        """Write a folder, whole or not at all.

        ::

            gene_vectors.npz    arrays vectors and known, metadata as JSON text
            vocabulary.tsv      the genes that the rows stand for
        """
        metadata = np.array(json.dumps(dict(self.metadata), sort_keys=True))
        with atomic_dir(folder) as out:
            vocabulary.write(out / "vocabulary.tsv")
            with (out / FILE).open("wb") as handle:
                np.savez(handle, vectors=self.vectors.astype(np.float32), known=self.known, metadata=metadata)

    @classmethod
    def read(cls, folder: str | Path) -> GeneVectors:
        """Read what :meth:`write` wrote.

        Raises
        ------
        InputDataError
            When the folder is not such a folder, or is damaged.
        """
        path = Path(folder) / FILE
        try:
            with np.load(path, allow_pickle=False) as archive:
                metadata = json.loads(str(archive["metadata"]))
                return cls(archive["vectors"], archive["known"], metadata)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputDataError(
                f"{path}: {type(error).__name__}: {error}", "the folder that rule gene2vec wrote", "run rule gene2vec"
            ) from error

    def describe(self) -> str:
        """Say in one line what is used: for model cards."""
        if not self.used:
            return "not used"
        facts = self.metadata
        return (
            f"{facts['genes_with_vector']:,} of {facts['n_genes']:,} genes, {facts['file']} (sha256 {facts['sha256']})"
        )

    def table(self, width: int, seed: int) -> np.ndarray:
        """Return the rows that a gene table of the model starts from, PAD (zeros) last.

        A gene without a vector gets normal numbers with the mean and the standard deviation that each column has over
        the genes with one, so that its row is of the same size as the others.

        Parameters
        ----------
        width
            W. Vectors must have as many dimensions; wider ones are reduced if the metadata say ``reduce``
            (:func:`principal_components`).
        seed
            Of the numbers drawn; both tables of a model start from the same rows.

        Returns
        -------
        (G + 1, W) float32

        Raises
        ------
        ConfigError
            The vectors have another width.
        """
        check_width(self.vectors.shape[1], width, bool(self.metadata.get("reduce")))
        rows = self.vectors[self.known].astype(np.float64)
        if rows.shape[1] != width:
            rows = principal_components(rows, width)
        out = np.zeros((len(self.known) + 1, width), dtype=np.float32)
        noise = rng("genes without gene2vec", seed).standard_normal((int((~self.known).sum()), width))
        out[:-1][self.known] = rows
        out[:-1][~self.known] = rows.mean(axis=0) + rows.std(axis=0) * noise
        return out


def build_gene_vectors(
    vectors: str | Path | None, genes: str | Path | None, vocabulary: Vocabulary, *, width: int, reduce: bool = False
) -> GeneVectors:
    """Read vectors and put them in the order of a vocabulary.

    Names are found by the rules of :func:`.align_genes`. Of several names of one gene the one found by
    the better rule counts (a current symbol before an old one), then the first in the file: vectors are never averaged.

    Parameters
    ----------
    vectors
        Text or ``.npy``; None: no vectors are used.
    genes
        Names of the rows of a ``.npy``, one a line; None: its rows are the vocabulary's genes in order.
    vocabulary
        The genes.
    width, reduce
        Width of the model's gene tables, and whether wider vectors are reduced to it.

    Raises
    ------
    InputDataError
        A file that is not what it should be, or names that are not in the vocabulary.
    ConfigError
        Vectors of another width.
    """
    facts = {"vocabulary_hash": vocabulary.hash, "n_genes": len(vocabulary)}
    if vectors is None:
        empty = np.zeros((len(vocabulary), 0), dtype=np.float32)
        return GeneVectors(empty, np.zeros(len(vocabulary), dtype=bool), {**facts, "file": None})
    names, rows = read_vectors(vectors, genes)
    check_width(rows.shape[1], width, reduce)
    if names is None:
        if len(rows) != len(vocabulary):
            raise InputDataError(
                f"{vectors}: {len(rows):,} rows without names, and the vocabulary has {len(vocabulary):,} genes",
                "one row for each gene of the vocabulary, in its order",
                "name the rows: gene2vec.genes is a file with one gene a line",
            )
        positions, report = np.arange(len(vocabulary)), {"by_position": len(vocabulary)}
    else:
        alignment = align_genes(names, vocabulary)
        order = np.argsort([RULES.index(r) if r in RULES else len(RULES) for r in alignment.rule], kind="stable")
        order = order[alignment.positions[order] >= 0]
        order = order[~pd.Series(alignment.positions[order]).duplicated().to_numpy()]
        positions, rows, report = alignment.positions[order], rows[order], dict(alignment.report)
    out = np.zeros((len(vocabulary), rows.shape[1]), dtype=np.float32)
    known = np.zeros(len(vocabulary), dtype=bool)
    out[positions], known[positions] = rows, True
    facts |= {"file": Path(vectors).name, "sha256": sha256_file(vectors), "reduce": reduce, "alignment": report}
    return GeneVectors(out, known, facts | {"dimensions": out.shape[1], "genes_with_vector": int(known.sum())})


def check_width(dimensions: int, width: int, reduce: bool) -> None:
    """Check that vectors fit gene tables of some width.

    Raises
    ------
    ConfigError
        When they do not, with the ways out.
    """
    if dimensions == width or (reduce and dimensions > width):
        return
    wider = "set gene2vec.reduce: true (their first principal components), or " if dimensions > width else ""
    raise ConfigError(
        f"gene2vec.vectors have {dimensions} dimensions; the architecture's base_dim is {width}",
        f"vectors of {width} dimensions",
        f"{wider}choose an architecture with base_dim {dimensions}, or train without Gene2Vec (gene2vec.vectors: null)",
    )


def principal_components(rows: np.ndarray, width: int) -> np.ndarray:
    """Return the scores of the first principal components, (n, width): the rotation that keeps distances best.

    The mean is taken away; each component's largest loading is positive, so that its sign is defined.
    """
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :width]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(centred @ (axes * np.sign(largest)))


def read_vectors(path: str | Path, genes: str | Path | None = None) -> tuple[list[str] | None, np.ndarray]:
    """Read names and vectors.

    Parameters
    ----------
    path
        Text in the format of word2vec (a name and its numbers a line; a first line ``genes dimensions`` is optional),
        or ``.npy``.
    genes
        Names of the rows of a ``.npy``, one a line.

    Returns
    -------
    names, vectors
        Names (None where the file has none), and (n, D) float32.

    Raises
    ------
    InputDataError
        Not such a file; says where.
    """
    path = Path(path)
    if path.suffix == ".npy":
        names, rows = _read_array(path, genes)
    elif genes is not None:
        raise InputDataError(
            f"gene2vec.genes ({genes}) is given, and {path} is text, which names its genes itself",
            "gene2vec.genes only with a .npy file",
            "drop gene2vec.genes",
        )
    else:
        names, rows = _read_text(path)
    if not np.isfinite(rows).all():
        where = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputDataError(f"{path}: row {where} (from 0) is not finite", "finite numbers", "fetch the file again")
    return names, rows


def _read_array(path: Path, genes: str | Path | None) -> tuple[list[str] | None, np.ndarray]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputDataError(f"{path}: {error}", FORMATS, "fetch the file again") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise InputDataError(
            f"{path}: an array of {array.dtype} with shape {array.shape}", FORMATS, "give the array of vectors itself"
        )
    if genes is None:
        return None, array.astype(np.float32)
    names = Path(genes).read_text(encoding="utf-8").split()
    if len(names) != len(array):
        raise InputDataError(
            f"{genes} names {len(names):,} genes, {path} has {len(array):,} rows",
            "one name for each row",
            "give the list that belongs to the array",
        )
    return names, array.astype(np.float32)


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
    names: list[str] = []
    rows: list[np.ndarray] = []
    promised: tuple[int, int] | None = None
    number, words = 0, [""]
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if number == 1 and len(words) == 2 and all(w.isdigit() for w in words):
                    promised = (int(words[0]), int(words[1]))
                elif words:
                    names.append(words[0])
                    rows.append(np.array(words[1:], dtype=np.float32))
                    if len(rows[-1]) != len(rows[0]) or len(words) < 2:
                        raise ValueError(f"{len(rows[-1])} numbers, {len(rows[0])} on the first line of vectors")
    except ValueError as error:  # a UnicodeDecodeError is one too
        raise InputDataError(
            f"{path}, line {number} ({words[0][:20]!r}): {error}", FORMATS, "check that line"
        ) from error
    found = (len(rows), len(rows[0]) if rows else 0)
    if not rows or (promised is not None and promised != found):
        said = f"; its first line says {promised[0]:,} of {promised[1]}" if promised else ""
        raise InputDataError(
            f"{path}: {found[0]:,} vectors of {found[1]} numbers{said}",
            FORMATS,
            "the file is cut short: fetch it again",
        )
    return names, np.stack(rows)
