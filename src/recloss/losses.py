r"""The losses of arXiv 2312.08520: one pure function each, on a matrix of scores.

A row is one observed pair (u, i): its score y_ui, its N sampled negatives j, its M extra positives
k of the same user, all already divided by the temperature t (CCL and MSE have none). Equations are
numbered as in that paper.

    pos    (B,)    y_ui
    neg    (B, N)  y_uj
    extra  (B, M)  y_uk, for the debiased losses
    prior  (B,)    tau_u+, the class prior of the row's user: the share of all items that u likes
    row_weight (B,)  what a row counts in the debiased CCL and MSE: see `debiased_mean`
    group  (B,)    int64 in [0, B), the user of a row; rows of one user share a value
    log_q  (B, N)  log of the probability q_j that one draw of the sampler gives item j

Each returns the mean over the batch, a scalar. Nothing waits for the device or has a shape that
depends on data, so a step can be captured in a CUDA graph.

>>> pos, neg = torch.tensor([0.5, 0.25]), torch.tensor([[0.0, 0.5], [-0.5, 0.25]])
>>> mine_plus(pos, neg, lambda_=1.1)
tensor(-0.2514)
>>> hyper_parameters("mine_plus"), data_arguments("debiased_infonce")
(('lambda',), ('extra', 'prior'))
"""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus


def log_mean_exp(y: Tensor) -> Tensor:
    """Return log mean_j e^{y_uj} of each row: (B, N) -> (B,)."""
    return y.logsumexp(1) - math.log(y.shape[1])


def bpr(pos: Tensor, neg: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean_j log(1 + e^{y_uj - y_ui}).

    Eq. 1 sums over j: N times this, a scale to which Adam is blind.
    """
    return softplus(neg - pos[:, None]).mean()


def softmax(pos: Tensor, neg: Tensor, *, group: Tensor, log_q: Tensor | None = None) -> Tensor:
    """Sampled softmax, Eq. 3, mean over users.

    -log sum_{i in I_u+} e^{y_ui} / (e^{y_ui} + sum_j e^{y_uj}), I_u+ being the batch's positives of
    u. `log_q` subtracts log(N q_j) from y_uj (logQ correction), which makes sum_j e^{y_uj} unbiased
    for all items.
    """
    if log_q is not None:
        neg = neg - (math.log(neg.shape[1]) + log_q)
    log_p = logsigmoid(pos - neg.logsumexp(1))
    # logsumexp by group; a value of [0, B) that no row has gets peak 0 and sum 1, so log sum 0
    zeros = torch.zeros_like(pos)
    present = zeros.index_fill(0, group, 1.0)
    peak = zeros.scatter_reduce(0, group, log_p.detach(), "amax", include_self=False)
    total = (1 - present).index_add(0, group, (log_p - peak[group]).exp())
    return -(peak + total.log()).sum() / present.sum()


def infonce(pos: Tensor, neg: Tensor) -> Tensor:
    """InfoNCE, Eq. 5: -log e^{y_ui} / (e^{y_ui} + sum_j e^{y_uj}), the negatives from all items."""
    return softplus(neg.logsumexp(1) - pos).mean()


def infonce_plus(pos: Tensor, neg: Tensor, *, lambda_: float, eps: float) -> Tensor:
    """InfoNCE+, Eq. 6: -y_ui + lambda log(eps e^{y_ui} + sum_j e^{y_uj})."""
    log_eps = math.log(eps) if eps else -math.inf
    return (lambda_ * torch.logaddexp(pos + log_eps, neg.logsumexp(1)) - pos).mean()


def dcl(pos: Tensor, neg: Tensor) -> Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022, arXiv 2110.06848), Eq. 7: InfoNCE+ at (1, 0)."""
    return (neg.logsumexp(1) - pos).mean()


def mine(pos: Tensor, neg: Tensor) -> Tensor:
    """MINE (Belghazi et al. 2018, arXiv 1801.04062), Eq. 9: -y_ui + log mean_j e^{y_uj}.

    The negatives j are drawn from all items, observed ones included.
    """
    return (log_mean_exp(neg) - pos).mean()


def mine_plus(pos: Tensor, neg: Tensor, *, lambda_: float) -> Tensor:
    """MINE+, Eq. 10, up to a constant: -y_ui + lambda log mean_j e^{y_uj}."""
    return (lambda_ * log_mean_exp(neg) - pos).mean()


def debiased_infonce(
    pos: Tensor,
    neg: Tensor,
    *,
    extra: Tensor,
    prior: Tensor,
    lambda_n: float,
    temperature: float,
) -> Tensor:
    """Debiased InfoNCE, Eq. 16: -log e^{y_ui} / (e^{y_ui} + lambda_n f).

    f = max{ (mean_j e^{y_uj} - tau_u+ mean_k e^{y_uk}) / tau_u-, e^{-1/t} }, tau_u- = 1 - tau_u+,
    t = `temperature`; the floor is printed as e^{1/t}, the text says e^{-1/t}. lambda_n = N is the
    form of Chuang et al. 2020 (arXiv 2007.00224).
    """
    log_floor = -1 / temperature
    log_complement = (-prior).log1p()
    a = log_mean_exp(neg)
    b = log_mean_exp(extra) + prior.log()
    # e^a - e^b = e^a (1 - e^{b-a}). Rows at the floor get a harmless b - a *before* the log:
    # `where` does not stop the NaN that an infinite slope times zero would send back.
    above = a > torch.logaddexp(b, log_complement + log_floor)
    log_difference = a + (-torch.where(above, b - a, -1.0).expm1()).log()
    log_f = torch.where(above, log_difference - log_complement, log_floor)
    return softplus(math.log(lambda_n) + log_f - pos).mean()


def debiased_mean(
    positive: Tensor,
    drawn: Tensor,
    observed: Tensor,
    *,
    prior: Tensor,
    row_weight: Tensor,
    lambda_n: float,
) -> Tensor:
    """Return the mean over rows of the bracket of Eq. 19 and Eq. 23 times `row_weight`.

    tau_u+ positive + lambda_n ( drawn - tau_u+ observed ), each (B,): the term of the positive, and
    the means of the negative term over drawn items and over extra positives. Rows are pairs drawn
    uniformly from the observed ones. With row_weight = |I| / |I_u+| the mean is unbiased for the
    papers' mean over users, times |I| over the mean of |I_u+|; with one weight for all rows it is
    the bracket's mean over pairs, in which heavy users count more.
    """
    return (row_weight * (prior * positive + lambda_n * (drawn - prior * observed))).mean()


def mse(pos: Tensor, neg: Tensor, *, lambda_: float) -> Tensor:
    """Squared error, Eq. 20: (1 - y_ui)^2 + lambda mean_j y_uj^2."""
    return ((1 - pos).square() + lambda_ * neg.square().mean(1)).mean()


def debiased_mse(
    pos: Tensor,
    neg: Tensor,
    *,
    extra: Tensor,
    prior: Tensor,
    row_weight: Tensor,
    lambda_: float,
) -> Tensor:
    """Debiased squared error, Eq. 22 and 23, estimated by `debiased_mean`.

    E_u E_i { tau_u+ (1 - y_ui)^2 + lambda ( mean_j y_uj^2 - tau_u+ mean_k y_uk^2 ) }
    """
    return debiased_mean(
        (1 - pos).square(),
        neg.square().mean(1),
        extra.square().mean(1),
        prior=prior,
        row_weight=row_weight,
        lambda_n=lambda_,
    )


def ccl(pos: Tensor, neg: Tensor, *, weight: float, margin: float) -> Tensor:
    """Cosine contrastive loss (SimpleX, arXiv 2109.12613), Eq. 17.

    (1 - y_ui) + w mean_j [y_uj - m]_+
    """
    return ((1 - pos) + weight * relu(neg - margin).mean(1)).mean()


def debiased_ccl(
    pos: Tensor,
    neg: Tensor,
    *,
    extra: Tensor,
    prior: Tensor,
    row_weight: Tensor,
    lambda_n: float,
    margin: float,
) -> Tensor:
    """Debiased CCL, Eq. 19, estimated by `debiased_mean`.

    E_u { tau_u+ E_i (1 - y_ui) + lambda_n ( E_j [y_uj - m]_+ - tau_u+ E_k [y_uk - m]_+ ) }
    """
    return debiased_mean(
        1 - pos,
        relu(neg - margin).mean(1),
        relu(extra - margin).mean(1),
        prior=prior,
        row_weight=row_weight,
        lambda_n=lambda_n,
    )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "bpr": bpr,
    "softmax": softmax,
    "infonce": infonce,
    "infonce_plus": infonce_plus,
    "dcl": dcl,
    "mine": mine,
    "mine_plus": mine_plus,
    "debiased_infonce": debiased_infonce,
    "mse": mse,
    "debiased_mse": debiased_mse,
    "ccl": ccl,
    "debiased_ccl": debiased_ccl,
}

# The score at which a negative costs nothing, where that is not minus infinity.
FREE = {"mse": 0.0, "debiased_mse": 0.0}

DATA = ("extra", "prior", "row_weight", "group", "log_q")


def _keywords(name: str) -> list[str]:
    """Return the keyword-only parameters of the loss `name`, in the order of its signature."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def hyper_parameters(name: str) -> tuple[str, ...]:
    """Return the settings of the loss `name`, as the configuration calls them (`lambda`)."""
    return tuple(k.rstrip("_") for k in _keywords(name) if k not in DATA)


def data_arguments(name: str) -> tuple[str, ...]:
    """Return the keyword arguments of the loss `name` that are data rather than settings."""
    return tuple(k for k in _keywords(name) if k in DATA)
