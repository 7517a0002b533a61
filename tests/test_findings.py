"""The tables of what was found, in pages."""

import pandas as pd
import pytest
import yaml

from recloss.files import ReclossError
from recloss.report import findings


@pytest.fixture
def published(tmp_path):
    """A published run of one data set, with every table that a page may have."""
    folder = tmp_path / "tables"
    folder.mkdir()
    claim = {"dataset": "gowalla", "backbone": "mf", "verdict": "holds so far", "claim": "C1"}
    parts = [
        ("recall@20", 0.1234, 0.1264),
        ("ndcg@20", -0.05, None),
        ("recall@20", 9, None),  # of another part
    ]
    rows = [claim | {"metric": m, "effect": e, "printed": p} for m, e, p in parts]
    rows.append(claim | {"claim": "C8", "verdict": "holds"})
    pd.DataFrame(rows).to_csv(folder / "claims.csv", index=False)
    cell = {"recall@20": 0.1645, "ndcg@20": 0.1343, "dataset": "gowalla"}
    ours = {"ours recall@20": 0.1631, "ours ndcg@20": 0.1282}
    ours |= {"recall@20 difference": -0.0085, "ndcg@20 difference": -0.045}
    rows = [cell | ours | {"model": "infonce", "seeds": 3}, cell | {"model": "mine", "seeds": 0}]
    pd.DataFrame(rows).to_csv(folder / "paper.csv", index=False)
    rows = [
        cell | {"loss": "ease", "backbone": "linear", "seeds": 1},
        cell | {"loss": "ccl", "backbone": "lightgcn", "recall@20": 0.2, "seeds": 3},
    ]
    pd.DataFrame(rows).to_csv(folder / "main.csv", index=False)
    reading = {"loss": "mine_plus", "reading": "cosine_over_t", "ratio": 0.8}
    reading |= {"printed recall@20": 0.1853, "printed ndcg@20": 0.157, "printed ratio": 0.847}
    pd.DataFrame([cell | reading | {"distance": 0.25}]).to_csv(folder / "readings.csv", index=False)
    found = {"dataset": "gowalla", "model": "mine_plus", "settings": "temperature 0.1"}
    found |= {"trials": 9, "completed": 2, "untuned": 0.17, "best": 0.18, "gain": 0.0588}
    pd.DataFrame([found | {"median": 0.15, "worst": 0.01}]).to_csv(
        folder / "tuning.csv", index=False
    )
    return tmp_path


def test_claims_show_the_first_part_beside_the_printed_effect(published):
    lines = findings.claims(published).splitlines()
    assert lines[2] == (
        "| C1 MINE+ beats InfoNCE, by up to 16 % | Gowalla | holds so far | +12.3 % (+12.6 %) "
        "| −5.0 % |"
    )
    assert lines[3].endswith("| Gowalla | holds |  |  |")


def test_the_verdicts_of_several_runs_stand_side_by_side(published):
    tuned = {"datasets": {"gowalla": {"mine": {"settings": {"temperature": 0.1}}}}}
    config = {"protocol": "heldout", "tuned": tuned}
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    other = published.parent / "other"
    (other / "tables").mkdir(parents=True)
    (other / "config.yaml").write_text("{protocol: published, tuned: {datasets: {}}}")
    row = {"claim": "C8", "dataset": "yelp2018", "backbone": "mf", "verdict": "does not hold"}
    row |= {"metric": "recall@20", "effect": -0.25, "printed": None}
    pd.DataFrame([row]).to_csv(other / "tables/claims.csv", index=False)
    page = f"<!-- findings: {published.name},other verdicts -->\n<!-- end -->\n"
    lines = findings.write(page, published.parent).splitlines()
    assert lines[2] == "| claim | Gowalla, heldout, tuned | Yelp2018, published |"
    assert lines[4].endswith("by up to 16 % | holds so far, +12.3 % (+12.6 %) |  |")
    assert lines[5].startswith("| C8 ")
    assert lines[5].endswith(" | holds | does not hold, −25.0 % |")
    assert len(lines) == 8


def test_a_tuning_shows_what_it_gained(published):
    lines = findings.tuning(published).splitlines()
    assert lines[2] == (
        "| Gowalla | MINE+ | temperature 0.1 | .1700 | .1800 | .1500 | .0100 | +5.9 % | 9 (2) |"
    )


def test_the_papers_table_has_what_was_run(published):
    lines = findings.paper(published).splitlines()
    assert len(lines) == 3
    assert lines[2] == (
        "| Gowalla | InfoNCE | .1645 | .1631 | −0.9 % | .1343 | .1282 | −4.5 % | 3 |"
    )


def test_models_come_best_first_and_readings_with_their_distance(published):
    lines = findings.models(published).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["CCL on LightGCN", "EASE"]
    line = findings.readings(published).splitlines()[2]
    assert "| MINE+ | cosine over t | .1645 (.1853) |" in line
    assert line.endswith("| 0.800 (0.847) | 25.0% |")


def test_a_page_keeps_what_stands_outside_its_marks(published):
    mark = f"<!-- findings: {published.name} models -->"
    page = f"# Title\n\n{mark}\nold\n<!-- end -->\n\nEnd.\n"
    text = findings.write(page, published.parent)
    assert text == page.replace("old", f"\n{findings.models(published)}")
    assert findings.write(text, published.parent) == text
    with pytest.raises(ReclossError, match="no findings 'modles'; known: claims, paper"):
        findings.write(page.replace("models", "modles"), published.parent)


def test_a_grid_has_a_column_for_each_value_and_a_row_for_each_model(published):
    model = {
        "dataset": "gowalla",
        "backbone": "mf",
        "loss": "mine_plus",
        "variant": "x",
        "seeds": 1,
    }
    model |= {"ndcg@20": 0.1, "recall@50": 0.3, "ndcg@50": 0.2}
    values = [(1.2, 0.5, 0.18), (0.9, 0.5, 0.19), (0.9, 0.5, 0.17), (1.2, 1.0, 0.2)]
    rows = [
        model | {"lambda": x, "negative_exponent": beta, "recall@20": value}
        for x, beta, value in values
    ]
    pd.DataFrame(rows).to_csv(published / "tables/grid_lambda.csv", index=False)
    page = f"<!-- findings: {published.name} grid_lambda -->\n<!-- end -->\n"
    lines = findings.write(page, published.parent).splitlines()
    assert lines[2] == "| data set | model | negative exponent | λ 0.9 | λ 1.2 |"
    assert lines[4] == "| Gowalla | MINE+ | 0.5 | **.1800** | **.1800** |"
    assert lines[5] == "| Gowalla | MINE+ | 1.0 |  | **.2000** |"


def test_models_judged_by_shown_items_stand_beside_their_twins(published):
    row = {"loss": "ccl", "backbone": "mf", "validation recall@20": 0.39, "seeds": 2}
    for metric, value in (("auc", 0.64), ("ndcg@5", 0.45)):
        row |= {metric: value, f"{metric} sd": 0.0082}
        row |= {f"{metric} {x}": None for x in ("gain", "low", "high")}
    better = row | {"loss": "debiased_ccl", "auc": 0.65, "auc gain": 0.0156}
    better |= {"auc low": -0.001, "auc high": 0.031}
    pd.DataFrame([row, better]).to_csv(published / "tables/shown.csv", index=False)
    lines = findings.shown(published).splitlines()
    assert lines[0].startswith("| model | AUC | over its twin | NDCG@5 | over its twin | Recall@20")
    assert lines[2].startswith("| debiased CCL | .6500 ± .0082 | +1.6 % (−0.1 % to +3.1 %) | .4500")
    assert lines[3] == "| CCL | .6400 ± .0082 |  | .4500 ± .0082 |  | .3900 |"


def test_the_truth_has_a_row_for_each_data_set_and_what_debiasing_gains(published):
    pd.DataFrame(
        [
            ("skew0", "ccl", 0.2, 0.1),
            ("skew0", "debiased_ccl", 0.21, 0.05),
            ("skew0", "ials", 0.3, 0.04),
        ],
        columns=["dataset", "model", "true ndcg@20", "observed ndcg@20"],
    ).to_csv(published / "tables" / "truth.csv", index=False)
    assert findings.truth(published).splitlines() == [
        "| data set | CCL | debiased CCL | iALS |",
        "| --- | --- | --- | --- |",
        "| skew0 | .2000 | .2100 (+5.0 %) | **.3000** |",
    ]
    page = "<!-- findings: run observed -->\n<!-- end -->"
    published.rename(published.parent / "run")
    row = "| skew0 | **.1000** | .0500 (−50.0 %) | .0400 |"
    assert row in findings.write(page, published.parent)


def test_an_optimum_has_the_best_value_at_every_level_by_every_judge(published):
    row = {"cause": "skew", "setting": "lambda"}
    rows = [
        row | {"level": 0, "judged by": "validation", "best": 1, "low": 0.9, "high": 1.1},
        row | {"level": 0.5, "judged by": "validation", "best": 1.25, "low": 1.25, "high": 1.25},
        row | {"level": 0, "judged by": "truth", "best": 0.5, "low": 0.25, "high": 1},
        row | {"level": 0.5, "judged by": "truth", "best": 0.75},  # of a single seed
    ]
    pd.DataFrame(rows).to_csv(published / "tables/optimum.csv", index=False)
    head, _, line = findings.optimum(published).splitlines()
    assert head == "| cause | levels | best λ by validation | best λ by truth |"
    assert line == (
        "| skew | 0; 0.5 | **1** (0.9 to 1.1); **1.25** | **0.5** (0.25 to 1); **0.75** |"
    )
