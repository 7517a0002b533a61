"""The certificates hold where they must, fail where they must, and the identities are proved."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from recloss.analysis import certificates, unequal
from recloss.data.interactions import interaction_matrix
from recloss.data.split import write
from recloss.files import ReclossError
from recloss.models import ease, ials

P = certificates.Ials(alpha0=0.2, reg=0.05, nu=0.5, dim=6)


@pytest.mark.parametrize("tau", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("kappa", [0.3, 2.0])
def test_debiased_ials_is_plain_ials_under_the_mapping(small_split, tau, kappa):
    rows = list(certificates.ials_certificates(small_split.train, P, tau, kappa, 0, 5))
    assert len(rows) == 5
    assert [row["certificate"] for row in rows if not row["passed"]] == []


@pytest.mark.parametrize("wrong", ["alpha0", "penalty"])
def test_another_mapping_fails(small_split, monkeypatch, wrong):
    right = certificates.mapped_ials

    def mapped(*arguments, **options):
        problem = right(*arguments, **options)
        if wrong == "alpha0":
            return problem._replace(unobserved=problem.unobserved * 1.01)
        return problem._replace(user_penalty=problem.user_penalty * 1.01)

    monkeypatch.setattr(certificates, "mapped_ials", mapped)
    rows = list(certificates.ials_certificates(small_split.train, P, 0.01, 2.0, 0, 3))
    failed = {row["certificate"] for row in rows if not row["passed"]}
    assert {"half-step", "objective", "training"} <= failed


def test_the_debiased_problem_is_its_definition(small_split):
    """Differences of the objective between two points, against the formula written out."""
    train, tau, kappa = small_split.train, 0.1, np.linspace(0.1, 2, 60)
    solver = ials.Solver(certificates.debiased_ials(train, P, tau, kappa))
    plain = ials.ials_problem(train, P.alpha0, P.reg, P.nu, dtype=torch.float64)
    x = torch.from_numpy(interaction_matrix(train).toarray()).double()

    def formula(factors):
        y = factors.users @ factors.items.T
        hidden = (torch.from_numpy(kappa)[:, None] * x * y.square()).sum()
        unobserved = P.alpha0 / (1 - tau) * (y.square().sum() - hidden)
        penalty = (plain.user_penalty * factors.users.square().sum(1)).sum()
        penalty += (plain.item_penalty * factors.items.square().sum(1)).sum()
        return float((x * (y - 1).square()).sum() + unobserved + penalty)

    points = [ials.initial(train, 4, 2.0, seed, dtype=torch.float64) for seed in (0, 1)]
    ours, theirs = ([f(point) for point in points] for f in (solver.objective, formula))
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], rel=1e-10)


def test_a_beta_of_one_or_more_is_refused(small_split):
    with pytest.raises(ReclossError, match=r"beta 1\.11; debiased iALS has a minimum only below 1"):
        certificates.debiased_ials(small_split.train, P, 0.1, 5.0)


@pytest.mark.parametrize(("tau", "kappa"), [(0.01, 0.5), (0.3, 3.0)])
def test_scaled_ease_minimises_debiased_ease_and_unscaled_does_not(small_split, tau, kappa):
    train = small_split.train
    columns = torch.arange(train.n_items)
    weights = ease.ease_columns(train, 5.0, columns)
    certificate = certificates.ease_certificate(train, weights, columns, 5.0, tau, kappa)
    assert certificate["passed"]
    assert certificate["value"] < 1e-10
    assert certificates.ease_slope(train, weights, columns, 5.0 / (1 - tau), tau, kappa) > 0.1


def test_without_the_condition_on_weights_ease_is_solved_column_by_column(small_split, monkeypatch):
    """With weights that meet the condition the general solver finds scaled EASE: no list moves."""
    rows = list(unequal.unequal_weights(small_split, 5.0, 0.1, 0.5))
    assert [row["certificate"].split(", ")[-1] for row in rows] == [
        *("rankings", "recall@20", "ndcg@20")
    ]
    assert rows[0]["value"] > 0
    # kappa = tau- makes c+ = c- kappa / tau- of c+ = c- = 1: what is left is EASE.
    met = list(unequal.unequal_weights(small_split, 5.0 / 0.9, 0.1, 0.9))
    plain = list(unequal.unequal_weights(small_split, 5.0, 0.0, 1.0))
    assert plain[0]["value"] == 0
    assert met[0]["value"] <= rows[0]["value"]
    none = list(unequal.unequal_weights(small_split, 5.0, 0.1, 3.0))
    assert [row["passed"] for row in none] == [None]
    assert none[0]["value"] < 0


def test_a_split_is_reduced_to_its_popular_items(small_split):
    small = unequal.popular_items(small_split, 7)
    counts = small_split.train.item_counts()
    top = np.sort(np.argsort(-counts, kind="stable")[:7])
    assert np.array_equal(small.train.item_counts(), counts[top])
    assert small.train.n_items == 7
    assert small.train.counts().min() > 0
    kept = np.isin(small_split.test.items, top) & np.isin(
        small_split.test.users, small_split.train.users[np.isin(small_split.train.items, top)]
    )
    assert len(small.test) == kept.sum()


def test_descent_finds_scaled_ease_from_any_start(small_split):
    train, tau, kappa, reg = small_split.train, 0.2, 1.5, 4.0
    x = torch.from_numpy(interaction_matrix(train).toarray()).double()
    off = 1 - torch.eye(train.n_items, dtype=torch.float64)
    model = ease.ease(ease.gram(train), reg)
    expected = kappa * model.weights(torch.arange(train.n_items))
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        b = torch.randn(off.shape, generator=generator, dtype=torch.float64).requires_grad_()
        descent = torch.optim.LBFGS([b], max_iter=500, line_search_fn="strong_wolfe")

        def objective(b=b, descent=descent):
            descent.zero_grad()
            y = x @ (b * off)
            value = kappa / (1 - tau) * (x * (y - 1).square()).sum()
            value = value + (y.square().sum() - kappa * (x * y.square()).sum()) / (1 - tau)
            value = value + reg / (1 - tau) * (b * off).square().sum()
            value.backward()
            return value

        descent.step(objective)
        torch.testing.assert_close((b * off).detach(), expected, rtol=1e-3, atol=1e-4)


def test_the_identities_are_proved_symbolically():
    y, beta, alpha0, tau = sympy.symbols("y beta alpha0 tau", positive=True)
    square = (y - 1) ** 2 - beta * y**2
    completed = (1 - beta) * (y - 1 / (1 - beta)) ** 2
    assert sympy.simplify(sympy.diff(square - completed, y)) == 0

    # The joint problem, for two users and two items with one pair unobserved.
    w, h, r, s = (sympy.symbols(f"{name}1:3", positive=True) for name in "whrs")
    pairs = [(0, 0), (0, 1), (1, 0)]

    def objective(w, h, confidence, target, unobserved):
        total = sum(confidence * (w[u] * h[i] - target) ** 2 for u, i in pairs)
        total += unobserved * sum((a * b) ** 2 for a in w for b in h)
        return total + sum(a * b**2 for a, b in zip([*r, *s], [*w, *h], strict=True))

    root = sympy.sqrt(1 - beta)
    debiased = objective(w, h, 1 - beta, 1 / (1 - beta), alpha0 / (1 - tau))
    scaled = [root * x for x in w], [root * x for x in h]
    plain = objective(*scaled, 1, 1, alpha0 / ((1 - tau) * (1 - beta)))
    for variable in [*w, *h]:
        assert sympy.simplify(sympy.diff((1 - beta) * debiased - plain, variable)) == 0

    # A user's half-step: the slope of the mapped plain problem vanishes where the debiased does.
    v = sympy.Symbol("v")
    reg = sympy.Symbol("reg", positive=True)
    debiased = (1 - beta) * (v * h[0] - 1 / (1 - beta)) ** 2
    debiased += alpha0 / (1 - tau) * ((v * h[0]) ** 2 + (v * h[1]) ** 2) + reg * v**2
    plain = (v * h[0] - 1) ** 2 + reg / (1 - beta) * v**2
    plain += alpha0 / ((1 - tau) * (1 - beta)) * ((v * h[0]) ** 2 + (v * h[1]) ** 2)
    best = [sympy.solve(sympy.diff(f, v), v)[0] for f in (debiased, plain)]
    assert sympy.simplify(best[0] - best[1] / (1 - beta)) == 0


def test_users_whose_beta_would_reach_one_are_held(small_split):
    rows = list(unequal.unequal_users(small_split, P, 0.5, 0, 2))
    assert rows[0]["certificate"] == "kappa by user, held"
    # kappa = 0.5 x 40 / 7 is above 0.9 x 0.5 / 0.2 for every user.
    assert rows[0]["value"] == 1
    assert [row["passed"] for row in rows] == [None] * 4


def test_the_command_line_writes_every_certificate(small_split, tmp_path):
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    command = [sys.executable, "-m", "recloss", "certify", "--data", tmp_path / "split.npz"]
    command += ["--manifest", tmp_path / "split.json", "--out", tmp_path / "debiasing.csv"]
    command += ["--tau", 0.01, "--kappa", 0.5, 20, "--ials", '{"dim": 4}', "--ease", '{"reg": 5}']
    subprocess.run(list(map(str, command)), check=True)
    frame = pd.read_csv(tmp_path / "debiasing.csv")
    assert set(frame["dataset"]) == {"small"}
    certified = frame[frame["passed"].notna()]
    second = certified[certified["claimed"] == "second form"]
    assert second["passed"].all()
    assert list(second["model"]) == ["ials"] * 5 + ["ease"] * 2
    # Of the theorems, for c 1.5 and 3, the corrected all pass, of the printed only the half-step.
    assert certified.loc[certified["claimed"] == "corrected", "passed"].all()
    printed = certified[certified["claimed"] == "printed"]
    half = printed["certificate"].str.startswith("Theorem 1, half-step")
    assert (printed["passed"] == half).all()
    assert len(certified) == len(second) + 2 * (6 + 3) + 2 * 4 + 1
    assert set(certified["kappa"]) == {0.5, 20, 1.5, 3}
    # kappa 20 leaves neither model of these weights a minimum: said, not failed.
    assert set(frame.loc[frame["kappa"] == 20, "certificate"]) == {
        *("condition", "minimiser", "weights c+ = c- = 1")
    }
    by_user = frame[frame["kappa"].isna()]
    kinds = by_user["certificate"].str.split().str[0]
    assert kinds.value_counts().to_dict() == {"kappa": 4, "prior": 7}
