#!/usr/bin/env python3
"""Disks that are full, fill up, turn read-only or limit the size of a file: one clear message and 74, or training goes on,
as checkpoint.on_error says; the last checkpoint stays whole, no rank is left waiting, and once there is room again the
run goes on and ends in the bits of an undisturbed one.

    tests/run/disk_test.py build/tael

The disks are real file systems, mounted in a mount namespace of the test's own: nobody else sees them, and they are gone
when it ends.
"""
import errno
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
from program import ProgramTest, Run, main  # noqa: E402

# 24 steps whose numbers do not depend on how many are asked for, so that the first eight may be a run of their own.
STEPS = ["training.eval_interval=0", "data.valid=[]", "lr_scheduler.decay=constant", "checkpoint.keep=9",
         "checkpoint.interval=8", "metrics.tensorboard=false"]
MB = 1_000_000
# Shared memory of the ranks is a file too, and would fall under a limit of file sizes.
NO_SHARED_MEMORY = {"OMPI_MCA_btl": "self,tcp"}


def system(*words):
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)


class DiskTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory, words = cls.train_words([*STEPS, "training.train_steps=24"])
        done = cls.command(*words)
        assert done.code == 0, str(done)
        cls.whole = Run(directory, done)
        cls.begun, words = cls.train_words([*STEPS, "training.train_steps=8"])
        done = cls.command(*words)
        assert done.code == 0, str(done)

    def mount(self, *options):
        """A small file system of its own, in memory."""
        place = self.fresh("-disk")
        place.mkdir()
        system("mount", "-t", "tmpfs", "-o", ",".join(options), "none", place)
        self.addCleanup(system, "umount", place)
        return place

    def begun_on(self, disk, changes=()):
        """The run of eight steps on that disk, and the words that go on with it to step 24."""
        directory = disk / "run"
        shutil.copytree(self.begun, directory)
        return directory, self.train_words([*STEPS, "training.train_steps=24", *changes], directory=directory)[1]

    def fill(self, disk, leave):
        """Leaves that many free bytes."""
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with open(filler, "wb", buffering=0) as file:
            # All at once: a run may be writing meanwhile, and must not get to take the room itself.
            os.posix_fallocate(file.fileno(), 0, max(1, free - (leave or MB)))
            try:
                file.seek(0, os.SEEK_END)
                while leave == 0:
                    file.write(bytes(4096))
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
        return filler

    def start_long(self, words, ranks, *changes):
        """The run with steps that never end, quiet enough for its output to wait in the pipe."""
        long = [str(w).replace("train_steps=24", "train_steps=1000000") for w in words]
        child = self.start(*long, "training.log_interval=1000000", *changes, ranks=ranks)

        def end():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                self.finish(child)
        self.addCleanup(end)
        return child

    def check_gave_up(self, done, pattern, code=74):
        self.assertEqual(done.code, code, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertRegex(done.messages()[0], pattern)

    def check_intact(self, directory, leftovers=False):
        """Every checkpoint that is there is whole, the one that was there before among them."""
        done = self.command("checkpoint", "verify", directory)
        self.assertEqual(done.code, 0, str(done))
        self.assertIn("step-00000008: every byte as it was written", done.out)
        if not leftovers:
            self.assertEqual([p.name for p in (directory / "checkpoints").glob("tmp-*")], [])

    def check_goes_on(self, directory, words, ranks):
        done = self.command(*words, ranks=ranks)
        self.assertEqual(done.code, 0, str(done))
        self.assertRegex(done.err, r"(?m)^resumed +\S+/checkpoints/step-\d+ ")
        self.assertEqual(Run(directory, done).weights(), self.whole.weights())
        self.assertEqual([p.name for p in (directory / "checkpoints").glob("tmp-*")], [])
        self.check_intact(directory)

    def last_step(self, directory):
        lines = [line for line in (directory / "metrics.jsonl").read_text().splitlines() if '"kind":"step"' in line]
        return int(re.search(r'"step":(\d+)', lines[-1])[1])


class Full(DiskTest):
    def test_no_room_for_a_checkpoint(self):
        for ranks in (None, 2):
            for on_error in ("continue", "stop"):
                with self.subTest(on_error, ranks=ranks):
                    disk = self.mount(f"size={24 * MB}")
                    directory, words = self.begun_on(disk, [f"checkpoint.on_error={on_error}"])
                    filler = self.fill(disk, 2 * MB)
                    done = self.command(*words, ranks=ranks)
                    why = r"checkpoints: a checkpoint needs \d+\.\d+ MB, the disk has \d\.\d+ MB left"
                    if on_error == "continue":
                        self.assertRegex(done.err, rf"(?m)^! no checkpoint of step 16: \S+{why}; training goes on$")
                        self.check_gave_up(done, rf"^tael: no checkpoint of step 24: \S+{why}")
                        self.assertEqual(self.last_step(directory), 24)
                    else:
                        self.check_gave_up(done, rf"^tael: no checkpoint of step 16: \S+{why}")
                        self.assertLess(self.last_step(directory), 24)
                    self.assertEqual(Run(directory, done).status()["state"], "failed")
                    self.check_intact(directory)
                    filler.unlink()
                    self.check_goes_on(directory, words, ranks)

    def test_any_number_of_bytes_or_files_left(self):
        """Whatever is reached first: the lock, a log, a shard, the manifest, the model. Bytes, then names."""
        gave_up = set()
        for ranks in (None, 2):
            for leave in (0, 4096, 12_288, 40_960) if ranks is None else (0, 12_288):
                with self.subTest(bytes=leave, ranks=ranks):
                    disk = self.mount(f"size={24 * MB}")
                    directory, words = self.begun_on(disk)
                    filler = self.fill(disk, leave)
                    done = self.command(*words, ranks=ranks)
                    self.check_gave_up(done, "No space left on device|a checkpoint needs")
                    gave_up.add(done.messages()[0].rpartition("/")[2])
                    filler.unlink()
                    self.check_goes_on(directory, words, ranks)
            for leave in range(0, 9) if ranks is None else (4, 6):
                with self.subTest(names=leave, ranks=ranks):
                    disk = self.mount(f"size={24 * MB}", "nr_inodes=200")
                    directory, words = self.begun_on(disk)
                    (disk / "many").mkdir()
                    for i in range(os.statvfs(disk).f_favail - leave):
                        (disk / "many" / str(i)).touch()
                    done = self.command(*words, ranks=ranks)
                    if done.code != 0:
                        self.check_gave_up(done, "No space left on device|cannot create")
                        gave_up.add(re.sub(r"\d+", "N", done.messages()[0].rpartition("/")[2]))
                        shutil.rmtree(disk / "many")
                        self.check_goes_on(directory, words, ranks)
                    else:
                        self.check_intact(directory)
                        self.assertEqual(Run(directory, done).weights(), self.whole.weights())
        self.assertGreaterEqual(len(gave_up), 4, gave_up)  # at different places

    def test_a_branch_that_found_no_room_begins_there_when_there_is(self):
        disk = self.mount("size=16m")
        filler = self.fill(disk, 0)
        directory, words = self.train_words([*STEPS, "training.train_steps=24"], directory=disk / "branch")
        branch = [*words, "--resume", self.begun / "checkpoints/step-00000008"]
        self.check_gave_up(self.command(*branch), "No space left on device")
        self.assertFalse(directory.exists())
        filler.unlink()
        done = self.command(*branch)
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(Run(directory, done).weights(), self.whole.weights())

    def test_a_disk_that_fills_up_while_steps_are_logged(self):
        for ranks in (None, 2):
            for tensorboard in ("false", "true"):
                with self.subTest(ranks=ranks, tensorboard=tensorboard):
                    disk = self.mount(f"size={24 * MB}")
                    directory, words = self.begun_on(disk, [f"metrics.tensorboard={tensorboard}"])
                    child = self.start_long(words, ranks, "checkpoint.interval=0")
                    self.wait_until(lambda: len(re.findall(r'"attempt":2,.*"kind":"step"',
                                                           (directory / "metrics.jsonl").read_text())) > 3
                                    or child.poll() is not None, "some steps", child)
                    filler = self.fill(disk, 0)
                    done = self.finish(child)
                    self.check_gave_up(done, r"(metrics\.jsonl|ledger\.jsonl|status\.json\.tmp|tfevents\S+): cannot "
                                       r"(write|create): No space left on device")
                    self.check_intact(directory)
                    filler.unlink()
                    self.check_goes_on(directory, words, ranks)

    def test_training_goes_on_and_saves_again_when_there_is_room(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                # The third failed save in a row ends a run, so room must be made before it. On a busy machine this test
                # may not get to run for seconds: steps are long and write little, and who came too late tries again.
                tries = 0
                while not self.went_on_and_saved_again(ranks):
                    tries += 1
                    self.assertLess(tries, 5, "too late to make room, every time")

    def went_on_and_saved_again(self, ranks):
        disk = self.mount(f"size={60 * MB}")
        directory = disk / "run"
        steps = [*STEPS, "training.global_batch_size=64", "checkpoint.keep=3"]
        _, words = self.train_words([*steps, "training.train_steps=24"], directory=directory)
        begun = self.command(*words, "training.train_steps=8", ranks=ranks)
        self.assertEqual(begun.code, 0, str(begun))
        filler = self.fill(disk, 3 * MB)
        child = self.start_long(words, ranks, "checkpoint.interval=150")
        metrics = directory / "metrics.jsonl"
        self.wait_until(lambda: "no checkpoint of step" in metrics.read_text(), "a failed save", child)
        filler.unlink()
        if metrics.read_text().count("no checkpoint of step") > 2:
            return False
        self.wait_until(lambda: (directory / "checkpoints/latest").read_text() != "step-00000008\n",
                        "a checkpoint", child)
        (directory / "STOP").touch()
        done = self.finish(child)
        self.assertEqual(done.code, 75, str(done))
        self.assertRegex(done.err, r"! no checkpoint of step 150: .*; training goes on")
        done = self.command("checkpoint", "verify", directory)
        self.assertEqual(done.code, 0, str(done))
        # The same as a run of that many steps that nothing disturbed.
        step = Run(directory, done).status()["step"]
        plain, words = self.train_words([*steps, f"training.train_steps={step}", "checkpoint.interval=0"])
        self.assertEqual(self.command(*words).code, 0)
        done = self.command("checkpoint", "diff", directory, plain)
        self.assertEqual(done.code, 0, str(done))
        return True


class ReadOnly(DiskTest):
    def make_read_only(self, directory):
        system("mount", "--bind", directory, directory)
        system("mount", "-o", "remount,ro,bind", directory)

    def test_a_run_directory_that_cannot_be_written(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                directory, words = self.begun_on(self.mount(f"size={24 * MB}"))
                before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
                self.make_read_only(directory)
                done = self.command(*words, ranks=ranks)
                self.check_gave_up(done, "cannot create.*: Read-only file system")
                # A new run inside it: nothing of it can be made.
                done = self.command("train", self.config(), f"run.dir={directory}/new", ranks=ranks)
                self.check_gave_up(done, "new: cannot create the directory: Read-only file system")
                self.check_intact(directory)
                system("umount", directory)
                self.assertEqual({p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}, before)
                self.check_goes_on(directory, words, ranks)

    def test_checkpoints_that_cannot_be_written(self):
        for ranks in (None, 2):
            for on_error in ("continue", "stop"):
                with self.subTest(on_error, ranks=ranks):
                    directory, words = self.begun_on(self.mount(f"size={60 * MB}"),
                                                     [f"checkpoint.on_error={on_error}"])
                    child = self.start_long(words, ranks, "checkpoint.interval=600")
                    metrics = directory / "metrics.jsonl"
                    self.wait_until(lambda: '"attempt":2' in metrics.read_text(), "the start", child)
                    self.make_read_only(directory / "checkpoints")
                    why = r"no checkpoint of step [\d,]+: \S+: cannot .*: Read-only file system"
                    if on_error == "stop":
                        done = self.finish(child)
                        self.check_gave_up(done, why)
                    else:
                        self.wait_until(lambda: "no checkpoint of step" in metrics.read_text(), "a failed save", child)
                        done = self.finish(child)  # the third in a row ends it
                        self.assertEqual(len(re.findall(rf"(?m)^! {why}; training goes on$", done.err)), 2, str(done))
                        self.check_gave_up(done, why)
                    self.assertEqual(Run(directory, done).status()["state"], "failed")
                    self.check_intact(directory, leftovers=True)
                    system("umount", directory / "checkpoints")
                    shutil.rmtree(directory / "checkpoints")  # those of the long run lie beyond step 24
                    shutil.copytree(self.begun / "checkpoints", directory / "checkpoints")
                    self.check_goes_on(directory, words, ranks)


class Limit(DiskTest):
    def test_a_limit_of_file_size(self):
        for ranks in (None, 2):
            for on_error in ("continue", "stop"):
                with self.subTest(on_error, ranks=ranks):
                    directory, words = self.begun_on(self.mount(f"size={24 * MB}"),
                                                     [f"checkpoint.on_error={on_error}"])
                    done = self.command(*words, ranks=ranks, file_limit=60_000, environment=NO_SHARED_MEMORY)
                    why = r".*shard-0000\d\.h5\S*: cannot .*: File too large"
                    if on_error == "continue":
                        self.assertRegex(done.err, rf"(?m)^! no checkpoint of step 16: {why}; training goes on$")
                        self.check_gave_up(done, f"no checkpoint of step 24: {why}")
                        self.assertEqual(self.last_step(directory), 24)
                    else:
                        self.check_gave_up(done, f"no checkpoint of step 16: {why}")
                    self.check_intact(directory)
                    self.check_goes_on(directory, words, ranks)


def in_a_namespace_of_its_own():
    """Starts this test again where it may mount; says so and returns 77 where the machine allows no such place."""
    for unshare in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        probe = [*unshare, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return subprocess.run([*unshare, sys.executable, __file__, "--mounting", *sys.argv[1:]], check=False).returncode
    print(f"{pathlib.Path(__file__).name}: Skipped\nno file system can be mounted on this machine\n")
    return 77


if __name__ == "__main__":
    if sys.argv[1] != "--mounting":
        sys.exit(in_a_namespace_of_its_own())
    del sys.argv[1]
    main()
