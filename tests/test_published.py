"""Published numbers beside ours."""

import pandas as pd
import pytest
import yaml
from conftest import REPO

from recloss.analysis import reproduction
from recloss.analysis.names import name_of
from recloss.data import sources
from recloss.experiment import config, published
from recloss.experiment.runs import every_run, reproduction_runs
from recloss.experiment.schema import model_schema
from recloss.report import tables
from recloss.report.items import items

PAPER, PEERS = (
    yaml.safe_load((REPO / path).read_text()) for path in ("config.yaml", "config/peers.yaml")
)
PEERS = config.load(PAPER | PEERS)


def metrics(**changes):
    """A row of metrics.csv per run of config/peers.yaml, with a metric of 0.17."""
    rows = []
    for run in every_run(PEERS):
        settings = {f"settings.{key}": value for key, value in (run.settings | changes).items()}
        row = {"dataset": run.dataset, "loss": run.loss, "path": run.path, "seed": run.seed}
        row["backbone"] = run.backbone
        row |= {"protocol": "published", "recall@20": 0.17, "ndcg@20": 0.14}
        row["variant"] = run.variant
        rows.append(row | settings)
    return pd.DataFrame(rows)


def test_the_settings_of_the_configuration_are_the_published_ones():
    table = reproduction.compare(metrics()).set_index(["dataset", "name"])
    ours = table["ours recall@20"].dropna()
    assert set(ours.index) == {
        *(("gowalla", name) for name in ("MF-CCL", "BSL, lambda 1.22", "EASE")),
        *(("yelp2018", name) for name in ("MF-CCL", "BSL, lambda 1.10", "EASE")),
    }
    assert (ours == 0.17).all()
    assert table.loc[("gowalla", "EASE"), "settings"] == "reg 80"
    assert "-7.5%" in tables.published_display(table.reset_index()).to_html()  # .17 of .1837


def test_other_settings_and_protocols_do_not_compare():
    assert reproduction.compare(metrics(batch_size=7, reg=7))["ours recall@20"].isna().all()
    assert reproduction.compare(metrics().drop(columns="settings.reg"))["seeds"].sum() == 4
    heldout = metrics().assign(protocol="heldout")
    assert reproduction.compare(heldout)["ours recall@20"].isna().all()


def test_runs_that_differ_in_what_a_row_does_not_say_are_not_mixed():
    base = metrics()
    other = base.assign(variant=base["variant"] + "_k20", **{"recall@20": 0.1})
    ours = reproduction.compare(pd.concat([other, base]))
    assert set(ours["ours recall@20"].dropna()) == {0.17}
    assert ours["seeds"].tolist() == reproduction.compare(base)["seeds"].tolist()


def test_every_published_setting_is_one_that_the_schema_knows():
    for row in published.table().dropna(subset="settings").itertuples():
        if row.model not in ("popularity", "random"):
            assert set(row.settings) <= set(model_schema(row.model, row.backbone))
        assert 0 < row[published.table().columns.get_loc("recall@20") + 1] < 1


GOWALLA = yaml.safe_load((REPO / "config/gowalla.yaml").read_text())


def test_the_papers_table_is_remade_cell_by_cell():
    rows = [
        {"dataset": "gowalla", "backbone": "mf", "loss": "infonce", "seed": seed}
        | {"recall@20": value}
        | {"ndcg@20": 0.13, "protocol": "published", "experiments": "main", "path": str(seed)}
        | {"settings.temperature": 0.1, "settings.batch_size": 1024}
        for seed, value in enumerate((0.16, 0.17))
    ]
    table = reproduction.paper_table(pd.DataFrame(rows)).set_index("model")
    assert list(table.index) == [
        *("bpr", "ials", "ccl", "debiased_ccl", "infonce", "debiased_infonce", "mine", "mine_plus")
    ]
    row = table.loc["infonce"]
    assert (row["recall@20"], row["ndcg@20"]) == (0.1645, 0.1343)
    assert row["ours recall@20"] == pytest.approx(0.165)
    assert row["recall@20 sd"] == pytest.approx(0.01 / 2**0.5)
    assert row["recall@20 difference"] == pytest.approx(0.165 / 0.1645 - 1)
    assert row["settings"] == "temperature 0.1, batch_size 1024"
    assert table.loc["mine", "seeds"] == 0 and pd.isna(table.loc["mine", "ours recall@20"])
    html = tables.readable(tables.paper_display(table.reset_index())).to_html()
    assert "0.1650 ± 0.0071" in html and "MF-BPR" not in html and "debiased CCL" in html


def test_the_nearest_reading_comes_first():
    reading = {"far": {"temperature": 0.4}, "near": {"temperature": 0.1}}
    reading["nearer"] = {"temperature": 0.4, "dim": 32}  # what `far` says and more
    readings = [{"loss": "mine_plus", "read_as": reading}]
    raw = {"run": "x", "datasets": [{"name": "gowalla"}], "readings": readings}
    values = {"temperature0.4": 0.1, "base": 0.18, "dim32_temperature0.4": 0.185}
    rows = [
        {"path": f"train/gowalla/mf/mine_plus/{variant}/seed0", "recall@20": value}
        | {"ndcg@20": value * 0.8}
        for variant, value in values.items()
    ]
    table = reproduction.readings_table(pd.DataFrame(rows), config.load(raw))
    assert list(table["reading"]) == ["nearer", "near", "far"]
    table = table[1:].reset_index()
    apart = 0.18 / 0.1853 - 1, 0.18 * 0.8 / 0.157 - 1
    assert table["distance"][0] == pytest.approx(((apart[0] ** 2 + apart[1] ** 2) / 2) ** 0.5)
    assert table["printed ratio"][0] == pytest.approx(0.157 / 0.1853)
    assert table["ratio"][0] == pytest.approx(0.8)


def test_grids_that_remake_a_figure_have_its_points():
    points = published.figures()
    for name, raw in (("config.yaml", PAPER), ("config/gowalla.yaml", PAPER | GOWALLA)):
        for grid in config.load(raw)["grids"]:
            if "figure" not in grid:
                continue
            (key,) = grid["over"]
            theirs = points[(points["figure"] == grid["figure"]) & (points["setting"] == key)]
            assert set(grid["loss"]) == set(theirs["loss"]), name
            if name == "config.yaml":
                assert grid["over"][key] == sorted(theirs["value"].unique())


def test_every_choice_is_of_a_setting_that_its_loss_has():
    for row in published.choices().itertuples():
        assert row.setting in model_schema(row.loss or "bpr")
        assert row.why


def test_every_published_data_set_can_be_fetched_and_has_a_name():
    known = {row.dataset for row in sources.table()}
    assert set(published.table()["dataset"]) <= known
    assert all(name_of(dataset) != dataset for dataset in known)


MORE = config.load(PAPER | yaml.safe_load((REPO / "config/more.yaml").read_text()))


def test_more_splits_train_simplex_on_the_one_where_it_is_matrix_factorisation():
    (run,) = reproduction_runs(MORE)
    assert (run.dataset, run.backbone, run.loss) == ("amazon-cds", "mf", "ccl")
    theirs = {"learning_rate": 1e-3, "batch_size": 1024, "negatives": 1500, "dropout": 0.2}
    theirs |= {"margin": 0.7, "weight": 50, "l2": 5e-4, "init_std": 1e-4, "max_epochs": 100}
    assert theirs.items() <= run.settings.items()
    row = {"dataset": run.dataset, "loss": run.loss, "backbone": run.backbone, "path": run.path}
    row |= {f"settings.{key}": value for key, value in run.settings.items()}
    row |= {
        "recall@20": 0.17,
        "ndcg@20": 0.11,
        "seed": 0,
        "protocol": "published",
        "variant": run.variant,
    }
    compared = reproduction.compare(pd.DataFrame([row])).set_index("name")
    assert list(compared.index[compared["seeds"] > 0]) == ["MF-CCL"]
    assert "-3.6%" in tables.published_display(compared.reset_index()).to_html()  # .17 of .1763


def test_a_number_without_its_recall_is_shown_without_it():
    rows = reproduction.compare(metrics().assign(dataset="amazon-electronics"))
    assert rows.set_index("name").loc["ENMF", ["recall@20", "ndcg@20"]].tolist()[1] == 0.0823
    html = tables.published_display(rows[rows["name"] == "ENMF"]).to_html()
    assert "0.0823" in html and "nan" not in html


def test_tables_of_comparison_are_there_for_data_sets_that_have_something_to_compare_with():
    def tables_of(*names):
        rating = {"coat": {"rating": {"at_least": 4}}}
        raw = {"run": "x", "datasets": [{"name": name} | rating.get(name, {}) for name in names]}
        return {"published", "paper"} & set(items(config.load(raw)))

    assert tables_of("gowalla") == tables_of("coat", "gowalla") == {"published", "paper"}
    assert tables_of("ml-1m") == {"published"}
    assert tables_of("coat") == set()


def test_cells_that_no_source_gives_stay_empty():
    table = published.table()
    assert len(table) == len(table.drop_duplicates(["dataset", "name"]))
    assert table["source"].notna().all()
    assert table["epochs"].isna().any()
    assert (
        pytest.approx(0.176493)
        == table.set_index(["dataset", "name"]).loc[("gowalla", "EASE"), "recall@20"]
    )
