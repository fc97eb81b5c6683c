#!/usr/bin/env python3
"""tael sample as people run it: golden greedy text, one text per seed, valid UTF-8 as it comes, and every refusal.

    tests/run/sample_test.py build/tael
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from program import CONFIG, ProgramTest, main, plant  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


class Sample(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory, words = cls.train_words(["training.train_steps=30"], CONFIG)
        done = cls.command(*words)
        assert done.code == 0, str(done)
        cls.run_dir = directory

    def sample(self, *arguments, model=None, **options):
        done = self.command("sample", model or self.run_dir, *arguments, **options)
        self.assertEqual(done.code, 0, str(done))
        return done.out

    def refuse(self, code, text, *arguments, model=None, **options):
        done = self.command("sample", model or self.run_dir, *arguments, **options)
        self.assertEqual(done.code, code, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertIn(text, done.messages()[0])
        self.assertEqual(done.out, "")

    def test_greedy_text_is_that_of_another_implementation(self):
        for name in ("v3", "v3_yarn", "v2_lite"):
            greedy = json.loads((GOLDEN / name / "golden.json").read_text())["greedy"]
            out = self.sample("--prompt-ids", ",".join(map(str, greedy["prompt"])), "--print-ids", "--temperature", "0",
                              "--tokens", len(greedy["continuation"]), model=GOLDEN / name)
            self.assertEqual(out, ",".join(map(str, greedy["continuation"])) + "\n", name)

    def test_a_seed_is_a_text_on_any_number_of_threads(self):
        words = ("--prompt", "abc", "--tokens", "24", "--seed", "7")
        text = self.sample(*words)
        self.assertEqual(text, self.sample(*words))
        one = subprocess.run(["taskset", "-c", "0", *self.words(["sample", self.run_dir, *words])], capture_output=True,
                             text=True, cwd=self.folder, env=self.environment())
        self.assertEqual((one.returncode, one.stdout), (0, text), one.stderr)
        self.assertNotEqual(text, self.sample("--prompt", "abc", "--tokens", "24", "--seed", "8"))
        done = self.command("sample", "x", "--prompt", "abc", "--seed", "9" * 30)
        self.assertEqual(done.code, 2, str(done))
        self.assertRegex(done.err, "--seed: .*(is beyond 63 bits and a sign|a whole number is needed)")
        self.assertEqual(self.sample("--prompt", "abc", "--tokens", "9", "--top-p", "1e-9"),  # a nucleus of one
                         self.sample("--prompt", "abc", "--tokens", "9", "--temperature", "0"))

    def test_prompt_and_continuation_are_printed(self):
        greedy = ("--temperature", "0", "--tokens", "12", "--prompt", "abcd", "--ignore-eos")
        text, alone = self.sample(*greedy), self.sample(*greedy, "--no-echo")
        self.assertEqual(text, "abcd" + alone)
        ids = self.sample(*greedy, "--print-ids")
        self.assertRegex(ids, r"^\d+(,\d+){11}\n$")
        self.assertEqual(ids, self.sample("--temperature", "0", "--tokens", "12", "--prompt-ids", "97,98,99,100",
                                          "--print-ids", "--ignore-eos"))
        numbers = [int(n) for n in ids.split(",")]
        if max(numbers) < 256:
            self.assertEqual(bytes(numbers).decode(errors="replace") + "\n", alone)

    def test_text_is_utf8_whatever_the_model_says(self):
        # Logits of bytes alone, all alike: text of random bytes.
        broken = self.fresh()
        shutil.copytree(self.run_dir, broken)
        plant(broken / "model", "model.norm.weight", 0, [0.0] * 32)
        done = self.command("sample", broken, "--prompt", "ä", "--tokens", "80", "--ignore-eos", "--seed", "3")
        self.assertEqual(done.code, 0, str(done))  # it was decoded strictly
        self.assertTrue(done.out.startswith("ä"))
        self.assertIn("\N{REPLACEMENT CHARACTER}", done.out)

    def test_it_stops_at_the_end_of_a_text(self):
        # All logits alike: any token may come, and one in 272 ends the text.
        broken = self.fresh()
        shutil.copytree(self.run_dir, broken)
        plant(broken / "model", "model.norm.weight", 0, [0.0] * 32)
        model = broken / "model"
        config = json.loads((model / "config.json").read_text())
        config["eos_token_id"], config["max_position_embeddings"] = 5, 8192
        (model / "config.json").write_text(json.dumps(config))
        words = ("--prompt-ids", "1", "--print-ids", "--tokens", "3000", "--seed", "2")
        ids = [int(n) for n in self.sample(*words, model=model).split(",")]
        self.assertEqual(ids.index(5), len(ids) - 1)
        longer = [int(n) for n in self.sample(*words, "--ignore-eos", model=model).split(",")]
        self.assertEqual((longer[:len(ids)], len(longer)), (ids, 3000))

    def test_text_comes_while_it_is_made(self):
        child = subprocess.Popen(self.words(["sample", self.run_dir, "--prompt", "abc", "--tokens", "200", "--ignore-eos"]),
                                 cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(child.stdout.read(3), b"abc")
        child.stdout.close()  # a reader that goes away is an error of the write, and no hang
        self.assertIn(child.wait(60), (0, 74))
        child.stderr.close()

    def test_a_checkpoint_says_the_same_as_the_directory_it_was_made_of(self):
        done = self.command("checkpoint", "import-hf", GOLDEN / "v3", "v3.ckpt")
        self.assertEqual(done.code, 0, str(done))
        words = ("--prompt-ids", "5,6,7", "--print-ids", "--tokens", "20")
        self.assertEqual(self.sample(*words, model="v3.ckpt"), self.sample(*words, model=GOLDEN / "v3"))

    def test_refusals(self):
        text = ("--prompt", "a")
        for code, message, words in (
                (2, "--prompt or --prompt-ids is required", ()), (2, "give one of them", (*text, "--prompt-ids", "1")),
                (2, "--prompt: is empty", ("--prompt", "")), (2, "'' is no token number", ("--prompt-ids", "")),
                (2, "'x' is no token number", ("--prompt-ids", "1,x")), (2, "'-1' is no token number", ("--prompt-ids", "-1")),
                (2, "'' is no token number", ("--prompt-ids", "1,")), (2, "'99999999999' is no", ("--prompt-ids", "99999999999")),
                (78, "--prompt-ids: 272: the model's vocabulary has 272 tokens", ("--prompt-ids", "3,272")),
                (2, "--tokens 0: at least 1", (*text, "--tokens", "0")), (2, "--tokens", (*text, "--tokens", "many")),
                (2, "--temperature -1", (*text, "--temperature", "-1")), (2, "--temperature nan", (*text, "--temperature", "nan")),
                (2, "--top-p 0:", (*text, "--top-p", "0")), (2, "--top-p 1.5", (*text, "--top-p", "1.5")),
                (2, "greedy text draws nothing", (*text, "--top-p", "0.5", "--temperature", "0")),
                (2, "--seed", (*text, "--seed", "x")), (2, "--no-echo and --print-ids", (*text, "--print-ids", "--no-echo")),
                (78, "--compute bf16: not built yet", (*text, "--compute", "bf16")), (2, "--compute f", (*text, "--compute", "f")),
                (78, "a prompt of 1 token and 99999 more do not fit the model's", (*text, "--tokens", "99999"))):
            with self.subTest(words):
                self.refuse(code, message, *words)
        config = json.loads((self.run_dir / "model/config.json").read_text())
        self.refuse(78, "more do not fit", "--prompt", "x" * config["max_position_embeddings"])
        self.refuse(78, "nothing says what its tokens stand for; give the prompt as numbers: --prompt-ids", *text,
                    model=GOLDEN / "v3")
        self.refuse(78, "--print-ids prints numbers", "--prompt-ids", "1", model=GOLDEN / "v3")
        self.refuse(65, "no such directory", *text, model="nowhere")
        (self.folder / "plain").mkdir(exist_ok=True)
        self.refuse(65, "neither a Hugging Face directory", *text, model="plain")
        done = self.command("sample", self.run_dir, *text, ranks=2)
        self.assertEqual((done.code, len(done.messages())), (2, 1), str(done))
        self.assertIn("sample runs on one rank; 2 were started", done.err)

    def test_numbers_that_are_none_are_a_failure(self):
        broken = self.fresh()
        shutil.copytree(self.run_dir, broken)
        plant(broken / "model", "model.norm.weight", 3, [float("nan")])
        done = self.command("sample", broken, "--prompt", "ab")
        self.assertEqual(done.code, 1, str(done))
        self.assertIn("the logits after 2 tokens are not finite", done.err)

    def test_one_line_of_speed_on_stderr(self):
        done = self.command("sample", self.run_dir, "--prompt", "ab", "--tokens", "5", "--ignore-eos")
        self.assertTrue(re.fullmatch(r"prompt of 2 tokens in [\d.]+ s; 5 tokens in [\d.]+ s, [\d.]+ tokens/s\n", done.err), str(done))


if __name__ == "__main__":
    main()
