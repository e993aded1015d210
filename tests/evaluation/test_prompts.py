"""Prompts to the byte: our exemplars, official texts, chat forms; room in the model; one hash for what items share."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dsm.config.benchmark import BenchmarkConfig, Prompting
from dsm.data.formats import SUFFIXES, chat_template_jinja, question_suffix
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item, load_items
from dsm.evaluation.exemplars import Exemplar, load_exemplars
from dsm.evaluation.prompts import Prompter
from tests.evaluation.benchmark_lab import BENCHMARKS, config_of, tokenizer_of, write_rows

TOKENIZER = tokenizer_of()
ASKED = Item("7", "1 + 1?", "2")
PAIRS = [{"question": "a?", "answer": "1"}, {"question": "b?", "answer": "2"}, {"question": "c?", "answer": "3"}]
OWN = sorted(name for name in BENCHMARKS if config_of(name).few_shot.shots and name != "mmlu")


def text_of(config: BenchmarkConfig, item: Item = ASKED, prompting: Prompting = "few_shot", **options: Any) -> str:
    prompt = Prompter("mine", config, prompting, options.pop("tokenizer", TOKENIZER), **options).render(item)
    assert prompt.text == TOKENIZER.decode(prompt.input_ids, skip_special_tokens=True)
    return prompt.text


def own(name: str) -> list[Exemplar]:
    exemplars = load_exemplars(name, config_of(name))
    assert isinstance(exemplars, list)
    return exemplars


def few_shot(exemplars: Path, **settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(
        {
            "data": {},
            "few_shot": {"exemplars": str(exemplars), "shots": 2, "shot": "Q: {question}\nA: {answer}"} | settings,
        }
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    return tmp_path / "pairs.json"


# ---------------------------------------------------------------- few-shot


def test_exemplars_then_the_item_up_to_its_answer(pairs: Path) -> None:
    assert text_of(few_shot(pairs)) == "Q: a?\nA: 1\n\nQ: b?\nA: 2\n\nQ: 1 + 1?\nA:"
    numbered = few_shot(
        pairs, shot="{number}. {question}\n[BEGIN]\n{answer}\n[DONE]", separator="\n", instruction="Do!"
    )
    assert text_of(numbered) == "Do!\n1. a?\n[BEGIN]\n1\n[DONE]\n2. b?\n[BEGIN]\n2\n[DONE]\n3. 1 + 1?\n[BEGIN]"
    assert text_of(few_shot(pairs, shots=0)) == "Q: 1 + 1?\nA:"


def test_what_questions_hold_is_not_taken_for_a_template(pairs: Path) -> None:
    item = Item("7", r"Find {answer} and {question} in \frac{1}{number}.", "2")
    assert text_of(few_shot(pairs, shots=0), item) == rf"Q: {item.question}" + "\nA:"
    assert item.question in text_of(config_of("math"), item, "zero_shot")


def test_a_base_model_sees_bos_and_plain_text(pairs: Path) -> None:
    prompt = Prompter("mine", few_shot(pairs), "few_shot", TOKENIZER).render(ASKED)
    assert prompt.input_ids[0] == TOKENIZER.bos_token_id
    assert TOKENIZER.bos_token_id not in prompt.input_ids[1:]
    assert (prompt.shots, prompt.space) == (2, " ")
    spelt = Prompter("mine", few_shot(pairs), "few_shot", TOKENIZER).render(Item("7", "<s>", "2"))
    assert spelt.input_ids.count(TOKENIZER.bos_token_id) == 1  # text that spells a special token is text


def test_exemplars_with_choices_are_written_as_items_are() -> None:
    name = "gaokao_mathqa"
    config = config_of(name)
    assert own(name)[0].question.endswith("\n从以下选项中选择:    (A)$1$ (B)$\\sqrt{2}$ (C)$2$ (D)$2 \\sqrt{2}$")
    text = text_of(config)
    assert text.startswith("问题 1.    设复数")
    assert text.endswith("\n答案是 B\n\n\n问题 6.    1 + 1?\n问题 6的解析:")
    changed = config_of(name, data={"choice": "{letter}、{text}"})
    assert "A、$1$ B、$\\sqrt{2}$" in text_of(changed)


def test_a_group_gets_its_own_exemplars_and_others_those_of_none() -> None:
    config = config_of("bbh")
    sorting = text_of(config, Item("1", "q", "g", groups={"task": "word_sorting"}))
    assert sorting.count("Sort the following words") == 3
    hyperbaton = text_of(config, Item("1", "q", "g", groups={"task": "hyperbaton"}))
    assert "marbles" in hyperbaton
    assert "Sort the following words" not in hyperbaton
    assert hyperbaton.count("\nA: Let's think step by step.") == 3


def test_exemplars_from_another_split_of_the_data(tmp_path: Path) -> None:
    def row(subject: str, number: int) -> dict[str, Any]:
        return {"question": f"{subject}{number}?", "choices": ["x", "y"], "answer": number % 2, "subject": subject}

    folder = tmp_path / "mmlu"
    folder.mkdir()
    write_rows(folder / "dev.jsonl", *(row(subject, number) for number in range(3) for subject in ("law", "art")))
    write_rows(folder / "test.jsonl", row("art", 9))
    config = config_of("mmlu", few_shot={"shots": 2})
    (item,), _ = load_items("mmlu", config, root=str(tmp_path))
    assert text_of(config, item, root=str(tmp_path)) == (
        "The following are multiple choice questions (with answers) about art.\n\n"
        "art0?\nA. x\nB. y\nAnswer: A\n\nart1?\nA. x\nB. y\nAnswer: B\n\nart9?\nA. x\nB. y\nAnswer:"
    )
    alone = config_of("mmlu", data={"path": str(folder / "test.jsonl")})
    with pytest.raises(UserError, match=r"few_shot\.exemplars=split:dev: .*test\.jsonl is one file and has no splits"):
        Prompter("mmlu", alone, "few_shot", TOKENIZER)


# ---------------------------------------------------------------- a user's exemplars

BAD_EXEMPLARS: dict[str, tuple[str, str, str]] = {
    "missing": ("", "nowhere.json", r"nowhere\.json cannot be read \(No such file.*gsm8k"),
    "not JSON": ("{", "a.json", "is not valid JSON"),
    "no such entry": (
        '{"math": {"few_shot_prompt": "x"}}',
        "a.json:maths",
        r"no entry 'maths' \(did you mean math\?\)",
    ),
    "entry not named": ('{"math": {"few_shot_prompt": "x"}}', "a.json", "no entry ''; .* has math"),
    "entry of a list": ("[]", "a.json:math", "holds a list, not named entries"),
    "no text": ('{"math": {"few_shot_prompt": {"a": "b"}}}', "a.json:math", "must be a list of"),
    "no answer": ('[{"question": "q"}]', "a.json", "entry 1 must be an object whose question and answer"),
    "not objects": ("[1]", "a.json", "entry 1 must be an object"),
    "too few": ('[{"question": "q", "answer": "a"}]', "a.json", r"a\.json holds 1 only"),
    "one choice": ('[{"question": "q", "answer": "a", "choices": ["x"]}]', "a.json", "entry 1: .* holds 1 choices"),
}


@pytest.mark.parametrize("kind", BAD_EXEMPLARS)
def test_exemplars_that_cannot_be_used_are_one_clear_line(kind: str, tmp_path: Path) -> None:
    content, name, reason = BAD_EXEMPLARS[kind]
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=rf"^benchmarks\.mine\.few_shot\..*{reason}") as error:
        Prompter("mine", few_shot(tmp_path / name), "few_shot", TOKENIZER)
    assert "\n" not in str(error.value)


def test_named_entries_hold_lists_or_texts(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"list": PAIRS, "text": {"few_shot_prompt": "  as it is\n"}}))
    assert text_of(few_shot(Path(f"{file}:list"), shots=1)) == "Q: a?\nA: 1\n\nQ: 1 + 1?\nA:"
    verbatim = few_shot(Path(f"{file}:text"), shot="{number}) {question}{answer}", separator="|")
    assert text_of(verbatim) == "  as it is\n|3) 1 + 1?"


# The end of each official prompt after its exemplars, by `format_prompt_source` of the file.
OFFICIAL = {
    "gsm8k": ("cot_gsm_8_shot", "\n\n\nQ: {q}\nA:"),
    "math": ("cot_minerva_math_4_shot", "\n\nProblem:\n{q}\n\nSolution:"),
    "sat": ("cot_math_sat_4_shot", "\n\nProblem:\n{q}\nSolution:"),
    "ocw": ("cot_ocwcourses_4_shot", "\n\nProblem:\n{q}\nSolution:"),
    "mmlu_stem": ("cot_mmlu_stem_4_shot", "\n\nProblem:\n{q}\nSolution:"),
    "cmath": ("cot_cmath_6_shot", "\n\n\n问题：{q}\n答案："),
    "gaokao_mathcloze": ("cot_gaokao_mathcloze_5_shot", "\n\n\n问题 6.   {q}\n问题 6的解析:"),
    "gaokao_mathqa": ("cot_gaokao_mathqa_5_shot", "\n\n\n问题 6.    {q}\n问题 6的解析:"),
    "gsm8k_python": ("pal_gsm_8_shot", "\n\n\n\n\n\nQ: {q}\n\n# solution in Python:"),
    "math_python": (
        "pal_math_4_shot",
        "\n\nProblem:\n{q}\n\nYou are an expert programmer. Solve the above mathematical problem by writing a Python "
        "program. Express your answer as a numeric type or a SymPy object.",
    ),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_prompts_are_used_to_the_byte(name: str, shared_data: Path) -> None:
    file = shared_data / "math" / "prompts" / "deepseek_math_few_shot_prompts.json"
    entry, ending = OFFICIAL[name]
    official = json.loads(file.read_text(encoding="utf-8"))[entry]
    config = config_of(name, few_shot={"exemplars": f"{file}:{entry}"})
    items, _ = load_items(name, config, root=str(shared_data / "math"), limit=20)
    for item in items:
        assert text_of(config, item) == official["few_shot_prompt"] + ending.replace("{q}", item.question)
    assert str(list(config.few_shot.stop)) in official["stop_words"]


# ---------------------------------------------------------------- our exemplars are right


def answer_in(name: str, text: str) -> str | None:
    extract = pytest.importorskip("dsm.answers.extract").extract
    return extract(text, config_of(name).few_shot.extractor).answer


def test_every_few_shot_benchmark_has_its_exemplars() -> None:
    counts = {name: len(own(name)) for name in OWN if name != "bbh"}
    assert all(config_of(name).few_shot.shots == count for name, count in counts.items())
    by_task: dict[str, int] = {}
    for exemplar in own("bbh"):
        by_task[exemplar.groups.get("task", "")] = by_task.get(exemplar.groups.get("task", ""), 0) + 1
    assert set(by_task.values()) == {3}
    assert set(by_task) - {""} < set(config_of("bbh").data.subsets)


ANSWERS = {
    "gsm8k": ["9", "360", "63", "125", "30", "54", "8", "216"],
    "math": [r"\frac{16}{3}", r"\frac{5}{12}", "49", "(2,5]"],
    "sat": ["B", "D", "A", "C"],
    "ocw": ["1", r"\frac{1}{(s+2)^{2}}", "1.8e6", r"R \dot{Q}+\frac{Q}{C}=0"],
    "mmlu_stem": ["B", "C", "D", "A"],
    "cmath": ["45", "36", "35", "4", "200", "0.2"],
    "gaokao_mathqa": ["B", "C", "A", "D", "B"],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_extractor_finds_the_answer_of_each_exemplar(name: str) -> None:
    assert [answer_in(name, exemplar.answer) for exemplar in own(name)] == ANSWERS[name]


def test_the_programs_of_exemplars_give_the_stated_answers() -> None:
    programs = [f"{exemplar.answer}\nprint(float(solution()))" for exemplar in own("gsm8k_python")]
    for exemplar in own("math_python"):
        assert exemplar.answer.startswith("```python\n")
        programs.append(f"{exemplar.answer.removeprefix('```python').removesuffix('```')}\nprint(answer)")
    for exemplar in own("mbpp"):
        tests = exemplar.question.split("these tests:\n")[1]
        assert tests.count("assert ") == 3
        programs.append(f"{exemplar.answer}\n{tests}\nprint('passed')")
    script = "import sys\nfor program in sys.stdin.read().split('\\0'):\n    exec(program, {})\n"
    run = subprocess.run(
        [sys.executable, "-c", script],
        input="\0".join(programs),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert [Fraction(line) for line in lines[:8]] == [Fraction(answer) for answer in ANSWERS["gsm8k"]]
    assert lines[8:] == ["16/3", "5/12", "49", "Interval.Lopen(2, 5)", "passed", "passed", "passed"]


def test_program_exemplars_ask_what_the_worded_ones_ask() -> None:
    for worded, program in (("gsm8k", "gsm8k_python"), ("math", "math_python")):
        assert [e.question for e in own(worded)] == [e.question for e in own(program)]


def test_the_answers_of_logic_exemplars() -> None:
    for exemplar in own("bbh"):
        question, answer = exemplar.question, exemplar.answer.rpartition("So the answer is ")[2].removesuffix(".")
        task = exemplar.groups.get("task")
        if task == "boolean_expressions":
            assert str(eval(question.removesuffix(" is"))) == answer
        if task == "multistep_arithmetic_two":
            assert str(eval(question.removesuffix(" ="))) == answer
        if task == "word_sorting":
            assert sorted(question.partition("List: ")[2].split()) == answer.split()
        if task == "dyck_languages":
            closed, pairs = question.partition("Input: ")[2].replace(" ", "") + answer.replace(" ", ""), "()[]{}<>"
            while any(pairs[i : i + 2] in closed for i in (0, 2, 4, 6)):
                for i in (0, 2, 4, 6):
                    closed = closed.replace(pairs[i : i + 2], "")
            assert closed == ""


def test_no_exemplar_is_a_test_problem(shared_data: Path) -> None:
    exemplars = {exemplar.question for name in OWN for exemplar in own(name)}
    for name in ("gsm8k", "math", "sat", "ocw", "mmlu_stem", "cmath", "gaokao_mathcloze", "gaokao_mathqa"):
        items, _ = load_items(name, config_of(name), root=str(shared_data / "math"))
        assert not exemplars & {item.question for item in items}


# ---------------------------------------------------------------- zero-shot


@pytest.mark.parametrize(
    ("name", "style", "language"),
    [("gsm8k", "cot", "en"), ("math", "cot", "en"), ("cmath", "cot", "zh"), ("gsm8k_python", "tir", "en")],
)
def test_tuned_models_get_the_official_suffix_in_the_papers_chat_form(name: str, style: Any, language: Any) -> None:
    text = text_of(config_of(name), prompting="zero_shot")
    assert text == f"User: 1 + 1?\n{SUFFIXES[style, language]}\n\nAssistant:"
    ours = tokenizer_of(chat_template=chat_template_jinja())  # an export of ours, whose template says the same
    assert text_of(config_of(name), prompting="zero_shot", tokenizer=ours) == text


def test_a_users_file_gets_the_suffix_of_its_language() -> None:
    config = config_of("custom", data={"path": "x.jsonl"})
    for question in ("1 + 1?", "一加一等于几？"):
        assert question_suffix(question, "cot") in text_of(config, Item("1", question, "2"), "zero_shot")


def test_a_tokenizer_with_a_chat_form_of_its_own_is_asked_in_it() -> None:
    messages = "{% for m in messages %}<s>[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    template = messages + "{% if add_generation_prompt %}[bot]{% endif %}"
    tokenizer = tokenizer_of(chat_template=template)
    prompt = Prompter("gsm8k", config_of("gsm8k"), "zero_shot", tokenizer).render(ASKED)
    assert prompt.text == f"<s>[user] 1 + 1?\n{SUFFIXES['cot', 'en']}[bot]"
    assert prompt.input_ids.count(tokenizer.bos_token_id) == 1


# ---------------------------------------------------------------- room


def test_a_prompt_without_room_for_its_answer_is_refused_naming_what_to_lower(pairs: Path) -> None:
    prompt = Prompter("mine", few_shot(pairs), "few_shot", TOKENIZER).render(ASKED)
    needed = len(prompt.input_ids) + 10
    fits = Prompter("mine", few_shot(pairs), "few_shot", TOKENIZER, positions=needed, max_new_tokens=10)
    assert fits.render(ASKED) == prompt
    tight = Prompter("mine", few_shot(pairs), "few_shot", TOKENIZER, positions=needed - 1, max_new_tokens=10)
    with pytest.raises(UserError) as error:
        tight.render(ASKED)
    assert str(error.value) == (
        f"benchmarks.mine: the prompt of item 7 has {needed - 10} tokens and its answer may have 10, more than the "
        f"model's {needed - 1} positions; lower max_new_tokens=10 or benchmarks.mine.few_shot.shots=2, or set "
        "benchmarks.mine.few_shot.fit=fewer_shots"
    )


def test_fewer_shots_leaves_out_the_first_ones(pairs: Path) -> None:
    config = few_shot(pairs, fit="fewer_shots", shots=3)
    lengths = [
        len(Prompter("mine", few_shot(pairs, shots=n), "few_shot", TOKENIZER).render(ASKED).input_ids) for n in (0, 2)
    ]
    some = Prompter("mine", config, "few_shot", TOKENIZER, positions=lengths[1] + 10, max_new_tokens=10).render(ASKED)
    assert some.text == "Q: b?\nA: 2\n\nQ: c?\nA: 3\n\nQ: 1 + 1?\nA:"
    assert some.shots == 2
    none = Prompter("mine", config, "few_shot", TOKENIZER, positions=lengths[0] + 10, max_new_tokens=10).render(ASKED)
    assert (none.text, none.shots) == ("Q: 1 + 1?\nA:", 0)
    tight = Prompter("mine", config, "few_shot", TOKENIZER, positions=lengths[0] + 9, max_new_tokens=10)
    with pytest.raises(UserError, match="more than the model's"):
        tight.render(ASKED)


# ---------------------------------------------------------------- what a result says of itself


def test_the_hash_is_of_what_prompts_share_and_of_nothing_else(pairs: Path) -> None:
    def sha256(config: BenchmarkConfig, prompting: Prompting = "few_shot") -> str:
        return Prompter("mine", config, prompting, TOKENIZER).sha256

    assert sha256(few_shot(pairs)) == sha256(few_shot(pairs))
    different = {
        sha256(few_shot(pairs)),
        sha256(few_shot(pairs, shots=1)),
        sha256(few_shot(pairs, separator="\n")),
        sha256(few_shot(pairs, instruction="Do!")),
        sha256(config_of("gsm8k"), "zero_shot"),
        sha256(config_of("gsm8k_python"), "zero_shot"),
        sha256(config_of("bbh")),
    }
    assert len(different) == 7
