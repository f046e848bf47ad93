"""Predictions go to disk and come back; what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.predictions import answers_to, read_predictions, write_predictions
from sclong.benchmark.problem import Predictions
from sclong.errors import InputDataError


@pytest.fixture
def predictions() -> Predictions:
    return Predictions(
        fold=np.array(["0", "0", "1"]),
        sample=np.array(["b", "a", "c"]),
        values=np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32),
        outputs=np.array(["g1", "g2"]),
    )


def test_round_trip_without_pickle(tmp_path: Path, predictions: Predictions) -> None:
    write_predictions(tmp_path / "m" / "seed0.npz", predictions)
    back = read_predictions(tmp_path / "m" / "seed0.npz")
    for name in ("fold", "sample", "values", "outputs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(predictions, name))
        assert getattr(back, name).dtype != object
    assert back.values.dtype == np.float32


def test_shapes_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path, predictions: Predictions) -> None:
    wrong = Predictions(predictions.fold, predictions.sample, predictions.values[:2], predictions.outputs)
    with pytest.raises(InputDataError, match=r"shape \(2, 2\)"):
        write_predictions(tmp_path / "seed0.npz", wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seed0.npz"
    path.write_bytes(content)
    with pytest.raises(InputDataError, match=r"seed0\.npz"):
        read_predictions(path)


def test_truncated_and_pickled_files_are_refused(tmp_path: Path, predictions: Predictions) -> None:
    path = tmp_path / "seed0.npz"
    write_predictions(path, predictions)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputDataError):
        read_predictions(path)
    with path.open("wb") as handle:
        np.savez(handle, fold=np.array([{}], dtype=object), sample=["a"], values=[[1.0]], outputs=["g"])
    with pytest.raises(InputDataError, match="pickle"):
        read_predictions(path)


def test_predictions_come_in_the_order_of_split_and_truth(predictions: Predictions) -> None:
    split = pd.DataFrame(
        [("0", "a", "test", "s"), ("0", "x", "train", ""), ("0", "b", "test", "t"), ("1", "c", "test", "s")],
        columns=["fold", "sample", "part", "scenario"],
    )
    rows, values = answers_to(split, predictions, "0", ["g1", "g2"])
    assert list(rows["sample"]) == ["a", "b"] and list(rows["scenario"]) == ["s", "t"]
    np.testing.assert_array_equal(values, [[3, 4], [1, 2]])
    np.testing.assert_array_equal(answers_to(split, predictions, "0", ["g2", "g1"])[1], [[4, 3], [2, 1]])
    with pytest.raises(InputDataError, match="missing: 'g3'; not expected: 'g2'"):
        answers_to(split, predictions, "0", ["g1", "g3"])
    split.loc[1, "part"] = "test"
    with pytest.raises(InputDataError, match="missing: 'x'"):
        answers_to(split, predictions, "0", ["g1", "g2"])
