#!/usr/bin/env python3
"""Runs that go on: after a request, with other ranks, with more steps, as a branch, within a budget, beside another job.
The measure is always the undisturbed run: the same bits in every weight, the same digits in every metric.

    tests/run/resume_test.py build/tael
"""
import json
import os
import re
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
from program import Run, main  # noqa: E402
from whole_run import STEPS, WholeRunTest, ledger, saved_steps  # noqa: E402


class Resume(WholeRunTest):
    def test_a_run_that_died_before_its_model_was_written_writes_it(self):
        # Twelve steps to their end, then twelve more; what a kill behind the last checkpoint leaves is the model of
        # twelve, and a status that says "running".
        directory, words = self.train_words([*STEPS, "training.train_steps=12", "lr_scheduler.decay=constant"])
        self.assertEqual(self.command(*words).code, 0)
        old = self.fresh()
        shutil.copytree(directory / "model", old)
        more = [*words, "training.train_steps=24"]
        self.assertEqual(self.command(*more).code, 0)
        run = Run(directory, None)
        weights, evaluation = run.weights(), run.metrics("eval")[-1]["valid/loss"]
        shutil.rmtree(directory / "model")
        shutil.copytree(old, directory / "model")
        status = run.status()
        status["state"] = "running"
        (directory / "status.json").write_text(json.dumps(status))
        done = self.command(*more)
        self.assertEqual(done.code, 0, str(done))
        self.assertNotIn("already", done.err)
        self.assertEqual(run.weights(), weights)
        self.assertEqual(run.metrics("eval")[-1]["valid/loss"], evaluation)
        # And once it is there, there is nothing more to do.
        self.assertIn("already", self.command(*more).err)

    def stopped(self, changes=(), ranks=None):
        """A run that was stopped after some of its steps."""
        directory, words = self.train_words([*STEPS, *changes])
        child = self.start(*words, ranks=ranks)
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: metrics.exists() and metrics.read_text().count('"step","') > 3
                        or child.poll() is not None, "some steps", child)
        (directory / "STOP").touch()
        done = self.finish(child)
        return directory, words, done

    def test_a_stopped_run_goes_on_with_other_ranks_and_micro_batches(self):
        for first, then, micro in ((None, 2, 1), (2, 4, 2), (4, None, 4)):
            directory, words, done = self.stopped(ranks=first)
            if done.code == 0:  # it was quicker than the request
                continue
            self.assertEqual(done.code, 75, str(done))
            done = self.command(*words, f"training.micro_batch_size={micro}", ranks=then)
            self.assertEqual(done.code, 0, str(done))
            self.assertRegex(done.err, r"(?m)^resumed +\S+/checkpoints/step-\d+ \(attempt 2\)")
            self.check_equal(directory)
            kinds = self.check_ledger(directory)
            self.assertNotIn("lost", kinds)

    def test_a_finished_run_does_nothing_more_unless_it_is_given_more(self):
        directory, words = self.train_words([*STEPS, "training.train_steps=12", "lr_scheduler.decay=constant"])
        self.assertEqual(self.command(*words).code, 0)
        files = {p: p.read_bytes() for p in directory.glob("model/*")}
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        self.assertIn("already", done.err)
        self.assertEqual({p: p.read_bytes() for p in directory.glob("model/*")}, files)
        # What is only carried on with the model may change as well.
        words = [str(w).replace("train_steps=12", "train_steps=24") for w in words]
        words += ["model.max_position_embeddings=8192", "model.bos_token_id=7", "model.eos_token_id=8"]
        done = self.command(*words, ranks=2)
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, r"changed +training.train_steps is 24 now, was 12")
        self.assertRegex(done.err, r"changed +model.max_position_embeddings is 8192 now")
        model = json.loads((directory / "model/config.json").read_text())
        self.assertEqual([model[k] for k in ("max_position_embeddings", "bos_token_id", "eos_token_id")], [8192, 7, 8])
        other, words = self.train_words([*STEPS, "lr_scheduler.decay=constant"])
        self.assertEqual(self.command(*words).code, 0)
        self.assertEqual(Run(directory, None).weights(), Run(other, None).weights())

    def test_what_changed_since_the_last_start_is_said_where_that_saved_nothing(self):
        def killed(words, directory):
            child, metrics = self.start(*words), directory / "metrics.jsonl"
            seen = metrics.read_text().count('"step","') if metrics.exists() else 0
            self.wait_until(lambda: metrics.exists() and metrics.read_text().count('"step","') > seen, "a step", child)
            child.kill()
            self.finish(child)

        def changes(done, run):
            said = set(re.findall(r"(?m)^changed +(.* now, was .*)$", done.err))
            events = {line["message"] for line in run.metrics("event") if line["attempt"] == 2 or line["attempt"] == 4}
            self.assertLessEqual(said, events)
            return {text for text in said if "train_steps" not in text}

        directory, words = self.train_words([*STEPS, "checkpoint.interval=0", "training.train_steps=1000000"])
        killed([*words, "cluster.price_per_device_hour={usd: 3}"], directory)
        done = self.command(*words, "training.train_steps=4", "optimizer.lr=7e-3", "cluster.price_per_device_hour={usd: 7}")
        self.assertEqual(done.code, 0, str(done))
        run = Run(directory, done)
        self.assertEqual(changes(done, run), {"optimizer.lr is 0.007 now, was 0.01",
                                              "cluster.price_per_device_hour is {usd: 7} now, was {usd: 3}"})
        killed([*words, "optimizer.lr=7e-3", "cluster.price_per_device_hour={usd: 9}"], directory)
        done = self.command(*words, "training.train_steps=8", "optimizer.lr=7e-3", "cluster.price_per_device_hour={usd: 7}")
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(changes(done, run), {"cluster.price_per_device_hour is {usd: 7} now, was {usd: 9}"})

    def test_a_branch_begins_with_the_full_state(self):
        step = saved_steps(self.whole.path)[-2]
        checkpoint = self.whole.path / f"checkpoints/step-{step:08}"
        directory, words = self.train_words(STEPS)
        # What a start leaves that was killed before it had written itself down is no run.
        (directory / "attempts").mkdir(parents=True)
        (directory / "attempts/00000001.AbCdEf").write_text("")
        done = self.command(*words, "--resume", checkpoint, ranks=2)
        self.assertEqual(done.code, 0, str(done))
        run = Run(directory, done)
        self.assertEqual(run.weights(), self.whole.weights())
        self.assertEqual([line["step"] for line in run.metrics("step")], list(range(step + 1, 25)))
        loads = (directory / "experts.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["step"] for line in loads], list(range(step + 1, 25)))
        # Its tokens count on; what its device-hours are divided by are its own.
        own = (24 - step) * 256
        report = json.loads(self.command("report", directory, "--json").out)
        self.assertEqual((report["tokens"], report["all_tokens"], report["own_tokens"]), (24 * 256, 24 * 256, own))
        self.assertEqual(report["branch"], {"from": str(checkpoint.resolve()), "step": step, "tokens": step * 256})
        hours = report["device_hours"]["total"]
        self.assertAlmostEqual(report["tokens_per_device_hour"] / (own / hours), 1, delta=1e-12)
        self.assertAlmostEqual(report["device_hours_per_trillion_tokens"] / (hours / own * 1e12), 1, delta=1e-12)
        whole = json.loads(self.command("report", self.whole.path, "--json").out)
        self.assertIsNone(whole["branch"])
        self.assertEqual(whole["own_tokens"], 24 * 256)
        self.assertAlmostEqual(report["model_flops"] / whole["model_flops"], own / (24 * 256), delta=1e-9)
        both = self.command("report", directory, self.whole.path, "--markdown")
        self.assertIn(f"{directory} is a branch: what its first {step} steps cost is not in its device-hours", both.out)

    def test_a_branch_may_extend_the_context(self):
        step = saved_steps(self.whole.path)[-2]
        directory, words = self.train_words(STEPS)
        yarn = "{type: yarn, factor: 4, original_max_position_embeddings: 32}"
        done = self.command(*words, "--resume", self.whole.path / f"checkpoints/step-{step:08}", f"model.rope_scaling={yarn}",
                            "model.rope_theta=50000", "model.max_position_embeddings=128", "training.seq_length=64")
        self.assertEqual(done.code, 0, str(done))
        for key in ("rope_scaling", "rope_theta", "max_position_embeddings"):
            self.assertRegex(done.err, rf"(?m)^changed +model\.{key} is .* now, was ")
        model = json.loads((directory / "model/config.json").read_text())
        self.assertEqual((model["rope_scaling"]["factor"], model["rope_theta"]), (4, 50000))

    def test_a_branch_that_was_killed_before_its_first_checkpoint_begins_there_again(self):
        step = saved_steps(self.whole.path)[-2]
        checkpoint = self.folder / "parent"
        shutil.copytree(self.whole.path / f"checkpoints/step-{step:08}", checkpoint)
        directory, words = self.train_words([*STEPS, "checkpoint.interval=0"])
        child = self.start(*words, "--resume", "parent", "training.train_steps=1000000")
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: metrics.exists() and '"step","' in metrics.read_text(), "a step", child)
        child.kill()
        self.finish(child)
        self.assertEqual(saved_steps(directory), [])
        # Without what it began from it does not begin at step 1 instead.
        os.rename(checkpoint, self.folder / "away")
        for ranks in (None, 2):
            done = self.command(*words, ranks=ranks)
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertRegex(done.messages()[0], r"has no checkpoint of its own yet and begins where it branched off: \S+/parent")
            self.assertIn(done.code, (65, 78))
        os.rename(self.folder / "away", checkpoint)
        done = self.command(*words, ranks=2)
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, r"(?m)^resumed +\S+/parent \(attempt 2\)")
        self.assertEqual(Run(directory, None).weights(), self.whole.weights())
        report = json.loads(self.command("report", directory, "--json").out)
        self.assertEqual((report["own_tokens"], report["branch"]["step"]), ((24 - step) * 256, step))
        # From now on its own checkpoint counts.
        os.rename(checkpoint, self.folder / "away")
        self.assertIn("already", self.command(*words).err)

    def test_tokens_are_counted_as_they_were_consumed(self):
        """Sequences of 32, then of 64: what was consumed stays, and all that goes by tokens goes on from there."""
        steps = ["training.eval_interval=0", "lr_scheduler.decay=constant"]
        directory, words = self.train_words([*steps, "training.train_steps=10"])
        self.assertEqual(self.command(*words).code, 0)
        words = [str(w).replace("train_steps=10", "train_steps=11") for w in words] + ["training.seq_length=64"]
        for ranks in (None, 2):
            copy = self.fresh()
            shutil.copytree(directory, copy)
            done = self.command(*[str(w).replace(str(directory), str(copy)) for w in words], ranks=ranks)
            self.assertEqual(done.code, 0, str(done))
            run = Run(copy, done)
            self.assertEqual(run.metrics("step")[-1]["tokens"], 10 * 256 + 512)
            self.assertEqual(run.status()["tokens"], 3072)
            report = json.loads(self.command("report", copy, "--json").out)
            self.assertEqual((report["tokens"], report["all_tokens"], report["own_tokens"]), (3072, 3072, 3072))
            flops = sum(m["perf/tflops_per_gpu"] * 1e12 * m["perf/step_ms"] * 1e-3 *
                        m["perf/tokens_per_s"] / m["perf/tokens_per_s_per_gpu"] for m in run.metrics("step"))
            self.assertAlmostEqual(report["model_flops"] / flops, 1, delta=1e-12)
        # 4,096 tokens: a step of 512 behind the ten of 256, then one of 1,024; rate and batch follow the tokens.
        words = [w for w in words if "train_steps" not in w]
        done = self.command(*words, "training.train_tokens=4096", "training.global_batch_size=[[0,8],[3000,16]]",
                            "lr_scheduler.decay={phases: [[2600, constant, 1e-3], [9999, constant, 1e-4]]}")
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, r"(?m)^batch .*; 12 steps$")
        steps = Run(directory, done).metrics("step")[10:]
        self.assertEqual([(m["step"], m["tokens"], m["train/lr"]) for m in steps],
                         [(11, 3072, 1e-3), (12, 4096, 1e-4)])

    def test_what_cannot_continue_is_refused(self):
        _, words = self.train_words(STEPS, directory=self.whole.path)
        more = "training.train_steps=30"
        done = self.command("data", "prepare", "--out", "more.h5", "corpus/01.txt")
        self.assertEqual(done.code, 0, str(done))
        for change, text in (("run.seed=8", "run.seed"), ("model.hidden_size=48", "model.hidden_size"),
                             ("model.num_experts_per_tok=1", "model.num_experts_per_tok"),
                             ("data.train=[more.h5]", "data.train"), ("parallelism.reduction_lanes=2", "reduction_lanes"),
                             ("parallelism.reduction_segments=2", "reduction_segments")):
            for ranks in (None, 2) if change == "run.seed=8" else (None,):
                with self.subTest(change, ranks=ranks):
                    done = self.command(*words, more, change, ranks=ranks)
                    self.assertEqual(done.code, 78, str(done))
                    self.assertEqual(len(done.messages()), 1, str(done))
                    self.assertIn(text, done.messages()[0])
                    self.assertIn("a run cannot go on with another", done.messages()[0])

    def test_a_directory_belongs_to_one_job(self):
        directory, words = self.train_words(["training.train_steps=1000000", "data.valid=[]", "training.eval_interval=0"])
        child = self.start(*words)
        self.wait_until((directory / "metrics.jsonl").exists, "the start", child)
        for ranks in (None, 2):
            done = self.command(*words, ranks=ranks)
            self.assertEqual(done.code, 77, str(done))
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertRegex(done.messages()[0], rf"belongs to a job that is running: attempt 1 .*process {child.pid}")
        child.kill()
        self.finish(child)
        child = self.start(*words)
        self.wait_until(lambda: (directory / "attempts/00000002.json").exists(), "the second attempt", child)
        child.send_signal(signal.SIGINT)
        done = self.finish(child)
        self.assertEqual(done.code, 75, str(done))
        self.assertRegex(done.err, rf"! attempt 1 .* is gone without a word")

    def test_of_jobs_that_start_at_once_one_wins(self):
        for trial in range(3):
            directory, words = self.train_words([*STEPS, "training.train_steps=4000"])
            children = [self.start(*words) for _ in range(4)]
            deadline = time.monotonic() + 60
            while sum(c.poll() is not None for c in children) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            for child in children:
                if child.poll() is None:
                    child.send_signal(signal.SIGINT)
            codes = sorted(self.finish(child).code for child in children)
            self.assertEqual(codes, [75, 77, 77, 77])

    def test_a_budget_ends_a_run_with_a_checkpoint_and_counts_across_starts(self):
        directory, words = self.train_words(["training.train_steps=1000000", "data.valid=[]", "training.eval_interval=0",
                                             "checkpoint.interval=0"])
        hours = 6 / 3600
        done = self.command(*words, f"budget.gpu_hours={hours}")
        self.assertEqual(done.code, 76, str(done))
        self.assertRegex(done.err, r"(?m)^budget +used up after step")
        self.assertRegex(done.err, r"! 80% of the budget is used at step")
        run = Run(directory, done)
        self.assertEqual(run.status()["state"], "budget")
        lines, kinds = ledger(directory)
        spent = sum(kinds.values()) + sum(line["unaccounted_s"] for line in lines)
        self.assertLessEqual(spent, 6)
        self.assertGreater(spent, 4)
        step = run.status()["step"]
        self.assertTrue((directory / f"checkpoints/step-{step:08}/manifest.json").exists())
        self.assertLess(run.metrics("step")[-1]["cost/budget_left_frac"], 0.3)
        # Nothing more fits: 76 at once, and not a step was made.
        done = self.command(*words, f"budget.gpu_hours={hours}")
        self.assertEqual(done.code, 76, str(done))
        self.assertEqual(run.status()["step"], step)
        # A new run that could not even begin is refused before anything is made.
        self.refuse(78, r"budget\.gpu_hours: .* too little", changes=["budget.gpu_hours=1e-6"])
        self.refuse(78, r"budget\.money: .* usd are too little", 2,
                    changes=["budget.money={usd: 0.000001}", "cluster.price_per_device_hour={usd: 2}"])

    def test_a_limit_that_no_checkpoint_fits_into(self):
        # Shared memory of the ranks is a file too.
        environment = {"OMPI_MCA_btl": "self,tcp"}
        for ranks in (None, 2):
            directory, words = self.train_words([*STEPS, "training.train_steps=8"])
            done = self.command(*words, ranks=ranks, file_limit=100_000, environment=environment)
            self.assertEqual(done.code, 74, str(done))
            self.assertRegex(done.err, r"(?m)^! no checkpoint of step 4: .*; training goes on$")
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertIn("no checkpoint of step 8", done.messages()[0])
            self.assertEqual([p.name for p in (directory / "checkpoints").glob("*")], [])
            _, words = self.train_words([*STEPS, "checkpoint.on_error=stop"], directory=directory)
            done = self.command(*words, ranks=ranks, file_limit=100_000, environment=environment)
            self.assertEqual(done.code, 74, str(done))
            self.assertIn("no checkpoint of step 4", done.messages()[-1])
            done = self.command(*words, ranks=ranks)
            self.assertEqual(done.code, 0, str(done))
            self.check_equal(directory)


if __name__ == "__main__":
    main()
