"""Theorems 1 and 2: what holds as printed, what fails and by how much, what is right instead."""

import numpy as np
import pytest
import sympy
import torch
from conftest import interactions

from recloss.analysis import theorems, unequal
from recloss.analysis.certificates import Ials
from recloss.analysis.statements import CORRECTED, PRINTED
from recloss.data.interactions import Split, interaction_matrix
from recloss.models import ease, ials

P = Ials(alpha0=0.2, reg=0.05, nu=0.5, dim=6)


def verdicts(rows):
    return {(row["claimed"], row["certificate"]): row["passed"] for row in rows}


def equations(train, reg, c, columns=None):
    """Return the values of Theorem 2's certificates, by claimant and name."""
    columns = torch.arange(train.n_items) if columns is None else torch.tensor(columns)
    rows = theorems.theorem_2(
        train, lambda penalty: ease.ease_columns(train, penalty, columns), columns, reg, c
    )
    return {(row["claimed"], row["certificate"]): row["value"] for row in rows}


@pytest.mark.parametrize("c", [1.5, 3.0])
def test_theorem_1_holds_for_a_half_step_and_jointly_only_corrected(small_split, c):
    found = verdicts(theorems.theorem_1(small_split.train, P, c, 0, 4, 10))
    half = {(PRINTED, f"Theorem 1, half-step: {x}") for x in ("solution", "slope", "rankings")}
    joint = [f"Theorem 1, joint problem: {x}" for x in ("objective", "training", "rankings")]
    assert {key for key, passed in found.items() if passed} == half | {
        (CORRECTED, name) for name in joint
    }
    assert [found[PRINTED, name] for name in joint] == [False] * 3


@pytest.mark.parametrize("wrong", ["unobserved", "user_penalty"])
def test_another_mapping_fails(small_split, monkeypatch, wrong):
    right = theorems.absorbing_ials

    def mapped(*arguments, **options):
        problem = right(*arguments, **options)
        return problem._replace(**{wrong: getattr(problem, wrong) * 1.01})

    monkeypatch.setattr(theorems, "absorbing_ials", mapped)
    found = verdicts(theorems.theorem_1(small_split.train, P, 1.5, 0, 3, 60))
    for name in ("half-step: solution", "half-step: slope"):
        assert not found[PRINTED, f"Theorem 1, {name}"]
    for name in ("joint problem: objective", "joint problem: training"):
        assert not found[CORRECTED, f"Theorem 1, {name}"]


def test_the_printed_problem_is_its_definition(small_split):
    """Differences of the objective between two points, against the formula pair by pair."""
    train, c = small_split.train, np.linspace(1, 4, 60)
    solver = ials.Solver(theorems.printed_ials(train, P, c))
    plain = ials.ials_problem(train, P.alpha0, P.reg, P.nu, dtype=torch.float64)
    x = torch.from_numpy(interaction_matrix(train).toarray()).double()

    def formula(factors):
        y = factors.users @ factors.items.T
        positive = (y - 1).square() - P.alpha0 * y.square()
        total = (torch.from_numpy(c)[:, None] * x * positive).sum() + P.alpha0 * y.square().sum()
        total += (plain.user_penalty * factors.users.square().sum(1)).sum()
        return float(total + (plain.item_penalty * factors.items.square().sum(1)).sum())

    points = [ials.initial(train, 4, 2.0, seed, dtype=torch.float64) for seed in (0, 1)]
    ours, theirs = ([f(point) for point in points] for f in (solver.objective, formula))
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], rel=1e-10)


@pytest.mark.parametrize("alpha0", [1.0, 2.0])
def test_at_an_alpha0_of_one_or_more_nothing_is_certified(small_split, alpha0):
    p = P._replace(alpha0=alpha0)
    (row,) = theorems.theorem_1(small_split.train, p, 1.5, 0, 2, 5)
    assert (row["certificate"], row["value"]) == ("Theorem 1, condition", alpha0)
    assert row["passed"] is row["claimed"] is None
    assert {row["passed"] for row in unequal.unequal_priors(small_split, p, 0, 1)} == {None}


@pytest.mark.parametrize("c", [1.2, 1.5, 3.0])
def test_theorem_2_fails_as_printed_and_holds_in_both_corrected_readings(small_split, c):
    found = equations(small_split.train, 5.0, c)
    failed = {key for key, value in found.items() if value > 1e-6}
    printed = {(PRINTED, "Theorem 2, Eq. 28: objective")}
    if c < 2:
        printed.add((PRINTED, "Theorem 2, Eq. 29: slope"))
    assert failed - {(None, "Theorem 2, condition")} == printed
    assert len(found) == 5


# Two users, one with both items: the column of item 1 is a number w, and X'X = [2 1; 1 1].
TWO = interactions([(0, 0), (0, 1), (1, 0)], 2, 2)


def test_the_printed_eq_28_fails_at_c_2_by_a_sixth():
    """EASE of λ 3 is w = 1/5, <X, XW> = 1/5, |XW|^2 = 2/25, λ w^2 = 3/25.

    Eq. 28 is off by (c - 1)^2 / c |XW|^2 = 1/25; the objective over c is left by 2/5 - 1/25 - 3/25.
    """
    found = equations(TWO, 3.0, 2.0, [1])
    assert found[PRINTED, "Theorem 2, Eq. 28: objective"] == pytest.approx(1 / 6)
    assert found[CORRECTED, "Theorem 2, Eq. 28: objective"] < 1e-14
    # Its Eq. 29 divides by 1 - α = 0.
    assert found[None, "Theorem 2, condition"] == 0


def test_the_printed_eq_29_fails_at_c_three_halves_by_a_twelfth():
    """Eq. 29 is w = 2 / (2 + 2 x 3) = 1/4; the slope is (2 + 3 c) w - c = 1/8, at 0 it is -c.

    With the objective's own penalty it is (2 + 3) w - c = -1/4, a sixth: the smaller one counts.
    """
    found = equations(TWO, 3.0, 1.5, [1])
    assert found[PRINTED, "Theorem 2, Eq. 29: slope"] == pytest.approx(1 / 12)
    assert found[CORRECTED, "Theorem 2, Eq. 29: slope"] < 1e-12
    assert found[CORRECTED, "Theorem 2, λ' of the proof: slope"] < 1e-12


def test_the_two_corrected_readings_are_for_two_penalties(small_split):
    """c EASE(c λ) does not minimise the objective of penalty λ, nor c EASE(λ) that of c λ."""
    train, c, reg = small_split.train, 1.5, 5.0
    columns = torch.arange(train.n_items)
    for solved, asked in ((c * reg, reg), (reg, c * reg)):
        weights = c * ease.ease_columns(train, solved, columns)
        assert theorems.ease_slope(train, weights, columns, asked, 0.0, c) > 0.01


def test_the_readings_coincide_as_c_goes_to_1(small_split):
    """To first order: a tenth of c - 1 is a hundredth of the residual of Eq. 28 as printed."""
    near, nearer = (equations(small_split.train, 5.0, 1 + h) for h in (1e-3, 1e-4))
    name = (PRINTED, "Theorem 2, Eq. 28: objective")
    assert near[name] / nearer[name] == pytest.approx(100, rel=0.01)
    assert max(nearer.values()) < 1e-3


def test_the_theorems_are_proved_symbolically():
    y, c, a, reg = sympy.symbols("y c a lambda", positive=True)
    square = c * (y - 1) ** 2 - c * a * y**2
    assert sympy.diff(square - c * (1 - a) * (y - 1 / (1 - a)) ** 2, y).simplify() == 0

    # iALS, one user with two items, the second unobserved: vectors v and h.
    v, h, g = sympy.symbols("v h g")
    debiased = square.subs(y, v * h) + a * ((v * h) ** 2 + (v * g) ** 2)
    debiased += reg * (v**2 + h**2 + g**2)

    def plain(v, h, g, reg):
        alpha0 = a / ((1 - a) * c)
        pairs = (v * h - 1) ** 2 + alpha0 * ((v * h) ** 2 + (v * g) ** 2)
        return pairs + reg * (v**2 + h**2 + g**2)

    half = plain((1 - a) * v, h, g, reg / ((1 - a) * c))
    assert sympy.diff((1 - a) / c * debiased - half, v).simplify() == 0
    root = sympy.sqrt(1 - a)
    printed, right = (plain(root * v, root * h, root * g, reg / d) for d in ((1 - a) * c, c))
    for variable in (v, h, g):
        assert sympy.diff((1 - a) / c * debiased - right, variable).simplify() == 0
        assert sympy.diff((1 - a) / c * debiased - printed, variable).simplify() != 0

    # EASE, a pair observed (x = 1) and one not.
    alpha = sympy.Symbol("alpha")
    for x, pair in ((1, square.subs(a, 1) + y**2), (0, y**2)):
        over = pair / c - ((x - y) ** 2 - alpha * y**2)
        assert sympy.diff(over.subs(alpha, (c - 1) / c), y).simplify() == 0
        excess = sympy.diff(over.subs(alpha, c - 1), y)
        assert (excess - sympy.diff((c - 1) ** 2 / c * y**2, y)).simplify() == 0


def test_a_prior_of_so_many_more_moves_ials_unless_all_users_have_as_many_items(small_split):
    """All have seven train items: c is the same for all, and iALS mapped by it does not move."""
    rows = list(unequal.unequal_priors(small_split, P, 0, 3))
    found = {row["certificate"]: row["value"] for row in rows}
    assert found["prior |I_u+| + 10, rankings"] > 0
    beside = "prior |I_u+| + 10, beside iALS mapped by the mean c"
    assert found[f"{beside}, rankings"] == 0
    assert rows[0]["tau"] == pytest.approx(17 / 40)
    assert found["prior |I_u+| + 100, condition"] == pytest.approx(107 / 40)
    pairs = list(zip(small_split.train.users, small_split.train.items, strict=True))
    fewer = interactions([pair for pair in pairs if pair[0] % 3 or pair[1] % 2], 60, 40)
    rows = unequal.unequal_priors(Split(fewer, small_split.valid, small_split.test), P, 0, 3)
    assert {row["certificate"]: row["value"] for row in rows}[f"{beside}, rankings"] > 0
