"""A training step beside the same step as others write it, its memory, and its floor."""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize

from benchmarks.race import (
    LOSS,
    SETTINGS,
    SHAPES,
    Steps,
    counts_of,
    devices,
    other_process,
    race,
    settings_of,
    spread,
    timed,
    trainer_of,
)
from recloss.losses import LOSSES

FORMS = ("field", "layers", "tuned")
STEPS = 20  # of ours in a round
COPIED = 2**28  # values: 1 GB, past any cache
CACHED = 2**21  # values: 8 MB, within the L2 of a current GPU


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
        loss = LOSSES[LOSS](scores[:, 0], scores[:, 1:], lambda_=self.lambda_)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


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
