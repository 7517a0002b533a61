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
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from recloss import optim
from recloss.sampling import Draws

# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_jit = numba.njit(parallel=True, cache=True, fastmath=_FAST, nogil=True, error_model="numpy")
_inline = numba.njit(cache=True, fastmath=_FAST, error_model="numpy", inline="always")
BLOCKS = 16  # of items, worked on side by side; each has its own sums of the users' gradients
LANES = 16  # floats of the widest vector registers; narrower ones take several
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
def _words(key, row, epoch, step, count):
    """Return the words of a row of a step (`sampling.words`), uint32 (at least count,)."""
    quads = (count + 3) // 4
    words = np.empty((4, quads), np.uint32)
    for quad in range(quads):  # vectorised
        w0, w1, w2, w3 = _philox(key, np.uint64(row * quads + quad), np.uint64(0), step, epoch)
        words[0, quad], words[1, quad], words[2, quad], words[3, quad] = w0, w1, w2, w3
    return words.reshape(-1)


@_inline
def _item(word, n_items, accept, other):
    product = np.uint64(word) * np.uint64(n_items)
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
    quads, extra = (negatives + 3) // 4, width - 1 - negatives
    epoch, step, begin = np.uint64(clock[0]), np.uint64(clock[1]), clock[1] * batch_size
    for b in numba.prange(rows):
        row = ids[b]
        row[0] = items[begin + b]
        low, high = first[users[begin + b]], first[users[begin + b] + 1]
        drawn = row[1 : 1 + negatives]
        words = _words(key, b, epoch, step, negatives)
        for k in range(len(drawn)):
            drawn[k] = _item(words[k], n_items, accept, other)
        if exclude:
            for k in range(len(drawn)):
                attempt = np.uint64(0)
                while _contains(observed, low, high, drawn[k]):
                    attempt += np.uint64(1)
                    counter = np.uint64(b * quads + k % quads)
                    again = _philox(key, counter, attempt, step, epoch)
                    drawn[k] = _item(again[k // quads], n_items, accept, other)
        if extra:
            words = _words(extra_key, b, epoch, step, extra)
            for k in range(extra):
                offset = (np.uint64(words[k]) * np.uint64(high - low)) >> _SHIFT
                row[1 + negatives + k] = observed[low + np.int64(offset)]


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
    epoch, step = np.uint64(clock[0]), np.uint64(clock[1])
    for b in numba.prange(rows):
        words = _words(key, b, epoch, step, count)
        for k in range(count):
            out[b, k] = np.float32(words[k] >> np.uint32(8)) * np.float32(2.0**-24)


def uniform(key: int, clock: Tensor, rows: int, count: int) -> Tensor:
    """See `sampling.uniform`."""
    out = torch.empty((rows, count))
    _uniform(out.numpy(), np.uint64(key), clock.numpy())
    return out


# Scores


@intrinsic
def _add_multiple(typing_context, y, at, a, x, begin, n):
    """y[at : at + n] += a * x[begin : begin + n], for float32 (m,) arrays that do not overlap.

    Written in LLVM because a numba loop asks for every such pair of short vectors anew whether they
    overlap, which takes as long as the sum: the gradients are a quarter faster this way.
    """

    def generate(context, builder, signature, arguments):
        y, at, a, x, begin, n = arguments
        to, source = (
            builder.gep(context.make_array(kind)(context, builder, array).data, [offset])
            for kind, array, offset in (
                (signature.args[0], y, at),
                (signature.args[3], x, begin),
            )
        )
        lanes = ir.VectorType(ir.FloatType(), LANES)
        places = ir.VectorType(ir.IntType(32), LANES)
        one = builder.insert_element(ir.Constant(lanes, None), a, ir.Constant(ir.IntType(32), 0))
        every = builder.shuffle_vector(one, one, ir.Constant(places, [0] * LANES))
        zero, width = (ir.Constant(n.type, value) for value in (0, LANES))
        whole = builder.and_(n, ir.Constant(n.type, -LANES))
        for first, end, step, kind, factor in (
            (zero, whole, width, lanes, every),
            (whole, n, ir.Constant(n.type, 1), ir.FloatType(), a),
        ):
            with cgutils.for_range_slice(builder, first, end, step, inc=True) as (i, _):
                here, there = (
                    builder.bitcast(builder.gep(pointer, [i]), kind.as_pointer())
                    for pointer in (to, source)
                )
                product = builder.fmul(builder.load(there, align=4), factor, flags=("contract",))
                total = builder.fadd(builder.load(here, align=4), product, flags=("contract",))
                builder.store(total, here, align=4)
        return context.get_dummy_value()

    return types.void(y, types.int64, types.float32, x, types.int64, types.int64), generate


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
    flat_users, flat_table = users.reshape(-1), table.reshape(-1)
    for block in numba.prange(BLOCKS):
        part = parts[block].reshape(-1)
        begin = first[bounds[block]]
        mine = entries[begin : first[bounds[block + 1]]]
        weights = np.empty(len(mine), np.float32)
        for at in range(len(mine)):  # far apart in memory: fetched together, ahead of use
            weights[at] = grad[np.uint32(mine[at] >> shift), np.uint32(mine[at] & mask)]
        for i in range(bounds[block], bounds[block + 1]):
            vector, total = table[i], for_table[i]
            total[:] = 0
            for at in range(first[i] - begin, first[i + 1] - begin):
                weight, user = weights[np.uint32(at)], (mine[np.uint32(at)] >> shift) * dim
                _add_multiple(total, 0, weight, flat_users, user, dim)
                _add_multiple(part, user, weight * scale[i], flat_table, i * dim, dim)
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
        for i in range(len(g)):
            x = factor * g[i]
            m[i] = beta1 * m[i] + (one - beta1) * x
            s[i] = beta2 * s[i] + (one - beta2) * x * x
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
