"""One training run: learning, stopping, resuming, failing."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import backend, interactions

from recloss import train
from recloss.checkpoint import Stopped
from recloss.cli.training import speaker
from recloss.data.split import split, write
from recloss.engine.device import pick_device
from recloss.engine.ranking import Ranking, dot_scores, means
from recloss.experiment.flags import as_flags
from recloss.experiment.schema import check_settings, default_settings
from recloss.files import ReclossError
from recloss.losses import LOSSES, data_arguments
from recloss.train import Trainer

CPU = torch.device("cpu")
FAST = {
    "dim": 8,
    "batch_size": 64,
    "negatives": 16,
    "learning_rate": 0.05,
    "max_epochs": 8,
    "init_std": 0.1,
}


def settings_of(loss, **changes):
    return default_settings(loss) | FAST | changes


def trainer(parts, loss="mine_plus", seed=0, say=lambda line: None, **changes):
    return Trainer(parts, loss, settings_of(loss, **changes), seed, CPU, say)


def tables(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_two_tastes(small_split, loss):
    # The negative term of the squared losses is made for catalogues a thousand times as large.
    changes = {"lambda": 2} if loss.endswith("mse") else {}
    if loss == "debiased_infonce":
        changes = {"lambda_n": 16}
    recalls = []
    for seed in range(3):  # with 60 test users one run in ten stops too early
        run = trainer(small_split, loss, seed, max_epochs=15, **changes)
        untrained = run.evaluate(on_test=True)[1]["recall@20"].mean()
        # 13 of the 33 items left to rank are liked, 3 of them in test.
        assert untrained < 0.75
        run.run()
        recalls.append(run.evaluate(on_test=True)[1]["recall@20"].mean())
    assert np.median(recalls) > 0.9


def test_a_seed_decides_everything(small_split):
    runs = [trainer(small_split, seed=seed, max_epochs=2) for seed in (0, 0, 1)]
    for run in runs:
        run.run()
    first, again, other = (tables(run) for run in runs)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"dropout": 0.3, "dropout_position": "before"},
        {"score": "dot", "lambda": 1.0},
        {"negative_exponent": 0.75},
        {"exclude_positives": True},
        {"init": "xavier"},
        {"l2": 0.1},
        {"l2": 0.1, "l2_on": "rows"},
        {"clip_norm": 1.0e-5},
        {"temperature": 0.5},
        {"pairs": "users"},
        {"negatives_from": "batch"},
    ],
    ids=str,
)
def test_every_setting_changes_the_result(small_split, changes):
    plain, changed = trainer(small_split), trainer(small_split, **changes)
    for run in (plain, changed):
        run.epoch(1)
    assert not same(tables(plain), tables(changed))


def test_l2_on_tables_is_half_the_squared_norm(small_split):
    gradients = []
    for l2 in (0.0, 0.5):
        run = trainer(small_split, l2=l2, clip_norm=0)
        run.sampler.start(1)
        run.step(64)
        gradients.append(run.model.users.grad.to_dense())
    start = trainer(small_split).model.users
    torch.testing.assert_close(gradients[1] - gradients[0], 0.5 * start.detach())


def test_l2_on_rows_counts_every_looked_up_row(small_split):
    plain, run = trainer(small_split), trainer(small_split, l2=0.5, l2_on="rows")
    for each in (plain, run):
        each.sampler.start(1)
    users, ids = run.sampler.draw(64)
    norms = run.model.items.square().sum(1)
    rows = run.model.users[users].square().sum() + norms[ids].sum()
    torch.testing.assert_close(run.batch_loss(64) - plain.batch_loss(64), 0.25 * rows / 64)


@pytest.mark.parametrize("estimator", ["per_user", "per_pair"])
def test_a_row_has_the_prior_and_the_weight_of_its_user(small_split, estimator):
    chosen = {"estimator": estimator, "prior": {"rule": "more", "k": 3}, "temperature": 1}
    run = trainer(small_split, "debiased_ccl", margin=-1.0, **chosen)
    run.sampler.start(1)
    users, ids = run.sampler.draw(64)
    vectors = [torch.nn.functional.normalize(table, dim=1) for table in run.model()]
    scores = (vectors[0][users, None] * vectors[1][ids.long()]).sum(2)
    prior = (7 + 3) / 40  # every user has 7 train items of 40
    negative, extra = ((scores[:, part] + 1).mean(1) for part in (slice(1, 17), slice(17, None)))
    bracket = prior * (1 - scores[:, 0]) + 0.7 * (negative - prior * extra)
    torch.testing.assert_close(run.batch_loss(64), (40 / 7 * bracket).mean())


# Users 0, 0, 1, 2 with items 0, 1, 0, 2: the positive's score, those of the batch's other items,
# and of these what is left when pairs of the same user or item are masked.
BATCH = interactions([(0, 0), (0, 1), (1, 0), (2, 2)], 3, 3)
USERS, ITEMS = [[1.0, 0], [0, 1], [1, 1]], [[1.0, 2], [3, 0], [0, -1]]
ROWS = [
    (1, [3, 1, 0], [0]),
    (3, [1, 1, 0], [1, 0]),
    (2, [2, 0, -1], [0, -1]),
    (-1, [3, 3, 3], [3, 3, 3]),
]


def in_batch(loss, parts=None, **changes):
    """Return a trainer at the first step of BATCH, with scores as in ROWS."""
    parts = parts or split(BATCH, interactions([(0, 2)], 3, 3), "published")
    small = {"dim": 2, "batch_size": 4, "negatives_from": "batch", "score": "dot"}
    one = {"temperature": 1.0} if "temperature" in default_settings(loss) else {}
    run = trainer(parts, loss, **(small | one | changes))
    run.model.users.data, run.model.items.data = torch.tensor(USERS), torch.tensor(ITEMS)
    run.sampler.start(1)
    return run


@pytest.mark.parametrize(("mask", "which"), [("none", 1), ("both", 2)])
def test_the_loss_of_a_batch_of_four_by_hand(mask, which):
    hand = {
        "infonce": lambda y, ys: -y + np.log(np.exp(y) + np.exp(ys).sum()),
        "bpr": lambda y, ys: np.log(1 + np.exp(ys - y)).sum() / 3,
        "ccl": lambda y, ys: 1 - y + 150 * np.maximum(ys - 0.9, 0).sum() / 3,
        "mse": lambda y, ys: (1 - y) ** 2 + 100 * (ys**2).sum() / 3,
    }
    for loss, of_row in hand.items():
        expected = np.mean([of_row(row[0], np.array(row[which])) for row in ROWS])
        run = in_batch(loss, mask_same=mask)
        assert float(run.batch_loss(4).detach()) == pytest.approx(expected), loss


@pytest.mark.parametrize(("pairs", "q"), [("pairs", [2, 1, 1]), ("users", [6, 2, 4])])
def test_log_q_of_a_batch_is_taken_from_its_negatives(pairs, q):
    run = in_batch("softmax", correct_logq=True, pairs=pairs)
    q, scores = np.array(q) / np.sum(q), np.array(USERS) @ np.array(ITEMS).T
    users, ids = run.sampler.draw(4)
    users, items = users.numpy(), ids[:, 0].numpy()
    odds = {}
    for b, (u, i) in enumerate(zip(users, items, strict=True)):
        others = np.delete(items, b)
        total = np.exp(scores[u, i]) + (np.exp(scores[u, others]) / (3 * q[others])).sum()
        odds[u] = odds.get(u, 0) + np.exp(scores[u, i]) / total
    expected = -np.mean(np.log(list(odds.values())))
    assert float(run.batch_loss(4).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mask", ["none", "both"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_in_a_batch_the_gradient_of_the_plain_formulation(small_split, loss, mask):
    # Cosines of all pairs of the batch by broadcasting; what is masked has the score without cost.
    run = trainer(small_split, loss, negatives_from="batch", mask_same=mask)
    run.sampler.start(1)
    users, ids = run.sampler.draw(64)
    items, free = ids[:, 0].long(), 0.0 if loss.endswith("mse") else -torch.inf
    tables = [table.detach().clone().requires_grad_() for table in run.model.parameters()]
    u, i = (torch.nn.functional.normalize(table, dim=1) for table in tables)
    t = run.settings.get("temperature", 1.0)
    every = (u[users, None] * i[items]).sum(2) / t
    alike = (users[:, None] == users) | (items[:, None] == items)
    masked = every.masked_fill(alike, free) if mask == "both" else every
    apart = ~torch.eye(64, dtype=torch.bool)
    neg = masked[apart].view(64, 63)
    data = {"extra": (u[users, None] * i[ids[:, 1:].long()]).sum(2) / t, "log_q": None}
    data["group"] = torch.unique(users, return_inverse=True)[1]
    data |= {name: table[users] for name, table in run.of_user.items()}
    arguments = {name: data[name] for name in data_arguments(loss)} | run.parameters
    plain = LOSSES[loss](every.diagonal(), neg, **arguments)
    plain.backward()
    ours = run.batch_loss(64)
    ours.backward()
    torch.testing.assert_close(ours, plain)
    for parameter, table in zip(run.model.parameters(), tables, strict=True):
        torch.testing.assert_close(parameter.grad.to_dense(), table.grad, rtol=1e-3, atol=1e-5)


def test_a_last_batch_may_be_smaller_and_one_of_a_single_pair_is_left_out(small_split):
    # 420 train pairs; l2 on rows counts each looked-up vector of the batch once.
    for size, steps in ((64, 7), (419, 1)):
        run = trainer(small_split, batch_size=size, negatives_from="batch", l2=0.1, l2_on="rows")
        assert run.steps == steps
        assert np.isfinite(run.epoch(1))


def test_ranking_by_inner_product_after_training_on_cosine(small_split):
    cosine, product = trainer(small_split), trainer(small_split, rank_by="inner_product")
    for run in (cosine, product):
        run.epoch(1)
        run.model.items.data *= torch.linspace(1, 5, 40)[:, None]
    assert same(tables(cosine), tables(product))
    for run, by_cosine in ((cosine, True), (product, False)):
        expected = Ranking(small_split.test, [small_split.train], CPU).per_user(
            dot_scores(run.model.users.detach(), run.model.items.detach(), by_cosine)
        )[1]
        assert np.array_equal(run.evaluate(True)[1]["ndcg@20"], expected["ndcg@20"])
    assert means(cosine.evaluate(True)[1]) != means(product.evaluate(True)[1])


def test_settings_of_the_batch_leave_the_default_as_it_is(small_split):
    plain = trainer(small_split)
    said = trainer(small_split, pairs="pairs", negatives_from="items", mask_same="none")
    for run in (plain, said):
        run.epoch(1)
    assert same(tables(plain), tables(said))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"exclude_positives": True}, "draws nothing again"),
        ({"negative_exponent": 1.0}, "use negative_exponent 0"),
        ({"batch_size": 1}, "a pair alone has no negative"),
        ({"negatives_from": "items", "mask_same": "user"}, "is for negatives of the batch"),
    ],
)
def test_what_has_no_meaning_in_a_batch_is_refused(changes, fault):
    with pytest.raises(ReclossError, match=fault):
        check_settings("mine", settings_of("mine", **({"negatives_from": "batch"} | changes)), "x")


def test_dropout_after_normalisation_keeps_the_expected_score(small_split):
    run = trainer(small_split, dropout=0.5)
    vectors = torch.randn(4000, 8)
    dropped, scale = run._dropout(vectors)
    item = torch.nn.functional.normalize(torch.randn(8), dim=0)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    scores = torch.nn.functional.normalize(dropped, dim=1) @ item * scale[:, 0]
    # Dropping entries of the unit vector and scaling up the rest is unbiased.
    assert abs(float((scores - unit @ item).mean())) < 0.02
    torch.testing.assert_close(scores, (unit * (dropped != 0) * 2) @ item)


def test_the_cuda_kernels_train_as_the_cpu_kernels_do(small_split):
    tables_of = []
    for name in ("cpu", "cuda"):
        with backend(name) as device:
            run = Trainer(
                small_split,
                "debiased_infonce",
                settings_of("debiased_infonce", dropout=0.2),
                0,
                device,
            )
            run.sparse = False  # as on a GPU
            losses = [run.epoch(1)]
            tables_of.append((losses, {k: v.cpu() for k, v in tables(run).items()}))
    (ours, one), (theirs, other) = tables_of
    assert ours == pytest.approx(theirs, rel=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)


def drive(run, metrics):
    """Let the run meet these values of recall@20, one after each epoch."""
    values = iter(metrics)

    def epoch(number):
        run.model.users.data.fill_(float(number))
        return 0.0

    run.epoch = epoch
    run.evaluate = lambda on_test: (None, {"recall@20": np.full(1, next(values), np.float32)})
    run.run()
    return run.progress


def test_a_plateau_lowers_the_rate_reloads_the_best_and_ends_after_patience(small_split):
    simplex = {"schedule": "plateau", "lr_factor": 0.1, "patience": 3, "min_learning_rate": 5e-6}
    run = trainer(small_split, max_epochs=20, learning_rate=1e-4, **simplex)
    progress = drive(run, [0.1, 0.2, 0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    assert [row["learning_rate"] for row in progress.history] == pytest.approx(
        [1e-4, 1e-4, 1e-4, 1e-5, 1e-5, 5e-6, 5e-6]
    )
    assert progress.best_epoch == 4
    assert (run.model.users == 4).all()


def test_the_papers_schedule_halves_the_rate_on_a_plateau_and_ends_below_the_lowest(small_split):
    changes = {"learning_rate": 1e-4, "min_learning_rate": 2e-5, "patience": 1, "max_epochs": 20}
    run = trainer(small_split, schedule="reduce", lr_factor=0.5, **changes)
    progress = drive(run, [0.1, 0.2, 0.1, 0.3, 0.2, 0.2, 0.9])
    assert [row["learning_rate"] for row in progress.history] == pytest.approx(
        [1e-4, 1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5]
    )
    assert progress.best_epoch == 4
    assert (run.model.users == 4).all()  # the best at the end, but on the way it goes on as it is
    patient = drive(
        trainer(small_split, schedule="reduce", **changes | {"patience": 2, "max_epochs": 5}),
        [0.3, 0.2, 0.1, 0.2, 0.1],
    )
    assert [row["learning_rate"] for row in patient.history] == pytest.approx(
        [1e-4, 1e-4, 1e-4, 5e-5, 5e-5]
    )


def test_a_constant_rate_only_stops(small_split):
    progress = drive(trainer(small_split, schedule="constant", patience=2), [0.3, 0.1, 0.2, 0.9])
    assert len({row["learning_rate"] for row in progress.history}) == 1
    assert (progress.epoch, progress.best_epoch) == (3, 1)


def test_a_cosine_rate_falls_from_the_initial_to_the_lowest(small_split):
    changes = {"max_epochs": 4, "learning_rate": 1e-3, "min_learning_rate": 0, "patience": 9}
    progress = drive(trainer(small_split, schedule="cosine", **changes), [0.1, 0.2, 0.1, 0.3])
    assert [row["learning_rate"] for row in progress.history] == pytest.approx(
        [1e-3, (1 + 0.5**0.5) / 2 * 1e-3, 5e-4, (1 - 0.5**0.5) / 2 * 1e-3]
    )


def test_evaluation_every_few_epochs_and_at_the_end(small_split):
    run = trainer(small_split, eval_every=3, max_epochs=7, patience=9)
    run.run()
    assert [row["epoch"] for row in run.progress.history] == [3, 6, 7]


def test_heldout_picks_the_epoch_on_validation(small_split):
    parts = split(small_split.train, small_split.test, "heldout", validation=0.2)
    run = trainer(parts)
    run.run()
    on_validation = run.evaluate(on_test=False)[1]["recall@20"].mean(dtype=np.float64)
    assert run.progress.best == pytest.approx(on_validation)
    users, _ = run.evaluate(on_test=True)
    assert len(users) == 60
    watching = trainer(parts, watch_test=True)
    watching.run()
    assert same(tables(run), tables(watching))
    noted = watching.progress.history[watching.progress.best_epoch - 1]["test recall@20"]
    assert noted == pytest.approx(watching.evaluate(on_test=True)[1]["recall@20"].mean(), rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "constant"},
        {"dropout": 0.2},
        {"pairs": "users"},
        {"pairs": "users", "negatives_from": "batch", "mask_same": "both"},
    ],
    ids=str,
)
def test_a_run_stopped_after_any_epoch_resumes_to_the_same_bits(small_split, tmp_path, changes):
    whole = trainer(small_split, **changes)
    whole.run()
    for stop in (1, 3):
        path = tmp_path / f"{stop}.pt"
        broken = trainer(small_split, **changes)
        broken.settings["max_epochs"] = stop
        broken.run(path, "same")
        resumed = trainer(small_split, **changes)
        resumed.run(path, "same")
        assert same(tables(whole), tables(resumed))
        assert _untimed(whole.progress.history) == _untimed(resumed.progress.history)


def _untimed(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_a_run_told_to_stop_does_after_its_epoch_and_goes_on_to_the_same_bits(
    small_split, tmp_path
):
    whole = trainer(small_split)
    whole.run()
    broken = trainer(small_split, say=lambda line: line.startswith("epoch 2") and broken.stop())
    with pytest.raises(Stopped, match="goes on after epoch 2"):
        broken.run(tmp_path / "state.pt", "same")
    resumed = trainer(small_split)
    resumed.run(tmp_path / "state.pt", "same")
    assert same(tables(whole), tables(resumed))


def test_a_run_told_to_stop_leaves_an_epoch_that_has_long_to_go(small_split, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "GRACE", 0.0)
    run = trainer(small_split, batch_size=8, say=lambda line: run.stop())
    with pytest.raises(Stopped, match="goes on from the start"):
        run.run(tmp_path / "state.pt", "one")
    assert run.progress.history == [] and not (tmp_path / "state.pt").exists()


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(small_split, tmp_path):
    path = tmp_path / "state.pt"
    trainer(small_split, max_epochs=2).run(path, "one")
    said = []
    run = trainer(small_split, max_epochs=1, say=said.append)
    run.run(path, "another")
    assert "starting anew" in said[0]
    path.write_bytes(path.read_bytes()[:1000])
    said.clear()
    trainer(small_split, max_epochs=1, say=said.append).run(path, "one")
    assert "unreadable" in said[0]


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_cause(small_split):
    run = trainer(small_split, "bpr", score="dot", learning_rate=1.0e30, clip_norm=0)
    with pytest.raises(ReclossError, match=r"(nan|inf) at epoch 1, step \d+; likely inner"):
        run.run()


def test_vectors_that_are_not_finite_stop_the_run_although_the_loss_was(small_split):
    run = trainer(small_split, learning_rate=3.0e38, batch_size=10_000, clip_norm=0)
    message = r"vectors are not finite after epoch 1, step 0; likely the learning rate \(3e\+38\)"
    with pytest.raises(ReclossError, match=message):
        run.run()


def test_an_absent_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("has CUDA")
    with pytest.raises(ReclossError, match="cuda is not available here; use device auto or cpu"):
        pick_device("cuda")


def command(folder, *flags):
    data = ["--data", folder / "split.npz", "--manifest", folder / "split.json"]
    fast = shlex.split(as_flags(FAST))
    arguments = [*data, "--out", folder / "out", "--device", "cpu", "--threads", 1, *fast, *flags]
    return [sys.executable, "-m", "recloss", "train", *map(str, arguments)]


def test_a_run_that_ended_with_its_checkpoint_kept_is_not_trained_again(small_split, tmp_path):
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    kept = ["--loss", "mine_plus", "--checkpoint", tmp_path / "state.pt", "--at-end", "kept"]

    def run():
        done = subprocess.run(command(tmp_path, *kept), capture_output=True, text=True, check=True)
        record = json.loads((tmp_path / "out" / "metrics.json").read_text())
        return done.stderr, record["recall@20"], record["epochs"]

    _, *first = run()
    (tmp_path / "out" / "metrics.json").unlink()
    said, *again = run()
    assert "resumed after epoch" in said
    assert again == first


def test_the_command_line_trains_without_a_workflow(small_split, tmp_path):
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    flags = ("--loss", "debiased_ccl", "--lambda-n", "1e-2", "--checkpoint", tmp_path / "c.pt")
    flags += ("--prior", '{"rule": "more", "k": 3}')
    flags += ("--deterministic", "true")
    subprocess.run(command(tmp_path, *flags), check=True)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["settings"]["lambda_n"] == 0.01
    assert metrics["settings"]["prior"] == {"rule": "more", "k": 3}
    assert metrics["dataset"] == "small"
    assert 0 < metrics["best_epoch"] <= metrics["epochs"] <= 8
    with np.load(tmp_path / "out" / "per_user.npz", allow_pickle=False) as arrays:
        assert arrays["recall@20"].dtype == np.float32
        assert arrays["recall@20"].mean() == pytest.approx(metrics["recall@20"], rel=1e-6)
        assert len(arrays["users"]) == metrics["n_test_users"] == 60
    with np.load(tmp_path / "out" / "vectors.npz", allow_pickle=False) as arrays:
        vectors = [torch.from_numpy(arrays[name]) for name in ("users", "items")]
    ranking = Ranking(small_split.test, [small_split.train], CPU)
    values = ranking.per_user(dot_scores(*vectors, cosine=True))[1]
    assert values["ndcg@20"].mean() == pytest.approx(metrics["ndcg@20"], rel=1e-6)
    history = (tmp_path / "out" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + metrics["epochs"]
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--loss", "ccl", "--temperature", "1"), "--temperature: ccl has no such setting"),
        (("--loss", "mine", "--dim", "0"), "--dim: 0 is less than the minimum of 1"),
        (("--loss", "mine", "--data", "nowhere.npz"), "nowhere.npz: no such file"),
        (("--loss", "mine_plus", "--score", "dot"), "lambda 1.1 with score dot is unbounded"),
        (
            ("--loss", "debiased_ccl", "--prior", '{"rule": "share", "k": 1}'),
            "takes alpha; it has k",
        ),
        (("--loss", "debiased_ccl", "--prior", '{"rule": "truth"}'), "rule truth needs simulated"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(small_split, tmp_path, flags, message):
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    done = subprocess.run(command(tmp_path, *flags), capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_line_of_progress_is_one_write(monkeypatch):
    writes = []
    stream = SimpleNamespace(write=writes.append, flush=lambda: None)
    monkeypatch.setattr("sys.stderr", stream)
    speaker("run")("epoch 1")
    assert writes == ["[run] epoch 1\n"]
