"""Molecules as graphs: what each featurisation says of an atom, bonds in both directions, choosing molecules."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sclong.drugs.molecules import ELEMENTS, FEATURISATIONS, WIDTHS, MoleculeGraphs, _graph, molecule_graphs
from sclong.errors import InputDataError

ETHANOL, BENZENE, ACRYLONITRILE, METHANE = "CCO", "c1ccccc1", "C=CC#N", "C"
BLOCKS = {
    "deepce": ["element", "degree", "hydrogens", "implicit", "aromatic"],
    "deepcdr": ["element", "degree", "implicit", "charge", "radical", "hybridisation", "aromatic", "hydrogens"],
    "deepdds": ["element", "degree", "hydrogens", "implicit", "aromatic"],
}
SIZES = {
    "deepce": [44, 6, 5, 6, 1],
    "deepcdr": [44, 11, 7, 1, 1, 5, 1, 5],
    "deepdds": [44, 11, 11, 11, 1],
}


def described(row: np.ndarray, featurisation: str) -> dict[str, Any]:
    """One atom's features as words: the place of the one in a block, or the number where a block is one number."""
    out: dict[str, Any] = {}
    start = 0
    for name, size in zip(BLOCKS[featurisation], SIZES[featurisation], strict=True):
        block = row[start : start + size]
        if size == 1:
            out[name] = float(block[0])
        else:
            assert np.count_nonzero(block) == 1
            out[name] = int(np.flatnonzero(block)[0])
        start += size
    out["element"] = ELEMENTS[out["element"]]
    assert start == len(row) == WIDTHS[featurisation][0]
    return out


@pytest.mark.parametrize("featurisation", FEATURISATIONS)
def test_atoms_of_ethanol(featurisation: str) -> None:
    graphs = molecule_graphs([ETHANOL], featurisation)
    assert graphs.atoms.dtype == np.float32 and graphs.bonds.dtype == np.int64
    found = [described(row, featurisation) for row in graphs.atoms]
    assert [(f["element"], f["degree"], f["hydrogens"], f["implicit"], f["aromatic"]) for f in found] == [
        ("C", 1, 3, 3, 0.0),
        ("C", 2, 2, 2, 0.0),
        ("O", 1, 1, 1, 0.0),
    ]
    assert sorted(map(tuple, graphs.bonds.T)) == [(0, 1), (1, 0), (1, 2), (2, 1)]


def test_an_atom_of_deepdds_sums_to_one_and_an_aromatic_one_shares_it_with_five() -> None:
    atoms = molecule_graphs([ETHANOL, BENZENE], "deepdds").atoms
    np.testing.assert_allclose(atoms.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(atoms[:3][atoms[:3] > 0], 0.25)
    np.testing.assert_allclose(atoms[3:][atoms[3:] > 0], 0.2)
    assert (atoms[3:, -1] > 0).all()


def test_what_deepcdr_alone_tells() -> None:
    atoms = molecule_graphs(["C[N+](C)(C)C", "[CH3]", "C#C", "FS(F)(F)(F)(F)F"], "deepcdr").atoms
    found = [described(row, "deepcdr") for row in atoms]
    assert found[1]["charge"] == 1.0 and found[1]["element"] == "N" and found[0]["charge"] == 0.0
    assert found[5]["radical"] == 1.0 and found[5]["implicit"] == 0 and found[5]["hydrogens"] == 3
    assert found[6]["hybridisation"] == 0 and found[0]["hybridisation"] == 2
    assert found[9]["hybridisation"] == 4 and found[9]["degree"] == 6


def test_what_is_not_in_the_list_counts_as_the_last() -> None:
    (xenon,) = molecule_graphs(["[Xe]"], "deepce").atoms
    assert described(xenon, "deepce")["element"] == "another"


def test_bonds_of_deepce() -> None:
    graphs = molecule_graphs([ACRYLONITRILE, BENZENE], "deepce")
    features = {tuple(b): tuple(f) for b, f in zip(graphs.bonds.T.tolist(), graphs.bond_features.tolist(), strict=True)}
    assert features[0, 1] == (0, 1, 0, 0, 1, 0)  # single double triple aromatic conjugated ring
    assert features[1, 2] == (1, 0, 0, 0, 1, 0)
    assert features[2, 3] == (0, 0, 1, 0, 1, 0)
    assert features[4, 5] == (0, 0, 0, 1, 1, 1)
    assert all(features[t, s] == f for (s, t), f in features.items())
    assert len(features) == 2 * (3 + 6)


@pytest.mark.parametrize("featurisation", FEATURISATIONS)
def test_several_molecules_are_one_graph_without_bonds_between_them(featurisation: str) -> None:
    smiles = [METHANE, ETHANOL, METHANE, BENZENE]
    graphs = molecule_graphs(smiles, featurisation)
    assert graphs.n_molecules == 4 and graphs.molecule.tolist() == [0, 1, 1, 1, 2, *[3] * 6]
    np.testing.assert_array_equal(graphs.molecule[graphs.bonds[0]], graphs.molecule[graphs.bonds[1]])
    assert graphs.bond_features.shape == (graphs.bonds.shape[1], WIDTHS[featurisation][1])
    for k, one in enumerate(smiles):
        same(graphs.select(np.array([k])), molecule_graphs([one], featurisation))


def same(left: MoleculeGraphs, right: MoleculeGraphs) -> None:
    for name in ("atoms", "bonds", "bond_features", "molecule"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.n_molecules == right.n_molecules


@pytest.mark.parametrize("order", [[2, 0], [1, 1, 3], [0, 1, 2, 3], [], [2, 2]])
def test_select_is_the_graph_of_those_molecules_in_that_order(order: list[int]) -> None:
    smiles = [ETHANOL, METHANE, BENZENE, ACRYLONITRILE]
    chosen = molecule_graphs(smiles, "deepce").select(np.array(order, dtype=int))
    same(chosen, molecule_graphs([smiles[k] for k in order], "deepce"))


def test_equal_smiles_are_computed_once_and_callers_cannot_spoil_the_next() -> None:
    _graph.cache_clear()
    first = molecule_graphs([ETHANOL, METHANE] * 20, "deepdds")
    assert _graph.cache_info().misses == 2
    first.atoms[:] = 7
    first.bonds[:] = 0
    again = molecule_graphs([ETHANOL], "deepdds")
    assert again.atoms.max() < 1 and again.bonds.max() == 2


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InputDataError, match="'c1cc' is not a molecule"):
        molecule_graphs([ETHANOL, "c1cc"], "deepdds")
    with pytest.raises(InputDataError, match="an atom S with 6 neighbours"):
        molecule_graphs(["FS(F)(F)(F)(F)F"], "deepce")
    with pytest.raises(ValueError, match="known: deepce, deepcdr, deepdds"):
        molecule_graphs([ETHANOL], "deepdss")


def surroundings(atoms: np.ndarray, neighbours: list[list[int]]) -> list[Any]:
    """Each atom with its neighbours, in an order that does not depend on the order of atoms."""
    rows = [tuple(row) for row in atoms.tolist()]
    return sorted((row, sorted(rows[j] for j in near)) for row, near in zip(rows, neighbours, strict=True))


def published_graph(file: h5py.File) -> tuple[np.ndarray, list[list[int]]]:
    """Atom features and neighbours of one of DeepCDR's files."""

    def numbers(item: Any) -> list[int]:
        if isinstance(item, h5py.Group):
            return [int(item[f"data_{j}"][()]) for j in range(len(item))]
        return np.atleast_1d(item[()]).tolist()

    atoms, lists = file["data_0/data_0"][()].astype(np.float32), file["data_0/data_1"]
    if isinstance(lists, h5py.Dataset):
        return atoms, lists[()].tolist()
    return atoms, [numbers(lists[f"data_{i}"]) if f"data_{i}" in lists else [] for i in range(len(atoms))]


@pytest.mark.mirror
def test_deepcdr_is_as_published(mirror: Path) -> None:
    lines = (mirror / "deepcdr/223drugs_pubchem_smiles.txt").read_text().splitlines()
    smiles = dict(line.split("\t") for line in lines)
    with zipfile.ZipFile(mirror / "deepcdr/drug_graph_feat.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".hkl") and "__MACOSX" not in n]
        assert len(names) == 223
        for name in names:
            with h5py.File(BytesIO(archive.read(name))) as file:
                atoms, neighbours = published_graph(file)
            ours = molecule_graphs([smiles[Path(name).stem]], "deepcdr")
            near = [ours.bonds[1][ours.bonds[0] == i].tolist() for i in range(len(ours.atoms))]
            assert surroundings(ours.atoms, near) == surroundings(atoms, neighbours), name
