"""What stands on the terminal when a pipeline has ended."""

from __future__ import annotations

import json
from pathlib import Path

from dsm.config.compose import compose_config
from dsm.config.pipeline import PipelineConfig
from dsm.config.steps import pipeline_ending, pipeline_steps
from dsm.pipeline.ending import ending_lines
from dsm.pipeline.journal import Entry, Journal

REPORT = """\
accuracy, %  en     zh
Base         1.0    2.0
RL           60.0   50.0

finding   verdict
rl        reproduced
"""


def test_times_then_the_reports_words_then_places_then_commands(tmp_path: Path) -> None:
    settings = [
        "stage=pipeline",
        f"paths.runs={tmp_path}",
        "steps.made.use.stage=problems",
        "steps.again={use: {stage: problems}, seed: 4}",
        "steps.table={use: {stage: report}, evaluations: {a: '${out:made}', b: '${out:again}'}}",
        "ending.places={the problems: '${out:made}/export'}",
        "ending.next=['dsm stage=sft data=${out:made}/export/train.jsonl']",
    ]
    config = compose_config(settings)
    assert isinstance(config, PipelineConfig)
    made, again, table = steps = pipeline_steps(config)
    table.folder.mkdir(parents=True)
    files = {"html": f"{table.folder}/report.html", "txt": f"{table.folder}/report.txt"}
    (table.folder / "report.txt").write_text(REPORT)
    (table.folder / "metrics.json").write_text(json.dumps({f"report/{key}": path for key, path in files.items()}))
    journal = Journal(tmp_path / "steps.jsonl")
    journal.add(Entry("made", 100.0, 30.0, None, None))  # the pipeline was killed
    journal.add(Entry("made", 200.0, 90.0, 0, 130.0))
    journal.add(Entry("table", 280.0, 20.0, 0, 3.0))
    lines = list(ending_lines(steps, journal, tmp_path, pipeline_ending(config, steps)))
    assert lines == [
        "",
        "done: 3 steps in 2.2 min",  # 30 s, and 200 to 300
        "            stage      took    of CPU",
        "  made   problems   2.0 min   2.2 min",
        "  again  problems    before",
        "  table    report      20 s     3.0 s",
        "",
        "table",
        *(f"  {line}".rstrip() for line in REPORT.splitlines()),
        "",
        "where it lies",
        f"  table, html   {table.folder}/report.html",
        f"  the problems  {made.folder}/export",
        f"  all steps     {tmp_path}/steps",
        "",
        "to try next",
        f"  dsm stage=sft data={made.folder}/export/train.jsonl",
    ]
    assert again.folder != made.folder
