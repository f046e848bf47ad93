from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sclong.config.cards import BenchmarkCard, ModelCard, load_card, load_cards, load_yaml
from sclong.config.load import load_architecture, load_config, schema, select_cards
from sclong.errors import CardError, ConfigError, SclongError
from sclong.plan.rows import meets
from sclong.train.identity import flatten


@pytest.fixture(autouse=True)
def _in_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


@pytest.mark.parametrize("preset", ["demo", "small", "paper"])
def test_presets_load_and_name_an_architecture(preset: str) -> None:
    config = load_config({"preset": preset})
    assert load_architecture(config.architecture).name == config.architecture


def test_what_differs_from_the_paper_is_a_table_of_keys_that_one_file_sets(root: Path) -> None:
    """docs/training.md: each row's values are those of preset `paper` and of paper_exact.yaml laid over it."""
    page = (root / "docs/training.md").read_text().partition("<!-- differs -->")[2].partition("<!-- /differs -->")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in page.strip().splitlines()[2:]]
    exact = load_yaml(root / "config/presets/paper_exact.yaml")
    sides = [load_config({"preset": "paper", **keys}).model_dump() for keys in ({}, exact)]
    for key, *values in rows:
        for config, value in zip(sides, values, strict=True):
            found: Any = config
            for part in key.split("."):
                found = found[part]
            assert str(found) == value, key
    known = {key for key, *_ in rows} | {
        "corpus.census.parts",
        "pretrain.learning_rate",
        "pretrain.minimum_learning_rate",
    }
    assert set(flatten(exact)) <= known
    assert load_architecture("1b").precision == "bfloat16" and sides[1]["pretrain"]["optimizer"] == "adam"


def test_user_keys_win_over_the_preset_and_sections_merge() -> None:
    demo = load_config({})
    config = load_config({"pretrain": {"steps": 7}, "seeds": [3]})
    assert (config.pretrain.steps, config.seeds) == (7, [3])
    assert config.pretrain.batch_size == demo.pretrain.batch_size


@pytest.mark.parametrize(
    ("user", "found", "action"),
    [
        ({"benchmark": ["norman"]}, "'benchmark'", "benchmarks"),
        ({"pretrain": {"step": 5}}, "'pretrain.step'", "steps"),
        ({"preset": "dmeo"}, "'dmeo'", "demo"),
        ({"pretrain": {"steps": -1}}, "pretrain.steps", "pretrain.steps"),
        ({"seeds": [1, 1]}, "seeds must differ", ""),
        ({"corpus": {"sources": [{"name": "x", "input": "world:x", "donor": "d"}]}}, "donor", "donor_column"),
    ],
)
def test_mistakes_are_refused_with_the_nearest_valid_name(user: dict, found: str, action: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(user)
    assert found in error.value.found
    assert action in error.value.action


def test_unknown_model_names_the_nearest_card() -> None:
    with pytest.raises(ConfigError, match="train_mean"):
        select_cards(load_config({"models": ["train_means"]}))


def test_schema_file_is_in_step(root: Path) -> None:
    path = root / "config" / "schema.json"
    assert json.loads(path.read_text()) == schema(), "write it again: python docs/generate.py"


def test_card_name_must_be_its_file(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text((Path("config/models/embedders/sclong.yaml")).read_text())
    with pytest.raises(CardError, match="named 'sclong'"):
        load_card(path, ModelCard)


def test_card_refuses_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "sclong.yaml"
    path.write_text(Path("config/models/embedders/sclong.yaml").read_text() + "\nprovide: [x]\n")
    with pytest.raises(CardError, match="provides"):
        load_card(path, ModelCard)


def test_every_card_agrees_with_its_task_and_its_adapter() -> None:
    import importlib

    from sclong.benchmark.adapter import build
    from sclong.benchmark.model import Embedder, Predictor, PredictorFromFeatures
    from sclong.plan.rows import check_benchmark

    benchmarks, models = select_cards(load_config({}))
    for card in benchmarks.values():
        check_benchmark(card)
    for model in models.values():
        embeds = any(p.endswith("_embedding") and p != "integrated_embedding" for p in model.provides)
        kind = Embedder if embeds else PredictorFromFeatures if model.features_of else Predictor
        assert isinstance(build(model.recipe(), kind), kind), model.name
        assert importlib.import_module(model.adapter.partition(":")[0])


def test_every_benchmark_has_floor_ceiling_classical_and_both_sclong_rows() -> None:
    benchmarks, models = select_cards(load_config({}))
    for card in benchmarks.values():
        if len(card.needs) == 1:  # no model may embed it: mouse genes
            continue
        roles = {m.role for m in models.values() if meets(card, m)}
        assert {"floor", "ceiling", "classical", "ablation", "model"} <= roles, card.name
        assert {"sclong", "sclong_random"} <= {m.name for m in models.values() if meets(card, m)}, card.name


def test_only_ceilings_and_declared_controls_see_the_truth() -> None:
    _, models = select_cards(load_config({}))
    assert {m.role for m in models.values() if m.sees_truth} == {"ceiling"}


def test_errors_say_three_things() -> None:
    error = SclongError("a cat", "a dog", "get a dog")
    assert str(error).splitlines() == ["a cat", "  expected:   a dog", "  what to do: get a dog"]


def test_paper_numbers_are_attached() -> None:
    card = load_cards(Path("config/benchmarks"), BenchmarkCard)["norman"]
    assert any(p.model == "scLong" and p.value == 0.625 for p in card.paper)
