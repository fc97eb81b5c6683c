#!/usr/bin/env python3
"""Runs that are killed, again and again, and end in the bits of the undisturbed one.

    tests/run/kills_test.py build/tael
"""
import os
import random
import sys
import time

sys.dont_write_bytecode = True
from program import ProgramTest, Run, main  # noqa: E402


class Kills(ProgramTest):
    """kill -9 from outside, at seeded instants; half of them while a checkpoint is being written."""
    TRIALS, MEANT_FOR_SAVES = 50, 32

    def setUp(self):
        self.random = random.Random(20260908)
        # Wide enough that a save takes a while; a save after every second step.
        self.changes = ["training.train_steps=24", "training.eval_interval=0", "data.valid=[]", "checkpoint.interval=2",
                        "model.moe_intermediate_size=256", "metrics.tensorboard=false"]

    def kill_once(self, words, directory, during_save):
        """Starts, kills, and says whether a checkpoint was being written."""
        child = self.start(*words)
        checkpoints = directory / "checkpoints"

        def saving():
            try:
                return any(name.startswith("tmp-") for name in os.listdir(checkpoints))
            except OSError:
                return False
        if during_save:
            skip = self.random.randrange(0, 4)  # not always the first
            while child.poll() is None:
                if saving():
                    if skip == 0:
                        break
                    skip -= 1
                    while saving() and child.poll() is None:
                        pass
            time.sleep(self.random.uniform(0, 0.004))
        else:
            time.sleep(self.random.uniform(0.02, 1.2))
        if child.poll() is None:
            child.kill()
        self.finish(child)
        return saving()

    def test_every_restart_ends_in_the_same_bits(self):
        whole = self.train(changes=self.changes)
        in_saves = restarts = 0
        for trial in range(self.TRIALS // 5):
            directory, words = self.train_words(self.changes)
            for kill in range(5):
                in_saves += self.kill_once(words, directory, (trial * 5 + kill) % 3 != 0)
                restarts += 1
                if not (directory / "status.json").exists() or Run(directory, None).status()["state"] != "done":
                    continue
                # It got to its end before it was killed: another one takes the next kill.
                self.assertEqual(Run(directory, None).weights(), whole.weights())
                directory, words = self.train_words(self.changes)
            done = self.command(*words, ranks=2 if trial % 2 else None)
            self.assertEqual(done.code, 0, str(done))
            self.assertEqual(Run(directory, done).weights(), whole.weights())
            self.assertEqual([p.name for p in (directory / "checkpoints").glob("tmp-*")], [])
        print(f"{restarts} kills, {in_saves} while a checkpoint was being written")
        self.assertGreaterEqual(restarts, 50)
        self.assertGreaterEqual(in_saves, 25)


if __name__ == "__main__":
    main()
