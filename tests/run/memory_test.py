#!/usr/bin/env python3
"""The memory that a run prints before its first step, against the most that the system saw it hold: never more than "at
most", and on a state of more than 500 MB within 15 % of what is expected.

    tests/run/memory_test.py build/tael
"""
import re
import subprocess
import sys

sys.dont_write_bytecode = True
from program import TIMEOUT, Done, ProgramTest, Run, main  # noqa: E402

MIB = 1 << 20
# 27 million parameters: with AdamW's moments and the copies of the gradients more than 500 MB, alone and on two ranks.
LARGE = ["model.hidden_size=512", "model.moe_intermediate_size=512", "model.n_routed_experts=16",
         "model.num_hidden_layers=3", "model.num_nextn_predict_layers=0", "training.train_steps=2", "data.valid=[]",
         "metrics.tensorboard=false"]


class Memory(ProgramTest):
    def planned(self, err):
        """(expected, at most, {kind: bytes}) of the line `memory`."""
        line = re.search(r"^memory +a rank: (\d+) MiB expected, at most (\d+): (.*)$", err, re.M)
        self.assertIsNotNone(line, err)
        kinds = {name: int(size) * MIB for name, size in re.findall(r"([a-z]+) (\d+)", line[3])}
        return int(line[1]) * MIB, int(line[2]) * MIB, kinds

    def check(self, run):
        expected, most, kinds = self.planned(run.done.err)
        peak = max(line["mem/peak_gib"] for line in run.metrics("step")) * (1 << 30)
        self.assertLessEqual(peak, most + MIB / 2, str(run.done))
        return expected, peak, sum(kinds[kind] for kind in ("weights", "gradients", "optimizer"))

    def test_a_large_state_is_within_15_percent(self):
        for ranks in (None, 2):
            run = self.train(ranks, LARGE)
            expected, peak, state = self.check(run)
            self.assertGreater(state, 500e6)
            self.assertLess(abs(peak - expected), 0.15 * expected, str(run.done))

    def test_what_the_process_was_before_is_not_counted(self):
        # A launcher that held memory and became the program.
        directory, words = self.train_words()
        becoming = "import os, sys\nheld = b'x' * (400 << 20)\nos.execv(sys.argv[1], sys.argv[1:])"
        done = subprocess.run([sys.executable, "-S", "-c", becoming, *self.words(words)], cwd=self.folder,
                              env=self.environment(), capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr)
        run = Run(directory, Done(words, done.returncode, done.stdout, done.stderr, 0))
        self.check(run)

    def test_nothing_on_the_way_to_the_end_takes_more(self):
        # Evaluation and the final weights included: what the system says of the process when it has ended.
        self.check_whole_life([*LARGE, "data.valid=[valid.h5]", "parallelism.reduction=fast"])

    def test_many_tensors_and_many_windows(self):
        # 7,500 tensors of a few bytes: what a checkpoint says of them is more than all numbers. Held-out windows of two
        # tokens: what is kept of each must not grow with them.
        tiny = ["model.hidden_size=32", "model.moe_intermediate_size=8", "model.num_hidden_layers=2", "training.train_steps=2",
                "model.num_nextn_predict_layers=0", "metrics.tensorboard=false"]
        self.check_whole_life([*tiny, "model.n_routed_experts=2500", "model.n_group=1", "model.topk_group=1", "data.valid=[]"])
        self.check_whole_life([*tiny, "training.seq_length=2"])

    def test_many_tensors_on_many_ranks(self):
        # Rank 0 gathers what the others say of theirs; two saves, and two more after a resumption.
        many = ["model.hidden_size=32", "model.moe_intermediate_size=8", "model.num_hidden_layers=2",
                "model.num_nextn_predict_layers=0", "metrics.tensorboard=false", "model.n_routed_experts=6000",
                "model.n_group=1", "model.topk_group=1", "data.valid=[]", "checkpoint.interval=1"]
        directory, words = self.train_words([*many, "training.train_steps=2"])
        self.check_process(words, ranks=2)
        _, words = self.train_words([*many, "training.train_steps=4"], directory=directory)
        self.check_process(words, ranks=2)

    def test_a_long_history(self):
        # 200,000 steps of an earlier attempt, as their lines in the ledger.
        run = self.train(changes=["lr_scheduler.decay=constant"])
        ledger = run.path / "ledger.jsonl"
        lines = ledger.read_text().splitlines(keepends=True)
        step = next(n for n, line in enumerate(lines) if '"kind":"step"' in line)
        ledger.write_text("".join(lines[:step] + [lines[step]] * 200_000 + lines[step:]))
        _, words = self.train_words(["lr_scheduler.decay=constant", "training.train_steps=6"], directory=run.path)
        self.check_process(words)

    def check_whole_life(self, changes):
        """At its largest, as the system saw the process until it had ended."""
        _, words = self.train_words(changes)
        self.check_process(words)

    def check_process(self, words, ranks=None):
        # Asked by a small process of its own: the most that the system counts of a child begins with what its parent has.
        # In one write, as those of other ranks come between.
        asking = ("import os, resource, subprocess, sys\ncode = subprocess.run(sys.argv[1:]).returncode\n"
                  "os.write(1, b'%d %d\\n' % (code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))")
        launcher = [] if ranks is None else ["mpirun", "-n", str(ranks)]
        done = subprocess.run([*launcher, sys.executable, "-S", "-c", asking, *self.words(words)], cwd=self.folder,
                              env=self.environment(), capture_output=True, text=True, timeout=TIMEOUT)
        said = [tuple(map(int, line.split())) for line in done.stdout.splitlines() if re.fullmatch(r"\d+ \d+", line)]
        self.assertEqual([code for code, _ in said], [0] * (ranks or 1), done.stdout + done.stderr)
        largest = max(size for _, size in said)
        expected, most, _ = self.planned(done.stderr)
        self.assertLessEqual(largest, most, done.stderr)
        self.assertGreater(largest, 0.85 * expected, done.stderr)

    def test_small_runs_of_every_kind_stay_below_the_most(self):
        for ranks, changes in ((None, ()), (4, ()), (None, ["cluster.threads_per_rank=4"]), (3, ["parallelism.reduction=fast",
                               "training.global_batch_size=12"]), (2, ["data.document_mask=true", "model.num_nextn_predict_layers=2",
                               "training.global_batch_size=[[0, 8], [256, 64]]", "training.seq_length=256",
                               "training.micro_batch_size=4"])):
            with self.subTest(changes, ranks=ranks):
                self.check(self.train(ranks, changes))


if __name__ == "__main__":
    main()
