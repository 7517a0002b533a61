"""Compile every CUDA kernel to machine code, which needs no GPU. Run by test_kernels_cuda.py.

A process of its own: Triton's interpreter, which the other tests use, is chosen for good when a
kernel is defined.
"""

import sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from recloss.engine.kernels import cuda, cuda_propagation

SIZES = [{"K": 2048 // d, "D": d} for d in (16, 64, 256)]
COSINE = [{"COSINE": cosine} for cosine in (False, True)]
BOTH = (False, True)
ABSENT = [("rows", "columns"), ("add", "rows", "columns"), ("columns",), ("rows",)]
LOOKED_UP = "users:*fp32 table:*fp32 ids:*i32 count:i32 dim:i32"
KERNELS = {
    "_draw": (
        "ids:*i32 clock:*i64 users:*i32 items:*i32 batch_size:i32 negatives:i32 extra:i32 key:i64"
        " extra_key:i64 n_items:i32 accept:*fp32 other:*i32 first:*i64 observed:*i32",
        [{"POPULAR": p, "EXCLUDE": e, "BLOCK": cuda.WORDS} for p in BOTH for e in BOTH],
    ),
    "_all_words": (
        "out:*i64 key:i64 clock:*i64 rows:i32 count:i32",
        [{"BLOCK": cuda.WORDS}],
    ),
    "_scores": (f"out:*fp32 {LOOKED_UP}", [c | s for c in COSINE for s in SIZES]),
    "_gradients": (
        f"for_users:*fp32 for_table:*fp32 grad:*fp32 {LOOKED_UP}",
        [c | s | {"ATOMIC": a} for c in COSINE for s in SIZES for a in BOTH],
    ),
    "_table_gradient": (
        "for_table:*fp32 grad:*fp32 users:*fp32 table:*fp32 entries:*i64 first:*i64 count:i32"
        " dim:i32",
        [c | s for c in COSINE for s in SIZES],
    ),
    "_square_sums": ("sums:*fp32 values:*fp32 n:i32", [{"BLOCK": cuda.PARAMETERS}]),
    "_adam": (
        "values:*fp32 gradient:*fp32 mean:*fp32 square:*fp32 n:i32 sums:*fp32 n_sums:i32"
        " count:*i64 rate:*fp32 clip_norm:fp32 clip_epsilon:fp32 epsilon:fp32",
        [
            {
                "CLIP": c,
                "SUMS": 512,
                "BLOCK": cuda.PARAMETERS,
                "log_beta1": -0.1,
                "log_beta2": -1e-3,
            }
            for c in BOTH
        ],
    ),
    "_propagate": (
        "out:*fp32 x:*fp32 add:*fp32 first:*i64 neighbours:*i32 left:*fp32 right:*fp32 rows:*u8"
        " columns:*u8 factor:fp32 dim:i32",
        [s | dict.fromkeys(absent) for s in SIZES for absent in ABSENT],
    ),
}


def main() -> None:
    functions = {}
    for module in (cuda, cuda_propagation):
        text = Path(module.__file__).read_text()
        functions |= {
            name: function
            for name, function in vars(module).items()
            if isinstance(function, triton.JITFunction) and f"{name}[" in text
        }
    assert set(functions) == set(KERNELS), set(functions) ^ set(KERNELS)
    for name, (types, constants) in KERNELS.items():
        signature = dict(word.split(":") for word in types.split())
        function = functions[name]
        # A number that is 1 when a kernel is launched becomes a constant.
        ones = {n: 1 for n, kind in signature.items() if kind == "i32"}
        for chosen in [*constants, constants[0] | ones]:
            whole = {n: "constexpr" if n in chosen else signature[n] for n in function.arg_names}
            source = ASTSource(function, whole, chosen)
            for architecture in map(int, sys.argv[1:]):
                binary = triton.compile(source, GPUTarget("cuda", architecture, 32))
                assert len(binary.asm["cubin"]) > 0
        print(name, len(constants))


if __name__ == "__main__":
    main()
