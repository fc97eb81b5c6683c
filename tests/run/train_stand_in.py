#!/usr/bin/env python3
"""Behaves like `tael train` towards Slurm, in the time it is told to take: for trying the drill itself and its testbed.

    mpirun -n 4 tests/run/train_stand_in.py train CONFIG run.dir=RUN training.train_steps=N

Every rank notes each USR1 in RUN/log/; after the step in which one comes all exit with 75, and the next start goes on.
Rank 0 keeps RUN/metrics.jsonl, RUN/ledger.jsonl and RUN/checkpoints/latest (the step and a number that all earlier steps
made), and at the end RUN/model/model.safetensors, which holds that number.
"""
import hashlib
import json
import os
import pathlib
import signal
import sys
import time

STEP_SECONDS = 0.1


def replace(path, text):
    path.parent.mkdir(exist_ok=True)
    prepared = path.with_suffix(".tmp")
    prepared.write_text(text)
    prepared.rename(path)


def main():
    began = float(os.environ.get("TAEL_JOB_STARTED", time.time()))
    settings = dict(word.split("=", 1) for word in sys.argv[3:])
    run, steps = pathlib.Path(settings["run.dir"]), int(settings["training.train_steps"])
    rank, ranks = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0)), int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
    (run / "log").mkdir(parents=True, exist_ok=True)
    asked = []

    def on_usr1(*_):
        asked.append(1)
        with open(run / "log" / f"usr1-{rank}", "a") as file:
            file.write(f"{os.getpid()}\n")

    signal.signal(signal.SIGUSR1, on_usr1)
    latest = run / "checkpoints" / "latest"
    attempt, step, state = json.loads(latest.read_text()) if latest.exists() else (0, 0, "start")
    attempt += 1
    ended = run / "log" / f"ended-{attempt}"
    if rank > 0:  # mpirun ends all ranks when one leaves with an error, so rank 0 must be done first
        while not ended.exists():
            time.sleep(0.02)
        return int(ended.read_text())
    wall = 0.0
    with open(run / "metrics.jsonl", "a") as metrics, open(run / "ledger.jsonl", "a") as ledger:
        def book(kind):
            nonlocal wall
            spent, wall = time.time() - began - wall, time.time() - began
            print(json.dumps({"attempt": attempt, "step": step, "kind": kind, "ranks": ranks, "wall_s": wall,
                              "device_s": {"startup" if kind == "start" else "compute": spent * ranks},
                              "unaccounted_s": 0.0}), file=ledger, flush=True)

        book("start")
        while step < steps and not asked:
            time.sleep(STEP_SECONDS)
            step += 1
            state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
            print(json.dumps({"attempt": attempt, "step": step, "kind": "step", "train/loss": int(state[:8], 16),
                              "perf/step_ms": STEP_SECONDS * 1e3}), file=metrics, flush=True)
            book("step")
        replace(latest, json.dumps([attempt, step, state]))
        if step == steps:
            replace(run / "model" / "model.safetensors", state)
        book("end")
    code = 0 if step == steps else 75
    replace(ended, str(code))
    return code


if __name__ == "__main__":
    sys.exit(main())
