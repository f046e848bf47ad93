"""Files of drug response: tables of ln IC50, DeepCDR's layout, drug graphs, omics of lines, published splits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sclong.data.drug_ids import gdsc_to_pubchem, pubchem_smiles
from sclong.data.drugs import canonical_smiles
from sclong.data.molecules import MoleculeGraphs
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import h5py

UNIT_PAIRS = 500
"""Fewer measured pairs than this are not judged for their unit."""


def measured(pairs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the pairs that have a response.

    Raises
    ------
    InputDataError
        When a response is not a finite number.
    """
    pairs = pairs.dropna(subset=["ln_ic50"])
    values = pd.to_numeric(pairs["ln_ic50"], errors="coerce")
    wrong = ~np.isfinite(values.to_numpy(float))
    if wrong.any():
        raise InputDataError(
            f"{path}: ln_ic50 {listing(pairs.loc[wrong, 'ln_ic50'].unique())}",
            "a finite number, or an empty cell where nothing was measured", "correct the table of responses",
        )  # fmt: skip
    return pairs.assign(ln_ic50=values)


def check_unit(ln_ic50: np.ndarray, path: Path) -> None:
    """Check that responses look like ln of micromolar.

    Judged by quantiles: screens of many drugs spread over a factor of 100,000 and more around some micromolar.
    Tables of fewer than :data:`UNIT_PAIRS` pairs are not judged.

    Raises
    ------
    InputDataError
        When they look like another unit; says which.
    """
    if len(ln_ic50) < UNIT_PAIRS:
        return
    low, middle, high = np.quantile(ln_ic50, [0.01, 0.5, 0.99])
    suspected = ""
    if low >= 0 and high > 20:
        suspected = f"concentrations without a logarithm ({'nM' if middle > 1000 else 'uM, or another unit'})"
    elif middle > np.log(1000):
        suspected = "ln of nanomolar"
    elif middle < np.log(1e-3):
        suspected = "ln of molar"
    elif high - low < 6:
        suspected = f"log10 ({'of uM' if -3 < middle < 3 else 'of nM or M, or pIC50'})"
    if suspected:
        raise InputDataError(
            f"{path}: ln_ic50 has the 1 %, 50 % and 99 % quantiles {low:.3g}, {middle:.3g}, {high:.3g}, which looks "
            f"like {suspected}", "the natural logarithm of IC50 in micromolar",
            "convert the column (ln(uM) = ln(nM) - 6.908 = 2.303 log10(uM)), or set check_unit: false in the options "
            "of the benchmark's card if the unit is right",
        )  # fmt: skip


def merge_repeats(pairs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Average pairs that stand more than once, and count what disagrees.

    Returns
    -------
    pairs
        One row per ``sample``, with the mean response.
    facts
        ``repeated_pairs_averaged`` rows that are gone, ``repeated_pairs_in_conflict`` pairs whose values differ,
        ``largest_conflict`` by how much at most; ``twins``: pairs of one structure and one line measured under another
        drug id too, ``largest_difference_of_twins``. Twins stay, and stay in one part of a split.
    """
    by_sample = pairs.groupby("sample")["ln_ic50"]
    spread = by_sample.max() - by_sample.min()
    facts = {
        "repeated_pairs_averaged": int(pairs["sample"].duplicated().sum()),
        "repeated_pairs_in_conflict": int((spread > 0).sum()),
        "largest_conflict": round(float(spread.max()), 4),
    }
    pairs = pairs.assign(ln_ic50=by_sample.transform("mean")).drop_duplicates("sample").reset_index(drop=True)
    twins = pairs.groupby(["smiles", "cell_line"])["ln_ic50"].agg(["size", "min", "max"])
    twins = twins[twins["size"] > 1]
    facts["twins"] = int(twins["size"].sum())
    facts["largest_difference_of_twins"] = round(float((twins["max"] - twins["min"]).max()), 4) if len(twins) else 0.0
    return pairs, facts


def one_tissue_per_line(pairs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give every pair of a line the line's tissue ("" where none is known).

    Raises
    ------
    InputDataError
        When a line stands with two tissues.
    """
    known = pairs[["cell_line", "tissue"]].dropna().drop_duplicates()
    known = known[known["tissue"] != ""]
    twice = known["cell_line"][known["cell_line"].duplicated()]
    if len(twice):
        both = known.loc[known["cell_line"] == twice.iloc[0], "tissue"]
        raise InputDataError(
            f"{path}: line {twice.iloc[0]!r} has the tissues {listing(both)}", "one tissue per line",
            "correct the column tissue",
        )  # fmt: skip
    return pairs.assign(tissue=pairs["cell_line"].map(known.set_index("cell_line")["tissue"]).fillna(""))


def read_table_layout(responses: Path, drugs: Path) -> pd.DataFrame:
    """Read a table of pairs (drug_id, cell_line, tissue, ln_ic50) and one of drugs (drug_id, smiles).

    Raises
    ------
    InputDataError
        A drug without a structure, or with two.
    """
    text = {"drug_id": str, "cell_line": str, "tissue": str}
    pairs = read_tsv(responses, [*text, "ln_ic50"], dtype=text)
    table = read_tsv(drugs, ["drug_id", "smiles"], dtype=str).drop_duplicates(["drug_id", "smiles"])
    twice = table["drug_id"][table["drug_id"].duplicated()]
    if len(twice):
        both = table.loc[table["drug_id"] == twice.iloc[0], "smiles"]
        raise InputDataError(
            f"{drugs}: drug {twice.iloc[0]!r} has the structures {listing(both)}", "one structure per drug id",
            "remove the wrong one",
        )  # fmt: skip
    smiles = table.set_index("drug_id")["smiles"]
    lost = sorted(set(pairs["drug_id"]) - set(smiles.index))
    if lost:
        raise InputDataError(
            f"{responses}: drugs {listing(lost)} are not in {drugs}", "a structure for every drug", "add their SMILES"
        )
    return pairs.assign(smiles=pairs["drug_id"].map(smiles))


def read_deepcdr_layout(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Read DeepCDR's files: ln IC50 (drugs x lines), PubChem ids and SMILES of drugs, cancer type of lines.

    Drugs without a PubChem id or a structure have an empty ``smiles``, lines without a cancer type an empty ``tissue``:
    as published, the latter stay (with the 561 lines of the published set: 107,446 pairs of 238 drug ids). The column
    ``pubchem`` is kept, by which the published splits name drugs.
    """
    table = read_tsv(inputs["responses"], sep=",", na_values=["", "NA"])
    table = table.set_index(table.columns[0])
    lines = read_tsv(inputs["annotation"], ["depMapID", "tcga_code"], dtype=str, na_values=["", "NA"])
    tissue = lines.drop_duplicates("depMapID").set_index("depMapID")["tcga_code"]
    pairs = table.rename_axis("drug_id").reset_index().melt("drug_id", var_name="cell_line", value_name="ln_ic50")
    pairs["drug_id"] = pairs["drug_id"].str.removeprefix("GDSC:")
    pairs["pubchem"] = pairs["drug_id"].map(gdsc_to_pubchem(inputs["drug_list"]))
    pairs["smiles"] = pairs["pubchem"].map(pubchem_smiles(inputs["drugs"]))
    pairs["tissue"] = pairs["cell_line"].map(tissue)
    return pairs


# ------------------------------------------------------------------------------------------------------ graphs


@dataclass(frozen=True)
class NamedGraphs:
    """Molecules by their canonical SMILES."""

    smiles: np.ndarray
    graphs: MoleculeGraphs

    def of(self, smiles: Sequence[str]) -> MoleculeGraphs:
        """Return the graphs of some molecules, in the order given.

        Raises
        ------
        InputDataError
            When one has no graph.
        """
        rows = pd.Index(self.smiles).get_indexer(list(smiles))
        if (rows < 0).any():
            lost = [s for s, row in zip(smiles, rows, strict=True) if row < 0]
            raise InputDataError(
                f"no graph of the molecules {listing(lost)}", "a graph for every drug",
                "leave the input graphs out of the benchmark's card: graphs are then made from SMILES",
            )  # fmt: skip
        return self.graphs.select(rows)

    def write(self, path: Path) -> None:
        """Write to an npz file."""
        g = self.graphs
        np.savez_compressed(path, smiles=self.smiles, atoms=g.atoms, bonds=g.bonds, molecule=g.molecule)

    @classmethod
    def read(cls, path: Path) -> NamedGraphs:
        """Read what :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            bonds, molecule, smiles = file["bonds"], file["molecule"], file["smiles"]
            none = np.zeros((bonds.shape[1], 0), np.float32)
            return cls(smiles, MoleculeGraphs(file["atoms"], bonds, none, molecule, len(smiles)))


def read_deepcdr_graphs(path: Path, smiles: Mapping[str, str]) -> NamedGraphs:
    """Read DeepCDR's archive of drug graphs: one HDF5 file ``<PubChem id>.hkl`` per drug (written by hickle 3).

    Each holds atom features (atoms, 75) and, per atom, the list of its neighbours.

    Parameters
    ----------
    path
        The zip file.
    smiles
        PubChem id -> SMILES; graphs of other ids are left out.

    Raises
    ------
    InputDataError
        A file that is not built like that.
    """
    import h5py

    atoms, bonds, names, first = [], [], [], 0
    with zipfile.ZipFile(path) as archive:
        members = {Path(m).stem: m for m in archive.namelist() if m.endswith(".hkl") and "__MACOSX" not in m}
        for pubchem in sorted(set(members) & set(smiles)):
            try:
                with h5py.File(io.BytesIO(archive.read(members[pubchem])), "r") as file:
                    features = file["data_0/data_0"][()]
                    lists = file["data_0/data_1"]
                    neighbours = [_numbers(lists[f"data_{i}"]) for i in range(len(features))]
            except (OSError, KeyError) as error:
                raise InputDataError(
                    f"{path}, {members[pubchem]}: {error}", "a drug graph as DeepCDR's authors wrote it",
                    "leave the input graphs out of the benchmark's card: graphs are then made from SMILES",
                ) from error  # fmt: skip
            sources = np.repeat(np.arange(len(features)), [len(n) for n in neighbours])
            bonds.append(np.stack([sources, np.concatenate(neighbours).astype(np.int64)]) + first)
            atoms.append(features.astype(np.float32))
            names.append(smiles[pubchem])
            first += len(features)
    molecule = np.repeat(np.arange(len(atoms)), [len(a) for a in atoms])
    bonds_2E = np.concatenate(bonds, axis=1)
    graphs = MoleculeGraphs(
        np.concatenate(atoms), bonds_2E, np.zeros((bonds_2E.shape[1], 0), np.float32), molecule, len(names)
    )
    return NamedGraphs(np.array(canonical_smiles(names)), graphs)


def _numbers(item: h5py.Dataset | h5py.Group) -> np.ndarray:
    """Return a stored list of numbers; an empty list (an atom without neighbours) is a group without members."""
    values = [np.zeros(0), item[()]] if hasattr(item, "shape") else [np.zeros(0), *(_numbers(item[k]) for k in item)]
    return np.concatenate([np.ravel(v) for v in values]).astype(np.int64)


# ------------------------------------------------------------------------------------------------------ splits


def read_published_parts(paths: Sequence[Path], pairs: pd.DataFrame) -> pd.DataFrame:
    """Find the pairs of published split files (columns cellline, drug, ic50; drug is a PubChem id).

    Parameters
    ----------
    paths
        Files of the training, (validation,) and test part, in this order.
    pairs
        Columns sample, pubchem, cell_line, ln_ic50.

    Returns
    -------
    Columns sample, part. What a file has and `pairs` has not (a line without expression) is not in it.

    Raises
    ------
    InputDataError
        A wrong number of files, or a pair in two of them.
    """
    names = {2: ("train", "test"), 3: ("train", "validation", "test")}.get(len(paths))
    if names is None:
        raise InputDataError(
            f"{len(paths)} files of a split", "training and test part, or training, validation and test part",
            "correct the inputs of the benchmark's card",
        )  # fmt: skip
    columns = {"cellline": str, "drug": str, "ic50": float}
    tables = [
        read_tsv(p, list(columns), sep=",", dtype=columns).assign(part=n) for p, n in zip(paths, names, strict=True)
    ]
    table = pd.concat(tables).rename(columns={"cellline": "cell_line", "drug": "pubchem"})
    key = ["pubchem", "cell_line", "ic50"]
    table["ic50"] = table["ic50"].round(4)
    found = pairs.assign(ic50=pairs["ln_ic50"].round(4)).merge(table.drop_duplicates([*key, "part"]), on=key)
    twice = found["sample"].duplicated()
    if twice.any():
        raise InputDataError(
            f"pair {found['sample'][twice].iloc[0]!r} is in two parts of {listing(p.name for p in paths)}",
            "every pair in one part", "fetch the files again",
        )  # fmt: skip
    return found[["sample", "part"]]
