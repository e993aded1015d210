"""`stage=eval` from the command line to its files: a scripted engine where the words matter, a real one where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dsm.cli import main
from dsm.config.model import ModelConfig
from dsm.config.sandbox import SandboxConfig
from dsm.data.tokenizer import train_tokenizer
from dsm.errors import UserError
from dsm.evaluation import stage
from dsm.models.build import build_model
from dsm.models.export import export_model
from dsm.rollout.engine import Completion, Request
from dsm.sandbox.probe import probe
from tests.evaluation.benchmark_lab import write_rows
from tests.training.harness import finish, start_ranks


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 20,000 random weights that speaks bytes."""
    folder = tmp_path_factory.mktemp("model") / "export"
    tokenizer = train_tokenizer(["What is 1 + 1? The answer is \\boxed{2}."] * 4, 280)
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 512,
    }  # fmt: skip
    network = build_model(ModelConfig(architecture="llama", config=shape), len(tokenizer), seed=0)
    export_model(network, tokenizer, folder, title="test", facts={})
    return folder


@pytest.fixture
def problems(tmp_path: Path) -> str:
    """Twelve sums of two levels."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i), "level": f"Level {1 + i % 2}"} for i in range(12)]
    return write_rows(tmp_path / "problems.jsonl", *rows)


@pytest.fixture
def evaluate(tmp_path: Path, model: Path, problems: str) -> Callable[..., tuple[int, Path]]:
    """Run the stage on the problems; returns the exit status and the newest run folder."""

    def call(*settings: str) -> tuple[int, Path]:
        elsewhere = any("data.path" in line or line == "benchmark=[]" for line in settings)
        data = () if elsewhere else (f"benchmarks.custom.data.path={problems}",)
        benchmark = () if any(line.startswith("benchmark=") for line in settings) else ("benchmark=custom",)
        runs = tmp_path / "runs"
        defaults = {"sampling.max_new_tokens": "16", "grader.workers": "1"}
        given = {line.split("=")[0] for line in settings}
        short = [f"{key}={value}" for key, value in defaults.items() if key not in given]
        status = main(["stage=eval", f"model.path={model}", f"paths.runs={runs}", *short, *benchmark, *data, *settings])
        folders = sorted((runs / "eval").glob("*"), key=lambda folder: folder.stat().st_mtime_ns)
        return status, folders[-1] if folders else runs

    return call


class Scripted:
    """An engine that says what a function of question and sample number makes of the prompt."""

    answers: Callable[[str, int], str]
    requests: list[Request]

    def __init__(self, model: Any, tokenizer: Any, config: Any) -> None:
        self.tokenizer = tokenizer

    def generate(self, requests: Sequence[Request], on_done: Any = None) -> list[list[Completion]]:
        results = []
        for place, request in enumerate(requests):
            type(self).requests.append(request)
            prompt = self.tokenizer.decode(request.input_ids)
            texts = [type(self).answers(prompt, sample) for sample in range(request.sampling.n)]
            results.append([Completion((5,) * 3, (-0.5,) * 3, text, "eos") for text in texts])
            on_done(place, results[-1])
        return results


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, int], str]], type[Scripted]]:
    """`say(lambda prompt, sample: text)` puts the scripted engine in the place of the real one."""

    def use(answers: Callable[[str, int], str]) -> type[Scripted]:
        engine = type("Script", (Scripted,), {"answers": staticmethod(answers), "requests": []})
        monkeypatch.setattr(stage, "make_engine", lambda config, *given: engine(*given, config))
        return engine

    return use


def number_in(prompt: str) -> int:
    return int(prompt.split("What is ")[1].split(" ")[0])


def rows_of(folder: Path, name: str = "custom") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "items" / f"{name}.jsonl").read_text().splitlines()]


def test_answers_are_extracted_judged_and_counted(evaluate: Any, say: Any) -> None:
    def answer(prompt: str, sample: int) -> str:
        i = number_in(prompt)
        if i < 6:
            return f"{i} plus {i} is \\boxed{{{2 * i}}}."
        return "I give up." if i < 8 else f"The answer is {2 * i + 1}."

    say(answer)
    status, folder = evaluate("benchmarks.custom.data.groups={level: '{level}'}")
    assert status == 0
    rows = rows_of(folder)
    assert [row["id"] for row in rows] == [str(i) for i in range(1, 13)]
    verdicts = [row["samples"][0]["verdict"] for row in rows]
    assert verdicts == ["correct"] * 6 + ["ungradable"] * 2 + ["wrong"] * 4
    assert rows[0]["samples"][0]["rule"] == "boxed"
    assert rows[6]["samples"][0]["answer"] is None
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["custom/accuracy"] == 0.5
    assert metrics["custom/ungradable"] == pytest.approx(2 / 12)
    results = json.loads((folder / "results.json").read_text())["benchmarks"]["custom"]
    assert results["groups"]["level"]["1"]["n"] == 6
    assert results["protocol"]["prompting"] == "zero_shot"


def test_samples_vote(evaluate: Any, say: Any) -> None:
    """Of four samples two say 2i in different words, one is wrong, one is nothing: pass@1 1/2, pass@4 1, maj@4 1."""
    texts = ["\\boxed{%d}", "The answer is %d.0.", "\\boxed{7777}", "no idea"]
    say(lambda prompt, sample: texts[sample].replace("%d", str(2 * number_in(prompt))))
    status, folder = evaluate("sampling.n=4", "sampling.temperature=0.7")
    assert status == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["custom/accuracy"] == 0.5
    assert metrics["custom/pass@4"] == 1.0
    assert metrics["custom/maj@4"] == 1.0
    assert metrics["custom/maj@1"] == 0.5
    assert [sample["class"] for sample in rows_of(folder)[3]["samples"]] == [0, 0, 1, None]


def test_seeds_belong_to_items(evaluate: Any, say: Any) -> None:
    engine = say(lambda prompt, sample: "")
    evaluate("sampling.n=2", "sampling.temperature=1.0")
    seeds = {request.input_ids: request.sampling.seed for request in engine.requests}
    assert len(set(seeds.values())) == 12
    engine.requests.clear()
    evaluate("sampling.n=2", "sampling.temperature=1.0", "limit=5")
    assert {request.input_ids: request.sampling.seed for request in engine.requests}.items() <= seeds.items()


def test_a_real_engine_gives_the_same_at_any_batch_size(evaluate: Any) -> None:
    _, one = evaluate("name=one", "engine.max_rows=1", "limit=6")
    _, many = evaluate("name=many", "engine.max_rows=64", "limit=6")
    assert one != many
    assert rows_of(one) == rows_of(many)
    assert all(row["samples"][0]["tokens"] for row in rows_of(one))


def test_an_interrupted_evaluation_goes_on(evaluate: Any, say: Any) -> None:
    """Stopped by an error at the eighth item, with a torn line on top: the others are not answered again."""

    def answer(prompt: str, sample: int) -> str:
        if number_in(prompt) == 7:
            raise KeyboardInterrupt
        return "\\boxed{1}"

    say(answer)
    status, folder = evaluate()
    assert status == 130
    (part,) = (folder / "items").glob("*.part")
    before = part.read_text()
    assert before.count("\n") >= 1
    part.write_text(before + '{"id": "9", "benchm')
    engine = say(lambda prompt, sample: "\\boxed{2}")
    status, again = evaluate()
    assert (status, again) == (0, folder)
    kept = before.count("\n")
    assert len(engine.requests) == 12 - kept
    answers = [row["samples"][0]["answer"] for row in rows_of(folder)]
    assert sorted(answers) == ["1"] * kept + ["2"] * (12 - kept)
    assert not list((folder / "items").glob("*.part"))
    engine.requests.clear()
    assert evaluate()[0] == 0
    assert not engine.requests  # finished before


def test_other_data_does_not_mix_with_old_answers(
    evaluate: Any, say: Any, problems: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(lambda prompt, sample: "\\boxed{1}")
    _, folder = evaluate()
    (folder / "metrics.json").unlink()
    write_rows(Path(problems), {"question": "What is 3 + 3?", "answer": "6"})
    capsys.readouterr()
    assert evaluate()[0] == 2
    assert "was begun with another data" in capsys.readouterr().err


def test_a_model_written_anew_is_not_taken_for_the_old_one(
    evaluate: Any, say: Any, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(lambda prompt, sample: "\\boxed{1}")
    evaluate()
    config = model / "config.json"
    old = config.read_text()
    try:
        config.write_text(old + "\n")
        capsys.readouterr()
        assert evaluate()[0] == 2
        assert "other weights" in capsys.readouterr().err
        assert evaluate("resume=never")[0] == 0
    finally:
        config.write_text(old)


def test_bad_rows_and_bad_golds_are_counted(
    evaluate: Any, say: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(lambda prompt, sample: "\\boxed{1}")
    rows: list[Any] = [{"question": "What is 1?", "answer": "1"}, {"question": "no answer"}, "{not json", 7]
    data = f"benchmarks.custom.data.path={write_rows(tmp_path / 'odd.jsonl', *rows)}"
    status, folder = evaluate(data)
    assert status == 0
    assert len(rows_of(folder)) == 1
    aside = [json.loads(line) for line in (folder / "rejected.custom.jsonl").read_text().splitlines()]
    assert len(aside) == 3
    assert all(row["reason"] for row in aside)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("benchmark=[]",), "benchmarks={}"),
        (("sampling.n=0",), "sampling.n=0"),
        (("sampling.n=4",), "sampling.temperature=0"),
        (("sampling.n=4", "sampling.temperature=1.0", "sampling.ks=[8]"), "sampling.ks"),
        (("sampling.top_p=0.0",), "sampling.top_p=0.0"),
        (("prompting=chat",), "prompting=chat"),
        (("benchmarks.custom.grader={percent: 3}",), "benchmarks.custom.grader.percent=3"),
        (("benchmarks.custom.zero_shot.extractor=nothing",), "extractor=nothing"),
        (("data_root=/nowhere",), "data_root=/nowhere"),
        (("benchmarks.custom.data.path=/nowhere.jsonl",), "benchmarks.custom.data.path=/nowhere.jsonl"),
        (("sampling.max_new_tokens=4096",), "max_new_tokens=4096"),
        (("prompting=few_shot", "benchmarks.custom.few_shot.shots=3"), "shots=3"),
        (("limit=0",), "limit=0"),
        (("grader.name=lax",), "grader.name=lax"),
        (("logger=nothing",), "logger=nothing"),
    ],
)
def test_mistakes_are_one_line(
    evaluate: Any, settings: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*settings)[0] == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_two_ranks_answer_each_item_once(tmp_path: Path, model: Path, problems: str) -> None:
    command = [
        "stage=eval", "benchmark=custom", f"model.path={model}", f"benchmarks.custom.data.path={problems}",
        "sampling.max_new_tokens=8", "grader.workers=1", "parallel.accelerator=cpu",
    ]  # fmt: skip
    output = tmp_path / "output"
    two_ranks = start_ranks(2, [*command, f"paths.runs={tmp_path / 'two'}"], output)
    assert finish(two_ranks, seconds=200) == [0, 0], output.with_suffix(".0").read_text()
    assert main([*command, f"paths.runs={tmp_path / 'one'}"]) == 0
    (two,) = (tmp_path / "two" / "eval").glob("*")
    (one,) = (tmp_path / "one" / "eval").glob("*")
    assert rows_of(two) == rows_of(one)


@pytest.fixture
def jail() -> None:
    """Programs can be isolated here; without bubblewrap the test says so and skips."""
    try:
        probe(SandboxConfig())
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("jail")
def test_programs_answer(evaluate: Any, say: Any) -> None:
    """Program of thought: what `solution()` returns is the answer; an error is no answer, and says which."""

    def program(prompt: str, sample: int) -> str:
        i = number_in(prompt)
        body = "1 / 0" if i == 0 else f"{i} + {i}" if i < 9 else "'many'"
        return f"```python\ndef solution():\n    return {body}\n```"

    say(program)
    status, folder = evaluate("benchmarks.custom.zero_shot.tool=pot", "sandbox.workers=1")
    assert status == 0
    samples = [row["samples"][0] for row in rows_of(folder)]
    assert [sample["verdict"] for sample in samples] == ["ungradable"] + ["correct"] * 8 + ["wrong"] * 3
    assert samples[0]["reason"] == "error"
    assert "ZeroDivisionError" in samples[0]["detail"]["stderr"]
    assert samples[1]["answer"] == "2"


@pytest.mark.usefixtures("jail")
def test_code_is_tested(evaluate: Any, say: Any, tmp_path: Path) -> None:
    rows = [{"task": f"double{i}", "check": f"assert double(2) == {4 + i}"} for i in range(2)]
    settings = {
        "kind": "code",
        "data.path": write_rows(tmp_path / "code.jsonl", *rows),
        "data.question": "task",
        "data.gold": "''",
        "data.tests": "check",
    }
    say(lambda prompt, sample: "```python\ndef double(x):\n    return 2 * x\n```")
    lines = [f"benchmarks.custom.{key}={value}" for key, value in settings.items()]
    status, folder = evaluate(*lines, "sandbox.workers=1")
    assert status == 0
    assert [row["samples"][0]["verdict"] for row in rows_of(folder)] == ["correct", "wrong"]


def test_choices_are_scored_by_a_real_model(evaluate: Any, tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "options": ["one", "two", "three"], "answer": "B"} for i in range(70)]
    settings = {
        "kind": "choices",
        "data.path": write_rows(tmp_path / "choices.jsonl", *rows),
        "data.choices": "options",
        "data.gold_form": "choice",
    }
    lines = [f"benchmarks.custom.{key}={value}" for key, value in settings.items()]
    status, folder = evaluate(*lines, "prompting=few_shot")
    assert status == 0
    found = rows_of(folder)
    assert len(found) == 70
    for row in found:
        (sample,) = row["samples"]
        scores = sample["detail"]["logprobs"]
        assert sample["answer"] == "ABC"[scores.index(max(scores))]
        assert (sample["verdict"] == "correct") == (sample["answer"] == "B")


def test_golds_that_do_not_equal_themselves_are_named(
    evaluate: Any, say: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer of nothing but markup cannot be compared with anything, itself included."""
    rows = [{"id": "good", "question": "What is 1?", "answer": "1"}, {"id": "odd", "question": "Why?", "answer": "$ $"}]
    data = f"benchmarks.custom.data.path={write_rows(tmp_path / 'golds.jsonl', *rows)}"
    say(lambda prompt, sample: "\\boxed{1}")
    assert evaluate(data, "benchmarks.custom.data.id=id")[0] == 2
    assert "1 of 2 reference answers do not equal themselves" in (error := capsys.readouterr().err)
    assert "item odd: '$ $'" in error
    status, folder = evaluate(data, "benchmarks.custom.data.id=id", "bad_golds=set_aside")
    assert status == 0
    assert [row["id"] for row in rows_of(folder)] == ["good"]
    assert "does not equal itself" in (folder / "rejected.custom.jsonl").read_text()
