"""The paper's numbers in paper.yaml: whole, known to the settings, and the same as those beside the benchmarks."""

from __future__ import annotations

from typing import get_args

import pytest
from omegaconf import OmegaConf

from dsm.config import report as settings
from dsm.config.listing import conf_dir
from dsm.report import paper

COLUMNS = {
    "gsm8k": "GSM8K",
    "math": "MATH",
    "cmath": "CMATH",
    "ocw": "OCW",
    "sat": "SAT",
    "mmlu_stem": "MMLU-STEM",
    "mgsm_zh": "MGSM-zh",
    "gaokao_mathcloze": "Gaokao-MathCloze",
    "gaokao_mathqa": "Gaokao-MathQA",
    "gsm8k_python": "GSM8K + Python",
    "math_python": "MATH + Python",
    "bbh": "BBH",
    "humaneval": "HumanEval",
    "mbpp": "MBPP",
    "mmlu_cot": "MMLU",
}


def test_settings_name_what_there_is() -> None:
    content = paper._content()
    assert get_args(settings.PaperTable) == tuple(content["tables"])
    assert get_args(settings.PaperModel) == tuple(content["models"])


def test_every_row_is_whole() -> None:
    for table in paper.paper_tables(get_args(settings.PaperTable)):
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}, table.name
        numbers = [value for row in table.rows.values() for value in row if value is not None]
        assert all(-100 < value < 100 for value in numbers)


def test_what_reinforcement_learning_gained() -> None:
    """Section 4.6's differences of Table 5, chain of thought and with tools."""
    _, instruct, rl = paper.paper_models(["base_7b", "instruct_7b", "rl_7b"])
    gains = [rl.numbers[name] - instruct.numbers[name] for name in instruct.numbers]
    assert gains == pytest.approx([5.3, 4.9, 6.4, 4.2, 3.0, 1.4, 6.4, 3.3])


@pytest.mark.parametrize("benchmark", COLUMNS)
def test_benchmarks_say_the_same(benchmark: str) -> None:
    """Each `reference` of conf/benchmark that bears the name of a row of Tables 2 to 5."""
    tables = paper.paper_tables(["table_2", "table_3", "table_4", "table_5"])
    file = OmegaConf.load(conf_dir() / "benchmark" / f"{benchmark}.yaml")
    checked = 0
    for name, share in file.reference.items():
        for table in tables:
            if name in table.rows and COLUMNS[benchmark] in table.columns:
                value = table.rows[name][table.columns.index(COLUMNS[benchmark])]
                if value is not None:
                    assert share == pytest.approx(value / 100), (name, table.name)
                    checked += 1
    assert checked >= 2
