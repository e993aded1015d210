"""`dsm --help`, written from conf/ itself so that it cannot be out of date."""

from __future__ import annotations

from dsm.config.listing import groups, summaries

_TEXT = """\
dsm: turn a language model into a mathematician.

Usage: dsm stage=NAME [group=option ...] [key=value ...]
       dsm -m ... key=value,value ...                      a sweep

Stages
{stages}

Experiments (experiment=NAME brings its stage and settings; what you add has the last word)
{experiments}

Groups (group=option chooses a file of conf/; any one setting of it is group.key=value)
{groups}

Worth knowing
  mode=plan     print what the run would do and cost (steps, tokens, FLOPs, memory); loads neither weights nor data
  resume=auto   the same command goes on where it stopped (default) | never: a new folder | PATH: from that checkpoint
  -m            a grid of all comma-separated values, or a search: hydra/sweeper=optuna hydra.sweeper.n_trials=20
                'optim.lr=tag(log,interval(1e-5,1e-3))'; sweep_metric=KEY chooses what counts, its table comes last
  --cfg job     print the composed settings, with -p GROUP one group of them; --info defaults: where they come from
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


def help_text() -> str:
    """Stages, experiments, groups, what to know, examples."""
    options = {name: ", ".join(found) for name, found in groups().items() if name not in ("stage", "experiment")}
    return _TEXT.format(
        stages=_table({f"stage={name}": text for name, text in summaries("stage").items()}),
        experiments=_table(summaries("experiment")),
        groups=_table(options),
    ).rstrip()


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
