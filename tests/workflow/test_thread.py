"""The whole thread on the simulated world, by the functions that the rules call."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.embed import embed_dataset
from sclong.benchmark.predict import predict
from sclong.benchmark.predictions import read_predictions
from sclong.benchmark.prepare import prepare_dataset
from sclong.benchmark.problem import Predictions
from sclong.benchmark.registry import load_task
from sclong.benchmark.score import METRIC_COLUMNS, Scored, score
from sclong.benchmark.split import make_split, read_split
from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard, load_cards
from sclong.errors import InputDataError
from sclong.plan.rows import meets

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("world")]

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = load_cards(ROOT / "config/benchmarks", BenchmarkCard)
MODELS = load_cards(ROOT / "config/models", ModelCard)
DEMO = {name: card for name, card in BENCHMARKS.items() if card.alternatives("demo")}


def cut(card: BenchmarkCard, spec: DataSpec, dataset: Path, out: Path) -> None:
    make_split(card.task, dataset, spec.split, spec.split_options, card.split_seed, out)


@pytest.fixture(scope="session")
def prepared(world, tmp_path_factory):
    """Data set folder and split file of a benchmark (made when first asked for)."""
    out = tmp_path_factory.mktemp("prepared")

    def prepare(name: str):
        card = DEMO[name]
        spec = card.alternatives("demo")[0]
        dataset, split = out / spec.dataset, out / f"{name}.tsv"
        if not dataset.exists():
            inputs = {
                role: [world.path(v) for v in value] if isinstance(value, list) else world.path(value)
                for role, value in spec.inputs.items()
            }
            prepare_dataset(card.task, spec.dataset, inputs, spec.options, dataset)
        if not split.exists():
            cut(card, spec, dataset, split)
        return card, spec, dataset, split

    return prepare


def scores(
    prepared, tmp_path: Path, name: str, model: str, seed: int = 0, features: Path | None = None
) -> pd.DataFrame:
    card, spec, dataset, split = prepared(name)
    path = tmp_path / name / model / f"seed{seed}.npz"
    recipe, native = MODELS[model].recipe(), meets(card, MODELS[model]) == "native"
    predict(card.task, recipe, dataset, split, features, seed, path, native=native)
    scored = Scored(name, card.task, spec.dataset, card.version)
    score(scored, dataset, split, [path], "code", tmp_path / f"{name}_{model}.tsv")
    table = pd.read_csv(tmp_path / f"{name}_{model}.tsv", sep="\t", keep_default_na=False, na_values=["nan"])
    assert list(table.columns) == list(METRIC_COLUMNS)
    return table.set_index(["scenario", "metric"])


def native_controls(card: BenchmarkCard, role: str) -> list[str]:
    return [m.name for m in MODELS.values() if m.role == role and card.needs[0] in m.provides]


@pytest.mark.parametrize("name", DEMO)
def test_the_ceiling_is_the_best_score_and_floors_are_below_it(prepared, tmp_path: Path, name: str) -> None:
    """Every metric of every benchmark: no control that knows nothing reaches the one that knows the answer."""
    card = DEMO[name]
    metrics = load_task(card.task).metrics
    ceilings = native_controls(card, "ceiling")
    top = scores(prepared, tmp_path, name, "truth" if "truth" in ceilings else "cell_type_one_hot")
    perfect = {"min": 0.0, "max": 1.0}
    for (scenario, metric), row in top.iterrows():
        if metric not in {
            "aupr_ratio",
            "aupr_ratio_published",
            "aupr_ratio_beeline",
            "epr",
            "epr_beeline",
            "p_value",
            "overall",
            "batch_mixing",
            "ilisi",
            "pcr",
        }:  # their maxima depend on the data
            assert row["value"] == pytest.approx(perfect[metrics[metric]], abs=1e-4), (scenario, metric)
    for floor in native_controls(card, "floor"):
        low = scores(prepared, tmp_path, name, floor)
        for key, row in low.iterrows():
            if key[1] in {"ilisi", "pcr", "batch_mixing"}:  # of batches alone: what knows nothing mixes best
                continue
            best = top.loc[key, "value"]
            worse = row["value"] - best if metrics[key[1]] == "min" else best - row["value"]
            assert worse >= -1e-6 or np.isnan(row["value"]), (floor, key, row["value"], best)
        primary = low.xs(card.primary_metric, level="metric")["value"]
        best = top.xs(card.primary_metric, level="metric")["value"]
        assert (np.abs(best - primary) > 1e-3).all(), (floor, "does not differ from the ceiling")


@pytest.mark.parametrize("name", DEMO)
def test_no_sample_is_in_two_parts_and_models_do_not_see_the_answer(prepared, name: str) -> None:
    card, _, dataset, split = prepared(name)
    table = read_split(split)
    assert not table.duplicated(["fold", "sample"]).any()
    for problem in load_task(card.task).problems(dataset, table):
        test = problem.targets[problem.rows("test")]
        assert np.isnan(test).all()
        for part in ("train", "validation"):
            assert np.isfinite(problem.targets[problem.rows(part)]).all()


@pytest.mark.parametrize("name", DEMO)
def test_splits_do_not_depend_on_when_they_are_made(prepared, tmp_path: Path, name: str) -> None:
    card, spec, dataset, split = prepared(name)
    cut(card, spec, dataset, tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_text() == split.read_text()


def test_training_beats_its_own_untrained_weights_on_held_out_donors(trained) -> None:
    checkpoint, _ = trained()
    lines = [json.loads(line) for line in (checkpoint / "training.jsonl").read_text().splitlines()]
    held = [x["held_out_loss"] for x in lines if x.get("held_out_loss") is not None]
    assert held[-1] < 0.9 * held[0]


@pytest.mark.parametrize("name", DEMO)
def test_sclong_runs_on_every_benchmark(prepared, trained, tmp_path: Path, name: str) -> None:
    _, spec, dataset, _ = prepared(name)
    for model, checkpoint in zip(("sclong", "sclong_random"), trained(), strict=True):
        features = tmp_path / "features" / model
        embed_dataset(MODELS[model].recipe(), dataset, checkpoint, features, batch_size=32, device="cpu")
        table = scores(prepared, tmp_path, name, model, features=features)
        assert np.isfinite(table["value"]).all(), (spec.dataset, model)


def test_seeds_are_trainings_of_their_own(prepared, trained, tmp_path: Path) -> None:
    _, _, dataset, _ = prepared("deepcdr")
    features = tmp_path / "features"
    embed_dataset(MODELS["sclong"].recipe(), dataset, trained()[0], features, batch_size=32, device="cpu")
    first, again, other = (
        scores(prepared, tmp_path / str(i), "deepcdr", "sclong", seed, features)["value"]
        for i, seed in enumerate((0, 0, 1))
    )
    pd.testing.assert_series_equal(first, again)
    assert (first != other).any()


def test_embeddings_go_into_an_h5ad_by_the_command_line(world, trained, tmp_path: Path) -> None:
    from sclong.cli import main

    output = tmp_path / "out.h5ad"
    source = world.path("world:corpus_blood.h5ad")
    checkpoint = str(trained()[0])
    assert main(["check", str(source), "--checkpoint", checkpoint]) == 0
    assert main(["embed", str(source), "--checkpoint", checkpoint, "--output", str(output)]) == 0
    adata = anndata.read_h5ad(output)
    assert adata.obsm["X_sclong"].shape[0] == adata.n_obs
    assert "sclong" in str(adata.uns.keys()).lower()


def test_a_file_that_cannot_be_used_ends_the_command_with_three_lines(trained, tmp_path: Path, capsys) -> None:
    from sclong.cli import main

    bad = tmp_path / "bad.h5ad"
    bad.write_bytes(b"not an h5ad")
    assert main(["check", str(bad), "--checkpoint", str(trained()[0])]) == 1
    err = capsys.readouterr().err
    assert "expected:" in err and "what to do:" in err and "Traceback" not in err


@pytest.mark.parametrize("name", DEMO)
def test_scores_do_not_depend_on_order_and_refuse_other_names(prepared, tmp_path: Path, name: str) -> None:
    """Every task: samples and outputs are found by name; a name that is not the data set's is refused."""
    card, _, dataset, split = prepared(name)
    model = "truth" if "truth" in native_controls(card, "ceiling") else "cell_type_one_hot"
    path = tmp_path / model / "seed0.npz"
    predict(card.task, MODELS[model].recipe(), dataset, split, None, 0, path, native=True)
    found = read_predictions(path)
    noise = np.random.default_rng(0).normal(size=found.values.shape)
    found = dataclasses.replace(found, values=(found.values + 0.5 * noise).astype(np.float32))
    task, table = load_task(card.task), read_split(split)
    expected = task.score(dataset, table, found)
    draw = np.random.default_rng(1)
    for _ in range(3):
        rows, columns = draw.permutation(len(found.sample)), draw.permutation(len(found.outputs))
        turned = Predictions(
            found.fold[rows], found.sample[rows], found.values[rows][:, columns], found.outputs[columns]
        )
        pd.testing.assert_frame_equal(task.score(dataset, table, turned), expected, rtol=1e-5, atol=1e-6)
    changed = task.score(dataset, table, dataclasses.replace(found, values=found.values[::-1].copy()))
    assert not np.allclose(changed["value"], expected["value"], equal_nan=True), "the comparison has power"

    wrong = {"sample": found.sample.astype("U40"), "outputs": found.outputs.astype("U40")}
    for field, names in wrong.items():
        if field == "outputs" and card.task == "batch_integration":
            continue  # dimensions of an embedding have no names of their own
        names[0] = "NO_SUCH_NAME"
        with pytest.raises(InputDataError, match="NO_SUCH_NAME"):
            task.score(dataset, table, dataclasses.replace(found, **{field: names}))
