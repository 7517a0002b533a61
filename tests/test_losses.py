"""The losses against hand-computed numbers, against autograd and against what is known of them."""

import doctest
import inspect
import itertools
import math
from math import log

import pytest
import torch
from conftest import interactions
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recloss import losses
from recloss.data.prior import class_prior, row_weights
from recloss.losses import LOSSES, data_arguments, hyper_parameters

SETTINGS = {
    "bpr": {},
    "softmax": {},
    "infonce": {},
    "infonce_plus": {"lambda_": 1.2, "eps": 0.3},
    "dcl": {},
    "mine": {},
    "mine_plus": {"lambda_": 1.2},
    "debiased_infonce": {"lambda_n": 5.0, "temperature": 0.2},
    "mse": {"lambda_": 1.5},
    "debiased_mse": {"lambda_": 1.5},
    "ccl": {"weight": 3.0, "margin": 0.2},
    "debiased_ccl": {"lambda_n": 3.0, "margin": 0.2},
}
every_loss = pytest.mark.parametrize("name", SETTINGS)
DEBIASED = ("debiased_infonce", "debiased_mse", "debiased_ccl")


def f64(values: list | float) -> Tensor:
    """Return the values without the rounding of `torch.tensor(values).double()`."""
    return torch.tensor(values, dtype=torch.float64)


def draw(rows: int = 6, n: int = 5, m: int = 3, scale: float = 1.0, dtype=torch.float64) -> dict:
    """Return random scores, priors, weights, the softmax's data; users 0 and 1 have two rows."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"pos": (rows,), "neg": (rows, n), "extra": (rows, m), "log_q": (rows, n)}
    normal = {k: torch.randn(s, generator=rng, dtype=torch.float64) for k, s in shapes.items()}
    scores = {k: (scale * v).to(dtype) for k, v in normal.items()}
    prior = 0.05 + 0.2 * torch.rand(rows, generator=rng, dtype=torch.float64).to(dtype)
    of_user = {"prior": prior, "row_weight": 0.8 / prior}
    return scores | of_user | {"group": torch.arange(rows) % (rows - 2)}


def call(name: str, data: dict, **changed: object) -> Tensor:
    """Return the loss `name` on those of the tensors in `data` that it takes."""
    data_taken = {k: data[k] for k in data_arguments(name) if k in data}
    return LOSSES[name](data["pos"], data["neg"], **data_taken, **SETTINGS[name] | changed)


def gradients(name: str, data: dict, **changed: object) -> dict[str, Tensor]:
    """Return the loss and its gradient with respect to each of the scores it takes."""
    taken = ("pos", "neg", *data_arguments(name))
    scores = ("pos", "neg", "extra", "log_q")
    data = {k: v.clone().requires_grad_(k in scores) for k, v in data.items()}
    scores = [k for k in taken if k in data and data[k].requires_grad]
    loss = call(name, data, **changed)
    found = torch.autograd.grad(loss, [data[k] for k in scores])
    return {"loss": loss.detach(), **dict(zip(scores, found, strict=True))}


def close(actual: Tensor, expected: float) -> None:
    torch.testing.assert_close(actual, f64(expected))


# Hand-computed cases. e^pos = 2, 3; e^neg = (1, 3), (4, 5), summing to 4 and 9; e^extra averages
# 3/2 and 5. Losses on squares and margins take the plain scores below.

POS = f64([2.0, 3.0]).log()
NEG = f64([[1.0, 3.0], [4.0, 5.0]]).log()
EXTRA = f64([[1.0, 2.0], [8.0, 2.0]]).log()
POS_PLAIN = f64([0.5, -0.5])
NEG_PLAIN = f64([[0.5, -0.1], [0.2, 0.4]])
EXTRA_PLAIN = f64([[0.3, 0.1], [-0.2, 0.6]])


def test_bpr_by_hand():
    # log of 1 + 1/2, 1 + 3/2, 1 + 4/3, 1 + 5/3, whose product is 70/3
    close(losses.bpr(POS, NEG), log(70 / 3) / 4)


def test_softmax_by_hand_sums_the_positives_of_a_user_inside_the_log():
    # probabilities 2/(2+4), 3/(3+9), 1/(1+3): rows 0 and 2 are user 2, row 1 is user 0
    pos = torch.cat([POS, f64([0.0])])
    neg = torch.cat([NEG, f64([[1.0, 2.0]]).log()])
    close(losses.softmax(pos, neg, group=torch.tensor([2, 0, 2])), -log((1 / 3 + 1 / 4) / 4) / 2)
    close(losses.softmax(pos, neg, group=torch.tensor([1, 1, 1])), -log(1 / 3 + 1 / 4 + 1 / 4))


def test_softmax_by_hand_divides_the_negatives_by_their_expected_count():
    # user 0: 1/(2 q) + 3/(2 q) = 2 + 3 at q = 1/4, 1/2; user 1: 4/(2 q) + 5/(2 q) = 2 + 10
    log_q = f64([[1 / 4, 1 / 2], [1.0, 1 / 4]]).log()
    group = torch.tensor([0, 1])
    close(losses.softmax(POS, NEG, group=group, log_q=log_q), -log(2 / 7 * 3 / 15) / 2)


def test_infonce_by_hand():
    close(losses.infonce(POS, NEG), (log(6 / 2) + log(12 / 3)) / 2)


def test_infonce_plus_by_hand():
    # squares at lambda = 2: (2/2 + 4)^2 / 2, (3/2 + 9)^2 / 3; without the positive 4^2 / 2, 9^2 / 3
    close(losses.infonce_plus(POS, NEG, lambda_=2, eps=0.5), log(25 / 2 * 36.75) / 2)
    close(losses.infonce_plus(POS, NEG, lambda_=2, eps=0), log(8 * 27) / 2)


def test_dcl_by_hand():
    close(losses.dcl(POS, NEG), (log(4 / 2) + log(9 / 3)) / 2)


def test_mine_by_hand():
    close(losses.mine(POS, NEG), (log(2 / 2) + log(4.5 / 3)) / 2)


def test_mine_plus_by_hand():
    close(losses.mine_plus(POS, NEG, lambda_=2), (log(2**2 / 2) + log(4.5**2 / 3)) / 2)


def test_debiased_infonce_by_hand():
    # f = (2 - 3/4) / (1/2) = 5/2 and (9/2 - 5/4) / (3/4) = 13/3, both above the floor e^-2
    chosen = {"prior": f64([0.5, 0.25]), "temperature": 0.5, "lambda_n": 3}
    loss = losses.debiased_infonce(POS, NEG, extra=EXTRA, **chosen)
    close(loss, (log((2 + 3 * 2.5) / 2) + log((3 + 3 * 13 / 3) / 3)) / 2)


@pytest.mark.parametrize(("many", "f"), [(8.8, 0.6), (9.2, 0.5), (12.0, 0.5)])
def test_debiased_infonce_by_hand_stops_at_the_floor(many, f):
    # mean e^extra of row 1 is 8.4, 8.6, 10: 2 (4.5 - 8.4 / 2) = 0.6, then 0.4 and -1; floor 1/2
    extra = f64([[1.0, 2.0], [8.0, many]]).log()
    chosen = {"prior": f64([0.5, 0.5]), "temperature": 1 / log(2), "lambda_n": 2}
    loss = losses.debiased_infonce(POS, NEG, extra=extra, **chosen)
    close(loss, (log((2 + 2 * 2.5) / 2) + log((3 + 2 * f) / 3)) / 2)


def test_mse_by_hand():
    # 0.25 + 3 * 0.26 / 2 and 2.25 + 3 * 0.2 / 2
    close(losses.mse(POS_PLAIN, NEG_PLAIN, lambda_=3), (0.64 + 2.55) / 2)


OF_USER = {"prior": f64([0.2, 0.1]), "row_weight": f64([5.0, 30.0])}


def test_debiased_mse_by_hand():
    # 5 (0.2 * 0.25 + 3 (0.13 - 0.2 * 0.05)) and 30 (0.1 * 2.25 + 3 (0.1 - 0.1 * 0.2))
    loss = losses.debiased_mse(POS_PLAIN, NEG_PLAIN, extra=EXTRA_PLAIN, **OF_USER, lambda_=3)
    close(loss, (2.05 + 13.95) / 2)


def test_ccl_by_hand():
    # 0.5 + 10 * (0.4 + 0) / 2 and 1.5 + 10 * (0.1 + 0.3) / 2
    close(losses.ccl(POS_PLAIN, NEG_PLAIN, weight=10, margin=0.1), (2.5 + 3.5) / 2)


def test_debiased_ccl_by_hand():
    # 5 (0.2 * 0.5 + 4 (0.2 - 0.2 * 0.1)) and 30 (0.1 * 1.5 + 4 (0.2 - 0.1 * 0.25))
    chosen = {"lambda_n": 4, "margin": 0.1} | OF_USER
    close(losses.debiased_ccl(POS_PLAIN, NEG_PLAIN, extra=EXTRA_PLAIN, **chosen), (4.1 + 25.5) / 2)


# What is known of them


def same_gradients(one: dict, other: dict) -> None:
    for score in ("pos", "neg"):
        torch.testing.assert_close(one[score], other[score])


@pytest.mark.parametrize("lambda_", [0.9, 1.0, 1.1, 1.2])
def test_fact_1_mine_plus_is_infonce_plus_at_eps_zero_up_to_a_constant(lambda_):
    data = draw(scale=5)
    data["pos"] += 100  # so that any eps but 0 shows
    plus = gradients("mine_plus", data, lambda_=lambda_)
    info = gradients("infonce_plus", data, lambda_=lambda_, eps=0.0)
    same_gradients(plus, info)
    close(info["loss"] - plus["loss"], lambda_ * log(5))


def test_fact_1_mine_is_dcl_up_to_a_constant_and_both_are_the_plus_forms_at_lambda_one():
    data = draw(scale=5)
    mine, dcl = gradients("mine", data), gradients("dcl", data)
    same_gradients(mine, dcl)
    close(dcl["loss"] - mine["loss"], log(5))
    close(mine["loss"], float(call("mine_plus", data, lambda_=1.0)))
    close(dcl["loss"], float(call("infonce_plus", data, lambda_=1.0, eps=0.0)))


def test_fact_2_infonce_plus_one_one_is_infonce():
    data = draw(scale=5)
    plus, info = gradients("infonce_plus", data, lambda_=1.0, eps=1.0), gradients("infonce", data)
    torch.testing.assert_close(plus, info)


def test_fact_2_debiased_infonce_at_prior_zero_and_lambda_n_equal_to_n_is_infonce():
    data = draw(scale=3)
    data["neg"] = data["neg"].clamp(-4.9, 4.9)  # above the floor, as cosine / t is
    data["extra"] *= 100  # so that any prior but 0 shows
    data["prior"] = torch.zeros_like(data["prior"])
    one, other = gradients("debiased_infonce", data, lambda_n=5), gradients("infonce", data)
    torch.testing.assert_close(one["loss"], other["loss"])
    same_gradients(one, other)
    assert torch.equal(one["extra"], torch.zeros_like(one["extra"]))


@pytest.mark.parametrize(("name", "twin"), [("debiased_ccl", "ccl"), ("debiased_mse", "mse")])
def test_one_prior_for_all_and_the_mean_over_pairs_is_debiasing_with_one_over_tau_minus(name, twin):
    """With tau for all and weight w tau / (1 - tau): the positive term plus w / (1 - tau) times the
    corrected negative one, which is the form of Chuang et al. with a margin or a square.
    """
    data, tau, w = draw(), 0.3, 7.0
    data |= {
        "prior": torch.full((6,), tau).double(),
        "row_weight": torch.full((6,), 1 / tau).double(),
    }
    weight = {"lambda_n" if twin == "ccl" else "lambda_": w * tau / (1 - tau)}
    own = {"margin": 0.2} if twin == "ccl" else {}
    term = (lambda y: (y - 0.2).relu().mean(1)) if twin == "ccl" else (lambda y: y.square().mean(1))
    pos = 1 - data["pos"] if twin == "ccl" else (1 - data["pos"]).square()
    corrected = (term(data["neg"]) - tau * term(data["extra"])) / (1 - tau)
    close(call(name, data, **weight, **own), float((pos + w * corrected).mean()))


def test_the_mean_over_rows_weighted_by_user_is_the_papers_mean_over_users():
    """Eq. 19 and 23 with every pair, every item and every observed item enumerated."""
    rng = torch.Generator().manual_seed(0)
    y = torch.rand(4, 9, generator=rng, dtype=torch.float64)
    observed = [[0], [1, 5], [2, 3, 8], [0, 4, 6, 7]]
    train = interactions([(u, i) for u, items in enumerate(observed) for i in items], 4, 9)
    prior = class_prior(train, {"rule": "more", "k": 2})
    weight = row_weights(train, "per_user")
    lambda_n, margin = 0.6, 0.4

    def exact(positive, negative):
        means = []
        for u, items in enumerate(observed):
            tau = (len(items) + 2) / 9
            inner = tau * positive(y[u, items]).mean()
            inner += lambda_n * (negative(y[u]).mean() - tau * negative(y[u, items]).mean())
            means.append(inner)
        return torch.stack(means).mean()

    users = torch.from_numpy(train.users).long()
    data = {
        "pos": y[users, torch.from_numpy(train.items).long()],
        "neg": y[users],
        # Each user's items equally often, in rows of equal length.
        "extra": torch.stack([y[u, observed[u] * (12 // len(observed[u]))] for u in users]),
        "prior": torch.from_numpy(prior).double()[users],
        "row_weight": torch.from_numpy(weight).double()[users],
    }
    scale = 9 / (len(train) / 4)  # |I| over the mean of |I_u+|
    ccl = exact(lambda v: 1 - v, lambda v: (v - margin).relu())
    mse = exact(lambda v: (1 - v).square(), torch.square)
    found = call("debiased_ccl", data, lambda_n=lambda_n, margin=margin)
    torch.testing.assert_close(found, scale * ccl, rtol=1e-6, atol=0)
    found = call("debiased_mse", data, lambda_=lambda_n)
    torch.testing.assert_close(found, scale * mse, rtol=1e-6, atol=0)
    # Over pairs alike, users with many items count more: another number.
    data["row_weight"] = torch.from_numpy(row_weights(train, "per_pair")).double()[users]
    other = call("debiased_mse", data, lambda_=lambda_n)
    assert abs(float(other / (scale * mse)) - 1) > 0.01


def test_fact_3_mine_plus_pulls_with_one_and_pushes_with_lambda_softmax():
    found = gradients("mine_plus", {"pos": POS, "neg": NEG}, lambda_=1.2)
    torch.testing.assert_close(found["pos"], f64([-0.5, -0.5]))
    softmax = f64([[1 / 4, 3 / 4], [4 / 9, 5 / 9]])
    torch.testing.assert_close(found["neg"], 1.2 * softmax / 2)


@pytest.mark.parametrize("name", ["infonce_plus", "mine_plus"])
@pytest.mark.parametrize("lambda_", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_fact_3_a_common_shift_changes_the_loss_by_lambda_minus_one(name, lambda_, shift):
    data = draw()
    moved = data | {"pos": data["pos"] + shift, "neg": data["neg"] + shift}
    change = call(name, moved, lambda_=lambda_) - call(name, data, lambda_=lambda_)
    torch.testing.assert_close(change, f64((lambda_ - 1) * shift))


difference = st.floats(-30, 30) | st.floats(-1e6, 1e6)
differences = st.lists(difference, min_size=1, max_size=40)


def one_pair(pos: float, d: list[float]) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return one row of scores, its d_j as rounded, and the rounding that a bound must allow."""
    scores = f64([pos]), pos + f64([d])
    d = (scores[1] - scores[0]).flatten()
    return *scores, d, 1e-9 * (1 + abs(pos) + float(d.abs().sum()))


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), differences)
def test_fact_4_infonce_is_bounded_below(pos, d):
    pos, neg, d, rounding = one_pair(pos, d)
    assert losses.infonce(pos, neg) >= log(1 + len(d)) + d.sum() / (1 + len(d)) - rounding


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), differences)
def test_fact_4_mine_is_bounded_below(pos, d):
    pos, neg, d, rounding = one_pair(pos, d)
    assert losses.mine(pos, neg) >= d.mean() - rounding


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), differences)
def test_fact_4_summed_bpr_is_bounded_below(pos, d):
    pos, neg, d, rounding = one_pair(pos, d)
    assert len(d) * losses.bpr(pos, neg) >= len(d) * log(2) + d.sum() / 2 - rounding


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.integers(1, 40))
def test_fact_4_the_bounds_are_reached_where_all_scores_are_equal(pos, n):
    pos, neg, _, _ = one_pair(pos, [0.0] * n)
    close(losses.infonce(pos, neg), log(1 + n))
    close(losses.mine(pos, neg), 0.0)
    close(n * losses.bpr(pos, neg), n * log(2))


def test_debiased_ccl_only_corrects_positives_above_the_margin():
    extra = f64([[0.3, 0.1], [-0.2, 0.6]])
    data = {"pos": POS_PLAIN, "neg": NEG_PLAIN, "extra": extra} | OF_USER
    found = gradients("debiased_ccl", data, lambda_n=4.0, margin=0.2)
    above = f64([[1.0, 0.0], [0.0, 1.0]])
    share = OF_USER["prior"] * OF_USER["row_weight"] / 2  # of a row's positive term in the mean
    torch.testing.assert_close(found["pos"], -share)
    torch.testing.assert_close(found["extra"], -4 * share[:, None] * above / 2)


# The softmax's groups and proposal


def test_softmax_is_infonce_when_every_user_appears_once():
    data = draw()
    del data["log_q"]
    alone = gradients("softmax", data | {"group": torch.tensor([5, 3, 0, 1, 2, 4])})
    torch.testing.assert_close(alone, gradients("infonce", data))


def test_softmax_agrees_with_a_loop_over_users():
    data = draw(scale=5)
    p = {r: math.exp(data["pos"][r]) for r in range(6)}
    s = (data["neg"] - data["log_q"]).exp().mean(1).tolist()
    users = [(0, 4), (1, 5), (2,), (3,)]  # the rows of draw()'s group
    expected = [-log(sum(p[r] / (p[r] + s[r]) for r in rows)) for rows in users]
    close(call("softmax", data), sum(expected) / 4)


def test_log_q_of_a_uniform_proposal_shifts_the_negatives_by_log_items_over_n():
    data = draw() | {"log_q": f64([[-log(1000)] * 5] * 6)}
    shifted = data["neg"] + log(1000 / 5)
    close(call("softmax", data), float(losses.softmax(data["pos"], shifted, group=data["group"])))


def test_log_q_changes_nothing_when_the_negatives_are_all_items_once():
    data = draw() | {"log_q": f64([[-log(5)] * 5] * 6)}
    plain = losses.softmax(data["pos"], data["neg"], group=data["group"])
    close(call("softmax", data), float(plain))


# Numerics


@every_loss
def test_gradients_agree_with_finite_differences(name):
    data = draw()
    margins = torch.cat([data["neg"].flatten(), data["extra"].flatten()]) - 0.2
    assert margins.abs().min() > 1e-3, "gradcheck would straddle the kink of a margin"
    taken = [k for k in ("pos", "neg", *data_arguments(name)) if k != "group"]

    def loss(*scores: Tensor) -> Tensor:
        return call(name, data | dict(zip(taken, scores, strict=True)))

    assert torch.autograd.gradcheck(loss, [data[k].requires_grad_() for k in taken])


def test_debiased_infonce_at_the_floor_has_the_gradient_of_a_constant():
    data = draw() | {"extra": f64([[9.0], [-9.0], [9.0], [-9.0], [-9.0], [9.0]])}
    found = gradients("debiased_infonce", data)
    floored = data["extra"].flatten() > 0
    assert (found["neg"][floored] == 0).all() and (found["extra"][floored] == 0).all()
    assert (found["neg"][~floored] != 0).all() and (found["extra"][~floored] != 0).all()
    constant = (
        log(SETTINGS["debiased_infonce"]["lambda_n"])
        - 1 / SETTINGS["debiased_infonce"]["temperature"]
    )
    slope = -torch.sigmoid(constant - data["pos"][floored]) / 6
    torch.testing.assert_close(found["pos"][floored], slope)


@pytest.mark.parametrize("value", [-1e3, 0.0, 1e3])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.999])
def test_debiased_infonce_is_finite_where_the_difference_is_zero(value, tau):
    same = torch.full((1, 4), value)
    extra = torch.full((1, 2), value - (log(tau) if tau else 0))
    data = {"pos": torch.tensor([value]), "neg": same, "extra": extra}
    found = gradients("debiased_infonce", data | {"prior": torch.tensor([tau])}, temperature=0.01)
    assert all(v.isfinite().all() for v in found.values())


SIGNS = list(itertools.product([-1e3, 1e3], repeat=3))


@every_loss
@pytest.mark.parametrize(("pos", "neg", "extra"), [*SIGNS, ("random",) * 3])
@pytest.mark.parametrize("at_zero", [False, True], ids=["", "eps and prior zero"])
def test_huge_scores_give_finite_float32_values_and_gradients(name, pos, neg, extra, at_zero):
    data = draw(scale=1e3 if pos == "random" else 1.0)
    if pos != "random":
        data = data | {"pos": data["pos"] + pos, "neg": data["neg"] + neg}
        data["extra"] = data["extra"] + extra
    zero = {"eps": 0.0} if at_zero and "eps" in SETTINGS[name] else {}
    if at_zero:
        data["prior"] = torch.zeros_like(data["prior"])
    double = gradients(name, data, **zero)
    single = {k: v.float() if v.is_floating_point() else v for k, v in data.items()}
    single = gradients(name, single, **zero)
    assert all(v.isfinite().all() for v in single.values())
    for key, value in double.items():
        torch.testing.assert_close(single[key].double(), value, rtol=5e-3, atol=1e-3)


@every_loss
def test_float32_agrees_with_float64(name):
    double = gradients(name, draw(64, 100, 4))
    single = gradients(name, draw(64, 100, 4, dtype=torch.float32))
    for key, value in double.items():
        assert single[key].dtype == torch.float32
        torch.testing.assert_close(single[key].double(), value, rtol=1e-5, atol=1e-6)


@every_loss
def test_no_step_reads_a_value_or_shapes_itself_by_one(name):
    # a meta tensor has a shape and no values: .item(), unique() or a mask's indices would raise
    meta = {k: v.to("meta") for k, v in draw().items()}
    found = gradients(name, meta)
    assert found["loss"].shape == () and all(v.device.type == "meta" for v in found.values())


@every_loss
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_captures_value_and_gradient(name):
    expected = gradients(name, draw())
    static = {k: v.cuda() for k, v in draw().items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        gradients(name, static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradients(name, static)
    graph.replay()
    torch.testing.assert_close({k: v.cpu() for k, v in found.items()}, expected)


# Names and settings


def test_the_table_holds_the_twelve_losses_under_their_own_names():
    assert list(LOSSES) == list(SETTINGS)
    assert all(getattr(losses, name) is loss for name, loss in LOSSES.items())


@every_loss
def test_hyper_parameters_are_the_settings_without_the_trailing_underscore(name):
    assert list(hyper_parameters(name)) == [k.rstrip("_") for k in SETTINGS[name]]


def test_data_arguments_are_told_from_settings():
    expected = dict.fromkeys(SETTINGS, ())
    expected |= dict.fromkeys(DEBIASED, ("extra", "prior", "row_weight"))
    expected["debiased_infonce"] = ("extra", "prior")
    expected["softmax"] = ("group", "log_q")
    assert {name: data_arguments(name) for name in SETTINGS} == expected


@every_loss
def test_no_hyper_parameter_has_a_default(name):
    parameters = inspect.signature(LOSSES[name]).parameters
    assert [k for k, p in parameters.items() if p.default is not p.empty] in ([], ["log_q"])


def test_the_example_of_the_module_runs():
    result = doctest.testmod(losses)
    assert result.attempted > 0 and result.failed == 0
