"""Cards are data: which classes they may name, and what of a wrong adapter is seen without importing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclong.benchmark.adapter import build
from sclong.benchmark.adapter_check import check_adapter
from sclong.benchmark.model import Predictor
from sclong.config.cards import Recipe
from sclong.errors import CardError
from sclong.plan.plan import make_plan

OWN = """
from pathlib import Path
from sclong.benchmark.model import Predictor
Path("imported").touch()

class Mine(Predictor):
    def __init__(self, rate: float, steps: int = 3) -> None: ...
    def predict(self, problem, seed): ...

class Younger(Mine): ...
"""


@pytest.mark.parametrize("preset", ["demo", "small", "paper"])
def test_every_card_of_the_project_passes(root: Path, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert make_plan({"preset": preset}).models


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        ("os:system", {"command": "touch pwned"}, "there is no module 'os'"),
        ("subprocess:Popen", {"args": "touch pwned", "shell": True}, "there is no module 'subprocess'"),
        ("yaml:unsafe_load", {}, "may not be named by a card"),
        ("numpy:ndarray", {}, "may not be named by a card"),
        ("no_such_package.models:Mine", {}, "there is no module"),
        ("../evil:Mine", {}, "there is no module"),
        ("sclong.benchmark.controls:TrainMeen", {}, "write adapter: sclong.benchmark.controls:TrainMean"),
        ("sclong.benchmark.controls:np", {}, "has no class 'np'"),
        ("sclong.io.files:write_text", {"path": "pwned", "text": ""}, "has no class 'write_text'"),
        ("sclong.benchmark.pca:Pca", {"n_component": 3}, "write 'n_components'"),
        ("own:Mine", {}, "needs the option 'rate'"),
        ("own:Younger", {"rate": 1, "step": 2}, "write 'steps'"),
    ],
)
def test_wrong_adapters_are_refused_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, options: dict, message: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for check in (
        lambda: check_adapter("mine", adapter, options),
        lambda: build(Recipe("mine", adapter, options), Predictor),
    ):
        with pytest.raises(CardError) as error:
            check()
        assert message in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["own.py"]


def test_an_own_module_lies_in_the_folder_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    check_adapter("mine", "own:Younger", {"rate": 1}, tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(CardError, match="may not be named by a card"):
        check_adapter("mine", "own:Younger", {"rate": 1}, tmp_path / "other")


def test_a_class_that_is_no_model_is_not_built() -> None:
    with pytest.raises(CardError, match="it is no Predictor"):
        build(Recipe("mine", "sclong.io.sources:Source", {}), Predictor)
