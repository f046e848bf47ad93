"""Files of drug response: tables of ln IC50, DeepCDR's layout, drug graphs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sclong.drugs.fingerprints import canonical_smiles
from sclong.drugs.ids import gdsc_to_pubchem, pubchem_smiles
from sclong.drugs.lines import read_matrix
from sclong.drugs.molecules import MoleculeGraphs
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv
from sclong.runlog import LOGGER

if TYPE_CHECKING:
    import h5py

UNIT_PAIRS = 500
"""Quantiles of fewer measured pairs than this say nothing of their unit."""
FEW_PAIRS = 50
"""Among so many pairs of a screen there is one below 1 uM, whose logarithm is negative."""
CAPPED = "concentrations without a logarithm (uM, none above the highest tested)"
TENFOLD = np.log(10)


def measured(pairs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the pairs that have a response.

    Raises
    ------
    InputDataError
        When a response is not a finite number, or there is none.
    """
    pairs = pairs.dropna(subset=["ln_ic50"])
    if pairs.empty:
        raise InputDataError(f"{path}: no response", "ln IC50 of drugs in lines", "look at the file: it has no values")
    values = pd.to_numeric(pairs["ln_ic50"], errors="coerce")
    wrong = ~np.isfinite(values.to_numpy(float))
    if wrong.any():
        raise InputDataError(
            f"{path}: ln_ic50 {listing(pairs.loc[wrong, 'ln_ic50'].unique())}",
            "a finite number, or an empty cell where nothing was measured",
            "correct the table of responses",
        )
    return pairs.assign(ln_ic50=values)


def check_unit(ln_ic50: np.ndarray, path: Path) -> str:
    """Check that responses look like ln of micromolar, and say so; the log has it too where there is doubt.

    Judged by quantiles: screens of many drugs spread over a factor of 100,000 and more around some micromolar.
    Tables of fewer than :data:`UNIT_PAIRS` pairs are judged by their signs only, those of fewer than
    :data:`FEW_PAIRS` not at all. A narrow spread with values above ln(55 uM) = 4 is but said: as log10 they would be
    above 10 mM.

    Raises
    ------
    InputDataError
        When they look like another unit; says which.
    """
    positive = len(ln_ic50) >= FEW_PAIRS and bool((ln_ic50 >= 0).all())
    if len(ln_ic50) < UNIT_PAIRS and not positive:
        LOGGER.info("%s: %d responses are too few to judge their unit", path, len(ln_ic50))
        return f"not judged: {len(ln_ic50)} pairs"
    low, middle, high = np.quantile(ln_ic50, [0.01, 0.5, 0.99])
    suspected = ""
    if low >= 0 and high > 20:
        suspected = f"concentrations without a logarithm ({'nM' if middle > 1000 else 'uM, or another unit'})"
    elif middle > np.log(1000):
        suspected = "ln of nanomolar" + (f", or {CAPPED}" if positive else "")
    elif middle < np.log(1e-3):
        suspected = "ln of molar"
    elif positive and middle < 3:
        suspected = f"{CAPPED}, or areas under a curve"
    elif positive or (high - low < 6 and not -3 < middle < 3):
        suspected = "log10 (of nM or M, or pIC50)"
    elif high - low < 6 and high < 4:
        suspected = "log10 (of uM)"
    seen = f"the 1 %, 50 % and 99 % quantiles {low:.3g}, {middle:.3g}, {high:.3g}"
    if suspected:
        raise InputDataError(
            f"{path}: ln_ic50 has {seen}{' and no negative value' if positive else ''}, which looks like {suspected}",
            "the natural logarithm of IC50 in micromolar",
            "convert the column (ln(uM) = ln(nM) - 6.908 = 2.303 log10(uM)), or set check_unit: false in the options "
            "of the benchmark's card if the unit is right",
        )
    if high - low < 6:
        LOGGER.warning("%s: ln_ic50 has %s: narrow for ln(uM); look whether it is log10", path, seen)
        return f"ln(uM), narrow: {seen}"
    return f"ln(uM): {seen}"


def merge_repeats(pairs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Average pairs that stand more than once, and count what disagrees.

    A pair whose values differ more than tenfold is named in the log.

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
    apart = spread[spread > TENFOLD].index
    if len(apart):
        LOGGER.warning("%d pairs were measured twice, more than tenfold apart: %s", len(apart), listing(apart))
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
            f"{path}: line {twice.iloc[0]!r} has the tissues {listing(both)}",
            "one tissue per line",
            "correct the column tissue",
        )
    return pairs.assign(tissue=pairs["cell_line"].map(known.set_index("cell_line")["tissue"]).fillna(""))


def read_table_layout(responses: Path, drugs: Path) -> pd.DataFrame:
    """Read a table of pairs (drug_id, cell_line, tissue, ln_ic50) and one of drugs (drug_id, smiles).

    Raises
    ------
    InputDataError
        A drug that is not in the table of drugs or has two structures there; a pair without drug or line.
    """
    text = {"drug_id": str, "cell_line": str, "tissue": str}
    pairs = read_tsv(responses, [*text, "ln_ic50"], dtype=text)
    unnamed = pairs[["drug_id", "cell_line"]].isna().any(axis=1).to_numpy()
    if unnamed.any():
        raise InputDataError(
            f"{responses}: row {int(unnamed.argmax()) + 2} has no drug_id or no cell_line",
            "both in every row",
            "fill them in, or remove the row",
        )
    table = read_tsv(drugs, ["drug_id", "smiles"], dtype=str).drop_duplicates(["drug_id", "smiles"])
    twice = table["drug_id"][table["drug_id"].duplicated()]
    if len(twice):
        both = table.loc[table["drug_id"] == twice.iloc[0], "smiles"]
        raise InputDataError(
            f"{drugs}: drug {twice.iloc[0]!r} has the structures {listing(both)}",
            "one structure per drug id",
            "remove the wrong one",
        )
    smiles = table.set_index("drug_id")["smiles"]
    lost = sorted(set(pairs["drug_id"]) - set(smiles.index))
    if lost:
        raise InputDataError(
            f"{responses}: drugs {listing(lost)} are not in {drugs}", "every drug in it", "add their SMILES"
        )
    return pairs.assign(smiles=pairs["drug_id"].map(smiles))


def read_deepcdr_layout(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Read DeepCDR's files: ln IC50 (drugs x lines), PubChem ids and SMILES of drugs, cancer type of lines.

    Drugs without a PubChem id or a structure have an empty ``smiles``, lines without a cancer type an empty ``tissue``:
    as published, the latter stay (with the 561 lines of the published set: 107,446 pairs of 238 drug ids). The column
    ``pubchem`` is kept, by which the published splits name drugs.

    Raises
    ------
    InputDataError
        Files that have no name in common, or are not built like DeepCDR's.
    """
    table = read_matrix(inputs["responses"], na_values=["", "NA"])
    lines = read_tsv(inputs["annotation"], ["depMapID", "tcga_code"], dtype=str, na_values=["", "NA"])
    tissue = lines.drop_duplicates("depMapID").set_index("depMapID")["tcga_code"]
    pairs = table.rename_axis("drug_id").reset_index().melt("drug_id", var_name="cell_line", value_name="ln_ic50")
    pairs["drug_id"] = pairs["drug_id"].str.removeprefix("GDSC:")
    pubchem, smiles = gdsc_to_pubchem(inputs["drug_list"]), pubchem_smiles(inputs["drugs"])
    pairs["pubchem"] = _looked_up(pairs["drug_id"], pubchem, inputs, "responses", "drug_list")
    pairs["smiles"] = _looked_up(pairs["pubchem"], smiles, inputs, "drug_list", "drugs")
    pairs["tissue"] = _looked_up(pairs["cell_line"], tissue.to_dict(), inputs, "responses", "annotation")
    return pairs


def _looked_up(
    names: pd.Series, table: Mapping[str, str], inputs: Mapping[str, Path], role: str, where: str
) -> pd.Series:
    """Return what `table` has for each of the names; those of one file, but not all, may be missing in the other."""
    distinct = names.dropna().unique()
    if not set(distinct) & set(table):
        raise InputDataError(
            f"{inputs[role]}: none of the {len(distinct)} names of {names.name} ({listing(distinct, 3)}) is among the "
            f"{len(table)} in {inputs[where]} ({listing(table, 3)})",
            "the same names in both files",
            f"look at the inputs {role} and {where}; drugs are the rows of responses, lines its columns",
        )
    return names.map(table)


# ------------------------------------------------------------------------------------------------------ graphs

WITHOUT_GRAPHS = "leave the input graphs out of the benchmark's card: graphs are then made from SMILES"


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
            raise InputDataError(f"no graph of the molecules {listing(lost)}", "a graph for every drug", WITHOUT_GRAPHS)
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
        An archive or a file that is not built like that, or an archive without any of the drugs.
    """
    import h5py

    atoms: list[np.ndarray] = []
    bonds, names, first = [], [], 0
    with _archive(path) as archive:
        members = {Path(m).stem: m for m in archive.namelist() if m.endswith(".hkl") and "__MACOSX" not in m}
        if not set(members) & set(smiles):
            raise InputDataError(
                f"{path} has graphs of {listing(members, 3)}, of none of the drugs {listing(smiles, 3)}",
                "<PubChem id>.hkl for every drug",
                WITHOUT_GRAPHS,
            )
        for pubchem in sorted(set(members) & set(smiles)):
            try:
                with h5py.File(io.BytesIO(archive.read(members[pubchem])), "r") as file:
                    features = file["data_0/data_0"][()]
                    lists = file["data_0/data_1"]
                    neighbours = [_numbers(lists[f"data_{i}"]) for i in range(len(features))]
            except (OSError, KeyError) as error:
                raise InputDataError(
                    f"{path}, {members[pubchem]}: {error}",
                    "a drug graph as DeepCDR's authors wrote it",
                    WITHOUT_GRAPHS,
                ) from error
            if features.ndim != 2 or (atoms and features.shape[1] != atoms[0].shape[1]):
                raise InputDataError(
                    f"{path}, {members[pubchem]}: atom features of the shape {features.shape}",
                    f"(atoms, {atoms[0].shape[1] if atoms else 75}), as wide for every drug",
                    WITHOUT_GRAPHS,
                )
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


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputDataError(f"{path}: {error}", "a zip file of drug graphs", WITHOUT_GRAPHS) from error


def _numbers(item: h5py.Dataset | h5py.Group) -> np.ndarray:
    """Return a stored list of numbers; an empty list (an atom without neighbours) is a group without members."""
    values = [np.zeros(0), item[()]] if hasattr(item, "shape") else [np.zeros(0), *(_numbers(item[k]) for k in item)]
    return np.concatenate([np.ravel(v) for v in values]).astype(np.int64)
