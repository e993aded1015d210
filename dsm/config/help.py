"""`dsm --help`, written from conf/ itself so that it cannot be out of date."""

from __future__ import annotations

from dsm.config.listing import groups, stage_summaries

_EXAMPLES = """\
  dsm stage=tokenizer data.sources.gsm8k.path=train.jsonl tokenizer.vocab_size=4096
  dsm stage=sft data=gsm8k data.sources.gsm8k.path=train.jsonl model=mini tokenizer.path=TOKENIZER trainer.steps=200
  dsm stage=sft model=pretrained model.path=hub:org/name data.sources.mine.path=mine.jsonl.zst logger=wandb
  dsm experiment=deepseekmath/instruct_7b model.path=BASE data.sources.all.path=sft/ mode=plan
  dsm -m stage=sft data.sources.a.path=a.jsonl tokenizer.path=TOKENIZER optim.lr=1e-4,3e-4 seed=0,1
  torchrun --nproc-per-node 2 -m dsm stage=sft data.sources.a.path=a.jsonl tokenizer.path=TOKENIZER"""


def help_text() -> str:
    """Stages, groups, examples."""
    stages = "\n".join(f"  stage={name:<12}{summary}" for name, summary in stage_summaries().items())
    listing = "\n".join(
        f"  {group:<12}{', '.join(options)}" for group, options in groups().items() if group != "stage" and options
    )
    return f"""\
dsm: turn a language model into a mathematician.

Usage: dsm stage=NAME [group=option ...] [key=value ...] [-m]

Stages
{stages}

Groups (group=option chooses a file of conf/; any single setting of it is group.key=value)
{listing}

Worth knowing
  mode=plan       print what the run would do and cost; loads neither weights nor data
  resume=auto     the same command goes on where it stopped (default); never: a new folder; PATH: from that checkpoint
  -m              sweep: every combination of comma-separated values; hydra/sweeper=optuna searches instead
  --cfg job       print the composed configuration; --info: how it was composed

Examples
{_EXAMPLES}
"""
