#!/usr/bin/env python3
"""Checkpoints that were damaged between two starts: the run goes on from the newest whole one and says what it found.

    tests/run/damage_test.py build/tael
"""
import os
import re
import shutil
import sys

sys.dont_write_bytecode = True
from program import Run, main  # noqa: E402
from whole_run import STEPS, WholeRunTest, saved_steps  # noqa: E402


class Damage(WholeRunTest):
    def copy_of_whole(self):
        """The undisturbed run as if it had been killed right after its last checkpoint, and the words that go on."""
        directory = self.fresh()
        shutil.copytree(self.whole.path, directory)
        shutil.rmtree(directory / "model")
        return directory, self.train_words(STEPS, directory=directory)[1]

    def test_every_kind_of_damage_falls_back_to_the_checkpoint_before(self):
        def flip(file, place):
            content = bytearray(file.read_bytes())
            content[place(content)] ^= 16
            file.write_bytes(content)

        def shorten(file):
            file.write_bytes(file.read_bytes()[:-1000])

        def lengthen(file):
            file.write_bytes(file.read_bytes() + b"\0")
        shard, manifest = "shard-00000.h5", "manifest.json"
        kinds = [  # the file, what is done to it, what is said after its name
            (shard, lambda f: flip(f, lambda c: len(c) // 2), r"(\w+ of )?tensor \"\S+\" is damaged between bytes"),
            (shard, lambda f: flip(f, lambda c: 20), "its HDF5 structure is damaged between bytes"),
            (shard, lambda f: flip(f, lambda c: c.find(b"train_steps")), "file \"config.yaml\" is damaged between bytes"),
            (shard, shorten, r"is cut in (.* of )?(tensor|file) \"\S+\": it has \d+ bytes, \d+ were written"),
            (shard, lengthen, r"has \d+ bytes, \d+ were written: somebody added some behind "),
            (shard, os.remove, r"no such file; with it tensor \"\S+\" and \d+ more are gone"),
            (manifest, lambda f: f.write_text("{}"), "is no manifest of a checkpoint"),
            (manifest, lambda f: flip(f, lambda c: len(c) // 2), "is damaged: it does not agree with its own digest"),
            (manifest, os.remove, "no such file"),
        ]
        before = saved_steps(self.whole.path)[-2]
        for number, (name, damage, words_said) in enumerate(kinds):
            with self.subTest(words_said):
                directory, words = self.copy_of_whole()
                damage(directory / "checkpoints/step-00000024" / name)
                done = self.command("checkpoint", "verify", directory)
                self.assertEqual(done.code, 65, str(done))
                self.assertRegex(done.messages()[0], rf"step-00000024/{name}: {words_said}")
                done = self.command(*words, ranks=2 if number % 4 == 1 else None)
                self.assertEqual(done.code, 0, str(done))
                said = rf"\S+step-00000024/{name}: {words_said}.*; it is put aside as \S+/step-00000024\.damaged"
                self.assertRegex(done.err, rf"(?m)^! {said}$")
                self.assertRegex(done.err, rf"(?m)^resumed +\S+step-{before:08} ")
                self.assertTrue(any(re.fullmatch(said, line["message"])
                                    for line in Run(directory, done).metrics("event")), str(done))
                self.check_equal(directory)
                self.assertTrue((directory / "checkpoints/step-00000024.damaged").is_dir())
                self.assertEqual((directory / "checkpoints/latest").read_text(), "step-00000024\n")
                self.assertGreater(self.check_ledger(directory)["lost"], 0)

    def test_damage_of_the_two_newest_falls_back_further(self):
        directory, words = self.copy_of_whole()
        second, third = saved_steps(directory)[-2], (saved_steps(directory)[:-2] or [0])[-1]
        for step in (24, second):
            (directory / f"checkpoints/step-{step:08}/manifest.json").write_text("{}")
        done = self.command(*words)
        self.assertEqual(done.code, 0 if third else 65, str(done))
        self.assertEqual(len(re.findall(r"(?m)^! \S+/manifest\.json: is no manifest", done.err)), 2)
        if third:
            self.assertRegex(done.err, rf"(?m)^resumed +\S+step-{third:08} ")
            self.check_equal(directory)

    def test_when_no_checkpoint_is_whole_nothing_is_lost_and_nothing_begins(self):
        directory, words = self.copy_of_whole()
        checkpoints = directory / "checkpoints"
        steps = saved_steps(directory)
        saved = self.fresh()
        shutil.copytree(checkpoints, saved)
        for number, step in enumerate(steps):
            file = checkpoints / f"step-{step:08}" / ("manifest.json" if number % 2 else "shard-00000.h5")
            file.write_bytes(file.read_bytes()[:-200])

        def content():
            return {p.relative_to(checkpoints): p.read_bytes() for p in checkpoints.rglob("*") if p.is_file()}
        before, metrics = content(), (directory / "metrics.jsonl").read_bytes()
        for ranks in (None, 2):
            done = self.command(*words, ranks=ranks)
            self.assertEqual(done.code, 65, str(done))
            self.assertEqual(len(done.messages()), 1, str(done))
            self.assertRegex(done.messages()[0], rf"checkpoints: no whole checkpoint is left of {len(steps)}; none was "
                             "touched: bring a whole one back, or move this directory away")
            for step in steps:
                self.assertRegex(done.err, rf"(?m)^! \S+step-{step:08}/")
            self.assertEqual(content(), before)
            self.assertEqual((directory / "metrics.jsonl").read_bytes(), metrics)
        # One is brought back: it goes on from there.
        shutil.rmtree(checkpoints / f"step-{steps[0]:08}")
        shutil.copytree(saved / f"step-{steps[0]:08}", checkpoints / f"step-{steps[0]:08}")
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, rf"(?m)^resumed +\S+step-{steps[0]:08} ")
        self.check_equal(directory)
        # Or the directory is moved away: from step 1, and it says so.
        shutil.rmtree(directory / "model")
        shutil.move(checkpoints, self.fresh())
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, "no complete checkpoint is there; from step 1 again")
        self.check_equal(directory)

    def test_a_damaged_checkpoint_begins_no_branch(self):
        for change, text in ((lambda c: c[:-1], "is cut in"), (lambda c: c[:30_000] + b"?" + c[30_001:], "is damaged between")):
            checkpoint = self.fresh()
            shutil.copytree(self.whole.path / "checkpoints/step-00000024", checkpoint)
            shard = checkpoint / "shard-00000.h5"
            shard.write_bytes(change(shard.read_bytes()))
            directory, words = self.train_words(STEPS)
            done = self.command(*words, "--resume", checkpoint)
            self.assertEqual(done.code, 65, str(done))
            self.assertRegex(done.messages()[0], f"shard-00000.h5: .*{text}")
            self.assertFalse(directory.exists())


if __name__ == "__main__":
    main()
