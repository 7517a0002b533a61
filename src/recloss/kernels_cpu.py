"""CPU kernels (numba) behind `scores.sampled_scores` and `evaluate.top_k`.

Every sum is taken by one thread in an order that does not depend on the number of threads, so that
results are the same to the bit whatever that number is. Arrays are C-contiguous float32; B users,
K sampled items each, I items, D dimensions.
"""

import numba
import numpy as np

# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_jit = numba.njit(parallel=True, cache=True, fastmath=_FAST, nogil=True)
BLOCKS = 16  # of rows, sorted side by side: enough for as many threads, few enough to be cheap


@_jit
def inverse_norms(table):
    """Return 1 / |row| of a table (n, D): (n,), and 0 for a zero row."""
    n, dim = table.shape
    out = np.empty(n, np.float32)
    for i in numba.prange(n):
        total = np.float32(0)
        for d in range(dim):
            total += table[i, d] * table[i, d]
        out[i] = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)
    return out


@_jit
def scores(users, table, ids, user_scale, item_scale):
    """Return user_scale[b] item_scale[i] <users[b], table[i]> for i = ids[b, k]: (B, K)."""
    rows, count = ids.shape
    dim = users.shape[1]
    out = np.empty((rows, count), np.float32)
    for b in numba.prange(rows):
        for k in range(count):
            i = ids[b, k]
            total = np.float32(0)
            for d in range(dim):
                total += users[b, d] * table[i, d]
            out[b, k] = total * user_scale[b] * item_scale[i]
    return out


@_jit
def user_gradient(grad, users, table, ids, user_scale, item_scale, cosine):
    """Return the gradient of `scores` with respect to the users, (B, D), from `grad` (B, K)."""
    rows, count = ids.shape
    dim = users.shape[1]
    out = np.zeros((rows, dim), np.float32)
    for b in numba.prange(rows):
        for k in range(count):
            i = ids[b, k]
            weight = grad[b, k] * item_scale[i]
            for d in range(dim):
                out[b, d] += weight * table[i, d]
        _finish(out[b], users[b], user_scale[b], cosine)
    return out


@_jit
def item_gradient(grad, users, table, ids, user_scale, item_scale, cosine):
    """Return the gradient of `scores` with respect to the table, (I, D), from `grad` (B, K).

    The entries are first sorted by item (counting sort, stable), so that each row of the result
    is summed by one thread in the order of the batch.
    """
    rows, count = ids.shape
    n_items, dim = table.shape
    size = (rows + BLOCKS - 1) // BLOCKS
    place = np.zeros((BLOCKS, n_items), np.int32)
    for block in numba.prange(BLOCKS):
        for b in range(block * size, min(rows, (block + 1) * size)):
            for k in range(count):
                place[block, ids[b, k]] += 1
    first = np.empty(n_items + 1, np.int64)
    total = 0
    for i in range(n_items):
        first[i] = total
        for block in range(BLOCKS):
            here = place[block, i]
            place[block, i] = total
            total += here
    first[n_items] = total
    source = np.empty(total, np.int32)
    weight = np.empty(total, np.float32)
    for block in numba.prange(BLOCKS):
        for b in range(block * size, min(rows, (block + 1) * size)):
            for k in range(count):
                at = place[block, ids[b, k]]
                place[block, ids[b, k]] = at + 1
                source[at] = b
                weight[at] = grad[b, k] * user_scale[b]
    out = np.zeros((n_items, dim), np.float32)
    for i in numba.prange(n_items):
        if first[i] < first[i + 1]:
            for at in range(first[i], first[i + 1]):
                b = source[at]
                for d in range(dim):
                    out[i, d] += weight[at] * users[b, d]
            _finish(out[i], table[i], item_scale[i], cosine)
    return out


@numba.njit(cache=True, fastmath=_FAST, inline="always")
def _finish(out, row, scale, cosine):
    """Turn the sum v of weighted partners into the gradient: scale (v - <v, r> r), r = scale row.

    Without cosine the scale is 1 and nothing is projected out.
    """
    if not cosine:
        return
    along = np.float32(0)
    for d in range(len(out)):
        along += out[d] * row[d]
    along *= scale * scale
    for d in range(len(out)):
        out[d] = scale * (out[d] - along * row[d])


@_jit
def top_k(values, k):
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
