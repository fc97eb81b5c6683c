#!/usr/bin/env python3
"""What a checkpoint costs the steps: how long they wait for its copy, against one copy of the same bytes in memory, and how
much longer they take while it is being written.

    tests/run/save_stall_drill.py build/tael SCRATCH [--small] [--steps 24] [--most 1.5]

The real program on one rank with two threads and on two ranks with one, with a checkpoint after every step and after every
sixth. The copy in memory is measured by this script right before and right after each run, by as many threads as copy in
it, between buffers that were touched before, in the large pages that the program asks for. Prints a table in Markdown and
fails where the median wait is more than --most copies. --small: a state of 20 MB, for scripts/test, which shows that the
drill works; what is fixed in a save then weighs more than the copy.
"""
import argparse
import ctypes
import json
import mmap
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from program import MPI  # noqa: E402

SHAPES = ((1, 2), (2, 1))  # ranks, threads of each
INTERVALS = (1, 6)
COPIES = 5
LARGE = ["model.n_routed_experts=24"]  # of bench/cpu_moe: 82 million parameters
SMALL = ["model.hidden_size=128", "model.num_hidden_layers=2"]


def copy_seconds(size, threads):
    """Seconds of each of some copies of `size` bytes by so many threads, between touched buffers."""
    share = size // threads
    buffers = []
    for _ in range(2 * threads):
        memory = mmap.mmap(-1, share)
        memory.madvise(mmap.MADV_HUGEPAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        ctypes.memset(address, 1, share)
        buffers.append((memory, address))
    times = []
    for _ in range(COPIES):
        start = threading.Barrier(threads + 1)

        def copy(n):
            start.wait()
            ctypes.memmove(buffers[2 * n][1], buffers[2 * n + 1][1], share)  # releases the interpreter's lock
        workers = [threading.Thread(target=copy, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        start.wait()
        begin = time.perf_counter()
        for worker in workers:
            worker.join()
        times.append(time.perf_counter() - begin)
    return times


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Run:
    """One run of the program, and what its files say."""

    def __init__(self, options, name, ranks, threads, interval):
        self.directory = options.scratch / name
        shutil.rmtree(self.directory, ignore_errors=True)
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        words = [*launcher, str(options.tael), "train", "bench/cpu_moe", f"run.dir={self.directory}",
                 f"data.train=[{options.scratch}/train.h5]", *(SMALL if options.small else LARGE),
                 "training.seq_length=64", "training.global_batch_size=4", "training.micro_batch_size=2",
                 f"training.train_steps={options.steps}", f"cluster.threads_per_rank={threads}", "parallelism.reduction=fast",
                 f"checkpoint.interval={interval}", "checkpoint.keep=1"]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              env={**MPI, **os.environ})
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}\n{done.stdout}exit {done.returncode}")
        self.steps, self.stalls, self.writes, self.bytes = {}, [], [], 0
        self.beside = set()  # steps during which a checkpoint was being written
        saving = None
        for line in lines_of(self.directory / "metrics.jsonl"):
            if line["kind"] == "step":
                self.steps[line["step"]] = line["perf/step_ms"]
            elif line["kind"] == "checkpoint":
                self.bytes = line["checkpoint/bytes"]
                if line["step"] == options.steps:
                    continue  # the last one, for which everything waits
                self.stalls.append(line["checkpoint/stall_ms"])
                self.writes.append(line["checkpoint/seconds"])
                saving = max(self.steps)
                self.beside.update(range(line["step"] + 1, saving + 1))
        # What the ranks waited in all between the first step and the last, from the ledger.
        ledger = [line for line in lines_of(self.directory / "ledger.jsonl") if line["kind"] == "step"]
        self.waited = sum(line["device_s"].get("checkpoint", 0) for line in ledger) / ranks

    def step_ms(self, beside):
        """Median of the steps beside a write, or of the others; the first step also warms up."""
        times = [ms for step, ms in self.steps.items() if step > 1 and (step in self.beside) == beside]
        return statistics.median(times) if times else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tael", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("scratch", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--most", type=float, default=1.5)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    (options.scratch / "train.h5").unlink(missing_ok=True)
    numbers = random.Random(7)
    tokens = options.scratch / "tokens.bin"
    tokens.write_bytes(b"".join(numbers.randrange(4096).to_bytes(2, "little") for _ in range(options.steps * 4 * 64 + 1)))
    subprocess.run([options.tael, "data", "import", "nanogpt", "--out", options.scratch / "train.h5", "--vocab-size", "4096",
                    tokens], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    rows, worst, plain = [], 0.0, {}
    print(f"load at the start {os.getloadavg()[0]:.2f}", file=sys.stderr)
    for ranks, threads in SHAPES:
        shape = f"{ranks} x {threads}"
        plain[shape] = Run(options, f"plain-{ranks}", ranks, threads, 0).step_ms(beside=False)
        for interval in INTERVALS:
            size = rows[-1][1].bytes if rows else 0
            before = copy_seconds(size, ranks * threads) if size else []
            run = Run(options, f"every-{interval}-{ranks}", ranks, threads, interval)
            if not run.stalls:
                sys.exit("no checkpoint was written beside the steps")
            copies = before + copy_seconds(run.bytes, ranks * threads)
            copy, stall = 1e3 * statistics.median(copies), statistics.median(run.stalls)
            worst = max(worst, stall / copy)
            rows.append((shape, run, interval, copy, stall))
            print(f"{shape}, every {interval}: copy {copy:.0f} ms, waits {stall:.0f} ms, load {os.getloadavg()[0]:.2f}",
                  file=sys.stderr)
    print(f"State of {rows[0][1].bytes / 1e9:.3f} GB; {options.steps} steps a run. Times in ms, medians.\n")
    print("| ranks x threads | a save after | saves | copy in memory | the steps wait | most | wait / copy | written in | "
          "step, no saves | step beside a write | overhead | waited in all |")
    print("|---" * 12 + "|")
    for shape, run, interval, copy, stall in rows:
        beside = run.step_ms(beside=True)  # nothing: each was written before the next step's end
        more = ("-", "-") if beside is None else (f"{beside:.0f}", f"{100 * (beside / plain[shape] - 1):+.0f}%")
        print(f"| {shape} | {'every step' if interval == 1 else f'{interval} steps'} | {len(run.stalls)} | {copy:.0f} | "
              f"{stall:.0f} | {max(run.stalls):.0f} | {stall / copy:.2f} | {1e3 * statistics.median(run.writes):.0f} | "
              f"{plain[shape]:.0f} | {more[0]} | {more[1]} | {1e3 * run.waited:.0f} |")
    if worst > options.most:
        sys.exit(f"the steps wait {worst:.2f} copies, at most {options.most} are allowed")


if __name__ == "__main__":
    main()
