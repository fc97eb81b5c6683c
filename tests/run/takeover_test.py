#!/usr/bin/env python3
"""Jobs that were frozen while another one began their run, or took it over: a frozen one that wakes finds that the run is not
its own any more, leaves with 77, and changes nothing of it.

    tests/run/takeover_test.py build/tael
"""
import hashlib
import json
import os
import shutil
import signal
import sys

sys.dont_write_bytecode = True
from program import ProgramTest, Run, children_of, main  # noqa: E402

CONSTANT = ["lr_scheduler.decay=constant"]  # a run may then be made longer


class Takeover(ProgramTest):
    def contents(self, directory):
        """Name to digest of every file of a run."""
        return {str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
                for file in sorted(directory.rglob("*")) if file.is_file()}

    def wake(self, child, processes, directory, before):
        for process in processes:
            os.kill(process, signal.SIGCONT)
        done = self.finish(child)
        self.assertEqual(done.code, 77, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertEqual(self.contents(directory), before)
        return done

    def frozen_before_the_lock(self, words, directory):
        """A start that is stopped behind its last look at the directory and before it takes it."""
        for _ in range(20):
            child = self.start(*words)
            while not child.stderr.readline().startswith("memory"):
                self.assertIsNone(child.poll())
            child.send_signal(signal.SIGSTOP)
            if not directory.exists():
                return child
            child.kill()
            self.finish(child)
            shutil.rmtree(directory)
        self.fail("no start was caught in time")

    def disown(self, directory, attempt):
        """The owner as it looks from elsewhere when its lease has run out: a process that is not there."""
        path = directory / f"attempts/{attempt:08}.json"
        record = json.loads(path.read_text())
        record["started"] += 1
        path.write_text(json.dumps(record))

    def test_a_start_that_another_one_overtakes_changes_nothing(self):
        run = self.train(changes=CONSTANT)
        checkpoint = sorted((run.path / "checkpoints").glob("step-*"))[-1]
        for resume, code in (("auto", 77), ("never", 78), (checkpoint, 78)):
            directory, words = self.train_words(["optimizer.lr=0.5", *CONSTANT, "training.train_steps=9"])
            late = self.frozen_before_the_lock([*words, "--resume", resume], directory)
            _, words = self.train_words(directory=directory)
            self.assertEqual(self.command(*words).code, 0)
            before = self.contents(directory)
            late.send_signal(signal.SIGCONT)
            done = self.finish(late)
            self.assertEqual(done.code, code, str(done))
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertIn("was begun by another start meanwhile", done.messages()[0])
            mine = directory / "attempts/00000002.json"
            self.assertEqual(json.loads(mine.read_text())["exit_code"], code)
            mine.unlink()
            self.assertEqual(self.contents(directory), before)

    def test_a_start_that_was_overtaken_does_not_say_where_the_run_began(self):
        source = self.train(changes=CONSTANT)
        checkpoint = sorted((source.path / "checkpoints").glob("step-*"))[-1]
        more = [*CONSTANT, "training.eval_interval=0", "checkpoint.interval=0"]
        for late_resume, resume in ((checkpoint, "auto"), ("auto", checkpoint)):
            directory, words = self.train_words([*more, "training.train_steps=9"])
            late = self.frozen_before_the_lock([*words, "--resume", late_resume], directory)
            _, longer = self.train_words([*more, "training.train_steps=1000000"], directory=directory)
            killed = self.start(*longer, "--resume", resume)
            metrics = directory / "metrics.jsonl"
            self.wait_until(lambda: metrics.exists() and '"kind":"step"' in metrics.read_text(), "a step", killed)
            killed.kill()
            self.finish(killed)
            late.send_signal(signal.SIGCONT)
            self.assertIn(self.finish(late).code, (77, 78))
            done = self.command(*words)
            self.assertEqual(done.code, 0, str(done))
            self.assertIn(f"resumed  {checkpoint}" if resume == checkpoint else "from step 1 again", done.err)
            report = json.loads(self.command("report", directory, "--json").out)
            self.assertEqual(report["branch"] is not None, resume == checkpoint)

    def test_an_owner_that_was_replaced_in_its_last_evaluation_leaves_the_model(self):
        words = [bytes(97 + (i * j + i // j) % 26 for j in range(1, 2 + i % 9)) for i in range(1, 500)]
        (self.folder / "long.txt").write_bytes(b" ".join(words[(i * i + i // 7) % 499] for i in range(260_000)))
        done = self.command("data", "prepare", "--out", "long.h5", "long.txt")
        self.assertEqual(done.code, 0, str(done))
        for ranks in (None, 2):
            directory, words = self.train_words([*CONSTANT, "training.eval_interval=0", "data.valid=[long.h5]"])
            late = self.start(*words, ranks=ranks)
            self.wait_until(lambda: (directory / "checkpoints/step-00000004").is_dir(), "the last checkpoint", late)
            processes = children_of(late.pid)
            self.assertEqual(len(processes), ranks or 1)
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            self.assertFalse((directory / "model").exists())
            self.disown(directory, 1)
            _, words = self.train_words([*CONSTANT, "training.train_steps=9", "data.valid=[]"], directory=directory)
            done = self.command(*words)
            self.assertEqual(done.code, 0, str(done))
            before = self.contents(directory)
            self.assertIn("was taken over by another job", self.wake(late, processes, directory, before).messages()[0])

    def test_a_start_that_was_replaced_while_it_read_its_checkpoint_changes_nothing(self):
        # Large enough for that to take a moment.
        large = [*CONSTANT, "training.eval_interval=0", "data.valid=[]", "model.vocab_size=40000"]
        run = self.train(changes=large)
        directory = run.path
        _, words = self.train_words([*large, "training.train_steps=5"], directory=directory)
        _, others = self.train_words([*large, "training.train_steps=6"], directory=directory)
        source = self.fresh()
        shutil.copytree(directory, source)
        for _ in range(20):
            shutil.rmtree(directory)
            shutil.copytree(source, directory)
            late = self.start(*words, "optimizer.lr=0.5", "cluster.price_per_device_hour={usd: 3.125}")
            # Its first beat: it has the lock, and made the last file of its own.
            alive = directory / "attempts/00000002.alive"
            self.wait_until(lambda: alive.exists() and alive.read_text(), "the lock", late)
            late.send_signal(signal.SIGSTOP)
            if (directory / "ledger.jsonl").read_bytes() == (source / "ledger.jsonl").read_bytes() and (
                    directory / "config.yaml").read_bytes() == (source / "config.yaml").read_bytes():
                break
            late.kill()
            self.finish(late)
        else:
            self.fail("no start was caught in time")
        self.disown(directory, 2)
        others.append("checkpoint.keep=1")  # what was being read is gone then
        done = self.command(*others)
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(Run(directory, None).metrics("step")[-1]["step"], 6)
        self.assertIn("was taken over by another job",
                      self.wake(late, [late.pid], directory, self.contents(directory)).messages()[0])


if __name__ == "__main__":
    main()
