"""`dsm --help` and `dsm stage=NAME --help`, written from conf/ itself so that they cannot be out of date."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from dsm.config.comments import head_of
from dsm.config.listing import closest, groups, stage_groups, summaries
from dsm.errors import UserError

_RECIPES = "deepseekmath/"
_TEXT = """\
dsm: turn a language model into a mathematician.

Usage: dsm stage=NAME [group=option ...] [key=value ...]
       dsm -m ... key=value,value ...                      a sweep

Stages
{stages}

Experiments (experiment=NAME brings its stage and settings; what you add has the last word)
{experiments}

The paper at full size (experiment=deepseekmath/NAME; the head of each file says how it is launched)
{recipes}

Groups (group=option chooses a file of conf/; any one setting of it is group.key=value)
{groups}

Worth knowing
  mode=plan     print what the run would do and cost (steps, tokens, FLOPs, memory); loads neither weights nor data
  resume=auto   the same command goes on where it stopped (default) | never: a new folder | PATH: from that checkpoint
  -m            a grid of all comma-separated values, or a search: hydra/sweeper=optuna hydra.sweeper.n_trials=20
                'optim.lr=tag(log,interval(1e-5,1e-3))'; sweep_metric=KEY and sweep_direction=maximize choose what
                counts; its table comes last, runs/sweeps/NAME-HASH/summary.html shows it
  --help        behind stage=NAME or experiment=NAME: what it does, and the groups it takes
  --cfg job     print the composed settings and what each is for, with -p GROUP one group of them
  --info        where they come from
  --config-dir  a folder of your own beside ours, laid out alike: own/algorithm/mine.yaml is algorithm=mine

Where results lie
  runs/STAGE/NAME-HASH/ (paths.runs), HASH from the settings that make the result: config.yaml, metrics.jsonl,
  metrics.json, run.log, checkpoints/ and export/, a Hugging Face folder; of an evaluation items/BENCHMARK.jsonl (every
  prompt, output, answer and verdict) and results.json; runs/sweeps/ holds one result a run

Exit status
  0 done | 2 a mistake in the command or its data: one line says which | 130, 143 stopped by SIGINT, SIGTERM after a
  checkpoint was saved: the same command goes on | 1 with a traceback: a bug, please report it

Examples
  dsm stage=problems problems.n_train=5000 problems.difficulty=basic
  dsm stage=tokenizer data.sources.gsm8k.path=train.jsonl tokenizer.vocab_size=4096
  dsm experiment=gsm8k_mini data.sources.gsm8k.path=train.jsonl tokenizer.path=runs/tokenizer/HASH/export
  dsm stage=sft model=pretrained model.path=hub:org/name data.sources.mine.path=mine.jsonl.zst logger=wandb
  dsm experiment=deepseekmath/instruct_7b model.path=BASE data.sources.all.path=sft/ mode=plan
  dsm stage=eval model.path=runs/sft/NAME-HASH/export benchmark=[gsm8k,math] data_root=benchmarks/
  dsm stage=eval model.path=hub:org/name benchmark=custom benchmarks.custom.data.path=mine.jsonl sampling=votes
  dsm stage=report evaluations.base=runs/eval/A evaluations.tuned=runs/eval/B baseline=base
  dsm experiment=paradigm mode=plan
  dsm -m stage=sft data.sources.a.path=a.jsonl tokenizer.path=TOKENIZER optim.lr=1e-4,3e-4 seed=0,1
  torchrun --nproc-per-node 2 -m dsm stage=sft data.sources.a.path=a.jsonl tokenizer.path=TOKENIZER
"""


def help_text(settings: Sequence[str] = ()) -> str:
    """Stages, experiments, groups, what to know, examples; or what the file of one stage or experiment says.

    Args:
        settings: what stood on the command line beside `--help`.

    Raises:
        UserError: there is no such stage or experiment.
    """
    for setting in settings:
        group, _, name = setting.partition("=")
        if group in ("stage", "experiment"):
            return _of_one(group, name)
    experiments = summaries("experiment")
    recipes = {name.removeprefix(_RECIPES): text for name, text in experiments.items() if name.startswith(_RECIPES)}
    options = {name: ", ".join(found) for name, found in groups().items() if name not in ("stage", "experiment")}
    return _TEXT.format(
        stages=_table({f"stage={name}": text for name, text in summaries("stage").items()}),
        experiments=_table({name: text for name, text in experiments.items() if not name.startswith(_RECIPES)}),
        recipes=_table(recipes),
        groups=_table(options),
    ).rstrip()


def _of_one(group: str, name: str) -> str:
    """The head of a file of conf/, and of a stage the groups that it brings."""
    known = groups()
    if name not in known[group]:
        raise UserError(f"{group}={name}: must be one of {', '.join(known[group])}{closest(name, known[group])}")
    text = "\n".join([f"{group}={name}", "", *head_of(f"{group}/{name}.yaml")])
    if group == "stage" and (brought := [one for one in stage_groups(name) if one in known]):
        text += "\n\nGroups (group=option chooses a file of conf/)\n"
        text += _table({one: ", ".join(known[one]) for one in brought})
    return f"{text}\n\nAll settings and what each is for: dsm {group}={name} --cfg job; of one group: ... -p GROUP"


def _table(rows: dict[str, str]) -> str:
    """Names and what is said of them, as wide as the terminal."""
    width = max(map(len, rows))
    whole = min(max(shutil.get_terminal_size((120, 24)).columns, 80), 160)
    return "\n".join(
        textwrap.fill(
            text,
            whole,
            initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * (width + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in rows.items()
    )
