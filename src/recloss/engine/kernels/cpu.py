"""CPU kernels (numba). What each computes is defined beside its caller, in plain PyTorch.

Every sum is taken in an order that does not depend on the number of threads, so that results are
the same to the bit whatever that number is. B users, K sampled items each, I items, D dimensions;
vectors are C-contiguous float32.

Scores and gradients are computed bucket by bucket of neighbouring items, after a counting sort of
the batch's entries: of the large item table only a few rows are then in use at a time, and these
stay in the cache. An entry is the number item << 32 | b << shift | k.
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from recloss.engine import optim
from recloss.engine.kernels.jit import LANES, compiled
from recloss.engine.kernels.jit import inline as _inline
from recloss.engine.kernels.jit import parallel as _jit
from recloss.engine.sampling import Draws

BUCKET = 512  # items; with dimension 64 their vectors and gradients are 256 KB
BLOCKS = 16  # of buckets, worked on side by side; each has its own sums of the users' gradients
CHUNK = 2**12  # parameters that a thread takes at a time in an Adam step

# numba turns a mix of signed and unsigned integers into floats: all of Philox is uint64.
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def check() -> None:
    """Raise what is wrong if the kernels cannot run here."""
    words(0, torch.zeros(2, dtype=torch.int64), 1, 1)


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
def _all_words(out, key, clock):
    rows, count = out.shape
    epoch, step = np.uint64(clock[0]), np.uint64(clock[1])
    for b in numba.prange(rows):
        words = _words(key, b, epoch, step, count)
        for k in range(count):
            out[b, k] = np.int64(words[k])


def words(key: int, clock: Tensor, rows: int, count: int) -> Tensor:
    """See `sampling.words`."""
    out = torch.empty((rows, count), dtype=torch.int64)
    _all_words(out.numpy(), np.uint64(key), clock.numpy())
    return out


# Scores


@intrinsic
def _add_multiples(typing_context, p, q, at, a, r, s, begin, b, n):
    """Add b s[begin:] to p[at:], and a q[at:] to r[begin:], n floats of each.

    For float32 (m,) arrays that do not overlap. Written in LLVM because a numba loop asks every
    time anew whether they do, which takes as long as the sum: the gradients are a quarter faster.
    """

    def generate(context, builder, signature, arguments):
        arrays = (0, 1, 4, 5)
        p, q, r, s = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in arrays
        )
        at, a, begin, b, n = (arguments[i] for i in (2, 3, 6, 7, 8))
        lanes = ir.VectorType(ir.FloatType(), LANES)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        place = ir.Constant(ir.IntType(32), 0)

        def every(x):
            first = builder.insert_element(ir.Constant(lanes, None), x, place)
            return builder.shuffle_vector(first, first, zeros)

        def count(value):
            return ir.Constant(n.type, value)

        whole = builder.and_(n, count(-LANES))
        for begins, ends, step, kind, one, other in (
            (count(0), whole, count(LANES), lanes, every(b), every(a)),
            (whole, n, count(1), ir.FloatType(), b, a),
        ):
            with cgutils.for_range_slice(builder, begins, ends, step, inc=True) as (i, _):
                to, vector, sums, user = (
                    builder.bitcast(builder.gep(array, [builder.add(offset, i)]), kind.as_pointer())
                    for array, offset in ((p, at), (q, at), (r, begin), (s, begin))
                )
                for target, source, factor in ((to, user, one), (sums, vector, other)):
                    product = builder.fmul(builder.load(source, align=4), factor, ("contract",))
                    total = builder.fadd(builder.load(target, align=4), product, ("contract",))
                    builder.store(total, target, align=4)
        return context.get_dummy_value()

    index, number = types.int64, types.float32
    return types.void(p, q, index, number, r, s, index, number, index), generate


@_jit
def _sort(ids, n_items, shift, parts):
    """Return the entries (B K,) int64 by bucket, in the order of the batch, and where each begins.

    The second, (BUCKETS + 1,), has the place of the first entry of each bucket; the third,
    (BLOCKS + 1,), the first bucket of each block, such that blocks have about as many entries.
    `parts` of the batch are sorted side by side; their number does not change the result.
    """
    rows, count = ids.shape
    size = (rows + parts - 1) // parts
    buckets = (n_items + BUCKET - 1) // BUCKET
    place = np.zeros((parts, buckets), np.int64)
    for part in numba.prange(parts):
        mine = place[part]
        for b in range(part * size, min(rows, (part + 1) * size)):
            row = ids[b]
            for k in range(count):
                mine[np.uint32(row[k]) // np.uint32(BUCKET)] += 1
    first = np.empty(buckets + 1, np.int64)
    blocks = np.full(BLOCKS + 1, buckets)
    total, block = np.int64(0), 0
    for bucket in range(buckets):
        first[bucket] = total
        while block < BLOCKS and total * BLOCKS >= block * rows * count:
            blocks[block] = bucket
            block += 1
        for part in range(parts):
            here = place[part, bucket]
            place[part, bucket] = total
            total += here
    first[buckets], blocks[BLOCKS] = total, buckets
    entries = np.empty(total, np.int64)
    for part in numba.prange(parts):
        mine = place[part]
        for b in range(part * size, min(rows, (part + 1) * size)):
            row = ids[b]
            for k in range(count):
                bucket = np.uint32(row[k]) // np.uint32(BUCKET)
                at = mine[bucket]
                mine[bucket] = at + 1
                entries[np.uint64(at)] = np.int64(row[k]) << 32 | b << shift | k
    return entries, first, blocks


@_inline
def _norms(out, vectors):
    """Write 1 / |row| of vectors (n, D) to out (n,), and 0 for a zero row."""
    for i in range(len(out)):
        row = vectors[i]
        total = np.float32(0)
        for d in range(len(row)):
            total += row[d] * row[d]
        out[i] = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)


@_inline
def _project(totals, table, begin, scale, dim):
    """Turn the sum v of weighted partners into a gradient: scale (v - <v, r> r), r = scale row.

    What would only make the vector longer drops out. v and row are at `begin` of flat arrays.
    """
    total, row = totals[begin : begin + dim], table[begin : begin + dim]
    along = np.float32(0)
    for d in range(dim):
        along += total[d] * row[d]
    along *= scale * scale
    for d in range(dim):
        total[d] = scale * (total[d] - along * row[d])


@_inline
def _place(entry, shift):
    """Return the item, b and k of an entry."""
    b = np.uint32((entry & 0xFFFFFFFF) >> shift)
    return np.uint32(entry >> 32), b, np.uint32(entry & ((1 << shift) - 1))


@_jit
def _scores(out, users, table, entries, first, blocks, shift, cosine):
    """Write the scores (B, K) of unit users (B, D); return the items' inverse norms (I,)."""
    n_items, dim = table.shape
    scale = np.ones(n_items, np.float32)
    for block in numba.prange(BLOCKS):
        for bucket in range(blocks[block], blocks[block + 1]):
            if cosine:
                here = slice(bucket * BUCKET, (bucket + 1) * BUCKET)
                _norms(scale[here], table[here])
            mine = entries[first[bucket] : first[bucket + 1]]
            for at in range(len(mine)):
                i, b, k = _place(mine[at], shift)
                total = np.float32(0)
                for d in range(dim):
                    total += users[b, d] * table[i, d]
                out[b, k] = total * scale[i]
    return scale


@_jit
def _gradients(grad, users, table, entries, first, blocks, shift, scale, cosine):
    """Return the gradients of the scores by unit users (B, D) and by the table (I, D)."""
    (rows, dim), n_items = users.shape, len(table)
    for_table = np.empty((n_items, dim), np.float32)
    parts = np.zeros((BLOCKS, rows, dim), np.float32)
    flat_users, flat_table, flat = users.reshape(-1), table.reshape(-1), for_table.reshape(-1)
    for block in numba.prange(BLOCKS):
        part = parts[block].reshape(-1)
        for bucket in range(blocks[block], blocks[block + 1]):
            low, high = bucket * BUCKET, min((bucket + 1) * BUCKET, n_items)
            flat[low * dim : high * dim] = 0
            mine = entries[first[bucket] : first[bucket + 1]]
            weights = np.empty(len(mine), np.float32)
            for at in range(len(mine)):  # far apart in memory: fetched together, ahead of use
                _, b, k = _place(mine[at], shift)
                weights[at] = grad[b, k]
            for at in range(len(mine)):
                i, b, _ = _place(mine[at], shift)
                weight = weights[at]
                _add_multiples(
                    flat,
                    flat_table,
                    i * dim,
                    weight * scale[i],
                    part,
                    flat_users,
                    b * dim,
                    weight,
                    dim,
                )
            if cosine:
                for i in range(low, high):
                    _project(flat, flat_table, i * dim, scale[i], dim)
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
    (rows, count), n_items = ids.shape, len(table)
    shift = (count - 1).bit_length()
    if rows << shift > 2**32:
        raise ValueError(f"{rows} x {count} scores in a step; the CPU kernels number them by 2^32")
    scale = None
    if cosine:
        norms = users.norm(dim=1, keepdim=True)
        scale = torch.where(norms > 0, 1 / norms, 0.0)
        users = users * scale
    order = (*_sort(ids.int().numpy(), n_items, shift, numba.get_num_threads()), shift)
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


@_inline
def _update(value, grad, mean, square, constants):
    factor, rate, beta1, beta2, root, epsilon = constants
    one = np.float32(1)
    for i in range(len(grad)):
        g = factor * grad[i]
        mean[i] = beta1 * mean[i] + (one - beta1) * g
        square[i] = beta2 * square[i] + (one - beta2) * g * g
        value[i] -= rate * mean[i] / (np.sqrt(square[i]) * root + epsilon)


@_jit
def _adam(value, grad, mean, square, constants):
    """Update parameters (n,) by their gradient (n,)."""
    for chunk in numba.prange((len(value) + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        _update(value[here], grad[here], mean[here], square[here], constants)


@_jit
def _adam_rows(value, grad, mean, square, rows, constants):
    """Update a table (n, D) by gradients (m, D) of some rows (m,), ascending; the rest have 0."""
    _, rate, beta1, beta2, root, epsilon = constants
    n, dim = value.shape
    size = max(1, CHUNK // dim)
    for chunk in numba.prange((n + size - 1) // size):
        at, end = chunk * size, min(n, (chunk + 1) * size)
        j = np.searchsorted(rows, at)
        while at < end:
            stop = rows[j] if j < len(rows) and rows[j] < end else end
            if at < stop:
                v, m = value[at:stop].reshape(-1), mean[at:stop].reshape(-1)
                s = square[at:stop].reshape(-1)
                for i in range(len(v)):
                    m[i], s[i] = beta1 * m[i], beta2 * s[i]
                    v[i] -= rate * m[i] / (np.sqrt(s[i]) * root + epsilon)
            if stop < end:
                _update(value[stop], grad[j], mean[stop], square[stop], constants)
                stop, j = stop + 1, j + 1
            at = stop


def adam(state: optim.Adam) -> None:
    """Move the tables as `optim.Adam.step` says; its count is of this step."""
    gradients = [t.grad.coalesce() if t.grad.is_sparse else t.grad for t in state.tables]
    factor = 1.0
    if state.clip_norm:
        whole = (g.values() if g.is_sparse else g for g in gradients)
        square = sum(_square_sum(g.view(-1).numpy()).sum() for g in whole)
        factor = min(1.0, state.clip_norm / (math.sqrt(square) + optim.CLIP_EPSILON))
    beta1, beta2 = optim.BETAS
    count = int(state.count)
    rate, root = float(state.rate) / (1 - beta1**count), 1 / math.sqrt(1 - beta2**count)
    constants = tuple(map(np.float32, (factor, rate, beta1, beta2, root, optim.EPSILON)))
    for value, gradient, mean, square in zip(
        state.tables, gradients, state.means, state.squares, strict=True
    ):
        if gradient.is_sparse:
            rows, grad = gradient.indices()[0].numpy(), gradient.values().numpy()
            _adam_rows(value.numpy(), grad, mean.numpy(), square.numpy(), rows, constants)
        else:
            tensors = (value, gradient, mean, square)
            _adam(*(tensor.view(-1).numpy() for tensor in tensors), constants)


# Evaluation


@compiled(inline="always")
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
    """See `ranking.top_k`."""
    return torch.from_numpy(_top_k(values.contiguous().numpy(), k))
