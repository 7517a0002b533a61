"""Every verdict: a claim that holds, one that does not, and one that is undecided."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPO

from recloss.analysis import claims
from recloss.experiment import config

TINY = yaml.safe_load((REPO / "tests/config/tiny.yaml").read_text())
NOTHING = pd.DataFrame()


class Experiment:
    """Runs made of per-user values, without training."""

    def __init__(self, folder, **changes):
        self.folder, self.rows = folder, []
        raw = {"datasets": [{"name": "one", "simulate": {}}], "run": "x", "grids": []}
        raw["claims"] = {"min_users": 100} | changes.pop("claims", {})
        self.config = config.load(raw | changes)

    def run(self, loss, value, seeds=3, experiments="main", noise=0.01, users=300, **settings):
        """Add a run per seed in which users have about `value`."""
        for seed in range(seeds):
            path = f"run{len(self.rows)}"
            (self.folder / path).mkdir()
            rng = np.random.default_rng(seed)  # noise shared by models: a paired design
            values = value * (1 + rng.normal(0, noise, users))
            np.savez(self.folder / path / "per_user.npz", **{"recall@20": values})
            row = {"path": path, "experiments": experiments, "dataset": "one", "loss": loss}
            row |= {"seed": seed, "recall@20": values.mean()}
            self.rows.append(row | {f"settings.{k}": v for k, v in settings.items()})

    def judge(self, debiasing=NOTHING, bounds=NOTHING):
        metrics = pd.DataFrame(self.rows) if self.rows else pd.DataFrame(columns=COLUMNS)
        evidence = claims.Evidence(metrics, self.folder, self.config, debiasing, bounds)
        return claims.judge(evidence).set_index("claim")


COLUMNS = ["path", "experiments", "dataset", "loss", "seed", "recall@20"]
TEMPERATURES = {"name": "t", "loss": ["infonce", "mine_plus"], "over": {"temperature": [0.1, 0.2]}}


def with_temperatures(tmp_path, mine_plus, infonce, **options):
    """C1 with a grid: values at temperatures 0.1, of the main table too, and 0.2."""
    experiment = Experiment(tmp_path, grids=[TEMPERATURES])
    for loss, values in (("mine_plus", mine_plus), ("infonce", infonce)):
        for t, value, parts in zip((0.1, 0.2), values, ("main grid:t", "grid:t"), strict=True):
            experiment.run(loss, value, experiments=parts, temperature=t, **options)
    return experiment.judge().loc["C1"]


def test_c1_holds_if_mine_plus_wins_at_equal_and_at_best_temperatures(tmp_path):
    row = with_temperatures(tmp_path, (0.22, 0.2), (0.18, 0.2))
    assert row["verdict"] == "holds"
    assert row["effect"] == pytest.approx(0.22 / 0.18 - 1, rel=0.01)
    assert row["ci_low"] <= row["effect"] <= row["ci_high"]
    assert "each at its best temperature (0.1 and 0.2): +10.0% Recall@20" in row[
        "sentence"
    ].lower().replace("recall", "Recall")


def test_c1_holds_in_part_if_the_gain_vanishes_at_best_temperatures(tmp_path):
    assert with_temperatures(tmp_path, (0.2, 0.2), (0.18, 0.2))["verdict"] == "holds in part"


def test_c1_does_not_hold_if_infonce_is_as_good(tmp_path):
    assert with_temperatures(tmp_path, (0.2, 0.2), (0.2, 0.2))["verdict"] == "does not hold"


def test_c1_is_undecided_if_the_interval_is_wide(tmp_path):
    experiment = Experiment(tmp_path, grids=[TEMPERATURES])
    generator = np.random.default_rng(0)
    for loss in ("mine_plus", "infonce"):
        for t, parts in ((0.1, "main grid:t"), (0.2, "grid:t")):
            experiment.run(loss, 0.2, experiments=parts, temperature=t)
            for row in experiment.rows[-3:]:  # users disagree, models do not
                values = generator.exponential(0.2, 300)
                values *= 0.2 / values.mean()
                np.savez(tmp_path / row["path"] / "per_user.npz", **{"recall@20": values})
    row = experiment.judge().loc["C1"]
    assert row["verdict"] == "not enough runs"
    assert "undecided" in row["sentence"]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"seeds": 2}, "a verdict takes 3 seeds"), ({"users": 50}, "a verdict takes 100 users")],
)
def test_few_seeds_or_users_give_no_verdict(tmp_path, options, said):
    row = with_temperatures(tmp_path, (0.1, 0.1), (0.2, 0.2), **options)
    assert row["verdict"] == "not enough runs"
    assert said in row["sentence"]


GRIDS = [
    {"name": "le", "loss": "infonce_plus", "over": {"lambda": [1.0, 1.1], "eps": [0, 1]}},
    {"name": "l", "loss": "mine_plus", "over": {"lambda": [0.9, 1.1, 1.5]}},
]


@pytest.mark.parametrize(
    ("best_infonce_plus", "best_mine_plus", "verdict"),
    [
        ((1.1, 0), 1.1, "holds"),
        ((1.1, 1), 1.1, "holds in part"),
        ((1.0, 0), 1.1, "holds in part"),
        ((1.0, 1), 1.5, "does not hold"),
    ],
)
def test_c2_asks_where_the_best_point_lies(tmp_path, best_infonce_plus, best_mine_plus, verdict):
    experiment = Experiment(tmp_path, grids=GRIDS)
    for point in ((1.0, 0), (1.0, 1), (1.1, 0), (1.1, 1)):
        settings = {"lambda": point[0], "eps": point[1]}
        value = 0.3 if point == best_infonce_plus else 0.2
        experiment.run("infonce_plus", value, experiments="grid:le", **settings)
    for weight in (0.9, 1.1, 1.5):
        value = 0.3 if weight == best_mine_plus else 0.2
        experiment.run("mine_plus", value, experiments="grid:l", **{"lambda": weight})
    assert experiment.judge().loc["C2", "verdict"] == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.1, 1.1, 1.1), "holds"),
        ((1.1, 1.0, 0.9), "holds in part"),
        ((0.9, 1.0, 1.0), "does not hold"),
    ],
)
def test_c3_compares_every_twin(tmp_path, gains, verdict):
    experiment = Experiment(tmp_path)
    for twin, gain in zip(("ccl", "mse", "infonce"), gains, strict=True):
        experiment.run(twin, 0.2)
        experiment.run(f"debiased_{twin}", 0.2 * gain)
    assert experiment.judge().loc["C3", "verdict"] == verdict


def certificate(model, passed, name="half-step"):
    return {"dataset": "one", "model": model, "certificate": name, "passed": passed} | {
        "claimed": "second form",
        "tau": 0.01,
        "kappa": 1.0,
        "tolerance": 1e-9,
        "value": 1e-12,
        "sentence": "x",
    }


@pytest.mark.parametrize(
    ("passed", "verdict"),
    [
        ({"ials": "True", "ease": "True"}, "holds"),
        ({"ials": "True"}, "holds in part"),
        ({"ials": "True", "ease": "False"}, "holds in part"),
        ({"ials": "False", "ease": "False"}, "does not hold"),
        ({}, "not enough runs"),
    ],
)
def test_c4_asks_the_certificates(tmp_path, passed, verdict):
    rows = pd.DataFrame([certificate(model, text) for model, text in passed.items()])
    row = Experiment(tmp_path).judge(debiasing=rows).loc["C4"]
    assert row["verdict"] == verdict
    assert ("Failed" in row["sentence"]) == ("False" in passed.values())


@pytest.mark.parametrize(
    ("violated", "verdict"), [(0, "holds"), (3, "does not hold"), (None, "not enough runs")]
)
def test_c5_counts_violated_bounds(tmp_path, violated, verdict):
    row = {"dataset": "one", "model": "bpr", "violated": violated, "pairs": 10}
    bounds = NOTHING if violated is None else pd.DataFrame([row])
    assert Experiment(tmp_path).judge(bounds=bounds).loc["C5", "verdict"] == verdict


def test_p_values_are_corrected_over_data_sets(tmp_path):
    both = [{"name": name, "simulate": {}} for name in ("one", "two")]
    experiment = Experiment(tmp_path, datasets=both)
    for loss, value in (("mine_plus", 0.22), ("infonce", 0.2)):
        experiment.run(loss, value)
    single = experiment.judge()
    for row in [dict(row) for row in experiment.rows]:
        experiment.rows.append(row | {"dataset": "two"})
    corrected = experiment.judge()
    p = single.loc["C1", "p_value"].iloc[0]
    assert corrected.loc["C1", "p_value"].tolist() == pytest.approx([2 * p, 2 * p])
