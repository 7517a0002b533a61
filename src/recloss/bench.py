"""Benchmarks: seconds per step, epoch and evaluation, beside what others do on the same machine.

Rivals are measured in turns, round by round, so that what slows the machine slows all of them;
each figure is the median of the rounds. Rows of a device that is not there are absent.
"""

import argparse
import contextlib
import functools
import importlib.util
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize

from recloss import config, data, linear, losses, plan, record
from recloss.evaluate import block_users
from recloss.files import ReclossError, run_cli, write_json
from recloss.kernels import keep_memory, use_threads
from recloss.split import Split, split, write
from recloss.train import Trainer

SETTINGS = {"batch_size": 512, "negatives": 800, "dim": 64}  # and cosine: the targets' shape
LOSS = "mine_plus"
FORMS = ("field", "layers", "tuned")
STEPS = 20  # of ours in a round
SHAPES = ("gowalla", "amazon-book")
IALS_DIMS = (64, 128)
PEER_WORK = (("ccl", 800), ("bpr", 800), ("bpr", 1))  # SimpleX's loss, and BPR
GROWTH = {
    "negatives": (100, 200, 400, 800, 1600, 3200),
    "dim": (32, 64, 128, 256),
    "interactions": (800_000, 2_500_000, 8_000_000, 20_000_000),
}
COPIED = 2**28  # values: 1 GB, past any cache
CACHED = 2**21  # values: 8 MB, within the L2 of a current GPU


def spread(seconds: list[float]) -> dict[str, float]:
    """Return the median of repeated measurements with their quartiles, and how many they are."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "rounds": len(seconds)}


def race(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the `spread` of the seconds that each work says, called in turns, once before."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(work())
    return {name: spread(values) for name, values in times.items()}


def timed(work: Callable[[], object], calls: int, device: torch.device) -> Callable[[], float]:
    """Return a function that makes `calls` calls of `work` and says the seconds of one."""

    def measure() -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(calls):
            work()
        _wait(device)
        return (time.perf_counter() - started) / calls

    return measure


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def devices() -> list[torch.device]:
    """Return the CPU and, where there is one, the CUDA device."""
    names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [torch.device(name) for name in names]


def counts_of(name: str) -> dict[str, int]:
    """Return n_users, n_items, n_train of a published data set."""
    return plan.counts_of({"name": name})


def settings_of(loss: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of a loss: the schema's defaults, the benchmark's shape, `changes`."""
    return config.default_settings(loss) | SETTINGS | changes


# Training steps


def trainer_of(
    counts: dict[str, int],
    loss: str,
    device: torch.device,
    n_train: int = 100 * 512,
    **changes: Any,
) -> Trainer:
    """Return a trainer on random pairs."""
    return Trainer(plan.stand_in(counts, n_train), loss, settings_of(loss, **changes), 0, device)


class Steps:
    """Calls take the whole steps of one epoch of the trainer after another."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.number = trainer, 0
        self.whole = len(trainer.split.train) // trainer.settings["batch_size"]

    def __call__(self) -> None:
        epoch, step = divmod(self.number, self.whole)
        if step == 0:
            self.trainer.sampler.start(1 + epoch)
        self.trainer.full_step(step)
        self.number += 1


class Rival:
    """A step as others write it: a (B, 1 + N, D) tensor of item vectors, autograd, Adam.

    `field` is BSL's (github.com/junkangwu/BSL, modules/MF_Frame.py), but for its penalty: vectors
    of positives and negatives are looked up, joined, normalised each, and multiplied by bmm.
    `layers` does the same with nn.Embedding's lookup, as SimpleX. `tuned` normalises the table
    instead, looks up once, and fuses Adam. Unlike ours none clips.
    """

    def __init__(self, counts: dict[str, int], form: str, device: torch.device) -> None:
        s = settings_of(LOSS)
        self.form, self.batch, self.negatives = form, s["batch_size"], s["negatives"]
        self.temperature, self.lambda_ = s["temperature"], s["lambda"]
        self.users, self.items = (
            torch.nn.Parameter(torch.randn(counts[n], s["dim"], device=device) * s["init_std"])
            for n in ("n_users", "n_items")
        )
        tables = [self.users, self.items]
        self.adam = torch.optim.Adam(tables, lr=s["learning_rate"], fused=form == "tuned" or None)

    def vectors(self, users: Tensor, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors (B, D) and (B, 1 + N, D) of users, pos (B,) and neg (B, N)."""
        if self.form == "tuned":
            ids = torch.cat([pos[:, None], neg], dim=1)
            return normalize(self.users[users], dim=1), normalize(self.items, dim=1)[ids]
        if self.form == "layers":
            u, p, n = (
                embedding(ids, table)
                for ids, table in ((users, self.users), (pos, self.items), (neg, self.items))
            )
        else:
            u, p, n = self.users[users], self.items[pos], self.items[neg]
        return normalize(u, dim=1), normalize(torch.cat([p[:, None], n], dim=1), dim=2)

    def __call__(self) -> None:
        device = self.users.device
        users = torch.randint(len(self.users), (self.batch,), device=device)
        pos = torch.randint(len(self.items), (self.batch,), device=device)
        neg = torch.randint(len(self.items), (self.batch, self.negatives), device=device)
        u, i = self.vectors(users, pos, neg)
        scores = torch.bmm(i, u[:, :, None])[:, :, 0] / self.temperature
        loss = losses.LOSSES[LOSS](scores[:, 0], scores[:, 1:], lambda_=self.lambda_)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


@contextlib.contextmanager
def other_process(threads: int) -> Iterator[Callable[..., Any]]:
    """Yield a function that calls another in a process of its own, which runs as others' do.

    There the allocator gives memory back as by default: see `kernels.keep_memory`.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, initializer=use_threads, initargs=(threads,)) as pool:
        yield pool.apply


@functools.cache
def _rival(counts: tuple[tuple[str, int], ...], form: str, device: torch.device) -> Rival:
    return Rival(dict(counts), form, device)


def _rival_seconds(counts: dict[str, int], form: str, device: torch.device, calls: int) -> float:
    return timed(_rival(tuple(counts.items()), form, device), calls, device)()


def step(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race our step against two other forms of it; on CUDA also against its floor."""
    rows = []
    for device in devices():
        for name in SHAPES if device.type == "cuda" else SHAPES[:1]:
            counts = counts_of(name)
            calls = STEPS if device.type == "cuda" else 1
            with other_process(arguments.threads) as apply:
                works = {"ours": timed(Steps(trainer_of(counts, LOSS, device)), STEPS, device)} | {
                    form: functools.partial(apply, _rival_seconds, (counts, form, device, calls))
                    for form in FORMS
                }
                times = race(works, arguments.rounds)
            shape = {"device": device.type, "tables": name}
            rows += [shape | {"name": form, "seconds": times[form]} for form in times]
            rows[-len(times)]["peak_extra_mb"] = extra_memory_mb(counts, device)
            if device.type == "cuda":
                rows.append(shape | {"name": "floor", "seconds": floor(counts, device)})
    return rows


def extra_memory_mb(counts: dict[str, int], device: torch.device) -> float | None:
    """Return by how many MB (10^6 bytes) a step raises the memory above that of a ready trainer.

    On the CPU, as the system counts it (Linux only), in a process of its own.
    """
    if device.type == "cpu":
        if sys.platform != "linux":
            return None
        with other_process(torch.get_num_threads()) as apply:
            return apply(_extra_resident_mb, (counts,))
    trainer = trainer_of(counts, LOSS, device)
    trainer.sampler.start(1)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    trainer.step(SETTINGS["batch_size"])
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def _extra_resident_mb(counts: dict[str, int]) -> float:
    cpu = torch.device("cpu")
    tiny = {"n_users": 10, "n_items": 10}
    Steps(trainer_of(tiny, LOSS, cpu, 40, batch_size=4, negatives=4))()  # loads all code
    trainer = trainer_of(counts, LOSS, cpu)
    trainer.sampler.start(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status_mb("VmRSS")
    for _ in range(3):
        trainer.step(SETTINGS["batch_size"])
    return _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))


def floor(counts: dict[str, int], device: torch.device) -> dict[str, float]:
    """Return the least seconds of a step: bytes that must move, at measured copying rates.

    Memory: Adam reads and writes tables and both moments, the gradient is written and read; ids,
    scores and their gradients are written once and read twice. Vectors of B (1 + N) items are read
    in the forward and in the backward pass and as many gradients added, at the rate of the cache
    if the item table fits there, else at that of memory.
    """
    tables = 4 * SETTINGS["dim"] * (counts["n_users"] + counts["n_items"])
    entries = SETTINGS["batch_size"] * (1 + SETTINGS["negatives"])
    memory, cache = (_copy_rate(n, device) for n in (COPIED, CACHED))
    table = 4 * SETTINGS["dim"] * counts["n_items"]
    fits = table <= torch.cuda.get_device_properties(device).L2_cache_size
    gathers = 3 * 4 * SETTINGS["dim"] * entries / (cache if fits else memory)
    return spread([(8 * tables + 9 * 4 * entries) / memory + gathers] * 2)


def _copy_rate(n: int, device: torch.device) -> float:
    """Return the bytes per second, read and written, of copying n float32 values."""
    source, target = torch.ones(n, device=device), torch.empty(n, device=device)
    graph = torch.cuda.CUDAGraph()
    target.copy_(source)
    with torch.cuda.graph(graph):  # so that launching costs nothing
        for _ in range(20):
            target.copy_(source)
    return 20 * 8 * n / race({"copy": timed(graph.replay, 5, device)}, 10)["copy"]["median"]


def every_loss(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race the steps of all losses."""
    rows = []
    for device in devices():
        counts = counts_of(SHAPES[0])
        works = {
            name: timed(Steps(trainer_of(counts, name, device)), 5, device)
            for name in losses.LOSSES
        }
        times = race(works, arguments.rounds)
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows


def growth(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure how a step grows with N and D, and an epoch with the number of interactions.

    An epoch is its beginning (the order of the pairs) and its steps at their median.
    """
    rows = []
    for device in devices():
        counts = counts_of(SHAPES[0])
        for axis in ("negatives", "dim"):
            for value in GROWTH[axis]:
                work = timed(Steps(trainer_of(counts, LOSS, device, **{axis: value})), 5, device)
                times = race({"ours": work}, arguments.rounds)["ours"]
                rows.append({"device": device.type, "axis": axis, "value": value, "seconds": times})
        for value in GROWTH["interactions"]:
            trainer = trainer_of(counts, LOSS, device, value)
            begin = functools.partial(trainer.sampler.start, 1)
            works = {"begin": timed(begin, 1, device), "step": timed(Steps(trainer), 5, device)}
            times = race(works, arguments.rounds)
            seconds = {
                key: times["begin"][key] + trainer.steps * times["step"][key]
                for key in ("median", "low", "high")
            }
            seconds["rounds"] = arguments.rounds
            rows.append(
                {"device": device.type, "axis": "interactions", "value": value, "seconds": seconds}
            )
    return rows


def evaluation(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race the evaluation of all users of Gowalla against its matrix product alone."""
    rows, parts = [], gowalla(arguments)
    for device in devices():
        trainer = Trainer(parts, LOSS, settings_of(LOSS), 0, device)
        users, items = (table.detach() for table in trainer.model())
        block = block_users(len(items), device)

        def product(users=users, items=items, block=block) -> None:
            for low in range(0, len(users), block):
                torch.mm(users[low : low + block], items.T)

        works = {
            "ours": timed(functools.partial(trainer.evaluate, on_test=True), 1, device),
            "product": timed(product, 1, device),
        }
        times = race(works, min(arguments.rounds, 7))
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows


def startup(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure `python -m recloss.train` on Gowalla from its call to its first step."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), gowalla(arguments), "gowalla", "published", 0.1, 0)
        command = [sys.executable, "-m", "recloss.train", "--loss", LOSS, "--device", "cpu"]
        command += ["--data", f"{folder}/split.npz", "--manifest", f"{folder}/split.json"]
        command += ["--out", folder, "--threads", str(torch.get_num_threads())]
        for _ in range(6):
            started = time.perf_counter()
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                line = process.stderr.readline()
                seconds.append(time.perf_counter() - started)
                process.kill()
            if "first step" not in line:
                raise ReclossError(f"{' '.join(command)} failed: {line.strip()}")
    return [{"device": "cpu", "name": "first step", "seconds": spread(seconds[1:])}]


def epochs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure an epoch of Gowalla at the work of the peers, who never draw a user's train items.

    An epoch is its steps at their median; evaluation is not part of it.
    """
    rows, parts = [], gowalla(arguments)
    for device in devices():
        for loss, negatives in PEER_WORK:
            settings = settings_of(loss, negatives=negatives, exclude_positives=True)
            steps = Steps(Trainer(parts, loss, settings, 0, device))
            seconds = race({"ours": timed(steps, 5, device)}, arguments.rounds)["ours"]
            for key in ("median", "low", "high"):
                seconds[key] *= steps.trainer.steps
            row = {"device": device.type, "name": loss, "negatives": negatives}
            rows.append(row | {"seconds": seconds})
    return rows


def ials(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race an iteration of our weighted iALS solver against irspack's plain one, on Gowalla."""
    if importlib.util.find_spec("irspack") is None:
        return []
    train, rows = gowalla(arguments).train, []
    device, settings = torch.device("cpu"), (0.1, 0.003, 1.0)
    for dim in IALS_DIMS:
        problem = linear.ials_problem(train, *settings)
        start = linear.initial(train, dim, 0.1, 0)
        steps = {
            "ours": linear.Solver(problem).step,
            "irspack": linear.irspack_step(train, *settings, start),
        }
        works = {
            name: timed(functools.partial(step, start), 1, device) for name, step in steps.items()
        }
        times = race(works, min(arguments.rounds, 5))
        rows += [{"device": "cpu", "name": n, "dim": dim, "seconds": times[n]} for n in times]
    return rows


def gowalla(arguments: argparse.Namespace) -> Split:
    """Return Gowalla's published split, read from the folder --data."""
    if arguments.data is None:
        raise ReclossError(f"the part {arguments.part} needs --data, the folder of Gowalla's files")
    folder = arguments.data
    return split(*data.load(folder / "train.txt", folder / "test.txt"), "published")


PARTS = {
    "step": step,
    "losses": every_loss,
    "evaluation": evaluation,
    "growth": growth,
    "startup": startup,
    "epochs": epochs,
    "ials": ials,
}


def summary(parts: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of measured parts, name to record; of what was not measured, nothing."""

    def median(part: str, **wanted: Any) -> float:
        rows = parts[part]["rows"] if part in parts else []
        found = [row["seconds"]["median"] for row in rows if wanted.items() <= row.items()]
        return found[0] if found else math.nan

    def step_ratios(device: str, one: str, other: str) -> list[float]:
        return [
            median("step", device=device, tables=tables, name=one)
            / median("step", device=device, tables=tables, name=other)
            for tables in SHAPES
        ]

    def evaluation_ratio(device: str) -> float:
        ours, product = (
            median("evaluation", device=device, name=name) for name in ("ours", "product")
        )
        return ours / product

    rows = parts["step"]["rows"] if "step" in parts else []
    candidates = {
        "cpu_step_vs_field": step_ratios("cpu", "field", "ours"),
        "cpu_step_vs_tuned_torch": step_ratios("cpu", "tuned", "ours"),
        "cuda_step_vs_field": step_ratios("cuda", "field", "ours"),
        "cuda_step_over_floor": step_ratios("cuda", "ours", "floor"),
        "peak_extra_mb": [row["peak_extra_mb"] for row in rows if row.get("peak_extra_mb")],
        "eval_over_matmul_cpu": [evaluation_ratio("cpu")],
        "eval_over_matmul_cuda": [evaluation_ratio("cuda")],
        "slowest_loss_over_mine_plus": [
            median("losses", device=device, name=loss) / median("losses", device=device, name=LOSS)
            for device in ("cpu", "cuda")
            for loss in losses.LOSSES
        ],
        "ials_over_irspack": [
            median("ials", name="ours", dim=dim) / median("ials", name="irspack", dim=dim)
            for dim in IALS_DIMS
        ],
        "first_step_seconds_cpu": [median("startup", device="cpu")],
    }
    ratios = {}
    for name, values in candidates.items():
        measured = [value for value in values if not math.isnan(value)]
        if measured:  # of several shapes or devices, the worst
            ratios[name] = round((min if "_vs_" in name else max)(measured), 3)
    return ratios


def main() -> None:
    """Measure one part and write it as JSON."""
    p = argparse.ArgumentParser(prog="python -m recloss.bench", description=main.__doc__)
    p.add_argument("part", choices=PARTS)
    p.add_argument("--out", type=Path, required=True, help="the folder to write PART.json to")
    p.add_argument("--data", type=Path, help="folder of Gowalla's train.txt and test.txt")
    p.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    p.add_argument("--rounds", type=int, default=15, help="rounds of a race (default 15)")
    arguments = p.parse_args()
    use_threads(arguments.threads)
    keep_memory()
    rows = PARTS[arguments.part](arguments)
    about = {"part": arguments.part, "settings": SETTINGS, "threads": arguments.threads}
    about |= record.environment(devices()[-1].type)
    write_json(arguments.out / f"{arguments.part}.json", about | {"rows": rows})


if __name__ == "__main__":
    run_cli(main)
