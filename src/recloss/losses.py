r"""The losses of arXiv 2312.08520 and 2312.08517: one pure function each, on a matrix of scores.

A row is one observed pair (u, i): its score y_ui, its N sampled negatives j, its M extra positives
k of the same user, all already divided by the temperature t (CCL has none).

    pos    (B,)    y_ui
    neg    (B, N)  y_uj
    extra  (B, M)  y_uk, for the debiased losses; tau is the share of positives among the negatives
    group  (B,)    int64 in [0, B), the user of a row; rows of one user share a value
    log_q  (B, N)  log of the probability q_j that one draw of the sampler gives item j

Each returns the mean over the batch, a scalar. Nothing waits for the device or has a shape that
depends on data, so a step can be captured in a CUDA graph. Forms that the reports' summaries do not
spell out and that are derived here are marked so.

>>> pos, neg = torch.tensor([0.5, 0.25]), torch.tensor([[0.0, 0.5], [-0.5, 0.25]])
>>> mine_plus(pos, neg, lambda_=1.1)
tensor(-0.2514)
>>> hyper_parameters("mine_plus"), data_arguments("debiased_infonce")
(('lambda',), ('extra',))
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
    """Bayesian personalised ranking: mean_j softplus(y_uj - y_ui).

    The other usual form sums over j: N times this, a scale to which Adam is blind.
    """
    return softplus(neg - pos[:, None]).mean()


def softmax(pos: Tensor, neg: Tensor, *, group: Tensor, log_q: Tensor | None = None) -> Tensor:
    """Sampled softmax: -log sum_{i of u} e^{y_ui} / (e^{y_ui} + sum_j e^{y_uj}), mean over users.

    The log stands outside the sum over the batch's positives of one user. `log_q` subtracts
    log(N q_j) from y_uj (logQ correction), which makes sum_j e^{y_uj} unbiased for all items.
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
    """InfoNCE: -y_ui + log(e^{y_ui} + sum_j e^{y_uj}), that is softplus(log sum_j - y_ui)."""
    return softplus(neg.logsumexp(1) - pos).mean()


def infonce_plus(pos: Tensor, neg: Tensor, *, lambda_: float, eps: float) -> Tensor:
    """InfoNCE+ (arXiv 2312.08520): -y_ui + lambda log(eps e^{y_ui} + sum_j e^{y_uj})."""
    log_eps = math.log(eps) if eps else -math.inf
    return (lambda_ * torch.logaddexp(pos + log_eps, neg.logsumexp(1)) - pos).mean()


def dcl(pos: Tensor, neg: Tensor) -> Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022, arXiv 2110.06848): -y_ui + log sum_j e^{y_uj}.

    InfoNCE+ at lambda = 1, eps = 0.
    """
    return (neg.logsumexp(1) - pos).mean()


def mine(pos: Tensor, neg: Tensor) -> Tensor:
    """MINE (Belghazi et al. 2018, arXiv 1801.04062): -y_ui + log( (1/N) sum_j e^{y_uj} ).

    The negatives j are drawn from all items, observed ones included.
    """
    return (log_mean_exp(neg) - pos).mean()


def mine_plus(pos: Tensor, neg: Tensor, *, lambda_: float) -> Tensor:
    """MINE+ (arXiv 2312.08520): -y_ui + lambda log( (1/N) sum_j e^{y_uj} )."""
    return (lambda_ * log_mean_exp(neg) - pos).mean()


def debiased_infonce(
    pos: Tensor, neg: Tensor, *, extra: Tensor, tau: float, temperature: float
) -> Tensor:
    """Debiased InfoNCE (arXiv 2312.08517; Chuang et al. 2020, arXiv 2007.00224).

    -y_ui + log(e^{y_ui} + N g_u),
    g_u = max{ (mean_j e^{y_uj} - tau mean_k e^{y_uk}) / (1 - tau), e^{-1/t} }, t = `temperature`.
    """
    log_floor = -1 / temperature
    a = log_mean_exp(neg)
    b = log_mean_exp(extra) + (math.log(tau) if tau else -math.inf)
    # e^a - e^b = e^a (1 - e^{b-a}). Rows at the floor get a harmless b - a *before* the log:
    # `where` does not stop the NaN that an infinite slope times zero would send back.
    above = a > torch.logaddexp(b, torch.full_like(b, math.log1p(-tau) + log_floor))
    log_difference = a + (-torch.where(above, b - a, -1.0).expm1()).log()
    log_g = torch.where(above, log_difference - math.log1p(-tau), log_floor)
    return softplus(math.log(neg.shape[1]) + log_g - pos).mean()


def mse(pos: Tensor, neg: Tensor, *, lambda_: float) -> Tensor:
    """Squared error: (1 - y_ui)^2 + lambda mean_j y_uj^2 (derived form)."""
    return ((1 - pos).square() + lambda_ * neg.square().mean(1)).mean()


def debiased_mse(pos: Tensor, neg: Tensor, *, extra: Tensor, lambda_: float, tau: float) -> Tensor:
    """Debiased squared error (arXiv 2312.08517, derived form).

    (1 - y_ui)^2 + (lambda / (1 - tau)) ( mean_j y_uj^2 - tau mean_k y_uk^2 )
    """
    unobserved = (neg.square().mean(1) - tau * extra.square().mean(1)) / (1 - tau)
    return ((1 - pos).square() + lambda_ * unobserved).mean()


def ccl(pos: Tensor, neg: Tensor, *, weight: float, margin: float) -> Tensor:
    """Cosine contrastive loss (SimpleX, arXiv 2109.12613): (1 - y_ui) + w mean_j [y_uj - m]_+."""
    return ((1 - pos) + weight * relu(neg - margin).mean(1)).mean()


def debiased_ccl(
    pos: Tensor,
    neg: Tensor,
    *,
    extra: Tensor,
    weight: float,
    margin: float,
    tau: float,
    floor: bool,
) -> Tensor:
    """Debiased CCL (arXiv 2312.08520 and 2312.08517, derived form).

    (1 - y_ui) + (w / (1 - tau)) ( mean_j [y_uj - m]_+ - tau mean_k [y_uk - m]_+ );
    `floor` keeps the second term of each row at 0 or above.
    """
    observed, drawn = relu(extra - margin).mean(1), relu(neg - margin).mean(1)
    unobserved = (drawn - tau * observed) / (1 - tau)
    return ((1 - pos) + weight * (relu(unobserved) if floor else unobserved)).mean()


LOSSES: dict[str, Callable[..., Tensor]] = {
    loss.__name__: loss
    for loss in (
        bpr,
        softmax,
        infonce,
        infonce_plus,
        dcl,
        mine,
        mine_plus,
        debiased_infonce,
        mse,
        debiased_mse,
        ccl,
        debiased_ccl,
    )
}

DATA = ("extra", "group", "log_q")


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
