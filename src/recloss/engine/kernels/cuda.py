"""CUDA kernels (Triton). What each computes is defined beside its caller, in plain PyTorch.

B users, K sampled items each, I items, D dimensions; vectors are contiguous float32,
offsets into tables 64 bits wide. Nothing waits for the device, so that a step can be captured in a
CUDA graph. The gradient of the table is added up by atomics, in whatever order the device takes;
under `torch.use_deterministic_algorithms` it is summed item by item after a stable sort.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recloss.engine import optim
from recloss.engine.sampling import Draws

WORDS = 256  # drawn by a program
VALUES = 2048  # of vectors held by a program at a time
PARAMETERS = 1024  # updated by a program
PARTS = 256  # partial sums of a norm


def check() -> None:
    """Raise what is wrong if the kernels cannot run here."""
    words(0, torch.zeros(2, dtype=torch.int64, device="cuda"), 1, 1)


# Draws


@triton.jit
def _word(key, row, k, count, attempt, clock):
    """Return the words k of a row of a step: `sampling.words`."""
    quads = tl.maximum((count + 3) // 4, 1)  # nothing to draw, nothing to divide by
    place, zeros = row * quads + k % quads, k * 0
    w0, w1, w2, w3 = tl.philox(
        key,
        place.to(tl.uint32),
        (zeros + attempt).to(tl.uint32),
        (zeros + tl.load(clock + 1)).to(tl.uint32),
        (zeros + tl.load(clock)).to(tl.uint32),
    )
    j = k // quads
    return tl.where(j == 0, w0, tl.where(j == 1, w1, tl.where(j == 2, w2, w3))).to(tl.uint64)


@triton.jit
def _item(word, n_items, accept, other, POPULAR: tl.constexpr):
    product = word * n_items
    i = (product >> 32).to(tl.int32)
    if POPULAR:
        share = (product & 0xFFFFFFFF).to(tl.uint32).to(tl.float32) * (2.0**-32)
        i = tl.where(share < tl.load(accept + i), i, tl.load(other + i))
    return i


@triton.jit
def _contains(values, low, high, wanted):
    """Tell of each of `wanted` whether the ascending values[low:high] hold it."""
    left, right = wanted * 0 + low, wanted * 0 + high
    while tl.max(right - left, 0) > 0:
        middle = (left + right) // 2
        open = left < right
        less = tl.load(values + middle, mask=open, other=0) < wanted
        left = tl.where(open & less, middle + 1, left)
        right = tl.where(open & (less == 0), middle, right)
    return (left < high) & (tl.load(values + left, mask=left < high, other=0) == wanted)


@triton.jit
def _draw(
    ids,
    clock,
    users,
    items,
    batch_size,
    negatives,
    extra,
    key,
    extra_key,
    n_items,
    accept,
    other,
    first,
    observed,
    POPULAR: tl.constexpr,
    EXCLUDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    pair = tl.load(clock + 1) * batch_size + row
    user = tl.load(users + pair)
    low, high = tl.load(first + user), tl.load(first + user + 1)
    out = ids + row * (1 + negatives + extra)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)

    word = _word(key, row, k, negatives, 0, clock)
    item = _item(word, n_items, accept, other, POPULAR)
    if EXCLUDE:
        attempt = 0
        hit = _contains(observed, low, high, item) & (k < negatives)
        while tl.max(hit.to(tl.int32), 0) > 0:
            attempt += 1
            word = _word(key, row, k, negatives, attempt, clock)
            again = _item(word, n_items, accept, other, POPULAR)
            item = tl.where(hit, again, item)
            hit = _contains(observed, low, high, item) & (k < negatives)
    tl.store(out + 1 + k, item, mask=k < negatives)

    if extra > 0:
        word = _word(extra_key, row, k, extra, 0, clock)
        offset = (word * (high - low).to(tl.uint64)) >> 32
        mask = k < extra
        item = tl.load(observed + low + offset.to(tl.int64), mask=mask, other=0)
        tl.store(out + 1 + negatives + k, item, mask=mask)

    if tl.program_id(1) == 0:
        tl.store(out, tl.load(items + pair))


def draw(draws: Draws, clock: Tensor, users: Tensor, items: Tensor, size: int) -> Tensor:
    """See `sampling.draw`."""
    shape = (size, 1 + draws.negatives + draws.extra)
    ids = torch.empty(shape, dtype=torch.int32, device=clock.device)
    if size:
        _draw[(size, triton.cdiv(max(draws.negatives, draws.extra, 1), WORDS))](
            ids,
            clock,
            users,
            items,
            draws.batch_size,
            draws.negatives,
            draws.extra,
            draws.key,
            draws.extra_key,
            draws.n_items,
            draws.accept,
            draws.other,
            draws.first,
            draws.items,
            POPULAR=len(draws.accept) > 0,
            EXCLUDE=draws.exclude,
            BLOCK=WORDS,
        )
    return ids


@triton.jit
def _all_words(out, key, clock, rows, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    word = _word(key, at // count, at % count, count, 0, clock)
    tl.store(out + at, word.to(tl.int64), mask=at < rows * count)


def words(key: int, clock: Tensor, rows: int, count: int) -> Tensor:
    """See `sampling.words`."""
    out = torch.empty((rows, count), dtype=torch.int64, device=clock.device)
    if out.numel():
        _all_words[(triton.cdiv(out.numel(), WORDS),)](out, key, clock, rows, count, BLOCK=WORDS)
    return out


# Scores


@triton.jit
def _inverse(square):
    """Return 1 / the root, and 0 for 0."""
    return tl.where(square > 0, 1 / tl.sqrt(tl.where(square > 0, square, 1.0)), 0.0)


@triton.jit
def _unit(users, row, d, dim, COSINE: tl.constexpr):
    """Return the vector (1, D) of a user and its inverse norm; with COSINE, of norm 1."""
    vector = tl.load(users + row * dim + d, mask=d < dim, other=0.0)
    scale = _inverse(tl.sum(vector * vector, 1))
    if COSINE:
        vector *= scale[:, None]
    return vector, scale


@triton.jit
def _scores(
    out, users, table, ids, count, dim, COSINE: tl.constexpr, K: tl.constexpr, D: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, D)[None, :]
    user, _ = _unit(users, row, d, dim, COSINE)
    k = tl.program_id(1) * K + tl.arange(0, K)
    item = tl.load(ids + row * count + k, mask=k < count, other=0).to(tl.int64)
    vectors = tl.load(table + item[:, None] * dim + d, mask=d < dim, other=0.0)
    score = tl.sum(vectors * user, 1)
    if COSINE:
        score *= _inverse(tl.sum(vectors * vectors, 1))
    tl.store(out + row * count + k, score, mask=k < count)


@triton.jit
def _gradients(
    for_users,
    for_table,
    grad,
    users,
    table,
    ids,
    count,
    dim,
    COSINE: tl.constexpr,
    ATOMIC: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, D)[None, :]
    user, user_scale = _unit(users, row, d, dim, COSINE)
    total = tl.zeros((1, D), tl.float32)
    for begin in range(0, count, K):
        k = begin + tl.arange(0, K)
        item = tl.load(ids + row * count + k, mask=k < count, other=0).to(tl.int64)
        weight = tl.load(grad + row * count + k, mask=k < count, other=0.0)
        at = item[:, None] * dim + d
        vectors = tl.load(table + at, mask=d < dim, other=0.0)
        if COSINE:
            scale = _inverse(tl.sum(vectors * vectors, 1))
            vectors *= scale[:, None]
        total += tl.sum(vectors * weight[:, None], 0)[None, :]
        if ATOMIC:
            share = user + tl.zeros((K, D), tl.float32)
            if COSINE:  # what would only lengthen the vector drops out
                share = (user - tl.sum(vectors * user, 1)[:, None] * vectors) * scale[:, None]
            mask = (k[:, None] < count) & (d < dim)
            tl.atomic_add(for_table + at, weight[:, None] * share, mask=mask, sem="relaxed")
    if COSINE:
        total = (total - tl.sum(total * user, 1)[:, None] * user) * user_scale[:, None]
    tl.store(for_users + row * dim + d, total, mask=d < dim)


@triton.jit
def _table_gradient(
    for_table,
    grad,
    users,
    table,
    entries,
    first,
    count,
    dim,
    COSINE: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
):
    item = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, D)[None, :]
    low, high = tl.load(first + item), tl.load(first + item + 1)
    total = tl.zeros((1, D), tl.float32)
    for begin in range(low, high, K):
        at = begin + tl.arange(0, K)
        entry = tl.load(entries + at, mask=at < high, other=0)
        weight = tl.load(grad + entry, mask=at < high, other=0.0)
        vectors = tl.load(users + (entry // count)[:, None] * dim + d, mask=d < dim, other=0.0)
        if COSINE:
            vectors *= _inverse(tl.sum(vectors * vectors, 1))[:, None]
        total += tl.sum(vectors * weight[:, None], 0)[None, :]
    if COSINE:
        vector, scale = _unit(table, item, d, dim, COSINE)
        total = (total - tl.sum(total * vector, 1)[:, None] * vector) * scale[:, None]
    tl.store(for_table + item * dim + d, total, mask=d < dim)


def scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> tuple[Tensor, Any]:
    """Return the scores (B, K), see `scores.sampled_scores`, and what `gradients` needs."""
    (rows, count), dim = ids.shape, table.shape[1]
    out = torch.empty((rows, count), device=table.device)
    width = triton.next_power_of_2(dim)
    sizes = {"COSINE": cosine, "K": max(VALUES // width, 1), "D": width}
    if out.numel():
        grid = (rows, triton.cdiv(count, sizes["K"]))
        _scores[grid](out, users, table, ids, count, dim, **sizes)
    return out, (users, table, ids, sizes)


def gradients(grad: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    """Return the gradients by the users (B, D) and the table (I, D) from that by the scores."""
    users, table, ids, sizes = state
    (rows, count), (n_items, dim) = ids.shape, table.shape
    atomic = not torch.are_deterministic_algorithms_enabled()
    for_users, for_table = torch.zeros_like(users), torch.zeros_like(table)
    if ids.numel() == 0:
        return for_users, for_table
    arguments = (for_users, for_table, grad, users, table, ids, count, dim)
    _gradients[(rows,)](*arguments, ATOMIC=atomic, **sizes)
    if not atomic:
        by_item, entries = ids.view(-1).sort(stable=True)
        items = torch.arange(n_items + 1, dtype=by_item.dtype, device=ids.device)
        first = torch.searchsorted(by_item, items)
        _table_gradient[(n_items,)](
            for_table, grad, users, table, entries, first, count, dim, **sizes
        )
    return for_users, for_table


# Adam


@triton.jit
def _square_sums(sums, values, n, BLOCK: tl.constexpr):
    part = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for begin in range(part * BLOCK, n, tl.num_programs(0) * BLOCK):
        at = begin + tl.arange(0, BLOCK)
        value = tl.load(values + at, mask=at < n, other=0.0)
        total += value * value
    tl.store(sums + part, tl.sum(total, 0))


@triton.jit
def _adam(
    values,
    gradient,
    mean,
    square,
    n,
    sums,
    n_sums,
    count,
    rate,
    clip_norm,
    clip_epsilon,
    log_beta1: tl.constexpr,
    log_beta2: tl.constexpr,
    epsilon,
    CLIP: tl.constexpr,
    SUMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    factor = 1.0
    if CLIP:
        part = tl.arange(0, SUMS)
        norm = tl.sqrt(tl.sum(tl.load(sums + part, mask=part < n_sums, other=0.0), 0))
        factor = tl.minimum(clip_norm / (norm + clip_epsilon), 1.0)
    # In double precision: 1 - beta^count has few digits left in single.
    exponent = tl.load(count).to(tl.float64)
    correction1 = (1 - tl.exp(exponent * log_beta1)).to(tl.float32)
    correction2 = (1 - tl.exp(exponent * log_beta2)).to(tl.float32)
    one_minus1 = (1 - tl.exp(exponent * 0 + log_beta1)).to(tl.float32)
    one_minus2 = (1 - tl.exp(exponent * 0 + log_beta2)).to(tl.float32)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    g = tl.load(gradient + at, mask=mask, other=0.0) * factor
    m, s = tl.load(mean + at, mask=mask, other=0.0), tl.load(square + at, mask=mask, other=0.0)
    m += (g - m) * one_minus1
    s += (g * g - s) * one_minus2
    value = tl.load(values + at, mask=mask, other=0.0)
    value -= tl.load(rate) / correction1 * m / (tl.sqrt(s / correction2) + epsilon)
    tl.store(mean + at, m, mask=mask)
    tl.store(square + at, s, mask=mask)
    tl.store(values + at, value, mask=mask)


def adam(state: optim.Adam) -> None:
    """Move the tables as `optim.Adam.step` says; its count is of this step."""
    gradients = [table.grad for table in state.tables]
    sums = torch.empty(PARTS * len(gradients), device=state.count.device)
    if state.clip_norm:
        for gradient, part in zip(gradients, sums.split(PARTS), strict=True):
            _square_sums[(PARTS,)](part, gradient, gradient.numel(), BLOCK=PARAMETERS)
    for tensors in zip(state.tables, gradients, state.means, state.squares, strict=True):
        n = tensors[0].numel()
        _adam[(triton.cdiv(n, PARAMETERS),)](
            *tensors,
            n,
            sums,
            len(sums),
            state.count,
            state.rate,
            state.clip_norm,
            optim.CLIP_EPSILON,
            *map(math.log, optim.BETAS),
            optim.EPSILON,
            CLIP=state.clip_norm > 0,
            SUMS=triton.next_power_of_2(len(sums)),
            BLOCK=PARAMETERS,
        )
