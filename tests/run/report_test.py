#!/usr/bin/env python3
"""tael report on real runs: its numbers are the ledger's, in every form; what it refuses; runs side by side.

    tests/run/report_test.py build/tael
"""
import html.parser
import json
import os
import re
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
from program import ProgramTest, Run, main  # noqa: E402

KINDS = ["compute", "exposed_communication", "pipeline_bubble", "imbalance", "data_wait", "optimizer", "checkpoint",
         "evaluation", "startup", "lost", "idle"]


class Tables(html.parser.HTMLParser):
    """The tables of a page by their headings, as rows of texts; and every link to elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.outside, self.title, self.cell = {}, [], "", None
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.outside += [value for name, value in attributes if name in ("src", "href")]
        if tag in ("h2", "td", "th"):
            self.cell = ""
        if tag == "tr":
            self.tables.setdefault(self.title, []).append([])

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag == "h2":
            self.title = self.cell
        elif tag in ("td", "th"):
            self.tables[self.title][-1].append(self.cell)
        if tag in ("h2", "td", "th"):
            self.cell = None


def ledger_sums(run):
    """Hours by kind and what no kind has, straight from the lines."""
    sums, unaccounted = dict.fromkeys(KINDS, 0.0), 0.0
    for text in (run.path / "ledger.jsonl").read_text().splitlines():
        line = json.loads(text)
        unaccounted += line["unaccounted_s"]
        for kind, seconds in line["device_s"].items():
            sums[kind] += seconds
    return {kind: seconds / 3600 for kind, seconds in sums.items()}, unaccounted / 3600


def number(text):
    return float(text.replace(",", "").rstrip("%"))


class ReportTest(ProgramTest):
    changes = ["cluster.price_per_device_hour={eur: 2.50}", "budget.gpu_hours=5", "checkpoint.interval=5"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.first = cls.killed_and_resumed()
        path, words = cls.train_words([*cls.changes, "optimizer.lr=3e-3", "training.train_steps=12", "training.eval_interval=3"])
        done = cls.command(*words, ranks=2)
        assert done.code == 0, str(done)
        cls.second = Run(path, done)

    @classmethod
    def killed_and_resumed(cls):
        """Fourteen steps: on one rank until it is killed somewhere behind the first checkpoint, then on two."""
        path, words = cls.train_words([*cls.changes, "training.train_steps=14", "training.eval_interval=3"])
        child, end = cls.start(*words), time.monotonic() + 60
        metrics, saved = path / "metrics.jsonl", path / "checkpoints" / "step-00000005" / "manifest.json"
        while not (saved.exists() and '"step":8,' in metrics.read_text()):
            assert time.monotonic() < end and child.poll() is None, "no step 8"
            time.sleep(0.002)
        child.kill()
        cls.finish(child)
        done = cls.command(*words, ranks=2)
        assert done.code == 0, str(done)
        return Run(path, done)

    def report(self, *words, code=0):
        done = self.command("report", *words)
        self.assertEqual(done.code, code, str(done))
        return done

    def test_its_numbers_are_the_ledgers(self):
        for run in (self.first, self.second):
            report = json.loads(self.report(run.path, "--json").out)
            sums, unaccounted = ledger_sums(run)
            hours = report["device_hours"]
            for kind in KINDS:
                self.assertAlmostEqual(hours["by_kind"][kind], sums[kind], delta=1e-12, msg=kind)
            self.assertAlmostEqual(hours["unaccounted"], unaccounted, delta=1e-12)
            total = sum(sums.values()) + unaccounted
            self.assertAlmostEqual(hours["total"], total, delta=1e-12)
            self.assertAlmostEqual(report["money"]["amount"], total * 2.5, delta=1e-12)
            self.assertAlmostEqual(report["budget"]["left"], 5 - total, delta=1e-12)
            self.assertAlmostEqual(sum(a["device_hours"] for a in report["attempts"]), total, delta=1e-12)
            # Ranks times wall time, of each attempt.
            last = {}
            for text in (run.path / "ledger.jsonl").read_text().splitlines():
                line = json.loads(text)
                last[line["attempt"]] = line["ranks"] * line["wall_s"] / 3600
            self.assertAlmostEqual(total, sum(last.values()), delta=0.005 * total)
            status = run.status()
            self.assertEqual((report["state"], report["steps"]), (status["state"], status["step"]))
            valid = run.metrics("eval")[-1]
            self.assertEqual(report["valid_loss"], valid["valid/loss"])
            self.assertEqual(report["bits_per_byte"], valid["valid/bits_per_byte"])

    def test_a_killed_attempt_is_seen(self):
        report = json.loads(self.report(self.first.path, "--json").out)
        killed, last = report["attempts"]
        self.assertEqual(killed["ended"], "")
        self.assertEqual((killed["first_step"], last["last_step"]), (1, 14))
        self.assertIn(last["first_step"], (6, 11))  # the newest checkpoint that was complete
        self.assertEqual(killed["lost_steps"], killed["last_step"] - (last["first_step"] - 1))
        if killed["lost_steps"]:
            self.assertGreater(report["device_hours"]["by_kind"]["lost"], 0)
        self.assertEqual((last["exit_code"], last["reason"]), (0, "done"))
        markdown = self.report(self.first.path, "--markdown").out
        self.assertIn("killed without a word", markdown)
        self.assertIn("resumed from", markdown)

    def test_the_page_shows_the_same_and_needs_nothing_else(self):
        done = self.report(self.first.path)
        path = self.first.path / "report.html"
        self.assertEqual(done.out, f"{path}\n")
        text = path.read_text()
        self.assertLess(len(text.encode()), 1_000_000)
        page = Tables(text)
        self.assertEqual(page.outside, [])
        self.assertNotIn("script", page.tags)
        self.assertGreaterEqual(text.count("<svg"), 12)
        self.assertNotIn("nothing was recorded", text)
        sums, unaccounted = ledger_sums(self.first)
        rows = {row[0]: row[1:] for row in page.tables["Where the device-hours went"][1:]}
        total = sum(sums.values()) + unaccounted
        shown = {"startup": "start-up"}
        for kind in KINDS:
            name = shown.get(kind, kind.replace("_", " "))
            self.assertEqual(name in rows, sums[kind] != 0, name)
            if name in rows:
                self.assertAlmostEqual(number(rows[name][0]), sums[kind], delta=1e-3 * total)
                self.assertAlmostEqual(number(rows[name][1]), 100 * sums[kind] / total, delta=0.051)
        self.assertAlmostEqual(number(rows["all"][0]), total, delta=1e-3 * total)
        self.assertAlmostEqual(number(rows["all"][2]), total * 2.5, delta=1e-4)
        deviations = page.tables["Settings that are not the default"]
        self.assertIn(["optimizer.lr", "0.003", "0.01"], deviations)
        markdown = self.report(self.first.path, "--markdown").out
        for row in page.tables["Where the device-hours went"][1:]:
            self.assertIn("| " + " | ".join(row) + " |", markdown)
        # A second time the page is replaced.
        self.report(self.first.path)

    def test_experts_and_memory_are_recorded(self):
        lines = [json.loads(line) for line in (self.second.path / "experts.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, 13)))
        tokens, top = 8 * 32, 2
        for line in lines:
            for counts in line["counts"]:
                self.assertEqual(len(counts), 8)
            self.assertEqual(sum(line["counts"][0]), tokens * top)
        report = json.loads(self.report(self.second.path, "--json").out)
        planned = report["planned_bytes"]
        parts = [v for k, v in planned.items() if k not in ("expected", "at_most")]
        self.assertEqual(sum(parts), planned["expected"])
        self.assertLessEqual(report["peak_gib"] * 2**30, planned["at_most"])

    def test_runs_are_compared(self):
        out = self.folder / "both.html"
        done = self.report(self.first.path, self.second.path, "--out", out)
        self.assertEqual(done.out, f"{out}\n")
        page = Tables(out.read_text())
        self.assertEqual([row[0] for row in page.tables["Runs"][1:]], [str(self.first.path), str(self.second.path)])
        self.assertIn(["optimizer.lr", "0.01", "0.003"], page.tables["Settings that differ"])
        both = json.loads(self.report(self.first.path, self.second.path, "--json").out)
        self.assertEqual(both["cost_unit"], "eur")
        if both["loss"] == "training":  # one was evaluated for the first time when the other had ended, as time had it
            self.assertTrue(both["warnings"][0].startswith("a run was evaluated too late"), both["warnings"])
            for run in both["runs"]:
                self.assertIsNotNone(run["loss_at_same_cost"])
                self.assertIsNotNone(run["cost_of_same_loss"])
            return
        curves = [[(e["device_hours"] * 2.5, e["loss"]) for e in run["report"]["evaluations"]] for run in both["runs"]]
        self.assertAlmostEqual(both["same_cost"], min(c[-1][0] for c in curves), delta=1e-12)
        self.assertEqual(both["same_loss"], max(min(loss for _, loss in c) for c in curves))
        for run, curve in zip(both["runs"], curves):
            before = max((p for p in curve if p[0] <= both["same_cost"] + 1e-12), default=None)
            if before is None:
                self.assertIsNone(run["loss_at_same_cost"])
            if run["cost_of_same_loss"] is not None:
                self.assertLessEqual(run["cost_of_same_loss"], curve[-1][0])

    def test_what_stands_in_the_way_of_a_comparison(self):
        changes = [*self.changes, "optimizer.lr=3e-3", "training.eval_interval=3", "cluster.threads_per_rank=2"]
        path, words = self.train_words([*changes, "training.train_steps=6", "training.seq_length=16",
                                        f"checkpoint.initial_load_path={self.second.path / 'model'}"])
        self.assertEqual(self.command(*words).code, 0)
        _, words = self.train_words([*changes, "training.train_steps=12"], directory=path)
        done = self.command(*words)
        self.assertEqual(done.code, 0, str(done))
        both = json.loads(self.report(path, self.second.path, "--json").out)
        self.assertIn(f"{path} began with the weights of {self.second.path / 'model'}: what they cost is not in its "
                      "device-hours", both["warnings"])
        self.assertIn("the runs were on different devices: an hour of one is not an hour of the other", both["warnings"])
        windows = "the runs trained in windows of different lengths: a longer one helps the prediction"
        if both["loss"] == "validation":
            windows = f"{path}: 2 evaluations on other held-out data, or in other windows, than its last: left out"
        self.assertIn(windows, both["warnings"])

    def test_what_is_refused(self):
        def refused(code, *words):
            done = self.report(*words, code=code)
            self.assertEqual(done.out, "")
            return "\n".join(done.messages())

        self.assertEqual(refused(78, "nowhere"), "tael: nowhere: is no run directory")
        self.assertIn("is no run: neither metrics.jsonl nor ledger.jsonl is there", refused(78, "corpus"))
        self.assertIn("is given twice", refused(78, self.first.path, str(self.first.path) + "/"))
        mine = self.folder / "mine.html"
        mine.write_text("<!DOCTYPE html>my own")
        for runs in ([self.first.path], [self.first.path, self.second.path]):
            for flags in ([], ["--dry-run"]):
                self.assertEqual(refused(78, *runs, "--out", mine, *flags),
                                 f"tael: --out: {mine} is there and was not made by tael report; give another name")
            self.assertIn("cannot", refused(74, *runs, "--out", "no/such/place.html"))
        self.assertEqual(mine.read_text(), "<!DOCTYPE html>my own")
        for flag in ("--json", "--markdown"):
            self.assertIn(f"{flag} excludes --out", refused(2, self.first.path, flag, "--out", "some.html"))
        self.assertIn("--json excludes --markdown", refused(2, self.first.path, "--json", "--markdown"))

    def copy_of_first(self, name):
        copy = self.folder / name
        shutil.copytree(self.first.path, copy, ignore=shutil.ignore_patterns("checkpoints", "model", "tb", "report.html"))
        return copy

    def test_a_cut_configuration_is_named(self):
        cut = self.copy_of_first("cut")
        text = (cut / "config.yaml").read_text()
        for length, what in ((0, "run.dir: must be given"), (text.index("train_tokens"), "training.train_tokens: must be given")):
            (cut / "config.yaml").write_text(text[:length].rstrip(" "))
            done = self.report(cut, code=78)
            self.assertRegex(done.messages()[0], rf"^tael: {re.escape(str(cut))}/config\.yaml: {what}")

    def test_reports_at_once(self):
        copy = self.copy_of_first("at_once")
        children = [self.start("report", copy) for _ in range(6)]
        for child in children:
            done = self.finish(child)
            self.assertEqual(done.code, 0, str(done))
        self.assertEqual([p.name for p in copy.glob("report*")], ["report.html"])

    def test_a_damaged_ledger_is_named_by_its_line(self):
        damaged = self.copy_of_first("damaged")
        lines = (damaged / "ledger.jsonl").read_text().splitlines(keepends=True)
        lines[2] = lines[2].replace('"device_s":{"', '"device_s":{"un', 1)
        (damaged / "ledger.jsonl").write_text("".join(lines))
        done = self.report(damaged, code=65)
        self.assertRegex(done.messages()[0], r"^tael: .*/ledger\.jsonl:3:\d+: \w+ is no kind of cost$")
        self.assertFalse((damaged / "report.html").exists())

    def test_nothing_is_written_when_asked(self):
        out = self.folder / "dry.html"
        self.assertEqual(self.report(self.second.path, "--out", out, "--dry-run").out, f"{out}\n")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    main()
