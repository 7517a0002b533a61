"""Published numbers beside ours."""

import pandas as pd
import pytest
import yaml
from conftest import REPO

from recloss.analysis import reproduction
from recloss.experiment import config, published
from recloss.experiment.runs import every_run
from recloss.experiment.schema import model_schema
from recloss.report import tables

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
        row |= {"protocol": "published", "recall@20": 0.17, "ndcg@20": 0.14}
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


def test_every_published_setting_is_one_that_the_schema_knows():
    for row in published.table().dropna(subset="settings").itertuples():
        if row.model not in ("popularity", "random"):
            assert set(row.settings) <= set(model_schema(row.model))
        assert 0 < row[published.table().columns.get_loc("recall@20") + 1] < 1


def test_cells_that_no_source_gives_stay_empty():
    table = published.table()
    assert len(table) == len(table.drop_duplicates(["dataset", "name"]))
    assert table["source"].notna().all()
    assert table["epochs"].isna().any()
    assert (
        pytest.approx(0.176493)
        == table.set_index(["dataset", "name"]).loc[("gowalla", "EASE"), "recall@20"]
    )
