#!/usr/bin/env python3
"""How runs end before their last step: on request, refused, by their own numbers, by a lost rank, by a full disk. Each
time one message, the right exit code, no rank left waiting, and the run directory says what happened.

    tests/run/stopping_test.py build/tael
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
from program import ProgramTest, Run, children_of, main, plant  # noqa: E402

LONG = ["training.train_steps=1000000", "training.eval_interval=0", "data.valid=[]"]

# What a Hugging Face directory of a model with an MTP module repeats.
COPIES = {"model.embed_tokens.weight": ["model.layers.2.embed_tokens.weight"],
          "lm_head.weight": ["model.layers.2.shared_head.head.weight"]}


class Requests(ProgramTest):
    def launch(self, ranks=None, changes=()):
        directory, words = self.train_words([*LONG, *changes])
        child = self.start(*words, ranks=ranks)
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, "the first steps", child)
        return directory, child

    def check_stopped(self, directory, done):
        self.assertEqual(done.code, 75, str(done))
        run = Run(directory, done)
        self.assertEqual(run.status()["state"], "stopped")
        self.assertEqual(run.metrics()[-1]["kind"], "end")
        self.assertEqual(run.metrics()[-1]["state"], "stopped")
        self.assertEqual(run.metrics("step")[-1]["step"], run.status()["step"])
        self.assertRegex(done.err, r"(?m)^stopped +after step [\d,]+ of 1,000,000")
        self.assertFalse((directory / "model").exists())
        self.assertFalse((directory / "STOP").exists())
        step = run.status()["step"]
        loads = [json.loads(line)["step"] for line in (directory / "experts.jsonl").read_text().splitlines()]
        self.assertEqual((loads[0], loads[-1]), (1, step), "the first and the last step that were done")
        self.assertEqual((directory / "checkpoints/latest").read_text(), f"step-{step:08}\n")
        self.assertTrue((directory / f"checkpoints/step-{step:08}/manifest.json").exists())

    def test_stop_file_ends_a_run_after_the_step(self):
        for ranks in (None, 2):
            directory, child = self.launch(ranks)
            (directory / "STOP").touch()
            self.check_stopped(directory, self.finish(child))

    def test_interrupt_does_what_stop_does(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            directory, child = self.launch()
            child.send_signal(number)
            self.check_stopped(directory, self.finish(child))

    def test_the_notice_of_a_scheduler_reaches_every_rank_and_may_come_twice(self):
        directory, child = self.launch(2)
        child.send_signal(signal.SIGUSR1)  # mpirun passes it on
        child.send_signal(signal.SIGUSR1)
        self.check_stopped(directory, self.finish(child))

    def test_a_second_interrupt_leaves_at_once(self):
        # Steps of seconds, so that the second one comes inside the first's step.
        directory, words = self.train_words([*LONG, "training.global_batch_size=16384"])
        child = self.start(*words)
        self.wait_until((directory / "status.json").exists, "the start", child)
        child.send_signal(signal.SIGINT)
        self.wait_until(lambda: not pending(child.pid, signal.SIGINT), "the first", child)
        child.send_signal(signal.SIGINT)
        done = self.finish(child)
        self.assertEqual(done.code, 128 + signal.SIGINT, str(done))
        self.assertFalse((directory / "model").exists())

    def test_a_killed_rank_ends_the_job(self):
        directory, child = self.launch(4)
        ranks = children_of(child.pid)
        self.assertEqual(len(ranks), 4)
        os.kill(ranks[2], signal.SIGKILL)
        done = self.finish(child, timeout=20)
        self.assertEqual(done.code, 137, str(done))
        self.wait_until(lambda: not any(map(alive, ranks)), "the end of the other ranks", timeout=10)
        self.assertFalse((directory / "model").exists())

    def test_a_reader_that_goes_away_does_not_end_a_run(self):
        directory, words = self.train_words()
        child = subprocess.Popen(self.words(words), cwd=self.folder, env=self.environment(), stderr=subprocess.PIPE)
        child.stderr.close()
        self.assertEqual(child.wait(30), 0)
        self.assertTrue(Run(directory, None).weights())


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pending(pid, number):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16) >> (number - 1) & 1:
            return True
    return False


class Refusals(ProgramTest):
    def test_leave_one_message_and_nothing_behind(self):
        (self.folder / "one.bin").write_bytes(b"\x05\x00")
        (self.folder / "large.bin").write_bytes(b"\x05\x00\x10\x0f" * 400)
        (self.folder / "small.bin").write_bytes(b"\x05\x00" * 800)
        for name in ("one", "large", "small"):
            done = self.command("data", "import", "nanogpt", "--out", f"{name}.h5", "--vocab-size", "4096", f"{name}.bin")
            self.assertEqual(done.code, 0, str(done))
        damaged = bytearray((self.folder / "train.h5").read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (self.folder / "damaged.h5").write_bytes(damaged)
        cases = [
            (78, r"optimizer\.lrr", "optimizer.lrr=1"),
            (78, r"training\.micro_batch_size: 3", "training.micro_batch_size=3"),
            (78, r"model\.vocab_size: 258 is too small for the tokenizer bytes; at least 259 \[vocabulary\]$", "model.vocab_size=258"),
            (78, r"model\.vocab_size: 258 is too small for the tokenizer bytes; at least 259 \[vocabulary\]$",
             "model.vocab_size=258 data.tokenizer=bytes data.train=[small.h5] data.valid=[]"),
            (65, r"large\.h5: its largest token is 3856, the model's vocab_size is 258$",
             "model.vocab_size=258 data.train=[large.h5] data.valid=[]"),
            (78, r"precision\.compute: fp8 is not built yet", "precision.compute=fp8"),
            (78, r"does not fit", "training.micro_batch_size=16384 training.global_batch_size=65536 "
             "training.seq_length=4096 parallelism.reduction=fast"),
            (78, r"without CUDA", "cluster.device=cuda"),
            (65, r"none\.h5: no such file", "data.train=[none.h5]"),
            (65, r"none\.h5: no such file", "data.valid=[none.h5]"),
            (65, r"damaged\.h5", "data.train=[damaged.h5]"),
            (65, r"one\.h5", "data.train=[one.h5]"),
            (65, r"one\.h5: no token to predict", "data.valid=[one.h5]"),
            (65, r"large\.h5.*3856", "data.train=[large.h5]"),
            (65, r"nowhere", "checkpoint.initial_load_path=nowhere"),
            (74, r"train\.h5/run: cannot create the directory: Not a directory", "run.dir=train.h5/run"),
        ]
        for code, pattern, changes in cases:
            for ranks in (None, 4):
                with self.subTest(changes, ranks=ranks):
                    done = self.refuse(code, pattern, ranks, changes.split())
                    # What is the same everywhere is nobody's fault in particular.
                    self.assertNotIn("rank 0:", done.err)
        self.refuse(78, r"5 data ranks|divide", 5)
        self.refuse(69, r"avx512|instruction", changes=["cluster.cpu_isa=avx512"]) if not has_avx512() else None

    def test_a_missing_configuration(self):
        for ranks in (None, 2):
            done = self.command("train", "nowhere.yaml", ranks=ranks)
            self.assertEqual(done.code, 78, str(done))
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertIn("nowhere.yaml", done.messages()[0])

    def test_a_directory_that_is_no_run_is_refused_and_untouched(self):
        foreign = self.fresh()
        foreign.mkdir()
        (foreign / "thesis.tex").write_text("years of work")
        plain = self.folder / "plain"
        plain.write_text("a file")
        for path, words in ((foreign, "is no run of tael"), (plain, "is no directory")):
            for ranks in (None, 2):
                done = self.command("train", self.config(), f"run.dir={path}", ranks=ranks)
                self.assertEqual(done.code, 78, str(done))
                self.assertEqual(len(done.messages()), 1, str(done))
                self.assertIn(words, done.messages()[0])
                self.assertNotIn("rank 0", done.messages()[0])
        self.assertEqual([p.name for p in foreign.iterdir()], ["thesis.tex"])

    def test_a_run_that_exists_is_refused_when_a_new_one_is_asked_for(self):
        run = self.train()
        before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("*") if p.is_file()}
        for ranks, resume in ((None, "never"), (2, "never"), (None, run.path / "checkpoints/step-00000004")):
            done = self.command("train", self.config(), f"run.dir={run.path}", "--resume", resume, ranks=ranks)
            self.assertEqual(done.code, 78, str(done))
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertIn(f"run.dir: {run.path} exists", done.messages()[0])
        after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("*") if p.is_file()}
        self.assertEqual(before, after)
        empty = self.fresh()
        empty.mkdir()
        words = ["train", self.config(), f"run.dir={empty}", "--resume"]
        done = self.command(*words, "never")
        self.assertEqual(done.code, 78, str(done))
        self.assertIn(f"run.dir: {empty} exists, and --resume never begins a new run", done.messages()[0])
        self.assertEqual(self.command(*words, run.path / "checkpoints/step-00000004").code, 0)

    def test_dry_run_writes_nothing(self):
        for ranks in (None, 2):
            directory, words = self.train_words()
            done = self.command(*words, "--dry-run", ranks=ranks)
            self.assertEqual(done.code, 0, str(done))
            self.assertIn("memory", done.err)
            self.assertFalse(directory.exists())

    def test_what_is_not_built_says_so(self):
        directory, words = self.train_words()
        done = self.command(*words, "--profile")
        self.assertEqual(done.code, 69, str(done))
        self.assertIn("not built yet", done.messages()[0])
        self.assertFalse(directory.exists())


def has_avx512():
    return "avx512f" in pathlib.Path("/proc/cpuinfo").read_text()


class Numbers(ProgramTest):
    def fails(self, pattern, ranks=None, changes=()):
        directory, words = self.train_words(changes)
        done = self.command(*words, ranks=ranks)
        self.assertEqual(done.code, 1, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertRegex(done.messages()[0], pattern)
        run = Run(directory, done)
        self.assertEqual(run.status()["state"], "failed")
        self.assertEqual(run.metrics()[-1]["kind"], "end")
        self.assertEqual(run.metrics()[-1]["state"], "failed")
        self.assertEqual(len(run.metrics("step")), run.status()["step"])
        self.assertFalse((directory / "model").exists())
        return run

    def test_a_rate_beyond_all_reason(self):
        for ranks in (None, 2):
            run = self.fails(r"step \d+: the (loss|gradient|norm)", ranks, ["optimizer.lr=1e30", "optimizer.clip_grad=1",
                                                                            "training.train_steps=50"])
            self.assertLess(run.status()["step"], 10)

    def test_a_validation_loss_that_is_not_finite(self):
        for ranks in (None, 2):
            run = self.fails(r"step 1: the validation loss is not finite, and on every rank model\.\S+ is the first tensor",
                             ranks, ["optimizer.lr=1e38", "lr_scheduler.warmup_steps=0", "lr_scheduler.decay=constant",
                                     "training.train_steps=1"])
            self.assertIn("valid/loss", run.metrics("eval")[-1]["nonfinite"])

    def planted(self, tensor, first, values):
        model = self.fresh()
        shutil.copytree(self.healthy.path / "model", model)
        for name in (tensor, *COPIES.get(tensor, ())):
            plant(model, name, first, values)
        return f"checkpoint.initial_load_path={model}"

    def test_not_a_number_in_a_layer(self):
        self.healthy = self.train()
        nan = [float("nan")]
        for tensor, place in (("model.layers.0.self_attn.o_proj.weight", "layer 0"),
                              ("model.layers.1.mlp.shared_experts.down_proj.weight", "layer 1"),
                              ("model.layers.1.input_layernorm.weight", "layer 1"),
                              ("model.layers.2.eh_proj.weight", "MTP module 1"),
                              ("model.layers.1.mlp.gate.weight", "layer 1"),
                              ("model.layers.2.mlp.gate.weight", "MTP module 1"),
                              ("model.layers.2.shared_head.norm.weight", "MTP module 1"),
                              ("model.embed_tokens.weight", "the embedding"),
                              ("model.norm.weight", "the final norm"),
                              ("lm_head.weight", "the output head")):
            for ranks in (None, 2) if place == "layer 1" else (None,):
                # Of the embedding a row that every sample has.
                first = ord("a") * 32 if place == "the embedding" else 3
                with self.subTest(tensor, ranks=ranks):
                    self.fails(rf"step 1: the loss is not finite: rank 0, first in {place}", ranks,
                               [self.planted(tensor, first, nan)])

    def test_a_gate_bias_that_is_no_number_is_not_passed_over(self):
        self.healthy = self.train()
        run = self.train(changes=[self.planted("model.layers.1.mlp.gate.e_score_correction_bias", 2, [float("nan")])])
        for line in run.metrics("step"):
            self.assertIsNone(line["moe/bias_abs_max"])
            self.assertIn("moe/bias_abs_max", line["nonfinite"])

    def test_a_number_that_only_one_rank_meets(self):
        self.healthy = self.train()
        # The row of a byte that no other text has; one document holds it, at the end of the first batch.
        text = b"the quick brown fox " * 200
        for sample, rank in ((1, 0), (3, 1), (6, 3)):
            with self.subTest(sample=sample):
                spoilt = bytearray(text)
                spoilt[sample * 32 + 5] = ord("@")
                (self.folder / "spoilt.txt").write_bytes(spoilt)
                (self.folder / "spoilt.h5").unlink(missing_ok=True)
                done = self.command("data", "prepare", "--out", "spoilt.h5", "spoilt.txt")
                self.assertEqual(done.code, 0, str(done))
                self.fails(rf"step 1: the loss is not finite: rank {rank}, first in ", 4,
                           ["data.train=[spoilt.h5]", "data.shuffle=false", "training.micro_batch_size=1",
                            self.planted("model.embed_tokens.weight", ord("@") * 32, [float("inf")])])


class Disk(ProgramTest):
    def check(self, done, pattern):
        self.assertEqual(done.code, 74, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertRegex(done.messages()[0], pattern)

    def test_a_limit_of_file_size_while_the_model_is_written(self):
        for ranks in (None, 2):
            directory, words = self.train_words()
            # Shared memory of the ranks is a file too.
            environment = {"OMPI_MCA_btl": "self,tcp"}
            done = self.command(*words, ranks=ranks, file_limit=100_000, environment=environment)
            self.check(done, r"no checkpoint of step 4: .*(File too large|cannot write)")
            self.assertEqual(Run(directory, done).status()["state"], "failed")
            self.assertFalse((directory / "model").exists(), str(list(directory.rglob("*"))))

    def test_a_limit_of_file_size_while_metrics_are_written(self):
        for ranks in (None, 2):
            directory, words = self.train_words([*LONG, "metrics.tensorboard=false", "checkpoint.interval=0"])
            done = self.command(*words, ranks=ranks, file_limit=20_000, environment={"OMPI_MCA_btl": "self,tcp"})
            self.check(done, r"(metrics|ledger)\.jsonl: cannot write: File too large")
            self.assertEqual(Run(directory, done).status()["state"], "failed")

    def test_a_limit_of_file_size_while_data_is_prepared(self):
        (self.folder / "big.txt").write_bytes(b"0123456789 abcdef\n" * 20000)
        done = self.command("data", "prepare", "--out", "big.h5", "big.txt", file_limit=100_000)
        self.check(done, r"big\.h5.*: cannot write: File too large")
        self.assertEqual([p.name for p in self.folder.glob("big.h5*")], [])

    def test_a_limit_of_file_size_while_a_model_is_exported(self):
        run, out = self.train(), self.fresh()
        done = self.command("checkpoint", "export-hf", run.path, out, file_limit=100_000)
        self.check(done, r"cannot write: File too large")
        self.assertFalse(out.exists())

    def test_a_place_where_nothing_can_be_written(self):
        self.check(self.command("data", "prepare", "--out", "/proc/none.h5", "corpus"), r"/proc/none\.h5")
        _, words = self.train_words(directory="/proc/none/run")
        for ranks in (None, 2):
            done = self.command(*words, ranks=ranks)
            self.check(done, r"/proc/none.*cannot create")
        (self.folder / "file").touch()
        _, words = self.train_words(directory=self.folder / "file" / "run")
        self.check(self.command(*words), r"file.*cannot create")

    def test_closed_streams_cost_no_line_of_a_run(self):
        """A file of the run would take the number of a stream that is closed, and the console would write over it."""
        for closed in ((0, 1, 2), (0, 2), (1, 2), (2,)):
            directory, words = self.train_words(["training.train_steps=12"])
            shell = " ".join(f"{n}>&-" if n else "<&-" for n in closed)
            done = subprocess.run(["bash", "-c", f'exec "$@" {shell}', "bash", *self.words(words)], cwd=self.folder,
                                  env=self.environment(), timeout=300)
            self.assertEqual(done.returncode, 0)
            run = Run(directory, None)
            self.assertEqual([line["step"] for line in run.metrics("step")], list(range(1, 13)))
            for name in ("ledger.jsonl", "metrics.jsonl"):
                for line in (directory / name).read_text().splitlines():
                    json.loads(line)

    def test_what_the_system_says_of_a_path_is_said(self):
        (self.folder / "loop").symlink_to("loop")
        for path, reason in (("loop", "Too many levels of symbolic links"), ("n" * 300, "File name too long")):
            for words in (("train", path), ("config", "show", path), ("config", "check", path), ("submit", path, "--dry-run")):
                done = self.command(*words)
                self.assertEqual(done.code, 78, str(done))
                self.assertRegex(done.messages()[0], rf"^tael: {path}: cannot be read: {reason}$")

    def test_a_full_device(self):
        for words in (("data", "inspect", "train.h5"), ("config", "show", self.config()),
                      ("config", "show", self.config(), "--json"), ("data", "inspect", "train.h5", "--json")):
            with open("/dev/full", "w") as full:
                done = self.command(*words, stdout=full)
            self.check(done, r"(standard output|output).*(cannot write|could not be written)")
        run = self.train()
        for ranks in (None, 2):
            with open("/dev/full", "w") as full:
                done = self.command("eval", run.path, "--data", "valid.h5", stdout=full, ranks=ranks)
            if ranks is None:
                self.check(done, r"standard output: cannot write: No space left on device")
        # More than a stream keeps back.
        other = self.train(changes=["optimizer.lr=0.5"])
        for words in (("checkpoint", "inspect", run.path, "--tensors"), ("checkpoint", "inspect", run.path, "--json"),
                      ("checkpoint", "diff", run.path, other.path)):
            with open("/dev/full", "w") as full:
                done = self.command(*words, stdout=full)
            self.check(done, r"standard output: cannot write: No space left on device")


if __name__ == "__main__":
    main()
