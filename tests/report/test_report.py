"""Reports: what they say, that hostile text stays text, and that the same input gives the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dsm.config.report import ReportConfig
from dsm.evaluation.loading import Record
from dsm.report import charts, plots
from dsm.report.html import render_html
from dsm.report.markdown import escape, figures, render_markdown
from dsm.report.stage import write_report
from dsm.report.text import clip, p_value, signed, visible
from tests.evaluation.folders import compared, record, write_evaluation

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'</style></pre>{{ 7*7 }}\x00\ud800"
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Checks that elements nest, and collects them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def html_of(comparison, **changes):
    return render_html(comparison, **({"title": "Report", "items": 40, "output_chars": 4000} | changes))


class TestHTML:
    def hostile(self, tmp_path):
        """An evaluation in which every text is an attack."""
        row = record(EVIL, "cw", question=EVIL, prompt=EVIL, gold=EVIL, groups={EVIL: EVIL, "level": "1"})
        for sample in row["samples"]:
            sample |= {"output": EVIL, "answer": EVIL, "rule": EVIL, "reason": EVIL}
        return write_evaluation(
            tmp_path / "evil<b>",
            {"evil": [row]},
            model=EVIL,
            protocol={EVIL: EVIL},
            title=EVIL,
            reference={EVIL: 0.5},
        )

    def test_hostile_text_stays_text(self, tmp_path):
        folder = self.hostile(tmp_path)
        text = html_of(compared(folder, folder))
        page = Page(text)
        tags = [tag for tag, _ in page.found]
        assert tags.count("script") == 1
        assert "img" not in tags
        assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
        assert not [key for _, attributes in page.found for key in attributes if key.startswith("on")]
        assert "{{ 7*7 }}" in text
        assert "\x00" not in text
        text.encode()  # no half of a surrogate pair is left

    def test_only_our_script_may_run_and_nothing_is_loaded(self, pair):
        text = html_of(compared(*pair))
        page = Page(text)
        digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
        policy = next(a["content"] for t, a in page.found if t == "meta" and "http-equiv" in a)
        assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        for _, attributes in page.found:
            for key in ("src", "href", "xlink:href"):
                assert (attributes.get(key) or "#").startswith("#")
        assert not re.findall(r"url\((?!#)", text)
        ids = [attributes["id"] for _, attributes in page.found if "id" in attributes and "_" in str(attributes["id"])]
        assert ids == []

    def test_says_what_it_should(self, pair):
        text = html_of(compared(*pair))
        for part in ("+100.0 %", ">25.0<", 'class="best">50.0<', "Question 2?", "I say w.", "4 of 4 items", "McNemar"):
            assert part in text
        alone = html_of(compared(pair[0]))
        assert "(baseline)" in text
        assert "(baseline)" not in alone
        assert "McNemar" not in alone

    def test_equal_results_keep_their_own_labels(self, tmp_path):
        rows = {"gsm8k": [record("0", "c")]}
        same = [write_evaluation(tmp_path / name, rows) for name in ("one", "two")]
        verdicts = html_of(compared(*same)).split("<h2>Verdicts</h2>")[1]
        assert verdicts.count("</span>one<") == verdicts.count("</span>two<") > 1

    def test_latex_is_text_and_long_outputs_lose_their_middle(self, tmp_path):
        row = record("0", "c", question=r"What is $\frac{1}{2}$?")
        row["samples"][0]["output"] = "start" + "x" * 9000 + r"\boxed{42}"
        text = html_of(compared(write_evaluation(tmp_path / "a", {"gsm8k": [row]})), output_chars=300)
        assert r"What is $\frac{1}{2}$?" in text
        assert "characters left out" in text
        assert r"\boxed{42}" in text
        assert len(text) < len(html_of(compared(tmp_path / "a")))

    def test_the_browser_can_be_left_out(self, pair):
        text = html_of(compared(*pair), items=0)
        assert "Question" not in text
        assert "<script" not in text

    def test_the_same_in_every_process(self, tmp_path, pair):
        code = (
            "import sys; from pathlib import Path\n"
            "from dsm.report.html import render_html\n"
            "from tests.evaluation.folders import compared\n"
            "page = render_html(compared(*map(Path, sys.argv[2:])), title='Report', items=40, output_chars=4000)\n"
            "Path(sys.argv[1]).write_text(page)\n"
        )
        out, root = tmp_path / "out.html", Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", code, str(out), *map(str, pair)]
        subprocess.run(command, check=True, env=environment)
        assert out.read_text() == html_of(compared(*pair))


class TestFigures:
    @pytest.fixture
    def comparison(self, tmp_path):
        folders = [
            write_evaluation(
                tmp_path / name,
                {"gsm8k": [record(str(i), verdicts) for i in range(3)], "math": [record("0", "c")]},
                title="A $x$ & <b> 数学",
                reference={"Paper": 0.5},
            )
            for name, verdicts in (("a$b", "cwcw"), ("c_d", "cccu"))
        ]
        return compared(*folders)

    def test_are_svg_with_their_text(self, comparison):
        drawn = figures(comparison)
        assert list(drawn) == ["accuracy.svg", "differences.svg", "samples-gsm8k.svg"]
        for svg in drawn.values():
            words = "".join(ET.fromstring(svg).itertext())
            assert "a$b" in words or "c_d" in words
        assert "A $x$ & <b> 数学" in "".join(ET.fromstring(drawn["accuracy.svg"]).itertext())

    def test_are_the_same_every_time(self, comparison):
        assert figures(comparison) == figures(comparison)

    def test_wear_the_page_s_colours(self, comparison):
        svg = charts.themed(plots.accuracy_bars(comparison))
        assert "var(--ink)" in svg
        assert charts.INK not in svg

    def test_there_is_none_of_single_answers(self, comparison):
        assert plots.curves(comparison, comparison.benchmarks[1]) is None


class TestMarkdown:
    def test_tables_are_whole(self, pair):
        comparison = compared(*pair)
        text = render_markdown(comparison, title="Report")
        assert "| gsm8k | 4 | 25.0 [4.6–69.9] | **50.0** [15.0–85.0] (+100.0 %) |" in text
        assert "![accuracy](plots/accuracy.svg)" in text
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({line.count("|") for line in block.splitlines()}) == 1

    def test_escape(self):
        assert escape("a|b\n<i> *x* `y` $z$ [l](u)") == r"a\|b &lt;i&gt; \*x\* \`y\` \$z\$ \[l\](u)"


class TestWords:
    def test_clip(self):
        assert clip("abcdef", 6) == "abcdef"
        assert clip("abcdefghi", 6) == "abcd\n[… 3 characters left out …]\nhi"

    def test_telling(self):
        found = Record(**record("0", "wwcu"))
        assert found.telling() == [0, 2]
        assert [bool(sample.output) for sample in found.slim().samples] == [True, False, True, False]
        assert Record(**record("0", "ccc")).telling() == [0]

    def test_numbers(self):
        assert (signed(0.123), signed(-0.05), signed(-0.0004), p_value(0.00001), p_value(0.0321)) == (
            "+12.3",
            "−5.0",
            "0.0",
            "< 0.0001",
            "0.032",
        )

    def test_visible(self):
        assert visible("a\x00\tb\n\x1b\ud800😀") == "a␀\tb\n␛\ufffd😀"


class TestStage:
    def settings(self, tmp_path, pair, **changes):
        from dsm.config.report import ReportStageConfig

        values = {
            "stage": "report",
            "name": "report",
            "seed": 0,
            "mode": "run",
            "resume": "auto",
            "sweep_metric": "warnings",
            "paths": {"runs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")},
            "evaluations": {"base": str(pair[0]), "tuned": str(pair[1])},
            "labels": {"tuned": "Tuned, zero-shot"},
            "baseline": None,
            "report": {
                "title": "Report",
                "formats": ["html", "markdown"],
                "items": 5,
                "samples": 2,
                "output_chars": 100,
            },
        }
        return ReportStageConfig.model_validate(values | changes)

    def test_writes_its_folder(self, tmp_path, pair):
        from dsm.report.stage import make_report

        final = make_report(self.settings(tmp_path, pair))
        page, text = Path(final["report/html"]), Path(final["report/md"])
        assert "Tuned, zero-shot" in page.read_text()
        assert (text.parent / "plots" / "accuracy.svg").is_file()
        assert (final["gsm8k/base/accuracy"], final["gsm8k/tuned/gap"], final["warnings"]) == (0.25, 0.25, 0)
        assert json.loads((page.parent / "metrics.json").read_text()) == final
        before = page.read_bytes()
        assert make_report(self.settings(tmp_path, pair)) == final
        assert page.read_bytes() == before

    def test_formats(self, tmp_path, pair):
        config = ReportConfig(title="Report", formats=["markdown"], items=0, samples=0, output_chars=100)
        assert [file.name for file in write_report(compared(*pair), config, tmp_path / "out")] == [
            "report.md",
            "report.txt",
        ]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"evaluations": {}}, "name at least one"),
            ({"baseline": "bse"}, "baseline=bse: must be one of base, tuned"),
            ({"labels": {"x": "y"}}, "labels.x: no such evaluation"),
            ({"labels": {"tuned": "base"}}, "'base' names two evaluations"),
        ],
    )
    def test_settings_that_cannot_be(self, tmp_path, pair, changes, message):
        with pytest.raises(ValueError, match=message):
            self.settings(tmp_path, pair, **changes)
