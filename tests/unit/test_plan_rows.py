"""Which rows run, how often, and why others do not."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from sclong.benchmark.registry import load_tasks
from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard, load_cards
from sclong.config.load import load_config
from sclong.errors import CardError
from sclong.plan.plan import Plan, make_plan
from sclong.plan.rows import check_benchmark, check_models, missing_input, seeds_of, why_not


@pytest.fixture(scope="module")
def demo(root: Path) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return make_plan({"seeds": [3, 4]})


def benchmark_card(root: Path, name: str) -> BenchmarkCard:
    return load_cards(root / "config" / "benchmarks", BenchmarkCard)[name]


@pytest.fixture(scope="module")
def models(root: Path) -> dict[str, ModelCard]:
    optional = load_cards(root / "config" / "models" / "optional", ModelCard)
    return load_cards(root / "config" / "models", ModelCard) | optional


def test_an_embedding_has_one_seed_where_the_tasks_head_draws_nothing(demo: Plan) -> None:
    for name in ("sclong", "sclong_random", "pca"):
        assert not demo.models[name].deterministic
        for benchmark in ("grn", "pancreas", "norman"):
            assert demo.rows.seeds_of(benchmark, name) == [3], (name, benchmark)
        assert demo.rows.seeds_of("l1000", name) == [3, 4]
    assert demo.rows.seeds_of("gene_pairs", "sclong") == [3]
    assert demo.rows.seeds_of("deepcdr", "sclong") == [3, 4]
    assert demo.rows.seeds_of("grn", "grn_deepsem_sclong") == [3, 4]  # trained on the embedding, each seed anew
    assert demo.rows.seeds_of("grn", "random_normal") == [3, 4]
    assert demo.rows.seeds_of("grn", "grn_pearson") == [3]
    files = [p for p in demo.rows.predictions("grn") if "/sclong/" in p]
    assert files == ["results/predictions/grn/sclong/seed3.npz"]
    assert set(demo.rows.pictured("pancreas").values()) <= set(demo.rows.predictions("pancreas"))


def test_the_heads_that_draw_nothing_are_those_that_do_not_read_the_seed(root: Path) -> None:
    for name, task in load_tasks().items():
        body = ast.parse(inspect.getsource(task.function("solve")))
        reads = any(isinstance(node, ast.Name) and node.id == "seed" for node in ast.walk(body))
        assert reads == task.head_draws, name


def test_the_answer_to_an_embedding_that_is_drawn_stays_drawn(root: Path, models: dict[str, ModelCard]) -> None:
    card = benchmark_card(root, "l1000")
    assert seeds_of([1, 2], card, models["sclong"]) == [1, 2]


def test_a_set_without_annotation_has_no_row_of_go(root: Path, models: dict[str, ModelCard]) -> None:
    card = benchmark_card(root, "grn_mesc_lofgof_500")
    (spec,) = card.alternatives("paper")
    assert "annotation" not in spec.inputs
    config = load_config({}, root)
    assert why_not(config, card, spec, models["grn_go_graph"]) == "the data set has no annotation"
    assert why_not(config, card, spec, models["grn_pearson"]) is None
    human = benchmark_card(root, "grn")
    assert why_not(config, human, human.alternatives("demo")[0], models["grn_go_graph"]) is None


def test_rows_that_need_counts_are_left_out_where_there_are_none(root: Path, models: dict[str, ModelCard]) -> None:
    card = benchmark_card(root, "pancreas")
    config = load_config({}, root)
    (world,), (scib,) = card.alternatives("demo"), card.alternatives("paper")
    names = ["scvi", *(n for n in models if n.endswith(("_counts", "_cp10k", "_paper_log")))]
    assert len(names) == 7
    for name in names:
        assert why_not(config, card, world, models[name]) is None, name
        assert why_not(config, card, scib, models[name]) == "needs raw counts; the data set has none", name
    assert why_not(config, card, scib, models["sclong"]) is None


def test_a_mouse_set_says_why_rows_of_human_genes_do_not_run(root: Path, models: dict[str, ModelCard]) -> None:
    card = benchmark_card(root, "grn_mesc_lofgof_500")
    (spec,) = card.alternatives("paper")
    config = load_config({"gene2vec": {"vectors": "file:x.txt"}}, root)
    reason = "the genes of the data set are those of a mouse; the model knows human genes"
    for name in ("sclong", "sclong_random", "grn_sclong_inner", "grn_deepsem_sclong", "grn_gene2vec", "gene2vec"):
        assert why_not(config, card, spec, models[name]) == reason, name
    assert "the task needs edge_scores" in str(why_not(config, card, spec, models["gears"]))
    every = [str(why_not(config, card, spec, m)) for m in models.values()]
    assert not any("provides edge_scores;" in reason for reason in every)


def test_what_a_card_asks_of_a_data_set_is_a_role_or_counts(models: dict[str, ModelCard]) -> None:
    spec = DataSpec(dataset="x", inputs={"expression": "file:x"}, split="none")
    asks = models["sclong"].model_copy(update={"needs_inputs": ["expression", "counts", "network"]})
    assert missing_input(spec, asks) == "network"
    assert missing_input(spec.model_copy(update={"options": {"value_kind": "nonnegative"}}), asks) == "counts"
    assert missing_input(spec, models["sclong"]) is None


def test_every_reason_of_the_demo_is_a_sentence_about_that_pair(demo: Plan) -> None:
    for benchmark, model, why in demo.rows.not_applicable():
        assert why and demo.rows.how(benchmark, model) is None and model not in demo.rows.models_of(benchmark)


def test_optional_benchmarks_plan_without_a_network_once_they_are_copied(root: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(root / "config", tmp_path / "config")
    optional = sorted((tmp_path / "config" / "benchmarks" / "optional").glob("*.yaml"))
    assert [p.stem for p in optional] == ["census_integration"]
    for path in optional:
        shutil.copy(path, tmp_path / "config" / "benchmarks")
    settings = {"preset": "small", "offline": True, "results_dir": "results_small"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        without = make_plan({**settings, "benchmarks": ["census_integration"]})
        (tmp_path / "data" / "census" / "soma").mkdir(parents=True)
        plan = make_plan({**settings, "benchmarks": ["census_integration"]})
    assert list(without.blocked) == ["census_integration"] and list(plan.data) == ["census_integration"]
    assert {"pca", "sclong", "combat_pca", "cell_type_one_hot"} <= set(plan.rows.models_of("census_integration"))


def test_a_card_whose_needs_are_not_the_tasks_is_refused(root: Path) -> None:
    card = benchmark_card(root, "norman")
    check_benchmark(card)
    for needs in ([], ["gene_embedding"], ["perturbation_prediction", "cell_embedding"]):
        with pytest.raises(CardError, match="needs"):
            check_benchmark(card.model_copy(update={"needs": needs}))
    with pytest.raises(CardError, match="mse_top20_de_non_dropout"):
        check_benchmark(card.model_copy(update={"primary_metric": "mse_top20_de_non_dropuot"}))


def test_a_misspelt_capability_is_refused_and_one_of_a_task_that_is_not_installed_is_not(
    models: dict[str, ModelCard],
) -> None:
    tasks = list(load_tasks().values())
    card = models["pca"]
    with pytest.raises(CardError, match="write 'cell_embedding'"):
        check_models({"pca": card.model_copy(update={"provides": ["cell_embeding"]})}, tasks)
    check_models({"pca": card.model_copy(update={"provides": ["spoken_language"]})}, tasks)
