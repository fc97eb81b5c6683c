#!/usr/bin/env python3
"""A run under a real Slurm, interrupted twice: the job requeues itself, goes on bit for bit, and costs what sacct says.

    eval "$(scripts/testbed slurm start)"
    tests/run/slurm_drill.py build/tael SCRATCH [--seconds 240] [--seed 9] [--stand-in tests/run/train_stand_in.py]

Two nodes of two ranks train the quickstart's model for about three times --seconds. USR1 goes to the batch shell at two
seeded instants, near a third and two thirds of the steps and anywhere inside a step. Checked: each attempt but the last
comes back by itself; all attempts together trained every step; weights and losses equal those of an uninterrupted run
outside Slurm in every bit; the ledger's device-seconds are sacct's elapsed time x ranks within 1%. (Not in a ledger:
mpirun takes two seconds to leave after a code other than 0, and sacct counts whole seconds. Below ten minutes in all,
three seconds an attempt are allowed.) SCRATCH must be a directory that all nodes see.
"""
import argparse
import glob
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time

RANKS = 4


def say(text):
    print(time.strftime("[%H:%M:%S] ") + text, file=sys.stderr, flush=True)


def run(*words, **options):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def lines_of(path):
    """Whole lines of JSON; the last may be half written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


class Job:
    def __init__(self, number):
        self.number = number

    def facts(self):
        text = run("scontrol", "show", "job", self.number)
        return {key: re.search(rf"\b{key}=(\S*)", text).group(1) for key in ("JobState", "Restarts", "ExitCode")}

    def wait(self, what, condition, seconds):
        end = time.monotonic() + seconds
        while True:
            facts = self.facts()
            if condition(facts):
                return facts
            if facts["JobState"] not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING"):
                sys.exit(f"{what}: the job ended first: {facts}\n{self.output()}")
            if time.monotonic() > end:
                sys.exit(f"{what}: not within {seconds:.0f} s: {facts}\n{self.output()}")
            time.sleep(0.5)

    def output(self):
        path = self.log
        return path.read_text() if path.exists() else "(no output)"


class Drill:
    def __init__(self, options):
        self.options, self.scratch = options, options.scratch.resolve()
        self.tael, self.run = options.tael.resolve(), options.scratch.resolve() / "interrupted"
        self.program = options.stand_in.resolve() if options.stand_in else self.tael
        self.root = pathlib.Path(__file__).resolve().parents[2]

    def words(self, directory, steps):
        data = self.scratch
        return ["experiments/quickstart", f"run.dir={directory}", f"data.train=[{data}/train.h5]",
                f"data.valid=[{data}/valid.h5]", f"training.train_steps={steps}", "cluster.nodes=2",
                "cluster.devices_per_node=2", "cluster.threads_per_rank=1", "lr_scheduler.warmup_steps=10"]

    def mpirun(self, directory, steps):
        run("mpirun", "-n", RANKS, "--oversubscribe", "--bind-to", "none", self.program, "train",
            *self.words(directory, steps), cwd=self.root)

    def steps(self):
        """So many that three attempts of the asked length are needed."""
        if self.options.stand_in:
            step_ms = 100.0
        else:
            self.mpirun(self.scratch / "calibration", 30)
            times = sorted(line["perf/step_ms"] for line in lines_of(self.scratch / "calibration/metrics.jsonl")
                           if line["kind"] == "step" and line["step"] > 10)
            step_ms = times[len(times) // 2]
        steps = int(3 * self.options.seconds * 1e3 / step_ms)
        say(f"a step takes {step_ms:.0f} ms: {steps} steps")
        return steps

    def submit(self, steps):
        # The limit leaves room for every attempt; the signals are ours.
        words = [self.tael, "submit", *self.words(self.run, steps), "time_limit=" + f"{int(20 * self.options.seconds)}s"]
        if not self.options.stand_in:
            job = Job(run(*words, "--submit", cwd=self.root).strip())
        else:
            script = pathlib.Path(run(*words, cwd=self.root).strip())
            script.write_text(script.read_text().replace(f"{self.tael} train", f"{self.program} train"))
            job = Job(run("sbatch", "--parsable", script).strip())
        job.log = self.run / f"log/slurm-{job.number}.out"
        say(f"job {job.number} is queued")
        return job

    def has_reached(self, attempt, step):
        return any(line["attempt"] == attempt and line["kind"] == "step" and line["step"] >= step
                   for line in lines_of(self.run / "ledger.jsonl"))

    def interrupt(self, job, attempt, step, delay):
        job.wait(f"attempt {attempt}", lambda facts: facts["JobState"] == "RUNNING" and self.has_reached(attempt, step),
                 300 + 10 * self.options.seconds)
        say(f"attempt {attempt} has done step {step}; USR1 in {delay:.2f} s")
        time.sleep(delay)
        if job.facts()["JobState"] != "RUNNING":
            sys.exit(f"the job was not running any more: too few steps\n{job.output()}")
        run("scancel", "--signal=USR1", "--batch", job.number)
        facts = job.wait("requeueing", lambda facts: facts["Restarts"] == str(attempt), 120)
        say(f"attempt {attempt} is over, the job is {facts['JobState'].lower()} again")

    def operate(self):
        self.scratch.mkdir(parents=True, exist_ok=True)
        text = sorted(glob.glob("/usr/share/cmake-*/Help"))
        if not text:
            sys.exit("no text to train on: the manual of CMake is missing")
        run(self.tael, "data", "prepare", "--out", self.scratch / "train.h5", "--valid", self.scratch / "valid.h5",
            "--valid-fraction", "0.05", text[-1])
        steps = self.steps()
        say("an uninterrupted run, outside Slurm")
        self.mpirun(self.scratch / "reference", steps)
        job = self.submit(steps)
        seeded = random.Random(self.options.seed)
        for attempt in (1, 2):
            self.interrupt(job, attempt, int(steps * (attempt / 3 + seeded.uniform(-0.05, 0.05))), seeded.uniform(0, 1))
        job.wait("the end", lambda facts: facts["JobState"] == "COMPLETED", 10 * self.options.seconds + 300)
        say("the job has completed")
        self.check(job, steps)

    def check(self, job, steps):
        reference = self.scratch / "reference"
        failures = []

        def expect(condition, text):
            say(("" if condition else "WRONG: ") + text)
            if not condition:
                failures.append(text)

        def weights(directory):
            return {f.name: f.read_bytes() for f in (directory / "model").glob("*.safetensors")}

        def losses(directory):
            return {line["step"]: line["train/loss"] for line in lines_of(directory / "metrics.jsonl")
                    if line["kind"] == "step"}

        expect(len(weights(self.run)) > 0 and weights(self.run) == weights(reference),
               "the weights equal those of the uninterrupted run in every bit")
        expect(losses(self.run) == losses(reference) and sorted(losses(self.run)) == list(range(1, steps + 1)),
               f"so do the losses of all {steps} steps")
        ledger = lines_of(self.run / "ledger.jsonl")
        attempts = sorted({line["attempt"] for line in ledger})
        expect(attempts == [1, 2, 3], f"attempts in the ledger: {attempts}")
        # A requeued job has one record an attempt, all but the last told with -D only.
        records = run("sacct", "-X", "-n", "-P", "-D", "-j", job.number, "--format=State,ElapsedRaw,ExitCode").split()
        records = [record.split("|") for record in records]
        expect([r[0] for r in records] == ["REQUEUED", "REQUEUED", "COMPLETED"], f"sacct: {records}")
        booked = sum(sum(line["device_s"].values()) + line["unaccounted_s"] for line in ledger)
        told = RANKS * sum(int(record[1]) for record in records)
        allowed = max(0.01 * told, 3 * RANKS * len(records) if told < 600 * RANKS else 0)
        for attempt, record in zip(attempts, records):
            mine = [line for line in ledger if line["attempt"] == attempt]
            own = sum(sum(line["device_s"].values()) + line["unaccounted_s"] for line in mine)
            say(f"attempt {attempt}: ledger {own:.1f} device-seconds, sacct {RANKS * int(record[1])}")
        expect(abs(booked - told) <= allowed, f"ledger {booked:.1f} device-seconds, sacct {told}: "
               f"{100 * (booked - told) / told:+.2f}% (allowed {100 * allowed / told:.2f}%)")
        if self.options.stand_in:
            for rank in range(RANKS):
                path = self.run / "log" / f"usr1-{rank}"
                seen = path.read_text().split() if path.exists() else []
                expect(len(set(seen)) == 2, f"rank {rank} saw USR1 in {len(set(seen))} processes")
        if failures:
            sys.exit("\n".join(["", *failures, job.output()]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tael", type=pathlib.Path)
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--stand-in", type=pathlib.Path)
    options = parser.parse_args()
    if "SLURM_CONF" not in os.environ:
        sys.exit("SLURM_CONF is not set: eval \"$(scripts/testbed slurm start)\" first")
    Drill(options).operate()


if __name__ == "__main__":
    main()
