"""Conditions on cells: what they say is what pandas says, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sclong.corpus.condition import evaluate
from sclong.errors import InputDataError

OBS = pd.DataFrame(
    {
        "donor": pd.Categorical(["a", "b", "a", None, "c"]),
        "cell_type": ["T", "B", "T", "NK", "B"],
        "n_genes": [1, 20, 300, 4000, 5],
        "share": [0.1, 0.2, np.nan, 0.4, 0.5],
        "doublet": [True, False, False, True, False],
        "a name": [1, 2, 3, 4, 5],
    }
)
ATOMS = [
    "donor == 'a'",
    "cell_type != 'T'",
    "n_genes > 4",
    "share <= 0.4",
    "cell_type in ['T', 'NK']",
    "n_genes not in [1, 20]",
    "doublet",
    "`a name` < 4",
    "3 <= n_genes < 4000",
    "n_genes == -1",
]


def test_what_a_condition_keeps() -> None:
    wanted = evaluate("donor == 'a' and not (n_genes > 100 or doublet)", OBS, "x")
    assert wanted.tolist() == [False, False, False, False, False]
    assert evaluate("donor != 'a'", OBS, "x").tolist() == [False, True, False, True, True]
    assert evaluate("~doublet & (share > 0.1)", OBS, "x").tolist() == [False, True, False, False, True]


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.sampled_from(ATOMS),
        lambda inner: st.one_of(
            st.builds("({} and {})".format, inner, inner),
            st.builds("({} or {})".format, inner, inner),
            st.builds("(not {})".format, inner),
        ),
    )
)
def test_conditions_are_as_pandas_has_them(condition: str) -> None:
    assert evaluate(condition, OBS, "x").tolist() == np.asarray(OBS.eval(condition)).tolist()


@pytest.mark.parametrize(
    "condition",
    [
        "@pd.io.common.os.system('touch pwned') == 0",
        "__import__('os').system('touch pwned') == 0",
        "donor.map(print) == 'a'",
        "n_genes ** 9999999999 > 1",
        "(lambda: True)()",
        "[x for x in donor]",
        "donor == f'{donor}'",
        "n_genes == n_genes.__class__",
        "(" * 5000 + "doublet" + ")" * 5000,
        "donor == 'a",
        "nothing == 1",
        "`a name > 1",
        "1 == 1",
        "",
    ],
)
def test_what_is_no_condition_is_refused(condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputDataError, match=r"(?s)cannot be evaluated.*correct keep_cells"):
        evaluate(condition, OBS, "keep_cells of corpus source 'x'")
    assert not list(tmp_path.iterdir())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("donor()[]=<>'\" and not in 019.`@_:,", max_size=60))
def test_any_text_is_a_condition_or_refused(condition: str) -> None:
    try:
        assert evaluate(condition, OBS, "x").dtype == bool
    except InputDataError as error:
        assert error.action == "correct keep_cells"
