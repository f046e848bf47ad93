"""Fingerprints and names of molecules."""

from __future__ import annotations

import numpy as np
import pytest

from sclong.data.drugs import _fingerprint, canonical_smiles, morgan_fingerprints
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
