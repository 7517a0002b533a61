"""CPU kernels (numba). What each computes is defined beside its caller, in plain PyTorch.

Every sum is taken in an order that does not depend on the number of threads, so that results are
the same to the bit whatever that number is. B users, K sampled items each, I items, D dimensions;
vectors are C-contiguous float32.

Scores and gradients are computed item by item, after a counting sort of the batch's entries: each
row of the large item table is then read once, in order, and the B user vectors stay in the cache.
An entry (b, k) is the number b << shift | k.
"""

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from recloss import optim
from recloss.sampling import Draws

# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_jit = numba.njit(parallel=True, cache=True, fastmath=_FAST, nogil=True, error_model="numpy")
_inline = numba.njit(cache=True, fastmath=_FAST, error_model="numpy", inline="always")
BLOCKS = 16  # of items, worked on side by side; each has its own sums of the users' gradients
CHUNK = 2**12  # parameters that a thread takes at a time in an Adam step

# numba turns a mix of signed and unsigned integers into floats: all of Philox is uint64.
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def check() -> None:
    """Raise what is wrong if the kernels cannot run here."""
    _inverse_norms(np.ones((1, 1), np.float32))


# Draws


@_inline
def _philox(key, c0, c1, c2, c3):
    """Return the four words of a counter as uint64: `sampling.philox`."""
    k0, k1 = key & _LOW, key >> _SHIFT
    for _ in range(10):
        p0, p1 = _MULTIPLIER[0] * c0, _MULTIPLIER[1] * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


@_inline
def _item(word, n_items, accept, other):
    product = word * np.uint64(n_items)
    i = np.int32(product >> _SHIFT)
    if len(accept) and np.float32(product & _LOW) * np.float32(2.0**-32) >= accept[i]:
        i = other[i]
    return i


@_inline
def _contains(values, low, high, wanted):
    """Tell whether the ascending values[low:high] hold `wanted`."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < end and values[low] == wanted


@_jit
def _draw(
    ids,
    clock,
    users,
    items,
    batch_size,
    negatives,
    key,
    extra_key,
    n_items,
    accept,
    other,
    exclude,
    first,
    observed,
):
    rows, width = ids.shape
    quads, extra_quads = (negatives + 3) // 4, (width - 1 - negatives + 3) // 4
    epoch, step, begin = np.uint64(clock[0]), np.uint64(clock[1]), clock[1] * batch_size
    zero = np.uint64(0)
    for b in numba.prange(rows):
        ids[b, 0] = items[begin + b]
        low, high = first[users[begin + b]], first[users[begin + b] + 1]
        for quad in range(quads):
            counter = np.uint64(b * quads + quad)
            words = _philox(key, counter, zero, step, epoch)
            for j in range(min(4, negatives - 4 * quad)):
                i = _item(words[j], n_items, accept, other)
                attempt = zero
                while exclude and _contains(observed, low, high, i):
                    attempt += np.uint64(1)
                    again = _philox(key, counter, attempt, step, epoch)
                    i = _item(again[j], n_items, accept, other)
                ids[b, 1 + 4 * quad + j] = i
        for quad in range(extra_quads):
            counter = np.uint64(b * extra_quads + quad)
            words = _philox(extra_key, counter, zero, step, epoch)
            for j in range(min(4, width - 1 - negatives - 4 * quad)):
                offset = np.int64((words[j] * np.uint64(high - low)) >> _SHIFT)
                ids[b, 1 + negatives + 4 * quad + j] = observed[low + offset]


def draw(draws: Draws, clock: Tensor, users: Tensor, items: Tensor, size: int) -> Tensor:
    """See `sampling.draw`."""
    ids = torch.empty((size, 1 + draws.negatives + draws.extra), dtype=torch.int32)
    _draw(
        ids.numpy(),
        clock.numpy(),
        users.numpy(),
        items.numpy(),
        draws.batch_size,
        draws.negatives,
        np.uint64(draws.key),
        np.uint64(draws.extra_key),
        draws.n_items,
        draws.accept.numpy(),
        draws.other.numpy(),
        draws.exclude,
        draws.first.numpy(),
        draws.items.numpy(),
    )
    return ids


@_jit
def _uniform(out, key, clock):
    rows, count = out.shape
    quads = (count + 3) // 4
    epoch, step = np.uint64(clock[0]), np.uint64(clock[1])
    for b in numba.prange(rows):
        for quad in range(quads):
            words = _philox(key, np.uint64(b * quads + quad), np.uint64(0), step, epoch)
            for j in range(min(4, count - 4 * quad)):
                out[b, 4 * quad + j] = np.float32(words[j] >> np.uint64(8)) * np.float32(2.0**-24)


def uniform(key: int, clock: Tensor, rows: int, count: int) -> Tensor:
    """See `sampling.uniform`."""
    out = torch.empty((rows, count))
    _uniform(out.numpy(), np.uint64(key), clock.numpy())
    return out


# Scores


@_jit
def _sort(ids, n_items, shift, parts):
    """Return the entries (B K,) int32 by item, in the order of the batch, and first (I + 1,)."""
    rows, count = ids.shape
    size = (rows + parts - 1) // parts
    place = np.zeros((parts, n_items), np.int32)
    for part in numba.prange(parts):
        for b in range(part * size, min(rows, (part + 1) * size)):
            for k in range(count):
                place[part, np.uint32(ids[b, k])] += 1
    first = np.empty(n_items + 1, np.int32)
    total = np.int32(0)
    for i in range(n_items):
        first[i] = total
        for part in range(parts):
            here = place[part, i]
            place[part, i] = total
            total += here
    first[n_items] = total
    entries = np.empty(total, np.int32)
    for part in numba.prange(parts):
        for b in range(part * size, min(rows, (part + 1) * size)):
            for k in range(count):
                i = np.uint32(ids[b, k])
                at = place[part, i]
                place[part, i] = at + 1
                entries[np.uint32(at)] = b << shift | k
    return entries, first


@_jit
def _bounds(first):
    """Return where the blocks of items begin and end, (BLOCKS + 1,), of equally many entries."""
    total = np.int64(first[-1])
    bounds = np.empty(BLOCKS + 1, np.int64)
    for block in numba.prange(BLOCKS + 1):
        bounds[block] = np.searchsorted(first, total * block // BLOCKS)
    bounds[0], bounds[BLOCKS] = 0, len(first) - 1
    return bounds


@_jit
def _inverse_norms(vectors):
    """Return 1 / |row| of vectors (n, D): (n,), and 0 for a zero row."""
    n, dim = vectors.shape
    out = np.empty(n, np.float32)
    for b in numba.prange(n):
        total = np.float32(0)
        for d in range(dim):
            total += vectors[b, d] * vectors[b, d]
        out[b] = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)
    return out


@_jit
def _scores(out, users, table, entries, first, bounds, shift, cosine):
    """Write the scores (B, K) of unit users (B, D); return the items' inverse norms (I,)."""
    dim = users.shape[1]
    mask = (1 << shift) - 1
    scale = np.empty(len(table), np.float32)
    for block in numba.prange(BLOCKS):
        for i in range(bounds[block], bounds[block + 1]):
            scale[i] = np.float32(1)
            if cosine:
                total = np.float32(0)
                for d in range(dim):
                    total += table[i, d] * table[i, d]
                scale[i] = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)
            for at in range(first[i], first[i + 1]):
                entry = entries[np.uint32(at)]
                b, k = np.uint32(entry >> shift), np.uint32(entry & mask)
                total = np.float32(0)
                for d in range(dim):
                    total += users[b, d] * table[i, d]
                out[b, k] = total * scale[i]
    return scale


@_jit
def _gradients(grad, users, table, entries, first, bounds, shift, scale, cosine):
    """Return the gradients of the scores by unit users (B, D) and by the table (I, D)."""
    rows, dim = users.shape
    mask = (1 << shift) - 1
    for_table = np.empty(table.shape, np.float32)
    parts = np.zeros((BLOCKS, rows, dim), np.float32)
    for block in numba.prange(BLOCKS):
        part = parts[block]
        for i in range(bounds[block], bounds[block + 1]):
            vector, total = table[i], for_table[i]
            total[:] = 0
            mine = entries[first[i] : first[i + 1]]
            for at in range(len(mine)):
                b, k = np.uint32(mine[at] >> shift), np.uint32(mine[at] & mask)
                user, sums = users[b], part[b]
                weight = grad[b, k]
                scaled = weight * scale[i]
                for d in range(dim):
                    total[d] += weight * user[d]
                    sums[d] += scaled * vector[d]
            along = np.float32(0)
            if cosine:  # what would only lengthen the vector drops out
                for d in range(dim):
                    along += total[d] * vector[d]
                along *= scale[i] * scale[i]
            for d in range(dim):
                total[d] = scale[i] * (total[d] - along * vector[d])
    for_users = np.empty((rows, dim), np.float32)
    for b in numba.prange(rows):
        for d in range(dim):
            for_users[b, d] = parts[0, b, d]
        for block in range(1, BLOCKS):
            for d in range(dim):
                for_users[b, d] += parts[block, b, d]
    return for_users, for_table


def scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> tuple[Tensor, Any]:
    """Return the scores (B, K), see `scores.sampled_scores`, and what `gradients` needs."""
    scale = None
    if cosine:
        scale = torch.from_numpy(_inverse_norms(users.numpy()))[:, None]
        users = users * scale
    if ids.numel() >= 2**31:
        raise ValueError(f"{ids.numel()} sampled items in a step: the CPU kernels take 2^31 - 1")
    shift = max(ids.shape[1] - 1, 1).bit_length()
    entries, first = _sort(ids.int().numpy(), len(table), shift, numba.get_num_threads())
    order = (entries, first, _bounds(first), shift)
    out = torch.empty(ids.shape)
    item_scale = _scores(out.numpy(), users.numpy(), table.numpy(), *order, cosine)
    return out, (users, scale, table, order, item_scale, cosine)


def gradients(grad: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    """Return the gradients by the users (B, D) and the table (I, D) from that by the scores."""
    users, scale, table, order, item_scale, cosine = state
    arrays = _gradients(grad.numpy(), users.numpy(), table.numpy(), *order, item_scale, cosine)
    for_users, for_table = map(torch.from_numpy, arrays)
    if cosine:
        along = (for_users * users).sum(1, keepdim=True)
        for_users = scale * (for_users - along * users)
    return for_users, for_table


# Adam


@_jit
def _square_sum(values):
    """Return the sums of squares of the chunks of values (n,), float64."""
    chunks = (len(values) + CHUNK - 1) // CHUNK
    sums = np.zeros(chunks, np.float64)
    for chunk in numba.prange(chunks):
        part = values[chunk * CHUNK : (chunk + 1) * CHUNK]
        total = np.float32(0)
        for i in range(len(part)):
            total += part[i] * part[i]
        sums[chunk] = total
    return sums


@_jit
def _adam(values, grad, mean, square, factor, rate, beta1, beta2, root, epsilon):
    one = np.float32(1)
    chunks = (len(values) + CHUNK - 1) // CHUNK
    for chunk in numba.prange(chunks):
        here = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        v, g, m, s = values[here], grad[here], mean[here], square[here]
        # Loops of few arrays over a chunk that stays in the cache: with more, the compiler gives
        # up on ruling out that they overlap, and does not vectorise.
        for i in range(len(g)):
            m[i] = beta1 * m[i] + (one - beta1) * factor * g[i]
        for i in range(len(g)):
            s[i] = beta2 * s[i] + (one - beta2) * (factor * g[i]) * (factor * g[i])
        for i in range(len(g)):
            v[i] -= rate * m[i] / (np.sqrt(s[i]) * root + epsilon)


def adam(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    count: Tensor,
    rate: Tensor,
    clip_norm: float,
) -> None:
    """See `optim.adam`."""
    factor = 1.0
    if clip_norm:
        sums = [_square_sum(g.view(-1).numpy()).sum() for g in gradients]
        factor = min(1.0, clip_norm / (math.sqrt(sum(sums)) + optim.CLIP_EPSILON))
    beta1, beta2 = optim.BETAS
    constants = (
        factor,
        float(rate) / (1 - beta1 ** int(count)),
        beta1,
        beta2,
        1 / math.sqrt(1 - beta2 ** int(count)),
        optim.EPSILON,
    )
    for tensors in zip(values, gradients, means, squares, strict=True):
        _adam(*(t.view(-1).numpy() for t in tensors), *map(np.float32, constants))


# Evaluation


@numba.njit(cache=True, inline="always")
def _sift(kept, ids, value, column, size):
    """Replace the top of the heap kept[:size] by (value, column) and let it sink to its place."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and (
            kept[child + 1] < kept[child]
            or (kept[child + 1] == kept[child] and ids[child + 1] > ids[child])
        ):
            child += 1
        if kept[child] > value or (kept[child] == value and ids[child] < column):
            break
        kept[at], ids[at] = kept[child], ids[child]
        at = child
    if size > 0:
        kept[at], ids[at] = value, column


@_jit
def _top_k(values, k):
    """Return the columns of the k largest of each row, best first, equal ones by column: (n, k).

    values (n, I) with k <= I; NaN is never chosen before a number. A binary heap has the worst kept
    entry on top: nearly every value is turned away by one comparison.
    """
    n, width = values.shape
    out = np.empty((n, k), np.int64)
    for row in numba.prange(n):
        kept, ids = np.empty(k, np.float32), np.empty(k, np.int64)
        for i in range(k):  # a heap of what is worse than anything: minus infinity, late columns
            kept[i], ids[i] = -np.inf, width + k - i
        for i in range(width):
            value = values[row, i]
            if value > kept[0] or (value == kept[0] and i < ids[0]):
                _sift(kept, ids, value, i, k)
        for last in range(k - 1, -1, -1):  # take off the worst, again and again
            out[row, last] = ids[0]
            _sift(kept, ids, kept[last], ids[last], last)
    return out


def top_k(values: Tensor, k: int) -> Tensor:
    """See `evaluate.top_k`."""
    return torch.from_numpy(_top_k(values.contiguous().numpy(), k))
