#!/usr/bin/env python3
"""Starts at odd moments and starts that come to nothing: a request to stop inside an evaluation, a budget that ends there,
a start that is refused, a source that is gone. What was there stays as it was, and the run goes on in the same digits.

    tests/run/restart_test.py build/tael
"""
import json
import random
import re
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
from program import ProgramTest, Run, main  # noqa: E402

DESCRIPTION = ("config.yaml", "env.json", "status.json")


class Restart(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # So much held-out text that its evaluation takes seconds.
        words = [bytes(97 + (i * j + i // j) % 26 for j in range(1, 2 + i % 9)) for i in range(1, 500)]
        order = random.Random(5)
        (cls.folder / "long.txt").write_bytes(b" ".join(order.choice(words) for _ in range(260_000)))
        done = cls.command("data", "prepare", "--out", "long.h5", "long.txt")
        assert done.code == 0, str(done)

    def loss(self, model):
        done = self.command("eval", model, "--data", "valid.h5", "--seq-length", "32", "--json")
        self.assertEqual(done.code, 0, str(done))
        return json.loads(done.out)["loss"]

    def evaluating(self, directory, child, steps):
        """Waits until the evaluation after `steps` steps goes on."""
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: metrics.exists() and metrics.read_text().count('"kind":"step"') == steps, "steps", child)
        time.sleep(0.3)

    def texts(self, directory):
        return {name: (directory / name).read_text() for name in DESCRIPTION}

    def test_a_finished_run_that_was_stopped_in_further_steps_stands_for_these(self):
        run = self.train(changes=["lr_scheduler.decay=constant"])
        directory, words = self.train_words(["lr_scheduler.decay=constant", "training.train_steps=100000",
                                             "training.eval_interval=0"], directory=run.path)
        child = self.start(*words)
        self.wait_until(lambda: run.metrics("step")[-1]["step"] > 6, "further steps", child)
        child.send_signal(signal.SIGUSR1)
        self.assertEqual(self.finish(child).code, 75)
        newest = sorted((directory / "checkpoints").glob("step-*"))[-1]
        self.assertGreater(newest.name, "step-00000004")
        self.assertEqual(self.loss(directory), self.loss(newest))
        self.assertNotEqual(self.loss(directory), self.loss(directory / "model"))

    def test_a_request_inside_an_evaluation_ends_it_and_it_is_made_up_for(self):
        changes = ["training.train_steps=4", "training.eval_interval=2", "checkpoint.interval=0"]
        whole = self.train(changes=[*changes, "data.valid=[long.h5]"])
        seconds = whole.metrics("end")[0]["t"]
        self.assertTrue(seconds)
        for ranks, ask in ((None, signal.SIGUSR1), (2, "STOP")):
            for steps in (2, 4):
                directory, words = self.train_words([*changes, "data.valid=[long.h5]"])
                child = self.start(*words, ranks=ranks)
                self.evaluating(directory, child, steps)
                asked = time.monotonic()
                if ask == "STOP":
                    (directory / "STOP").touch()
                else:
                    child.send_signal(ask)
                done = self.finish(child)
                self.assertEqual(done.code, 75, str(done))
                self.assertIn(f"the evaluation of step {steps} was given up", done.err)
                self.assertLess(time.monotonic() - asked, 15)
                run = Run(directory, None)
                self.assertNotIn(steps, [line["step"] for line in run.metrics("eval")])
                self.assertFalse((directory / "STOP").exists())
                self.assertTrue((directory / f"checkpoints/step-{steps:08}").is_dir())
                done = self.command(*words)
                self.assertEqual(done.code, 0, str(done))
                self.assertEqual(run.weights(), whole.weights())
                self.assertEqual([line["valid/loss"] for line in run.metrics("eval")],
                                 [line["valid/loss"] for line in whole.metrics("eval")])

    def test_what_a_lost_attempt_evaluated_is_made_up_for(self):
        # Attempt 1 evaluates step 4 and loses it, attempt 2 gives the same evaluation up.
        directory, words = self.train_words(["training.train_steps=6", "training.eval_interval=4",
                                             "checkpoint.interval=3", "data.valid=[long.h5]"])
        child = self.start(*words)
        self.wait_until(lambda: (directory / "metrics.jsonl").exists()
                        and '"kind":"eval"' in (directory / "metrics.jsonl").read_text(), "an evaluation", child)
        child.send_signal(signal.SIGKILL)
        self.finish(child)
        shutil.rmtree(directory / "checkpoints/step-00000006", ignore_errors=True)
        self.assertTrue((directory / "checkpoints/step-00000003").is_dir())
        child = self.start(*words)
        self.wait_until(lambda: (directory / "attempts/00000002.json").exists() and
                        [line for line in Run(directory, None).metrics("step") if line["attempt"] == 2], "step 4", child)
        time.sleep(0.3)
        child.send_signal(signal.SIGUSR1)
        done = self.finish(child)
        self.assertIn("the evaluation of step 4 was given up", done.err)
        self.assertEqual(self.command(*words).code, 0)
        self.assertIn(4, [line["step"] for line in Run(directory, None).metrics("eval") if line["attempt"] == 3])

    def test_an_evaluation_that_no_attempt_has_time_for_is_left_out(self):
        directory, words = self.train_words(["training.train_steps=3", "training.eval_interval=2",
                                             "data.valid=[long.h5]"])
        for attempt in range(1, 4):
            child = self.start(*words)
            if attempt == 1:
                self.evaluating(directory, child, 2)
            else:
                self.wait_until(lambda: f'"attempt":{attempt},' in (directory / "metrics.jsonl").read_text(), "it", child)
                time.sleep(0.3)
            child.send_signal(signal.SIGUSR1)
            done = self.finish(child)
            self.assertIn("the evaluation of step 2 was given up", done.err)
            self.assertEqual(done.code, 75, str(done))
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        self.assertIn("no evaluation of step 2: attempts had no time for it", done.err)
        self.assertEqual([line["step"] for line in Run(directory, None).metrics("eval")], [3])
        # Of a job that is as short submit says it before.
        for limit, said in (("60s", True), ("60min", False)):
            done = self.command("submit", *self.train_words(["data.valid=[long.h5]"])[1][1:], f"time_limit={limit}",
                                "--dry-run")
            self.assertEqual(done.code, 0, str(done))
            self.assertEqual("more than an attempt has: it is given up" in done.err, said, str(done))

    def test_a_checkpoint_comes_into_force_while_an_evaluation_goes_on(self):
        for ranks in (None, 2):
            directory, words = self.train_words(["training.train_steps=4", "training.eval_interval=2",
                                                 "checkpoint.interval=2", f"data.valid=[{self.much()}]"])
            child = self.start(*words, ranks=ranks)
            self.wait_until(lambda: (directory / "checkpoints/step-00000002").is_dir(), "the checkpoint", child)
            self.assertEqual([line["step"] for line in Run(directory, None).metrics("step")], [1, 2])
            self.assertEqual(Run(directory, None).metrics("eval"), [])
            (directory / "STOP").touch()
            self.assertEqual(self.finish(child).code, 75)

    def much(self):
        """Eight times as much held-out text."""
        names = [f"much{i}.h5" for i in range(8)]
        for name in names:
            if not (self.folder / name).exists():
                shutil.copy(self.folder / "long.h5", self.folder / name)
        return ", ".join(names)

    def test_a_budget_is_not_overdrawn_by_the_evaluation_at_the_end(self):
        def booked(path):
            lines = [json.loads(line) for line in (path / "ledger.jsonl").read_text().splitlines() if line.endswith("}")]
            return {kind: sum(line["device_s"].get(kind, 0) for line in lines) for line in lines for kind in line["device_s"]}

        def spent(path):
            return sum(booked(path).values())

        # The evaluation takes five times what was expected of it: the program is frozen four fifths of the time.
        changes = ["training.eval_interval=0", "lr_scheduler.decay=constant"]
        for room in (2, 3, 4, 5, 6, 7, 9, 11, 14):
            run = self.train(changes=[*changes, "training.eval_interval=1"])
            budget = spent(run.path) + room
            directory, words = self.train_words([*changes, "training.train_steps=5", "data.valid=[long.h5]",
                                                 f"budget.gpu_hours={budget / 3600}"], directory=run.path)
            child = self.start(*words)
            metrics = directory / "metrics.jsonl"
            while child.poll() is None:
                if '"step":5,' in metrics.read_text():
                    child.send_signal(signal.SIGSTOP)
                    time.sleep(0.08)
                    child.send_signal(signal.SIGCONT)
                time.sleep(0.02)
            done = self.finish(child)
            self.assertIn(done.code, (0, 76), str(done))
            self.assertLessEqual(spent(directory), budget, str(done))
            if "the evaluation of step 5 was given up" in done.err:
                break  # else there was no time for the step, or enough for all of it
        else:
            self.fail(str(done))
        self.assertTrue((directory / "checkpoints/step-00000005").is_dir())
        done = self.command(*words)
        self.assertEqual(done.code, 76, str(done))
        self.assertRegex(done.err, r"what follows the last step, which may take [\d.]+, does not fit; nothing was done")
        self.assertLessEqual(spent(directory), budget, str(done))
        self.assertEqual(self.command(*words, "budget.gpu_hours=1", "data.valid=[valid.h5]").code, 0)  # with more
        self.assertEqual(run.metrics("eval")[-1]["step"], 5)

    def test_a_start_that_comes_to_nothing_changes_nothing(self):
        run = self.train()
        before, loss = self.texts(run.path), self.loss(run.path)
        ledger = (run.path / "ledger.jsonl").read_bytes()
        other = ["training.seq_length=8", "optimizer.lr=0.5", "cluster.price_per_device_hour={usd: 1000}"]
        for code, changes in ((78, ["run.seed=99", "training.train_steps=20"]),  # refused
                              (0, []),                                           # done already
                              (76, ["training.train_steps=20", "budget.gpu_hours=1e-6"])):
            _, words = self.train_words([*other, *changes], directory=run.path)
            done = self.command(*words)
            self.assertEqual(done.code, code, str(done))
            self.assertEqual(self.texts(run.path), before)
            self.assertEqual(self.loss(run.path), loss)
            self.assertEqual((run.path / "ledger.jsonl").read_bytes(), ledger)  # nor does it cost anything

    def test_a_budget_of_money_counts_each_attempt_at_its_own_price(self):
        more = ["lr_scheduler.decay=constant", "training.eval_interval=0", "data.valid=[]", "checkpoint.interval=0",
                "training.train_steps=1000000", "budget.money={usd: 2}"]
        directory, _ = self.train_words()
        for price in (2000, 200):
            _, words = self.train_words([*more, f"cluster.price_per_device_hour={{usd: {price}}}"], directory=directory)
            self.assertEqual(self.command(*words).code, 76)
        prices, spent = {}, {}
        for line in map(json.loads, (directory / "ledger.jsonl").read_text().splitlines()):
            of = line["attempt"]
            if "price_per_device_hour" in line:
                prices[of] = line["price_per_device_hour"]["usd"]
            spent[of] = spent.get(of, 0) + sum(line["device_s"].values()) + line["unaccounted_s"]
        self.assertEqual(prices, {1: 2000, 2: 200})
        paid = sum(seconds / 3600 * prices[of] for of, seconds in spent.items())
        self.assertLessEqual(paid, 2)
        steps = Run(directory, None).metrics("step")
        self.assertEqual(steps[-1]["attempt"], 2)
        money = [line["cost/money"] for line in steps]
        self.assertEqual(money, sorted(money))
        self.assertAlmostEqual(steps[-1]["cost/budget_left_frac"], 1 - steps[-1]["cost/money"] / 2, delta=1e-9)
        report = json.loads(self.command("report", directory, "--json").out)
        self.assertAlmostEqual(report["money"]["amount"], paid, delta=1e-9)

    def test_a_checkpoint_that_is_removed_while_it_is_verified_is_not_damaged(self):
        directory, words = self.train_words(["training.train_steps=1000000", "training.eval_interval=0", "data.valid=[]",
                                             "checkpoint.interval=1", "checkpoint.keep=1"])
        child = self.start(*words)
        checkpoints = directory / "checkpoints"
        self.wait_until(lambda: checkpoints.exists() and any(checkpoints.glob("step-*")), "a checkpoint", child)
        for _ in range(60):
            done = self.command("checkpoint", "verify", directory)
            self.assertEqual(done.code, 0, str(done))
        child.send_signal(signal.SIGUSR1)
        self.assertEqual(self.finish(child).code, 75)

    def test_a_stop_before_the_first_start(self):
        whole = self.train()
        for ranks in (None, 2):
            directory, words = self.train_words()
            directory.mkdir()
            (directory / "STOP").touch()  # as somebody does whose job still waits in the queue
            done = self.command(*words, ranks=ranks)
            self.assertEqual(done.code, 75, str(done))
            self.assertFalse((directory / "STOP").exists())
            done = self.command(*words, ranks=ranks)
            self.assertEqual(done.code, 0, str(done))
            self.assertEqual(Run(directory, None).weights(), whole.weights())

    def test_what_a_start_would_refuse_is_refused_before_it(self):
        run = self.train()
        before = self.texts(run.path)
        for key, change in (("run.seed", "run.seed=9"), ("model.hidden_size", "model.hidden_size=64"),
                            ("data.train", "data.train=[long.h5]"),
                            ("parallelism.reduction_lanes", "parallelism.reduction_lanes=2")):
            _, words = self.train_words(["training.train_steps=20", change], directory=run.path)
            checks = (words, [*words, "--dry-run"], ["submit", *words[1:], "--dry-run"], ["config", "check", *words[1:]])
            for check in checks:
                done = self.command(*check)
                self.assertEqual(done.code, 78, str(done))
                self.assertIn(key, done.messages()[0])
            self.assertEqual(self.texts(run.path), before)
        # What may change passes, and so do segments that only the checkpoint knows.
        other = self.train(changes=["parallelism.reduction_segments=2"])
        _, words = self.train_words(["training.train_steps=20", "optimizer.lr=0.5"], directory=other.path)
        for check in ([*words, "--dry-run"], ["submit", *words[1:], "--dry-run"], ["config", "check", *words[1:]], words):
            done = self.command(*check)
            self.assertEqual(done.code, 0, str(done))

    def test_a_stop_that_came_too_late_does_not_stay(self):
        run = self.train()
        (run.path / "STOP").touch()
        _, words = self.train_words(directory=run.path)
        self.assertEqual(self.command(*words).code, 0)
        self.assertFalse((run.path / "STOP").exists())

    def test_the_source_of_the_first_weights_may_go(self):
        source = self.train()
        hf = self.fresh()
        shutil.copytree(source.path / "model", hf)
        changes = [f"checkpoint.initial_load_path={hf}", "lr_scheduler.decay=constant"]
        directory, words = self.train_words(changes)
        self.assertEqual(self.command(*words).code, 0)
        shutil.rmtree(hf)
        done = self.command(*words, "training.train_steps=6")
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(Run(directory, None).metrics("step")[-1]["step"], 6)
        self.refuse(65, "no such directory", changes=changes)

    def test_a_damaged_source_leaves_no_directory(self):
        source = self.train()
        checkpoint = sorted((source.path / "checkpoints").glob("step-*"))[-1]
        shard = max(checkpoint.glob("*.h5"), key=lambda p: p.stat().st_size)
        content = bytearray(shard.read_bytes())
        for at, what in ((len(content) // 2, "tensor"), (9, "shard")):  # the second: HDF5's own
            content[at] ^= 1
            shard.write_bytes(content)
            self.refuse(65, what, changes=[f"checkpoint.initial_load_path={checkpoint}"])
            done = self.command("eval", checkpoint, "--data", "valid.h5")
            self.assertEqual(done.code, 65, str(done))
            content[at] ^= 1

    def test_what_stands_for_a_damaged_checkpoint_is_said(self):
        """Of a run without its final weights: the newest checkpoint that is whole."""
        source = self.train(None, ["checkpoint.interval=2"])
        shutil.rmtree(source.path / "model")
        before, last = sorted((source.path / "checkpoints").glob("step-*"))[-2:]
        shard = max(last.glob("*.h5"), key=lambda p: p.stat().st_size)
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        said = rf"(?m)^! {re.escape(str(shard))}.* is damaged .*; passed over$"
        run = self.train(2, [f"checkpoint.initial_load_path={source.path}", "training.train_steps=1"])
        self.assertRegex(run.done.err, said)
        self.assertRegex(run.metrics("event")[0]["message"], r" is damaged .*; passed over$")
        done = self.command("checkpoint", "export-hf", source.path, "exported")
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, said)
        self.assertIn("; weights alone were compared", self.command("checkpoint", "diff", before, "exported").out)
        self.assertEqual(self.command("checkpoint", "diff", before, "exported").code, 0)

    def test_damage_that_one_rank_meets_in_a_step_is_written_down(self):
        content = bytearray((self.folder / "long.h5").read_bytes())
        content[len(content) // 2] ^= 1
        (self.folder / "flipped.h5").write_bytes(content)
        for seed in range(1, 4):
            directory, words = self.train_words([
                "data.train=[flipped.h5]", "data.verify=blocks", f"run.seed={seed}", "training.train_steps=100000",
                "training.eval_interval=0", "checkpoint.interval=100"])
            done = self.command(*words, ranks=2)
            self.assertEqual(done.code, 65, str(done))
            self.assertRegex(done.err, r"tael: (rank \d: )?flipped\.h5: ")
            run = Run(directory, done)
            self.assertEqual(run.status()["state"], "failed", str(done))
            self.assertEqual(run.metrics("end")[-1]["state"], "failed")
            self.assertEqual(json.loads((directory / "attempts/00000001.json").read_text())["exit_code"], 65)

    def test_usr1_and_then_term_still_saves(self):
        # As Slurm sends them: USR1 in good time, TERM at the limit.
        directory, words = self.train_words(["training.train_steps=100000", "training.eval_interval=0",
                                             "training.global_batch_size=2048"])
        child = self.start(*words)
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: metrics.exists() and '"step","' in metrics.read_text(), "a step", child)
        child.send_signal(signal.SIGUSR1)
        time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(child).code, 75)
        self.assertTrue(list((directory / "checkpoints").glob("step-*")))

    def test_a_checkpoint_equals_its_export(self):
        for changes in ([], ["model.num_nextn_predict_layers=1"], ["model.tie_word_embeddings=true"]):
            run = self.train(changes=changes)
            done = self.command("checkpoint", "diff", run.path, run.path / "model")
            self.assertEqual(done.code, 0, str(done))
            self.assertRegex(done.out, r"^equal: ")

    def test_a_checkpoint_under_the_name_of_another_step_is_no_checkpoint(self):
        run = self.train(changes=["checkpoint.interval=2", "lr_scheduler.decay=constant"])
        checkpoints = run.path / "checkpoints"
        shutil.copytree(checkpoints / "step-00000002", checkpoints / "step-00000009")
        done = self.command("checkpoint", "verify", run.path)
        self.assertEqual(done.code, 65, str(done))
        self.assertIn("step-00000009: holds step 2; its name was step-00000002", done.err)
        _, words = self.train_words(["lr_scheduler.decay=constant", "training.train_steps=6"], directory=run.path)
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        self.assertIn(f"resumed  {checkpoints / 'step-00000004'}", done.err)
        self.assertTrue((checkpoints / "step-00000009.damaged").is_dir())
        best = self.fresh() / "best"  # elsewhere it may be called what one likes
        shutil.copytree(checkpoints / "step-00000004", best)
        self.assertEqual(self.command("checkpoint", "verify", best).code, 0)

    def test_what_a_kill_left_of_a_model_is_swept(self):
        run = self.train()
        (run.path / "model.123.tmp").mkdir()
        (run.path / "model.mine.tmp").mkdir()
        _, words = self.train_words(["training.train_steps=5"], directory=run.path)
        self.assertEqual(self.command(*words).code, 0)
        self.assertFalse((run.path / "model.123.tmp").exists())
        self.assertTrue((run.path / "model.mine.tmp").exists())


if __name__ == "__main__":
    main()
