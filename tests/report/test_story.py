"""A whole report of runs and evaluations: the numbers on it are those of the runs, findings are said everywhere."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from dsm.config.report import ReportStageConfig
from dsm.errors import UserError
from dsm.report.stage import make_report
from dsm.report.text import signed
from tests.evaluation.folders import record, write_evaluation
from tests.report import run_folders

PHASES = {"base": ["wwww", "wwww", "wwwc", "cccc"], "instruct": ["wwwc", "ccww", "cccc", "cccw"]}
PHASES |= {"rl": ["cccc", "ccwc", "cccc", "wwww"]}


def settings(tmp_path: Path, evaluations: dict[str, str], **changes: Any) -> ReportStageConfig:
    values = {
        "stage": "report",
        "name": "report",
        "seed": 0,
        "mode": "run",
        "resume": "auto",
        "sweep_metric": "warnings",
        "paths": {"runs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")},
        "evaluations": evaluations,
        "baseline": None,
        "report": {"title": "Report", "formats": ["html", "markdown"], "items": 0, "samples": 3}
        | {"output_chars": 500},
    }
    return ReportStageConfig.model_validate(values | changes)


def measured(folder: Path, names: dict[str, list[str]], repeats: int = 20) -> dict[str, str]:
    """An evaluation each of `repeats` times these items, on two benchmarks."""
    found = {}
    for name, verdicts in names.items():
        rows = [
            record(str(number), verdict, question=f"{number} + {number}?")
            for number, verdict in enumerate(verdicts * repeats)
        ]
        benchmarks = {"en": rows, "zh": rows}
        found[name] = str(write_evaluation(folder / name, benchmarks, model=f"{name}/export", ks=[1, 2, 4]))
    return found


def words(page: str) -> str:
    """The page's text, in one line."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str, ReportStageConfig]:
    """(metrics, page, Markdown, settings) of the story from mining to reinforcement learning."""
    tmp_path = tmp_path_factory.mktemp("story")
    runs = {
        "mined": run_folders.mine(tmp_path / "mined"),
        "stores": run_folders.tokenize(tmp_path / "stores"),
        "pretrain": run_folders.pretrain(tmp_path / "pretrain"),
        "sft": run_folders.sft(tmp_path / "sft", tmp_path / "problems.jsonl"),
        "rl": run_folders.rl(tmp_path / "rl"),
    }
    findings = {
        "helps": {"claim": "RL <b>helps</b>", "paper": "Table 5", "higher": "rl", "than": "instruct"},
        "votes": {"claim": "Not more at k", "higher": ["rl"], "than": ["base"], "metric": "pass@4"}
        | {"expect": "not_higher", "benchmarks": ["en"]},
    }
    config = settings(
        tmp_path,
        measured(tmp_path, PHASES),
        runs=runs,
        labels={"base": "Base", "rl": "RL", "sft": "Tuning"},
        phases=["base", "instruct", "rl"],
        paper=["base_7b", "instruct_7b", "rl_7b"],
        paper_tables=["table_1", "figure_5"],
        findings=findings,
    )
    final = make_report(config)
    return final, Path(final["report/html"]).read_text(), Path(final["report/md"]).read_text(), config


def test_mined(told):
    text = words(told[1])
    for part in (
        "123K tokens collected 499 pages",
        "76.5 % of the last round",
        "71.3 % recall",
        "12 of 13 planted problems removed",
        "2 500 123K 5.0 % 76.5 % 95.0 % 85.0 %",  # the second round's row
        "b.example 9K 30 40 75 %",
        "forum 60 % 81 %",
        "planted_en 1 1",
    ):
        assert part in text, part


def test_mix_and_loss(told):
    text = words(told[1])
    assert "maths 200K 321 2.50 0 0" in text
    assert "maths 75.0 % 75.0 % 60K 2.00" in text  # asked for, seen, tokens, passes over a store of 30K
    assert "code 25.0 % 25.0 % 20K –" in text


def test_formats(told):
    text = words(told[1])
    assert "problems chain of thought 67 %, program of thought 33 % English 67 %, Chinese 33 % 1 3" in text
    assert "一加一？" in text


def test_reinforcement(told):
    text = words(told[1])
    # means over the first and the last ten of twelve explorations: (1 + ... + 10) / 200 and (3 + ... + 12) / 200
    assert "rl" in text
    assert "grpo 8 0.0002 27.5 → 37.5 0.275 → 0.375" in text
    assert "768 answers, 1 min 30 s" in text
    assert "5 min 06 s in 4 runs. Without a figure of their own: stores." in text


def test_phases(told):
    final, page, _, _ = told
    shares = {name: [v.count("c") / 4 for v in verdicts] for name, verdicts in PHASES.items()}
    means = {name: sum(values) / 4 for name, values in shares.items()}
    assert final["phase/mean/gain/1"] == pytest.approx(means["instruct"] - means["base"])
    assert final["phase/en/gain/2"] == pytest.approx(means["rl"] - means["instruct"])
    assert "Base 31.2 %, instruct 62.5 %, RL 68.8 %" in words(page)
    assert "31.2 → 62.5 → 68.8 %" in words(page)
    assert "GSM8K 64.2 82.9 88.2 +18.7 +5.3" in words(page)


def test_findings_are_said_everywhere(told):
    final, page, markdown, _ = told
    assert final["finding/helps"] == "not clear"
    assert final["finding/helps/difference"] == pytest.approx(0.0625)
    assert final["finding/helps/low"] < 0 < final["finding/helps/high"]
    assert final["finding/votes"] == "not reproduced"  # pass@4 rises from 2 to 3 of 4 items
    assert final["finding/votes/difference"] == pytest.approx(0.25)
    assert "1 not reproduced, 1 not clear" in words(page)
    assert "RL &lt;b&gt;helps&lt;/b&gt;" in page
    assert "0 of 2 findings of the paper reproduced" in words(page)
    assert "**✗ not reproduced**" in markdown
    lines = Path(final["report/txt"]).read_text().splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("helps", "votes"))] == ["helps", "votes"]
    assert max(map(len, lines)) <= 120
    assert lines[2].split()[:2] == ["Base", "31.2"]


def test_votes_before_and_after(told):
    """By hand, of four samples of items wwwc ccww cccc cccw, then cccc ccwc cccc wwww, a tie being half a point."""
    text = words(told[1])
    assert "maj@k and pass@k, before and after RL" in text
    one, vote, best = (11 - 10) / 16, (3 - 2.5) / 4, (3 - 4) / 4
    shown = re.search(r"en 4 (\S+) \S+ to \S+ (\S+) \S+ to \S+ (\S+)", text)
    assert shown is not None
    assert shown.groups() == tuple(signed(gain) for gain in (one, vote, best))
    assert "GSM8K +1.5 and −1.8, MATH +1.0 and −0.7" in text


def test_the_same_problems_side_by_side(told):
    page = told[1]
    samples = re.findall(r'<article class="sample">.*?</article>', page, flags=re.DOTALL)
    assert len(samples) == 3
    kinds = [tuple(re.findall(r'<b class="(correct|wrong)">[✓✗]</b>', sample)) for sample in samples]
    assert kinds[0][-1] == "correct"  # what was learnt comes first
    assert ("wrong", "wrong", "correct") in kinds or ("wrong", "correct", "correct") in kinds
    assert all("1 of 4 right" in s or "of 4 right" in s for s in samples)


def test_every_figure_is_on_the_page_and_beside_the_markdown(told):
    final, page, markdown, _ = told
    files = set(re.findall(r"!\[[^\]]*\]\(plots/([^)]*)\)", markdown))
    assert files == {file.name for file in (Path(final["report/md"]).parent / "plots").iterdir()}
    assert {"rl-kl.svg", "rl-saturated.svg", "mined-mined-recall.svg", "loss-pretrain-sources.svg", "mix.svg",
            "formats.svg", "phases-mean.svg", "votes-en.svg", "costs.svg"} <= files  # fmt: skip
    for file in files:
        ET.parse(Path(final["report/md"]).parent / "plots" / file)
    assert page.count("<figure") >= len(files)
    assert "#0072b2;" not in page.split("</style>")[1]  # colours of lines come from the page, which has two sets


def test_markdown_tables_are_whole(told):
    for block in re.findall(r"(?:^\|.*\n)+", told[2], flags=re.MULTILINE):
        assert len({re.sub(r"\\\|", "", line).count("|") for line in block.splitlines()}) == 1


class TestNames:
    def test_a_name_stands_for_its_seeds(self, tmp_path):
        seeds = {f"{name}-{seed}": v for name in ("base", "rl") for seed, v in enumerate([PHASES[name]] * 2)}
        config = settings(
            tmp_path,
            measured(tmp_path, seeds, 2),
            labels={"base": "Base"},
            phases=["base", ["rl-0", "rl-1"]],
            findings={"x": {"claim": "It helps", "higher": "rl", "than": "base"}},
        )
        assert config.members(["rl", "base-0"]) == ["rl-0", "rl-1", "base-0"]
        assert [config.label(name) for name in config.evaluations] == ["Base, seed 0", "Base, seed 1", "rl-0", "rl-1"]
        final = make_report(config)
        assert final["finding/x/difference"] == pytest.approx(0.375)
        assert "Mean of 2 benchmarks: Base 31.2 %, rl 68.8 %." in words(Path(final["report/html"]).read_text())
        assert "2 trainings a side" in words(Path(final["report/html"]).read_text())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"phases": ["rl", "bas"]}, r"phases.1=bas: no such evaluation; there are base, rl \(did you mean base"),
            ({"phases": ["base"]}, "one phase gains nothing on another"),
            ({"phases": ["base", "rl"], "paper": ["base_7b"]}, "names 1 models beside 2 phases"),
            ({"phases": ["base", "rl"], "paper": ["base_8b", "rl_7b"]}, "Input should be 'coder_7b', 'base_7b'"),
            ({"paper_tables": ["table_10"]}, "Input should be 'table_1'"),
            ({"findings": {"x": {"claim": "c", "higher": "rl", "than": "b"}}}, "findings.x.than=b: no such evaluation"),
            ({"findings": {"x": {"claim": "c", "higher": "rl", "than": "rl"}}}, "rl stands on both sides"),
            ({"findings": {"x": {"claim": "c", "higher": "rl", "than": "base", "metric": "acc"}}}, "metric=acc: allow"),
            ({"factors": ["optim.lr"]}, "are settings of training runs; name these in runs"),
        ],
    )
    def test_what_cannot_be_asked(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            settings(tmp_path, {"base": "a", "rl": "b"}, **changes)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([], "no run's folder: it holds no config.yaml"),
            (["config.yaml"], "the run has not ended: it holds no metrics.json"),
            (["config.yaml", "metrics.json"], "its metrics cannot be read"),
        ],
    )
    def test_runs_that_are_none(self, tmp_path, files, message):
        folder = tmp_path / "run"
        folder.mkdir()
        for file in files:
            (folder / file).write_text("stage: mine\n")
        config = settings(tmp_path, measured(tmp_path, {"base": PHASES["base"]}, 1), runs={"one": str(folder)})
        with pytest.raises(UserError, match=rf"runs.one={folder}: {message}"):
            make_report(config)
        assert not (tmp_path / "runs").exists()  # before anything was made


class TestFactors:
    def config(self, tmp_path: Path, **changes: Any) -> ReportStageConfig:
        runs = {
            name: run_folders.sft(tmp_path / name, tmp_path / f"{name}.jsonl", lr=lr, seconds=seconds)
            for name, lr, seconds in (("slow", 1e-3, 100.0), ("quick", 3e-3, 20.0))
        }
        evaluations = {}
        for name, verdicts in (("slow", ["c", "c", "w"]), ("quick", ["c", "w", "w"])):
            rows = [record(str(number), verdict) for number, verdict in enumerate(verdicts)]
            export = f"{runs[name]}/export"
            evaluations[f"of_{name}"] = str(write_evaluation(tmp_path / f"e-{name}", {"en": rows}, model=export))
        return settings(tmp_path, evaluations, **{"runs": runs, "factors": ["optim.lr", "data.context"]} | changes)

    def test_quality_and_time(self, tmp_path):
        config = self.config(tmp_path)
        final = make_report(config)
        text = words(Path(final["report/html"]).read_text())
        assert "slow 0.001 256 66.7 20.8–93.9 1 min 40 s" in text
        assert "quick 0.003 256 33.3 6.1–79.2 20 s" in text
        assert "The best of 2 runs is slow: 66.7 %" in text
        assert (Path(final["report/md"]).parent / "plots" / "factors-time.svg").is_file()
        before = [Path(final[f"report/{kind}"]).read_bytes() for kind in ("html", "md", "txt")]
        assert make_report(config) == final
        assert [Path(final[f"report/{kind}"]).read_bytes() for kind in ("html", "md", "txt")] == before

    def test_settings_that_no_run_has(self, tmp_path):
        with pytest.raises(UserError, match=r"factors=optim.rate: no such setting of slow \(did you mean"):
            make_report(self.config(tmp_path, factors=["optim.rate"]))

    def test_models_that_nobody_asked(self, tmp_path):
        config = self.config(tmp_path)
        lost = config.model_copy(update={"evaluations": measured(tmp_path / "m", {"base": PHASES["base"]}, 1)})
        with pytest.raises(UserError, match="no evaluation has the export of one of these runs"):
            make_report(lost)


def test_a_page_without_a_story_is_what_it_was(tmp_path):
    final = make_report(settings(tmp_path, measured(tmp_path, {"base": PHASES["base"]}, 1)))
    text = words(Path(final["report/html"]).read_text())
    assert "Findings" not in text
    assert "phase" not in text
    assert set(final) == {"report/html", "report/md", "report/txt", "warnings", "en/base/accuracy", "zh/base/accuracy"}
    assert json.loads((Path(final["report/html"]).parent / "metrics.json").read_text()) == final
