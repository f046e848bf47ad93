"""Untreated expression of L1000 lines in TranSiGen's layout."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sclong.errors import InputDataError
from sclong.tasks.chemical_perturbation.transigen import read_transigen_lines

GENES = "gene_id,gene_symbol,ensembl_id\n1,AAA,E1\n2,BBB,E2\n3,CCC,E3\n"


def write(folder: Path, content: object) -> tuple[Path, Path]:
    (folder / "genes.csv").write_text(GENES)
    (folder / "x.pickle").write_bytes(pickle.dumps(content, protocol=3))
    return folder / "x.pickle", folder / "genes.csv"


def test_lines_and_genes_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    lines = {np.str_("MCF7"): np.array([[1.5, 0.0, 3.0]]), np.str_("A375"): np.array([[4.0, 5.0, 6.0]])}
    adata = read_transigen_lines(*write(tmp_path, lines))
    assert adata.obs_names.tolist() == ["MCF7", "A375"]
    assert adata.var_names.tolist() == ["AAA", "BBB", "CCC"]
    assert adata.X.toarray().tolist() == [[1.5, 0.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"A375": np.array([[1.0, 2.0]])}, "line 'A375' has 2 values"),
        ({"A375": np.array([[1.0, -2.0, 0.0]])}, "'A375' has a value that is negative"),
        ({"A375": np.array([[1.0, np.nan, 0.0]])}, "'A375' has a value that is negative or missing"),
        ({}, "of no lines"),
        (os.getcwd, "it names"),  # a pickle that would import a function
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(InputDataError, match=says):
        read_transigen_lines(*write(tmp_path, content))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path, genes = write(tmp_path, {"A375": np.array([[1.0, 2.0, 3.0]])})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputDataError, match=r"x\.pickle"):
        read_transigen_lines(path, genes)
