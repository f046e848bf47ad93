"""Molecules as graphs, featurised as three published models of drugs do.

=========  ==============================================================================================
deepce     62 per atom: element 44, degree 6, hydrogens 5, implicit valence 6, aromatic 1; 6 per bond: single,
           double, triple, aromatic, conjugated, in a ring (DeepCE, Pham et al. 2021)
deepcdr    75 per atom: element 44, degree 11, implicit valence 7, formal charge, radical electrons, hybridisation 5,
           aromatic 1, hydrogens 5 (DeepCDR, Liu et al. 2020: the graph convolution features of DeepChem)
deepdds    78 per atom: element 44, degree 11, hydrogens 11, implicit valence 11, aromatic 1; each atom's divided by
           their sum (DeepDDS, Wang et al. 2022)
=========  ==============================================================================================

Hydrogens are not atoms of the graph. Shapes: A atoms, F features of an atom, E directed bonds, K features of a bond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sclong.drugs.fingerprints import read_molecule
from sclong.errors import InputDataError

if TYPE_CHECKING:
    from rdkit import Chem

FEATURISATIONS = ("deepce", "deepcdr", "deepdds")
ELEMENTS = (
    "C",
    "N",
    "O",
    "S",
    "F",
    "Si",
    "P",
    "Cl",
    "Br",
    "Mg",
    "Na",
    "Ca",
    "Fe",
    "As",
    "Al",
    "I",
    "B",
    "V",
    "K",
    "Tl",
    "Yb",
    "Sb",
    "Sn",
    "Ag",
    "Pd",
    "Co",
    "Se",
    "Ti",
    "Zn",
    "H",
    "Li",
    "Ge",
    "Cu",
    "Au",
    "Ni",
    "Cd",
    "In",
    "Mn",
    "Zr",
    "Cr",
    "Pt",
    "Hg",
    "Pb",
    "another",
)
HYBRIDISATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")


@dataclass(frozen=True)
class MoleculeGraphs:
    """Several molecules as one graph without bonds between them.

    Attributes
    ----------
    atoms : (A, F) float32
        Features of the atoms, molecule after molecule.
    bonds : (2, E) int64
        Source row and target row in `atoms`; each bond stands in both directions. Molecule after molecule.
    bond_features : (E, K) float32
        K is 0 where the featurisation has none.
    molecule : (A,) int64
        Molecule of each atom, ascending.
    n_molecules
        How many molecules there are.
    """

    atoms: np.ndarray
    bonds: np.ndarray
    bond_features: np.ndarray
    molecule: np.ndarray
    n_molecules: int

    def select(self, molecules: np.ndarray) -> MoleculeGraphs:
        """Return the graphs of some molecules, in the order given; one may stand there more than once."""
        chosen = np.asarray(molecules, dtype=np.int64)
        n_atoms = np.bincount(self.molecule, minlength=self.n_molecules)
        n_bonds = np.bincount(self.molecule[self.bonds[0]], minlength=self.n_molecules)
        atoms, bonds = _ranges(n_atoms, chosen), _ranges(n_bonds, chosen)
        first_before = (np.cumsum(n_atoms) - n_atoms)[chosen]
        first_now = np.cumsum(n_atoms[chosen]) - n_atoms[chosen]
        shift = np.repeat(first_now - first_before, n_bonds[chosen])
        return MoleculeGraphs(
            atoms=self.atoms[atoms],
            bonds=self.bonds[:, bonds] + shift,
            bond_features=self.bond_features[bonds],
            molecule=np.repeat(np.arange(len(chosen)), n_atoms[chosen]),
            n_molecules=len(chosen),
        )


def _ranges(sizes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the rows of the chosen groups, where group i has sizes[i] rows and groups lie one after the other."""
    kept = sizes[chosen]
    first = (np.cumsum(sizes) - sizes)[chosen]
    return np.repeat(first - (np.cumsum(kept) - kept), kept) + np.arange(kept.sum())


def molecule_graphs(smiles: Sequence[str], featurisation: str) -> MoleculeGraphs:
    """Return the graphs of molecules; equal SMILES are computed once.

    Parameters
    ----------
    smiles
        One SMILES per molecule.
    featurisation
        One of :data:`FEATURISATIONS`; see the module.

    Raises
    ------
    InputDataError
        Names the first SMILES that RDKit cannot read, or with an atom of more neighbours than the featurisation has.
    ValueError
        For a featurisation that does not exist.
    """
    if featurisation not in _ATOM_FEATURES:
        raise ValueError(f"featurisation {featurisation!r}; known: {', '.join(FEATURISATIONS)}")
    n_features, n_bond_features = WIDTHS[featurisation]
    parts = [_graph(s, featurisation) for s in smiles]
    n_atoms = np.array([len(atoms) for atoms, _, _ in parts], dtype=np.int64)
    first = np.cumsum(n_atoms) - n_atoms
    return MoleculeGraphs(
        atoms=np.concatenate([np.zeros((0, n_features), np.float32), *(atoms for atoms, _, _ in parts)]),
        bonds=np.concatenate(
            [np.zeros((2, 0), np.int64), *(b + start for (_, b, _), start in zip(parts, first, strict=True))], axis=1
        ),
        bond_features=np.concatenate([np.zeros((0, n_bond_features), np.float32), *(f for _, _, f in parts)]),
        molecule=np.repeat(np.arange(len(parts)), n_atoms),
        n_molecules=len(parts),
    )


@lru_cache(maxsize=100_000)
def _graph(smiles: str, featurisation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    molecule = read_molecule(smiles)
    limit = 5 if featurisation == "deepce" else 10
    crowded = [atom for atom in molecule.GetAtoms() if atom.GetDegree() > limit]
    if crowded:
        raise InputDataError(
            f"SMILES {smiles!r}: an atom {crowded[0].GetSymbol()} with {crowded[0].GetDegree()} neighbours",
            f"at most {limit}, all that the features {featurisation!r} can tell",
            "remove this drug",
        )
    atoms = np.array([_ATOM_FEATURES[featurisation](a) for a in molecule.GetAtoms()], dtype=np.float32)
    if featurisation == "deepdds":
        atoms /= atoms.sum(axis=1, keepdims=True)
    bonds, features = [], []
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds += [ends, ends[::-1]]
        features += [_bond_features(bond)] * 2
    width = WIDTHS[featurisation][1]
    return (
        atoms,
        np.array(bonds, dtype=np.int64).reshape(-1, 2).T,
        np.array(features, dtype=np.float32).reshape(-1, 6)[:, :width],
    )


def _one_hot(value: object, values: Sequence[object]) -> list[float]:
    """Return a one at the place of `value`; what is not among `values` counts as the last."""
    known = value if value in values else values[-1]
    return [float(known == v) for v in values]


def _deepce(atom: Chem.Atom) -> list[float]:
    return [
        *_one_hot(atom.GetSymbol(), ELEMENTS),
        *_one_hot(atom.GetDegree(), range(6)),
        *_one_hot(atom.GetTotalNumHs(), range(5)),
        *_one_hot(atom.GetNumImplicitHs(), range(6)),  # RDKit: this is the implicit valence
        float(atom.GetIsAromatic()),
    ]


def _deepcdr(atom: Chem.Atom) -> list[float]:
    return [
        *_one_hot(atom.GetSymbol(), ELEMENTS),
        *_one_hot(atom.GetDegree(), range(11)),
        *_one_hot(atom.GetNumImplicitHs(), range(7)),
        float(atom.GetFormalCharge()),
        float(atom.GetNumRadicalElectrons()),
        *_one_hot(str(atom.GetHybridization()), HYBRIDISATIONS),
        float(atom.GetIsAromatic()),
        *_one_hot(atom.GetTotalNumHs(), range(5)),
    ]


def _deepdds(atom: Chem.Atom) -> list[float]:
    return [
        *_one_hot(atom.GetSymbol(), ELEMENTS),
        *_one_hot(atom.GetDegree(), range(11)),
        *_one_hot(atom.GetTotalNumHs(), range(11)),
        *_one_hot(atom.GetNumImplicitHs(), range(11)),
        float(atom.GetIsAromatic()),
    ]


def _bond_features(bond: Chem.Bond) -> list[float]:
    kind = str(bond.GetBondType())
    return [*(float(kind == b) for b in BONDS), float(bond.GetIsConjugated()), float(bond.IsInRing())]


_ATOM_FEATURES: dict[str, Callable[[Chem.Atom], list[float]]] = {
    "deepce": _deepce,
    "deepcdr": _deepcdr,
    "deepdds": _deepdds,
}
WIDTHS = {"deepce": (62, 6), "deepcdr": (75, 0), "deepdds": (78, 0)}
