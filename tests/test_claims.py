"""Every verdict: a claim that holds, one that does not, and one that is undecided."""

import numpy as np
import pandas as pd
import pytest

from recloss.analysis import claims, verdicts
from recloss.analysis.stats import Comparison
from recloss.experiment import config

NOTHING = pd.DataFrame()
COLUMNS = ["path", "experiments", "dataset", "backbone", "loss", "seed", "recall@20", "ndcg@20"]


class Experiment:
    """Runs made of per-user values, without training."""

    def __init__(self, folder, name="one", **changes):
        self.folder, self.name, self.rows = folder, name, []
        dataset = {"name": name} | ({} if name == "gowalla" else {"simulate": {}})
        raw = {"datasets": [dataset], "run": "x", "grids": []}
        raw["claims"] = {"min_users": 100} | changes.pop("claims", {})
        self.config = config.load(raw | changes)

    def run(
        self,
        loss,
        value,
        seeds=3,
        experiments="main",
        noise=0.01,
        users=300,
        backbone="mf",
        **settings,
    ):
        """Add a run per seed in which users have about `value`, in NDCG@20 half of it."""
        for seed in range(seeds):
            path = f"run{len(self.rows)}"
            (self.folder / path).mkdir()
            rng = np.random.default_rng(seed)  # noise shared by models: a paired design
            values = value * (1 + rng.normal(0, noise, users))
            kept = {"recall@20": values, "ndcg@20": values / 2}
            np.savez(self.folder / path / "per_user.npz", **kept)
            row = {"path": path, "experiments": experiments, "dataset": self.name, "loss": loss}
            row |= {"seed": seed, "backbone": backbone, "n_test_users": users}
            row |= {"protocol": self.config["protocol"]} | {
                metric: v.mean() for metric, v in kept.items()
            }
            self.rows.append(row | {f"settings.{k}": v for k, v in settings.items()})

    def grid(self, loss, key, values, **options):
        """Add a grid's runs, {setting: value of the metric}, to those of the grid `g`."""
        for setting, value in values.items():
            self.run(loss, value, experiments="grid:g", **options | {key: setting})

    def evidence(self, debiasing=NOTHING, bounds=NOTHING):
        metrics = pd.DataFrame(self.rows) if self.rows else pd.DataFrame(columns=COLUMNS)
        return verdicts.Evidence(metrics, self.folder, self.config, debiasing, bounds)

    def judge(self, claim, debiasing=NOTHING, bounds=NOTHING):
        """Return the claim's verdict and its rows, by part and metric."""
        table = claims.judge(self.evidence(debiasing, bounds))
        rows = table[table["claim"] == claim]
        own = rows[rows["dataset"] == self.name]
        assert own["verdict"].nunique() == 1
        return own["verdict"].iloc[0], rows.reset_index(drop=True)


def grid(loss, key, values):
    return {"name": "g", "loss": loss, "backbones": ["mf"], "over": {key: list(values)}}


TEMPERATURES = grid(["infonce", "mine_plus"], "temperature", [0.1, 0.2, 0.3])


def with_temperatures(tmp_path, mine_plus, infonce, **options):
    """C1 with a grid: values at temperatures 0.1, of the main table too, 0.2 and, 0.1, at 0.3."""
    experiment = Experiment(tmp_path, grids=[TEMPERATURES])
    for loss, values in (("mine_plus", mine_plus), ("infonce", infonce)):
        for t, value in zip((0.1, 0.2, 0.3), (*values, 0.1), strict=True):
            parts = "main grid:g" if t == 0.1 else "grid:g"
            experiment.run(loss, value, experiments=parts, temperature=t, **options)
    return experiment.judge("C1")


def test_c1_holds_if_mine_plus_wins_at_equal_and_at_best_temperatures(tmp_path):
    verdict, rows = with_temperatures(tmp_path, (0.22, 0.2), (0.18, 0.2))
    assert verdict == "holds"
    assert list(rows["metric"]) == ["recall@20", "ndcg@20"] * 2
    first = rows.iloc[0]
    assert first["effect"] == pytest.approx(0.22 / 0.18 - 1, rel=0.01)
    assert first["ci_low"] <= first["effect"] <= first["ci_high"]
    assert rows["sentence"][2].startswith(
        "Each at its best temperature, 0.1 (the smallest tried) and 0.2: +10.0% Recall@20"
    )


def test_c1_holds_in_part_if_the_gain_vanishes_at_best_temperatures(tmp_path):
    assert with_temperatures(tmp_path, (0.2, 0.2), (0.18, 0.2))[0] == "holds in part"


def test_c1_does_not_hold_if_infonce_is_as_good(tmp_path):
    assert with_temperatures(tmp_path, (0.2, 0.2), (0.2, 0.2))[0] == "does not hold"


def test_a_claim_of_which_a_part_has_no_runs_holds_so_far_and_names_it(tmp_path):
    experiment = Experiment(tmp_path)
    experiment.run("mine_plus", 0.22)
    experiment.run("infonce", 0.2)
    verdict, rows = experiment.judge("C1")
    assert verdict == "holds so far"
    assert list(rows["part_verdict"]) == ["holds"] * 2 + ["not enough runs"] * 2
    assert rows["sentence"][2] == "Each at its best temperature: no runs."


def test_tuned_temperatures_are_the_best_ones_of_c1(tmp_path):
    experiment = Experiment(tmp_path)
    experiment.run("mine_plus", 0.22)
    experiment.run("infonce", 0.2)
    found = {loss: {"settings": {"temperature": 0.1}} for loss in ("mine_plus", "infonce")}
    experiment.config["tuned"]["datasets"] = {experiment.name: found}
    verdict, rows = experiment.judge("C1")
    assert verdict == "holds"
    assert len(rows) == 2
    del found["infonce"]["settings"]["temperature"]
    assert experiment.judge("C1")[0] == "holds so far"


def test_c1_is_undecided_if_the_interval_is_wide(tmp_path):
    experiment = Experiment(tmp_path)
    generator = np.random.default_rng(0)
    for loss in ("mine_plus", "infonce"):
        experiment.run(loss, 0.2)
        for row in experiment.rows[-3:]:  # users disagree, models do not
            values = generator.exponential(0.2, 300)
            values *= 0.2 / values.mean()
            kept = {"recall@20": values, "ndcg@20": values}
            np.savez(tmp_path / row["path"] / "per_user.npz", **kept)
    verdict, rows = experiment.judge("C1")
    assert verdict == "not enough runs"
    assert rows["sentence"][0].endswith("; undecided.")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"seeds": 2}, "a verdict takes 3 seeds"), ({"users": 50}, "a verdict takes 100 users")],
)
def test_few_seeds_or_users_give_no_verdict(tmp_path, options, said):
    verdict, rows = with_temperatures(tmp_path, (0.1, 0.1), (0.2, 0.2), **options)
    assert verdict == "not enough runs"
    assert said in rows["sentence"][0]


@pytest.mark.parametrize(
    ("claim", "one", "other", "printed"),
    [
        ("C1", "mine_plus", "infonce", 0.1853 / 0.1645 - 1),
        ("C2", "mine", "infonce", 0.1693 / 0.1645 - 1),
        ("C5", "debiased_ccl", "ccl", 0.1842 / 0.1817 - 1),
    ],
)
@pytest.mark.parametrize(("times", "size"), [(1, "as printed"), (0.5, "smaller"), (2, "larger")])
def test_the_printed_effect_is_put_beside_ours(tmp_path, claim, one, other, printed, times, size):
    """`smaller` and `larger` say how our effect lies to the printed one."""
    experiment = Experiment(tmp_path, "gowalla")
    experiment.run(other, 0.2, noise=0)
    experiment.run(one, 0.2 * (1 + times * printed), noise=1e-6)
    row = experiment.judge(claim)[1].iloc[0]
    assert row["printed"] == pytest.approx(printed)
    assert row["size"] == size or (times == 1 and abs(row["effect"] - printed) < 1e-5)
    assert f"printed {printed:+.1%}" in row["sentence"]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 2, "as printed"), (2, 3, "larger"), (-1, 0, "smaller")]
)
def test_size_says_how_ours_lies_to_the_printed_effect(low, high, expected):
    comparison = Comparison((low + high) / 2, low, high, 0.01, 3, 300)
    assert verdicts.size(verdicts.Part("x", "recall@20", comparison, printed=1.0)) == expected


@pytest.mark.parametrize(
    ("claim", "loss", "key", "values", "verdict"),
    [
        ("C3", "infonce_plus", "eps", {0: 0.3, 0.5: 0.2, 1: 0.1}, "holds"),
        ("C3", "infonce_plus", "eps", {0: 0.2, 0.5: 0.3, 1: 0.1}, "does not hold"),
        ("C4", "mine_plus", "lambda", {0.9: 0.2, 1.1: 0.25, 1.2: 0.3, 1.3: 0.2}, "holds"),
        ("C4", "mine_plus", "lambda", {0.9: 0.2, 1.1: 0.25, 1.2: 0.3, 1.3: 0.4}, "does not hold"),
        ("C7", "debiased_infonce", "lambda_n", {50: 0.2, 200: 0.3, 800: 0.1}, "holds"),
        ("C7", "debiased_infonce", "lambda_n", {50: 0.1, 200: 0.2, 800: 0.3}, "holds in part"),
        (
            *("C7", "debiased_infonce", "lambda_n"),
            *({50: 0.1, 90: 0.2, 200: 0.15, 400: 0.3, 800: 0.1}, "holds in part"),
        ),
        (
            *("C7", "debiased_infonce", "lambda_n"),
            *({50: 0.1, 90: 0.2, 200: 0.199, 400: 0.3, 800: 0.1}, "holds"),
        ),
        ("C7", "debiased_infonce", "lambda_n", {200: 0.2}, "not enough runs"),
    ],
)
def test_claims_on_where_a_grid_is_best(tmp_path, claim, loss, key, values, verdict):
    experiment = Experiment(tmp_path, grids=[grid(loss, key, values)])
    experiment.grid(loss, key, values)
    assert experiment.judge(claim)[0] == verdict


@pytest.mark.parametrize(
    ("of_negatives", "of_positives", "verdict"),
    [
        ({10: 0.1, 800: 0.2}, {1: 0.2, 50: 0.201}, "holds"),
        ({10: 0.2, 800: 0.2}, {1: 0.2, 50: 0.201}, "holds in part"),
        ({10: 0.1, 800: 0.2}, {1: 0.2, 50: 0.3}, "holds in part"),
    ],
)
def test_c6_asks_for_gains_by_negatives_and_for_little_by_positives(
    tmp_path, of_negatives, of_positives, verdict
):
    both = ["debiased_ccl", "debiased_infonce"]
    grids = [grid(both, "negatives", of_negatives), grid(both, "extra_positives", of_positives)]
    experiment = Experiment(tmp_path, "gowalla", grids=[grids[0], grids[1] | {"name": "m"}])
    for loss in both:
        experiment.grid(loss, "negatives", of_negatives)
        for m, value in of_positives.items():
            experiment.run(loss, value, experiments="grid:m", extra_positives=m)
    found, rows = experiment.judge("C6")
    assert found == verdict
    # Figure 2: .184 at 800 over .138 at 10.
    assert rows["printed"][0] == pytest.approx(0.184 / 0.138 - 1)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [((1.1, 1.1), "holds"), ((1.1, 1.0), "holds in part"), ((0.9, 1.0), "does not hold")],
)
def test_c5_compares_both_twins(tmp_path, gains, verdict):
    experiment = Experiment(tmp_path)
    for twin, gain in zip(("ccl", "infonce"), gains, strict=True):
        experiment.run(twin, 0.2)
        experiment.run(f"debiased_{twin}", 0.2 * gain)
    assert experiment.judge("C5")[0] == verdict


def shown_at_random(gains, seeds=3, users=300, name="one"):
    """Rows of shown.csv with planted gains of debiased CCL and InfoNCE over their twins."""
    rows = []
    for twin, gain in zip(("ccl", "infonce"), gains, strict=True):
        for loss, value in ((twin, 0.5), (f"debiased_{twin}", 0.5 * gain)):
            for seed in range(seeds):
                values = value * (1 + np.random.default_rng(seed).normal(0, 0.01, users))
                frame = pd.DataFrame({"user": range(users), "auc": values, "ndcg@5": values})
                rows.append(frame.assign(dataset=name, backbone="mf", loss=loss, seed=seed))
    return pd.concat(rows)


@pytest.mark.parametrize(
    ("on_test", "on_shown", "verdict"),
    [
        ((1.1, 1.1), (1.1, 1.1), "holds"),
        ((1.1, 1.1), (0.9, 0.9), "holds in part"),
        ((0.9, 0.9), (1.1, 1.0), "holds in part"),
        ((0.9, 0.9), (0.9, 1.0), "does not hold"),
        (None, (1.1, 1.1), "holds so far"),
        (None, (0.9, 0.9), "does not hold so far"),
    ],
)
def test_c5_asks_the_items_shown_at_random_too(tmp_path, on_test, on_shown, verdict):
    experiment = Experiment(tmp_path)
    for twin, gain in zip(("ccl", "infonce"), on_test or (), strict=on_test is not None):
        experiment.run(twin, 0.2)
        experiment.run(f"debiased_{twin}", 0.2 * gain)
    table = claims.judge(experiment.evidence()._replace(shown=shown_at_random(on_shown)))
    rows = table[table["claim"] == "C5"].reset_index(drop=True)
    assert set(rows["verdict"]) == {verdict}
    assert rows["metric"].tolist() == ["recall@20", "ndcg@20"] * 2 + ["auc", "ndcg@5"] * 2
    assert rows["effect"][4] == pytest.approx(on_shown[0] - 1)
    assert rows["sentence"][4].startswith(
        f"Debiased CCL over CCL, on the items shown at random: {on_shown[0] - 1:+.1%} AUC"
    )


def test_few_users_who_were_shown_items_give_no_verdict(tmp_path):
    evidence = Experiment(tmp_path).evidence()
    few = claims.judge(evidence._replace(shown=shown_at_random((0.5, 0.5), users=50)))
    assert set(few.loc[few["claim"] == "C5", "verdict"]) == {"not enough runs"}


def compared_alone(experiment, shown):
    """Return the p-value of each part of C5 where it is judged on data set two alone."""
    config = experiment.config | {"datasets": experiment.config["datasets"][1:2]}
    evidence = experiment.evidence()._replace(shown=shown, config=config)
    table = claims.judge(evidence)
    return table[table["claim"] == "C5"].set_index(["part", "metric"])["p_value"]


def test_parts_that_not_every_data_set_has_are_corrected_over_those_that_have_them(tmp_path):
    names = ("one", "two", "three")
    datasets = [{"name": name, "simulate": {}} for name in names]
    experiment = Experiment(tmp_path, datasets=datasets)
    for twin in ("ccl", "infonce"):
        for loss, value in ((twin, 0.2), (f"debiased_{twin}", 0.22)):
            experiment.run(loss, value)
    for row in [dict(row) for row in experiment.rows]:
        experiment.rows += [row | {"dataset": name} for name in ("two", "three")]
    shown = pd.concat([shown_at_random((1.1, 1.1), name=name) for name in ("two", "three")])
    table = claims.judge(experiment.evidence()._replace(shown=shown))
    rows = table[table["claim"] == "C5"]
    assert rows.groupby("dataset").size().to_dict() == {"one": 4, "two": 8, "three": 8}
    of_shown = rows["metric"].isin(("auc", "ndcg@5"))
    alone = compared_alone(experiment, shown)
    for (part, metric), those in rows.groupby(["part", "metric"]):
        times = 2 if "at random" in part else 3
        assert those["p_value"].tolist() == pytest.approx([times * alone[part, metric]] * times)
    assert of_shown.sum() == 8


def test_another_backbone_is_not_judged_by_the_shown_items_of_the_first(tmp_path):
    evidence = Experiment(tmp_path, backbones=["mf", "lightgcn"]).evidence()
    table = claims.judge(evidence._replace(shown=shown_at_random((1.1, 1.1))))
    rows = table[table["claim"] == "C5"].groupby("backbone").size()
    assert rows.to_dict() == {"lightgcn": 4, "mf": 8}


@pytest.mark.parametrize(
    ("gain", "verdict"), [(1.005, "holds"), (0.8, "holds"), (1.1, "does not hold")]
)
def test_c11_asks_for_a_small_gain(tmp_path, gain, verdict):
    experiment = Experiment(tmp_path)
    experiment.run("mse", 0.2)
    experiment.run("debiased_mse", 0.2 * gain)
    found, rows = experiment.judge("C11")
    assert found == verdict
    assert rows["sentence"].str.endswith("; no gain, but a loss.").all() == (gain < 1)


def test_a_grid_at_other_settings_or_on_other_data_does_not_speak_for_a_claim(tmp_path):
    where = {"loss": "mine_plus", "over": {"lambda": [1, 1.2]}}
    grids = [
        {"name": "batch", "settings": {"negatives_from": "batch"}} | where,
        {"name": "elsewhere", "datasets": ["two"]} | where,
        {"name": "g"} | where,
    ]
    datasets = [{"name": name, "simulate": {}} for name in ("one", "two")]
    experiment = Experiment(tmp_path, grids=grids, datasets=datasets)
    for value, gain in ((1, 0.2), (1.2, 0.3)):
        settings = {"lambda": value}
        for grid, factor in (("batch", 1 / gain), ("elsewhere", 1 / gain), ("g", 1)):
            experiment.run("mine_plus", gain * factor, experiments=f"grid:{grid}", **settings)
    table = claims.judge(experiment.evidence())
    rows = table[(table["claim"] == "C4") & (table["dataset"] == "one")]
    assert rows["effect"].tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_over_a_mean_of_0_nothing_is_said(tmp_path):
    experiment = Experiment(tmp_path)
    experiment.run("infonce", 0.0)
    experiment.run("mine", 0.2)
    found, rows = experiment.judge("C2")
    assert found == "not enough runs"
    assert rows["sentence"][0] == "MINE over InfoNCE: no ratio to a mean of 0."


@pytest.mark.parametrize(
    ("recall", "rank", "verdict"), [(0.35, 1, "holds"), (0.1, 11, "does not hold")]
)
def test_c10_ranks_ours_among_the_models_of_table_1(tmp_path, recall, rank, verdict):
    experiment = Experiment(tmp_path, "gowalla")
    experiment.run("mine_plus", recall)
    experiment.run("debiased_ccl", recall / 2)
    found, rows = experiment.judge("C10")
    assert found == verdict
    assert f"would be number {rank} and" in rows["sentence"][0]


def test_c10_takes_seeds_enough_and_the_protocol_of_the_printed_numbers(tmp_path):
    for protocol, seeds, why in (
        ("published", 2, "A verdict takes 3 seeds."),
        ("heldout", 3, "Runs under heldout do not compare with the printed ones."),
    ):
        (tmp_path / protocol).mkdir()
        experiment = Experiment(tmp_path / protocol, "gowalla", protocol=protocol)
        experiment.run("mine_plus", 0.3, seeds=seeds)
        experiment.run("debiased_ccl", 0.2, seeds=seeds)
        found, rows = experiment.judge("C10")
        assert (found, set(rows["sentence"])) == ("not enough runs", {why})


def test_c10_has_nothing_to_compare_with_on_other_data(tmp_path):
    assert Experiment(tmp_path).judge("C10")[0] == "not enough runs"


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
        ({"ials": "True"}, "holds so far"),
        ({"ials": "True", "ease": "False"}, "holds in part"),
        ({"ials": "False", "ease": "False"}, "does not hold"),
        ({}, "not enough runs"),
    ],
)
def test_c8_asks_the_certificates(tmp_path, passed, verdict):
    rows = pd.DataFrame([certificate(model, text) for model, text in passed.items()])
    found, table = Experiment(tmp_path).judge("C8", debiasing=rows)
    assert found == verdict
    assert ("EASE fails: half-step." in set(table["sentence"])) == (passed.get("ease") == "False")


def test_c8_names_what_fails_as_printed_and_what_is_right(tmp_path):
    rows = [certificate(model, "True") for model in ("ials", "ease")]
    name = "Theorem 2, Eq. 28: objective"
    rows.append(certificate("ease", "False", name) | {"claimed": "printed", "value": 0.25})
    rows.append(certificate("ease", "True", name) | {"claimed": "corrected"})
    found, table = Experiment(tmp_path).judge("C8", debiasing=pd.DataFrame(rows))
    assert found == "holds"
    assert table["sentence"][1] == (
        "EASE: 2 checks pass. Theorem 2, Eq. 28 fails as printed (by 0.25); right is "
        "α = (c − 1) / c."
    )


def bound(loss, equation, claimed, violated):
    row = {"dataset": "one", "model": "bpr", "equation": equation, "side": "lower"}
    row |= {"inequality": loss, "claimed": claimed, "pairs": 10, "negatives": 4}
    row |= {"violated": violated, "smallest slack": 0.1, "mean loss": 2.0, "mean bound": 1.0}
    return row | {"mean gap": 1.0, "above Eq. 11": 9 if claimed and equation == 12 else None}


@pytest.mark.parametrize(
    ("shared", "by_bpr", "verdict"),
    [(0, 3, "holds"), (2, 3, "does not hold"), (0, 0, "holds in part")],
)
def test_c9_asks_which_losses_obey_which_bounds(tmp_path, shared, by_bpr, verdict):
    """`shared` pairs of InfoNCE violate Eq. 12, which it should obey, `by_bpr` of BPR's."""
    rows = [bound(loss, 11, True, 0) for loss in ("infonce", "mine", "bpr")]
    rows += [bound("infonce", 12, True, shared), bound("mine", 12, True, 0)]
    rows += [bound("bpr", 12, False, by_bpr)]
    found, table = Experiment(tmp_path).judge("C9", bounds=pd.DataFrame(rows))
    assert found == verdict
    assert "InfoNCE obeys Eq. 11" in table["sentence"][0]
    assert ("BPR violates Eq. 12 at 3" in table["sentence"][0]) == (by_bpr == 3)


def test_c9_without_bounds_is_undecided(tmp_path):
    assert Experiment(tmp_path).judge("C9")[0] == "not enough runs"


def test_p_values_are_corrected_over_data_sets(tmp_path):
    both = [{"name": name, "simulate": {}} for name in ("one", "two")]
    experiment = Experiment(tmp_path, datasets=both)
    for loss, value in (("mine_plus", 0.22), ("infonce", 0.2)):
        experiment.run(loss, value)
    p = experiment.judge("C1")[1].query("dataset == 'one'")["p_value"].iloc[0]
    for row in [dict(row) for row in experiment.rows]:
        experiment.rows.append(row | {"dataset": "two"})
    rows = experiment.judge("C1")[1]
    corrected = rows[(rows["metric"] == "recall@20") & rows["p_value"].notna()]["p_value"]
    assert corrected.tolist() == pytest.approx([2 * p, 2 * p])


def test_a_backbone_is_judged_by_its_own_runs_and_without_the_printed_effect(tmp_path):
    experiment = Experiment(tmp_path, backbones=["mf", "lightgcn"])
    for backbone, gain in (("mf", 0.02), ("lightgcn", -0.02)):
        experiment.run("infonce", 0.2, backbone=backbone)
        experiment.run("mine_plus", 0.2 + gain, backbone=backbone)
    rows = claims.judge(experiment.evidence()).query("claim == 'C1' and metric == 'recall@20'")
    first = rows.groupby("backbone").first()
    assert first["effect"].to_dict() == pytest.approx({"mf": 0.1, "lightgcn": -0.1}, abs=0.001)
    assert first["verdict"].to_dict() == {"mf": "holds so far", "lightgcn": "does not hold so far"}
    assert first["printed"].isna().all()  # a data set that the paper does not have


def test_every_claim_has_a_test_and_a_place_in_the_report():
    assert set(claims.CLAIMS) == {f"C{n}" for n in range(1, 12)}
    assert set(claims.CLAIMS) == set(claims.COMPARED) | set(claims.OTHERS)
