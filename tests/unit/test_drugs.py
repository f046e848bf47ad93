"""Fingerprints, names and identifiers of molecules; what tasks on drugs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.problem import Problem
from sclong.drugs.classical import LinearFingerprint, describe
from sclong.drugs.context import DrugContext
from sclong.drugs.fingerprints import _fingerprint, canonical_smiles, check_structures, morgan_fingerprints, standardise
from sclong.drugs.ids import broad_smiles, gdsc_to_pubchem, named_smiles, pubchem_smiles, resolve, structures_of
from sclong.errors import InputDataError

ETHANOL, ETHANOL_REVERSED, ASPIRIN = "CCO", "OCC", "CC(=O)Oc1ccccc1C(=O)O"


def test_rows_are_molecules_not_strings() -> None:
    bits = morgan_fingerprints([ETHANOL, ASPIRIN, ETHANOL_REVERSED])
    assert bits.shape == (3, 512) and bits.dtype == np.float32
    assert set(np.unique(bits)) == {0.0, 1.0}
    np.testing.assert_array_equal(bits[0], bits[2])
    assert (bits[0] != bits[1]).any()


def test_length_and_radius_are_used() -> None:
    assert morgan_fingerprints([ASPIRIN], n_bits=128).shape == (1, 128)
    atoms, wide = (morgan_fingerprints([ASPIRIN], radius=r).sum() for r in (0, 3))
    assert atoms < wide
    assert morgan_fingerprints([]).shape == (0, 512)


def test_a_result_can_be_changed_without_harm_to_the_next() -> None:
    first = morgan_fingerprints([ETHANOL])
    first[:] = 7
    assert morgan_fingerprints([ETHANOL]).max() == 1


def test_each_distinct_string_is_computed_once() -> None:
    _fingerprint.cache_clear()
    morgan_fingerprints([ASPIRIN] * 50 + [ETHANOL])
    assert _fingerprint.cache_info().misses == 2


@pytest.mark.parametrize("wrong", ["c1ccccc", "not a drug", "", "N(C)(C)(C)(C)C", float("nan")])
def test_what_is_no_molecule_is_named_and_rdkit_stays_silent(wrong: str, capfd: pytest.CaptureFixture[str]) -> None:
    for function in (morgan_fingerprints, canonical_smiles):
        with pytest.raises(InputDataError, match="is not a molecule") as error:
            function([ETHANOL, wrong])
        assert repr(wrong) in error.value.found
    assert capfd.readouterr() == ("", "")


def test_canonical_smiles_gives_one_name_to_one_molecule() -> None:
    benzoic = ["OC(=O)c1ccccc1", "C1=CC=CC=C1C(O)=O"]
    names = canonical_smiles([*benzoic, ETHANOL])
    assert names[0] == names[1] != names[2]
    assert canonical_smiles(names) == names


def test_salts_are_removed_and_what_is_no_molecule_is_reported() -> None:
    given = [ETHANOL, "CCN.Cl", "C1=CC=CC=C1C(O)=O.[Na+]", "not a drug", "", "OCC"]
    standardised, report = standardise(given)
    assert standardised == ["CCO", "CCN", "O=C(O)c1ccccc1", "", "", "CCO"]
    assert report["what"].tolist() == ["", "salt removed", "salt removed", "invalid", "invalid", ""]
    assert report["smiles"].tolist() == given and report["standardised"].tolist() == standardised
    assert standardise([s for s in standardised if s])[1]["what"].eq("").all()
    assert standardise([float("nan")])[1]["what"].tolist() == ["invalid"]  # type: ignore[list-item]


def test_the_fragment_with_the_most_atoms_stays_whatever_the_order() -> None:
    assert standardise(["[Cl-].CC[NH3+]", "CC[NH3+].[Cl-]", "CN.CO", "CO.CN"])[0] == ["CC[NH3+]"] * 2 + ["CN"] * 2


def test_salts_are_named_and_every_invalid_drug() -> None:
    drugs, smiles = ["base", "salt", "salt", "other", "alone"], ["CCN", "CCN.Cl", "CCN.Cl", "OCC", "CC(=O)[O-].[Na+]"]
    assert check_structures(drugs, smiles) == {
        "salts": 2,
        "names_of_salts": ["alone", "salt"],
        "salts_equal_to_another_drug": ["salt"],
    }
    assert check_structures(smiles[3:4], smiles[3:4])["names_of_salts"] == []
    with pytest.raises(InputDataError, match=r"'a: C1CC', 'CCX'") as error:
        check_structures(["a", "CCX", "c"], ["C1CC", "CCX", "CCO"])
    assert "not a molecule" in error.value.found and "CCO" not in error.value.found


# --------------------------------------------------------------------------------------------- identifiers


def test_ids_follow_files_to_a_structure(tmp_path: Path) -> None:
    (tmp_path / "gdsc.csv").write_text('drug_id,Name,PubCHEM\n1,"A, B",11\n2,C,several\n3,D,33\n4,E,\n1,"A, B",11\n')
    (tmp_path / "pubchem.txt").write_text("11\tCCO\n12\tC\n")
    answers, report = resolve(
        ["1", "2", "3", "9", "1"], gdsc_to_pubchem(tmp_path / "gdsc.csv"), pubchem_smiles(tmp_path / "pubchem.txt")
    )
    assert answers == ["CCO", "", "", "", "CCO"]
    assert report["what"].tolist() == ["", "not in map 1", "not in map 2", "not in map 1", ""]
    (tmp_path / "broad.csv").write_text("BRD-A1,CC(=O)O\n")
    assert resolve(["BRD-A1"], broad_smiles(tmp_path / "broad.csv"))[0] == ["CC(=O)O"]


def test_an_unknown_name_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "drugs.tsv").write_text("drug_id\tsmiles\nErlotinib\tCCO\nLapatinib\tCCN\n")
    table = named_smiles(tmp_path / "drugs.tsv")
    assert structures_of(["Lapatinib", "Erlotinib", "Lapatinib"], table) == ["CCN", "CCO", "CCN"]
    with pytest.raises(InputDataError, match="'Erlotinb'") as error:
        structures_of(["Lapatinib", "Erlotinb"], table)
    assert "write 'Erlotinib'" in error.value.action
    (tmp_path / "twice.csv").write_text("name,smile\nA,CCO\nA,CCN\n")
    with pytest.raises(InputDataError, match="'A' with two answers"):
        named_smiles(tmp_path / "twice.csv")
    (tmp_path / "other.csv").write_text("name,structure\nA,CCO\n")
    with pytest.raises(InputDataError, match="no column 'smiles'"):
        named_smiles(tmp_path / "other.csv")


@pytest.mark.mirror
def test_the_files_of_the_publishers_are_read(mirror: Path) -> None:
    (listed,) = (mirror / "deepcdr").glob("1.Drug_list*.csv")
    gdsc, pubchem = gdsc_to_pubchem(listed), pubchem_smiles(mirror / "deepcdr/223drugs_pubchem_smiles.txt")
    answers, _ = resolve(list(gdsc), gdsc, pubchem)
    assert len(pubchem) == 223 and len({a for a in answers if a}) > 200
    assert len(named_smiles(mirror / "deepdds/smiles.csv")) == 95
    broad = broad_smiles(mirror / "deepce/drugs_smiles.csv")
    assert len(broad) > 1000 and all(key.startswith("BRD-") for key in broad)


# ----------------------------------------------------------------------------------------------- what tasks share


@dataclass(frozen=True, kw_only=True)
class DoseContext(DrugContext):
    """A task that this package does not have: the dose is all that is known of the drug."""

    line_column: ClassVar[str] = "where"
    classifies: ClassVar[bool] = False

    def drug_features(self, samples: pd.DataFrame) -> np.ndarray:
        return samples[["dose"]].to_numpy(float)


@dataclass(frozen=True, kw_only=True)
class DoseLabelContext(DoseContext):
    classifies: ClassVar[bool] = True


LINE_STATE = pd.DataFrame({"g": [0.0, 1.0, 2.0], "h": [0.0, 2.0, 4.0]}, index=["a", "b", "c"], dtype=np.float32)


def dose_problem(kind: type[DoseContext]) -> Problem[DoseContext]:
    """The target is three doses less the state of the line, or whether that is above -1/2 (no target is near it)."""
    rows = [(dose, line) for dose in np.linspace(-1, 1, 10) for line in LINE_STATE.index]
    samples = pd.DataFrame(rows, columns=["dose", "where"], index=[f"s{i}" for i in range(30)])
    samples["part"] = np.resize(["train", "train", "validation", "train", "test"], 30)
    y = 3 * samples["dose"].to_numpy() - LINE_STATE["g"].loc[samples["where"]].to_numpy()
    targets = (y > -0.5 if kind.classifies else y)[:, None].astype(np.float32)
    return Problem("doses", "0", samples, targets, ["y"], kind(expression=LINE_STATE))


def test_a_context_must_say_how_drugs_are_described() -> None:
    with pytest.raises(TypeError, match="drug_features"):
        DrugContext(expression=LINE_STATE)  # type: ignore[abstract]


def test_a_cell_line_that_appears_twice_is_refused() -> None:
    with pytest.raises(InputDataError, match="appears twice"):
        DoseContext(expression=LINE_STATE.loc[["a", "b", "a"]])


def test_features_are_those_of_the_context_beside_components_of_the_right_line() -> None:
    problem = dose_problem(DoseContext)
    found = describe(problem, 1)
    np.testing.assert_array_equal(found[:, 0], problem.samples["dose"])
    along = np.sqrt(5) * (LINE_STATE["g"].loc[problem.samples["where"]].to_numpy() - 1)  # both genes lie on one line
    np.testing.assert_allclose(np.abs(found[:, 1]), np.abs(along), atol=1e-6)
    assert abs(np.corrcoef(found[:, 1], along)[0, 1]) == pytest.approx(1)


def test_classical_models_answer_a_task_that_they_do_not_know() -> None:
    model = LinearFingerprint(1, (1e-6,))
    numbers = dose_problem(DoseContext)
    test = numbers.rows("test")
    np.testing.assert_allclose(model.predict(numbers, 0), numbers.targets[test], atol=1e-4)
    labels = dose_problem(DoseLabelContext)
    answer = model.predict(labels, 0)
    assert ((answer >= 0) & (answer <= 1)).all()
    np.testing.assert_array_equal(answer > 0.5, labels.targets[test] == 1)
