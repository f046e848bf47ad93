from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sclong.benchmark.statistics import mean_interval
from sclong.config.cards import BenchmarkCard, DataSpec, PaperNumber
from sclong.report.figures import scores_figure, training_figure
from sclong.report.page import hidden_values
from sclong.report.tables import paper_number, pretraining_effect, primary_table, summarize
from sclong.report.verdict import verdict

SPEC = DataSpec(dataset="toy", inputs={}, split="none", comparable=True)
CARD = BenchmarkCard(
    name="toy",
    title="Toy",
    summary="A toy.",
    task="toy",
    version=1,
    primary_metric="pearson",
    data={"demo": SPEC},
    needs=["response_prediction"],
    paper=[
        PaperNumber(model="scLong", scenario="a", metric="pearson", value=0.6, sd=0.05, mark="preprint", where="fig"),
        PaperNumber(model="scLong", scenario="a", metric="pearson", value=0.61, mark="exact", where="text"),
    ],
)
ROLES = {"random": "floor", "mean": "floor", "truth": "ceiling", "ridge": "classical", "sclong": "model"}


def metrics(values: dict[str, list[float]], metric: str = "pearson", direction: str = "max") -> pd.DataFrame:
    return pd.DataFrame(
        [
            dict(
                benchmark="toy",
                task="toy",
                dataset="toy",
                model=m,
                protocol="strict",
                scenario="a",
                metric=metric,
                direction=direction,
                seed=k,
                value=v,
                unit_of_uncertainty="pairs",
                n=9,
            )
            for m, vs in values.items()
            for k, v in enumerate(vs)
        ]
    )


def test_interval_is_students_t() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.8])
    mean, sd, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected)
    assert (mean, sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert np.isnan(mean_interval(np.array([1.0]))[1:]).all()
    assert np.isnan(mean_interval(np.array([np.nan]))[0])


@pytest.mark.parametrize("direction", ["max", "min"])
def test_floor_ceiling_and_percent(direction: str) -> None:
    sign = 1 if direction == "max" else -1
    table = metrics(
        {"random": [0.0], "mean": [sign * 0.2], "truth": [sign * 1.0], "ridge": [sign * 0.6, sign * 0.6]},
        direction=direction,
    )
    out = summarize(table, {"toy": CARD}, {"toy": SPEC}, ROLES).set_index("model")
    assert out.loc["ridge", "floor"] == pytest.approx(sign * 0.2)
    assert out.loc["ridge", "ceiling"] == pytest.approx(sign * 1.0)
    assert out.loc["ridge", "percent_of_range"] == pytest.approx(50)
    assert list(out.index)[:3] == ["mean", "random", "truth"]


def test_papers_number_prefers_the_text_and_gives_a_verdict() -> None:
    assert paper_number(CARD, "sclong", "a", "pearson").value == 0.61
    out = summarize(metrics({"sclong": [0.612, 0.611], "mean": [0.1]}), {"toy": CARD}, {"toy": SPEC}, ROLES)
    row = out.set_index("model").loc["sclong"]
    assert row["verdict"].startswith("agrees: the interval is within 0.05")
    assert row["delta"] == pytest.approx(0.0015)
    assert out.set_index("model").loc["mean", "verdict"] == ""


NAN = float("nan")


@pytest.mark.parametrize(
    ("own", "protocol", "direction", "expected"),
    [
        # published 0.6 with a standard deviation of 0.05: 0.55 to 0.65 agrees
        ((0.61, 0.58, 0.64), "paper", "max", "agrees: the interval is within 0.05"),
        ((0.61, 0.58, 0.64), "strict", "max", "agrees: the interval is within 0.05 of the published value (strict"),
        ((0.70, 0.68, 0.72), "paper", "max", "differs: better than published, look for a leak first"),
        ((0.70, 0.68, 0.72), "paper", "min", "differs: worse than published"),
        ((0.50, 0.48, 0.52), "paper", "max", "differs: worse than published"),
        ((0.55, 0.03, 1.07), "paper", "max", "cannot tell: the interval is too wide for a margin of 0.05"),
        ((0.64, 0.62, 0.66), "paper", "max", "cannot tell"),
        ((0.62, NAN, NAN), "paper", "max", "agrees: within 0.05 of the published value, by one value"),
        ((0.70, NAN, NAN), "paper", "max", "differs: better than published, look for a leak first, by one value"),
        ((0.62, 0.62, 0.62), "paper", "max", "agrees: within 0.05 of the published value, by one value"),
        ((NAN, NAN, NAN), "paper", "max", "no value"),
    ],
)
def test_truth_table_of_verdicts(own: tuple[float, float, float], protocol: str, direction: str, expected: str) -> None:
    paper = PaperNumber(model="m", scenario="a", metric="pearson", value=0.6, sd=0.05, mark="exact", where="text")
    found = verdict(*own, paper, SPEC, direction, protocol)
    assert found.startswith(expected)
    assert ("strict protocol" in found) == (protocol == "strict")


def test_no_verdict_without_a_number_or_on_other_data() -> None:
    paper = PaperNumber(model="m", scenario="a", metric="pearson", value=0.6, mark="exact", where="text")
    other = DataSpec(dataset="x", inputs={}, split="none", why_not_comparable="simulated data")
    assert verdict(0.9, 0.8, 1.0, None, SPEC, "max", "strict") == ""
    assert verdict(0.61, 0.6, 0.7, paper, other, "max", "strict") == "not comparable: simulated data"


def test_a_value_without_a_spread_takes_that_of_another_publication() -> None:
    """An exact 0.61 and a preprint's 0.6 +- 0.05 are one number: 0.57 is no difference."""
    number = paper_number(CARD, "scLong", "a", "pearson")
    assert (number.value, number.sd) == (0.61, 0.05)


def test_published_numbers_of_models_without_a_row_are_rows() -> None:
    out = summarize(metrics({"ridge": [0.5]}), {"toy": CARD}, {"toy": SPEC}, ROLES)
    (row,) = out[out["role"] == "published"].to_dict("records")
    assert (row["model"], row["paper_value"], row["protocol"]) == ("scLong", 0.61, "paper")
    assert np.isnan(row["mean"]) and row["verdict"].startswith("published; no row of its own")


def test_figures_show_every_model() -> None:
    table = metrics({"mean": [0.1], "truth": [1.0], "sclong": [0.5, 0.6]})
    summary = summarize(table, {"toy": CARD}, {"toy": SPEC}, ROLES)
    svg = scores_figure(summary, table, "toy")
    assert svg.startswith("<svg") and "http://www.w3.org" in svg
    log = pd.DataFrame({"step": [0, 1, 2], "loss": [np.nan, 1.0, 0.9], "held_out_loss": [1.1, np.nan, 0.95]})
    assert training_figure(log).startswith("<svg")
    assert set(primary_table(summary)["model"]) == {"mean", "truth", "sclong"}


def test_rows_of_the_papers_protocol_are_hollow() -> None:
    table = metrics({"mean": [0.1], "sclong": [0.5, 0.6]})
    summary = summarize(table, {"toy": CARD}, {"toy": SPEC}, ROLES)

    def hollow(protocol: str) -> int:
        shown = summary.assign(protocol=[protocol if m == "sclong" else "strict" for m in summary["model"]])
        return scores_figure(shown, table, "toy").count("fill: #ffffff; stroke")

    assert hollow("paper") > hollow("strict")


@pytest.mark.parametrize(
    ("model", "verdict", "warned"),
    [
        (0.1, "better than the gene's mean and the tissue's mean and the low-rank fit", False),
        (0.25, "better than the gene's mean and the tissue's mean", True),
        (0.4, "better than the gene's mean", True),
        (0.9, "better than none of them", True),
    ],
)
def test_hidden_values_stand_beside_three_controls(model, verdict, warned):
    line = {
        "baseline_gene_mean": 0.5,
        "baseline_tissue_mean": 0.3,
        "held_out_gene_correlation": 0.3,
        "baseline_tissue_mean_correlation": 0.1,
        "baseline_low_rank": 0.2,
        "baseline_low_rank_correlation": 0.2,
        "baseline_low_rank_components": 10,
    }
    first = {"step": 0, "held_out_loss": 9.0, "held_out_loss_replaced": 9.0, **line}
    last = {"step": 2, "loss": 1.0, "held_out_loss": model, "held_out_loss_replaced": model, **line}
    log = pd.DataFrame([first, {"step": 1, "loss": 2.0}, last])
    hidden = hidden_values(log)
    assert (hidden["model"], hidden["gene_mean"], hidden["tissue_mean"]) == (model, 0.5, 0.3)
    assert hidden["verdict"] == verdict and bool(hidden["warning"]) == warned
    assert (hidden["low_rank"], hidden["components"]) == (0.2, 10)
    assert hidden_values(log[["step", "loss"]]) is None
    tissue_curve = "stroke: #3b75af"
    assert tissue_curve in training_figure(log)
    assert tissue_curve not in training_figure(log.drop(columns="baseline_tissue_mean"))


@pytest.mark.parametrize(("direction", "verdict"), [("max", "better"), ("min", "worse")])
def test_pretraining_is_compared_with_the_untrained_twin(direction: str, verdict: str) -> None:
    table = metrics({"sclong": [0.6, 0.8], "sclong_seed1": [0.9], "sclong_random": [0.5, 0.5]}, direction=direction)
    (row,) = pretraining_effect(table, "toy", "pearson", ["sclong", "sclong_seed1"], "sclong_random").to_dict("records")
    sign = 1 if direction == "max" else -1
    assert row["differences"] == pytest.approx([sign * 0.2, sign * 0.4])
    assert (row["mean"], row["verdict"]) == (pytest.approx(sign * 0.3), verdict)
    half = stats.t.ppf(0.975, 1) * 0.1
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx((row["mean"] - half, row["mean"] + half))
    table.loc[table["model"] == "sclong_seed1", "value"] = 0.4
    found = pretraining_effect(table, "toy", "pearson", ["sclong", "sclong_seed1"], "sclong_random")
    assert found["verdict"].tolist() == ["unclear"]
    assert pretraining_effect(table, "toy", "pearson", ["sclong"], "none").empty


def test_a_row_without_randomness_has_no_interval() -> None:
    out = summarize(metrics({"ridge": [0.5, 0.5], "mean": [0.1]}), {"toy": CARD}, {"toy": SPEC}, ROLES)
    row = out.set_index("model").loc["ridge"]
    assert row["seeds"] == 2 and np.isnan(row["ci95_low"]) and np.isnan(row["ci95_high"])
