"""An undisturbed run, which tests of runs that are disturbed measure against: the same bits in every weight, the same
digits in every metric, and books that add up."""
import json

from program import ProgramTest, Run

# Longer than CONFIG's four steps, so that there is something between checkpoints.
STEPS = ["training.train_steps=24", "training.eval_interval=8", "checkpoint.interval=4", "checkpoint.keep=9"]


def saved_steps(path):
    """Steps of the complete checkpoints. On a busy machine some are passed over: the one before was still being written."""
    return sorted(int(p.parent.name[5:]) for p in path.glob("checkpoints/step-*/manifest.json") if p.parent.suffix == "")


def numbers(run):
    """The last line of each step, as readers take them."""
    last = {}
    for line in run.numbers():
        if line["kind"] in ("step", "eval"):
            last[line["kind"], line["step"]] = line
    return last


def ledger(path):
    lines = [json.loads(line) for line in (path / "ledger.jsonl").read_text().splitlines() if line.endswith("}")]
    kinds = {}
    for line in lines:
        for kind, seconds in line["device_s"].items():
            kinds[kind] = kinds.get(kind, 0) + seconds
    return lines, kinds


class WholeRunTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory, words = cls.train_words(STEPS)
        done = cls.command(*words)
        assert done.code == 0, str(done)
        cls.whole = Run(directory, done)

    def check_equal(self, path):
        run = Run(path, None)
        self.assertEqual(run.weights(), self.whole.weights())
        self.assertEqual(numbers(run), numbers(self.whole))
        self.assertEqual(run.status()["state"], "done")

    def check_ledger(self, path):
        lines, kinds = ledger(path)
        for attempt in {line["attempt"] for line in lines}:
            mine = [line for line in lines if line["attempt"] == attempt]
            booked = sum(sum(line["device_s"].values()) for line in mine)
            wall = mine[-1]["ranks"] * mine[-1]["wall_s"]
            self.assertAlmostEqual(booked / wall, 1, delta=0.005)
        self.assertLess(abs(sum(line["unaccounted_s"] for line in lines)), 0.01 * sum(kinds.values()) + 0.01)
        return kinds
