"""The data sets of the demo, one for each task, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_sets import Prepared

from sclong.benchmark.prepare import prepare_dataset
from sclong.benchmark.registry import load_task
from sclong.benchmark.split import make_split
from sclong.plan.plan import make_plan
from sclong.world.simulation import simulate


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    """Task -> the demo's data set of it; about ten seconds for all seven."""
    out = tmp_path_factory.mktemp("demo")
    plan = make_plan({"preset": "demo", "results_dir": str(out / "results"), "data_dir": str(out / "data")})
    simulate(out / "results" / "world", seed=0)
    for dataset, (card, spec) in plan.datasets.items():
        paths = {role: plan.paths.paths(value) for role, value in spec.inputs.items()}
        inputs = {r: Path(p) if isinstance(p, str) else [Path(one) for one in p] for r, p in paths.items()}
        prepare_dataset(card.task, dataset, inputs, spec.options, Path(plan.paths.result("datasets", dataset)))
    found = {}
    for name, spec in plan.data.items():
        card = plan.benchmarks[name]
        dataset = Path(plan.paths.result("datasets", spec.dataset))
        split = Path(plan.paths.result("splits", f"{name}.tsv"))
        make_split(card.task, dataset, spec.split, spec.split_options, card.split_seed, split)
        found[card.task] = Prepared(load_task(card.task), dataset, split)
    return found
