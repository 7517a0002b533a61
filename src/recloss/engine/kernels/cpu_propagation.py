"""CPU kernel (numba) of `engine/propagation.py`: sums of neighbours' vectors, row by row.

A row is summed by one thread in the order of its neighbours, in registers, while the vectors of
later neighbours are on their way from memory. Threads share the rows by their edges.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from recloss.engine.kernels import jit
from recloss.engine.propagation import Graph

AHEAD = 32  # edges between asking for a vector and adding it
BLOCKS = 64  # of rows, with about as many edges each


def _summed(width: int) -> Any:
    """Return an intrinsic that sums `width` dimensions of a row in registers.

    It writes factor (l sum_e right[j_e] x[j_e] + add) to out, e from low to high; out and add begin
    at `at`, x[j] at base + j dim, of flat float32 arrays. Written in LLVM, because numba keeps the
    sums in memory and cannot fetch ahead: half the time.
    """

    @intrinsic
    def row(
        typing_context,
        out,
        at,
        x,
        base,
        dim,
        neighbours,
        right,
        low,
        high,
        left,
        add,
        added,
        factor,
    ):
        def generate(context, builder, signature, arguments):
            out, x, neighbours, right, add = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2, 5, 6, 10)
            )
            at, base, dim, low, high, left, added, factor = (
                arguments[i] for i in (1, 3, 4, 7, 8, 9, 11, 12)
            )
            size = min(width, jit.LANES)
            lanes = ir.VectorType(ir.FloatType(), size)
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), size), [0] * size)
            place, byte = ir.Constant(ir.IntType(32), 0), ir.IntType(8).as_pointer()
            four = [byte] + [ir.IntType(32)] * 3
            kind = ir.FunctionType(ir.VoidType(), four)
            fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
            to_read_and_keep = [ir.Constant(ir.IntType(32), number) for number in (0, 3, 1)]

            def every(number):
                first = builder.insert_element(ir.Constant(lanes, None), number, place)
                return builder.shuffle_vector(first, first, zeros)

            def parts(array, begin):
                """Return pointers to the vectors from array[begin] on."""
                offsets = (ir.Constant(at.type, i) for i in range(0, width, size))
                return [
                    builder.bitcast(
                        builder.gep(array.data, [builder.add(begin, offset)]), lanes.as_pointer()
                    )
                    for offset in offsets
                ]

            def neighbour(edge):
                node = builder.load(builder.gep(neighbours.data, [edge]))
                return builder.zext(node, at.type)

            def begin(node):
                return builder.add(base, builder.mul(node, dim))

            def plus(one, other):
                return builder.fadd(one, other, ("contract",))

            def times(one, other):
                return builder.fmul(one, other, ("contract",))

            nothing = ir.Constant(lanes, None)
            sums = [cgutils.alloca_once_value(builder, nothing) for _ in range(0, width, size)]
            final = builder.sub(neighbours.nitems, ir.Constant(at.type, 1))
            one = ir.Constant(at.type, 1)
            with cgutils.for_range_slice(builder, low, high, one, inc=True) as (edge, _):
                later = builder.add(edge, ir.Constant(at.type, AHEAD))
                later = builder.select(builder.icmp_signed("<", later, final), later, final)
                for part in parts(x, begin(neighbour(later))):
                    builder.call(fetch, [builder.bitcast(part, byte), *to_read_and_keep])
                node = neighbour(edge)
                scale = every(builder.load(builder.gep(right.data, [node])))
                for total, part in zip(sums, parts(x, begin(node)), strict=True):
                    product = times(builder.load(part, align=4), scale)
                    builder.store(plus(builder.load(total), product), total)
            for total, part, more in zip(sums, parts(out, at), parts(add, added), strict=True):
                row = plus(times(builder.load(total), every(left)), builder.load(more, align=4))
                builder.store(times(row, every(factor)), part, align=4)
            return context.get_dummy_value()

        i, f = types.int64, types.float32
        arguments = (out, i, x, i, i, neighbours, right, i, i, f, add, i, f)
        return types.void(*arguments), generate

    return row


_WIDE, _NARROW = 4 * jit.LANES, jit.LANES
_wide, _narrow, _single = _summed(_WIDE), _summed(_NARROW), _summed(1)


@jit.parallel
def _propagate(out, x, add, dim, first, last, neighbours, left, right, factor, blocks):
    """Write to out what `propagate` returns; add has one row for all nodes, or one for each."""
    shared = len(add) == dim
    for block in numba.prange(len(blocks) - 1):
        for i in range(blocks[block], blocks[block + 1]):
            low, high, scale = first[i], last[i], left[i]
            d = np.int64(0)
            while d < dim:
                at, added = i * dim + d, d if shared else i * dim + d
                if d + _WIDE <= dim:
                    _wide(
                        out, at, x, d, dim, neighbours, right, low, high, scale, add, added, factor
                    )
                    d += _WIDE
                elif d + _NARROW <= dim:
                    _narrow(
                        out, at, x, d, dim, neighbours, right, low, high, scale, add, added, factor
                    )
                    d += _NARROW
                else:
                    _single(
                        out, at, x, d, dim, neighbours, right, low, high, scale, add, added, factor
                    )
                    d += 1


@jit.parallel
def _kept(first, neighbours, columns, blocks):
    """Return the neighbours among the `columns`, moved to the front of each row, and its end."""
    kept, last = np.empty_like(neighbours), np.empty(len(first) - 1, np.int64)
    for block in numba.prange(len(blocks) - 1):
        for i in range(blocks[block], blocks[block + 1]):
            at = first[i]
            for edge in range(first[i], first[i + 1]):
                kept[at] = neighbours[edge]  # overwritten unless wanted: nothing to predict
                at += columns[np.uint32(neighbours[edge])]
            last[i] = at
            for edge in range(at, first[i + 1]):
                kept[edge] = 0
    return kept, last


def _blocks(edges: np.ndarray) -> np.ndarray:
    """Return where each block of rows begins, int64 (BLOCKS + 1,), from the edges of each row."""
    work = np.concatenate([[0], np.cumsum(edges + 1)])  # writing a row counts as an edge
    return np.searchsorted(work, np.linspace(0, work[-1], BLOCKS + 1))


def propagate(
    x: Tensor,
    graph: Graph,
    add: Tensor | None,
    factor: float,
    rows: Tensor | None,
    columns: Tensor | None,
) -> Tensor:
    """Return factor (S x + add), (n, D), for contiguous x and add (n, D).

    rows bool (n,): only there is S x taken, elsewhere 0. columns bool (n,): elsewhere x is 0.
    """
    dim = x.shape[1]
    first, neighbours = graph.first.numpy(), graph.neighbours.numpy()
    last = first[1:]
    if columns is not None:
        blocks = _blocks(np.diff(first))
        neighbours, last = _kept(first, neighbours, columns.numpy().view(np.uint8), blocks)
    if rows is not None:
        last = np.where(rows.numpy(), last, first[:-1])
    out = torch.empty_like(x)
    more = torch.zeros(dim) if add is None else add
    _propagate(
        out.view(-1).numpy(),
        x.view(-1).numpy(),
        more.view(-1).numpy(),
        dim,
        first,
        last,
        neighbours,
        graph.left.numpy(),
        graph.right.numpy(),
        np.float32(factor),
        _blocks(last - first[:-1]),
    )
    return out
