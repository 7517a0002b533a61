"""Two results folders beside each other."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPO, failure

from recloss.__main__ import main
from recloss.analysis import compare

GOWALLA = REPO / "results/published/gowalla"


def runs(values, loss="mine", seeds=None, **more):
    """Rows of metrics.csv of one model, a seed a value."""
    seeds = range(len(values)) if seeds is None else seeds
    row = {"dataset": "d", "backbone": "mf", "loss": loss, "variant": "base"}
    row |= {"data_hash": "a", "protocol": "published", "settings.dim": 64.0} | more
    return pd.DataFrame(
        [
            row
            | {"seed": seed, "path": f"train/d/mf/{loss}/base/seed{seed}"}
            | {"recall@20": value, "ndcg@20": value / 2}
            for seed, value in zip(seeds, values, strict=True)
        ]
    )


def words(ours, theirs):
    table = compare.compare(ours, theirs)
    return table[table["metric"] == "recall@20"].set_index("loss")["word"].to_dict()


NOISY = runs([0.200, 0.202, 0.198], "ccl")  # a deviation of 1 %


def test_within_the_noise_of_seeds_it_agrees_and_beyond_it_has_changed():
    ours = pd.concat([NOISY, runs([0.100, 0.101, 0.099])])
    near = pd.concat([NOISY, runs([0.1010, 0.1012, 0.1002], seeds=[5, 6, 7])])
    far = pd.concat([NOISY, runs([0.110, 0.111, 0.109], seeds=[5, 6, 7])])
    assert words(ours, near) == {"ccl": "the same", "mine": "agrees"}
    assert words(ours, far) == {"ccl": "the same", "mine": "changed"}
    row = compare.compare(ours, far).set_index(["loss", "metric"]).loc[("mine", "recall@20")]
    assert row["difference"] == pytest.approx(-1 / 11)
    assert row["low"] < row["difference"] < row["high"] < 0


def test_the_noise_of_other_models_judges_one_of_a_single_seed():
    ours, theirs = (pd.concat([NOISY, runs([value])]) for value in (0.1, 0.1005))
    assert words(ours, theirs)["mine"] == "agrees"
    assert words(runs([0.1]), runs([0.1005])) == {"mine": "noise unknown"}
    # Another model's noise does not show that this one, whose own is unknown, has changed.
    far = pd.concat([NOISY, runs([0.2])])
    assert words(ours, far)["mine"] == "noise unknown"


def test_without_a_true_difference_a_change_is_seldom_seen():
    rng, seen = np.random.default_rng(0), 0
    for _ in range(200):
        ours, theirs = (
            pd.concat([runs(0.1 * rng.normal(1, 0.01, 3), loss) for loss in ("mine", "ccl", "bpr")])
            for _ in range(2)
        )
        seen += "changed" in words(ours, theirs).values()
    assert seen < 0.08 * 200  # the level is 5 % for all of them together


def test_what_is_not_random_changes_by_any_difference():
    ours, theirs = (pd.concat([NOISY, runs([value], "ease")]) for value in (0.1, 0.10001))
    assert words(ours, theirs)["ease"] == "changed"


def test_other_data_or_another_protocol_are_not_compared():
    ours = pd.concat([NOISY, runs([0.1, 0.1])])
    for other in ({"data_hash": "b"}, {"protocol": "heldout"}):
        assert words(ours, runs([0.1, 0.1], **other))["mine"] == "other data or protocol"


def test_settings_that_differ_are_named():
    table = compare.compare(runs([0.1, 0.2]), runs([0.1, 0.2], **{"settings.dim": 32.0}))
    assert table["settings"].tolist() == ["dimension D 64 (theirs 32)"] * 2


def test_verdicts_that_turned_and_models_of_one_side_are_counted():
    ours, theirs = pd.concat([NOISY, runs([0.1])]), NOISY
    claims = pd.DataFrame({"claim": ["C1", "C2"], "dataset": "d", "backbone": "mf"})
    sides = (claims.assign(verdict=["holds", v]) for v in ("holds", "does not hold"))
    said = compare.said(
        compare.compare(ours, theirs), compare.verdicts(*sides), compare.alone(ours, theirs)
    )
    assert said == [
        "d: of 2 values in both 2 the same.",
        "1 of 2 verdicts differ.",
        "1 models are only in ours, 0 only in theirs.",
    ]


def page_beside(run, other, tmp_path):
    page = tmp_path / "compare.html"
    main(["compare", str(run), "--template", str(REPO / "report"), "--out", str(page), str(other)])
    return page.read_text()


@pytest.mark.parametrize(("name", "undecided"), [("gowalla", False), ("gowalla-tuned", True)])
def test_the_page_of_a_run_beside_itself(tmp_path, name, undecided):
    run = GOWALLA.with_name(name)
    text = page_beside(run, run.parent, tmp_path)  # the folder that has one of its name
    models = len(pd.read_csv(run / "metrics.csv").groupby(["backbone", "loss", "variant"]))
    assert f"Gowalla: of {2 * models} values in both {2 * models} the same." in text
    verdicts = pd.read_csv(run / "tables/claims.csv").groupby("claim")["verdict"].first()
    judged = (verdicts != "not enough runs").sum()
    assert 0 < judged <= 11 and (judged < 11) == undecided
    assert f"0 of {judged} verdicts differ." in text


def test_the_page_of_a_run_beside_another(tmp_path):
    text = page_beside(GOWALLA, GOWALLA.with_name("backbones"), tmp_path)
    assert "6 changed, 6 of these with other settings" in text


def test_a_folder_without_results_is_refused(tmp_path):
    said = failure(compare.folder_of, tmp_path, "gowalla")
    assert "no metrics.csv there" in said and said.endswith("give a results folder")
    said = failure(compare.folder_of, GOWALLA.parent, "yelp")
    names = sorted(file.parent.name for file in GOWALLA.parent.glob("*/metrics.csv"))
    assert "gowalla" in names and said.endswith(f"it has those of {', '.join(names)}")
