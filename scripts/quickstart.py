"""The first minutes with dsm: made-up word problems, a tokenizer, a fine-tuned model, its accuracy before and after.

    make quickstart                          or, in the environment: python scripts/quickstart.py [key=value ...]

Every setting is in conf/experiment/quickstart.yaml; a key=value changes one for this run. All files go to
runs/quickstart. Run it again, after an interruption too, and it goes on where it stopped.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsm import cli
from dsm.config.compose import compose_config
from dsm.config.run import SFTConfig
from dsm.errors import UserError

TRAIN, TEST, SHOWN = 24_000, 300, 3
"""Problems to learn from, problems held out to measure on, and outputs of these to show."""
MAX_NEW_TOKENS = 128
UNTRAINED = "tiny"  # the architecture that stage=sft has unless told otherwise


def main(settings: Sequence[str], train: int = TRAIN, test: int = TEST) -> int:
    """Run it all; returns the exit status. `settings` are passed on to the fine-tuning."""
    try:
        runs = Path(compose_config(["experiment=quickstart", "tokenizer.path=unknown", *settings]).paths.runs)
        return _quickstart(runs, settings, train, test)
    except UserError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return cli.USAGE_ERROR


def _quickstart(runs: Path, settings: Sequence[str], train: int, test: int) -> int:
    import torch

    from dsm.data.problems import split_problems, write_jsonl

    # A model this small gains little from a second thread, and two threads crawl where another program wants a core.
    torch.set_num_threads(1)

    _heading("1/4 Word problems")
    learn, held_out = split_problems(train, test, seed=0, steps=(1, 2), difficulty="basic")
    for name, problems in (("train", learn), ("test", held_out)):
        write_jsonl(problems, runs / "data" / f"{name}.jsonl")
        print(f"{runs}/data/{name}.jsonl: {len(problems):,} problems")
    print(f"one of them: {learn[0].question}\n  solution: {learn[0].solution}")

    _heading("2/4 A tokenizer")
    tokenizer_arguments = [
        "stage=tokenizer",
        "name=quickstart",
        "tokenizer.vocab_size=600",
        f"data.sources.problems.path={runs}/data/train.jsonl",
        "data.fields=[question,answer]",
        f"paths.runs={runs}",
    ]
    if status := cli.main(tokenizer_arguments):
        return status
    tokenizer = f"tokenizer.path={_metrics(tokenizer_arguments)['export']}"

    _heading(f"3/4 The untrained model answers {test} problems it will never be trained on")
    arguments = ["experiment=quickstart", tokenizer, *settings]
    config = compose_config(arguments)
    assert isinstance(config, SFTConfig)
    shape = [f"model.config.{key}={value}" for key, value in config.model.config.items()]
    untrained = _measuring(runs, "untrained", f"model={UNTRAINED}", tokenizer, *shape)
    if status := cli.main(untrained):
        return status

    _heading("4/4 Fine-tuning, then the same problems again")
    if status := cli.main(arguments):
        return status
    metrics = _metrics(arguments)
    trained = _measuring(runs, "trained", f"model.path={metrics['export']}")
    if status := cli.main(trained):
        return status
    items = Path(_metrics(trained)["results"]).parent / "items" / "custom.jsonl"
    for line in items.read_text(encoding="utf-8").splitlines()[:SHOWN]:
        item = json.loads(line)
        output = item["samples"][0]
        verdict = "right" if output["verdict"] == "correct" else f"wrong, it is {item['gold']}"
        print(f"\n  {item['question']}\n  -> {output['output'].strip()}  [{verdict}]")

    _heading("Done")
    run = Path(metrics["export"]).parent
    longer = [argument for argument in arguments if not argument.startswith("trainer.steps=")]
    longer.append(f"trainer.steps={2 * metrics['total/step']}")
    print(f"""\
accuracy on {test} held-out problems (greedy)
  before training  {_metrics(untrained)["custom/accuracy"]:6.1%}
  after            {_metrics(trained)["custom/accuracy"]:6.1%}

run folder  {run}
answers     {items}
export      {run}/export  (any tool that reads Hugging Face folders loads it)

Next, after 'source {_activate()}'
  dsm {shlex.join(arguments)} mode=plan
  dsm {shlex.join(longer)}
  dsm stage=sft model=pretrained model.path={run}/export data.sources.mine.path=YOUR.jsonl trainer.steps=50
  dsm --help""")
    return 0


def _measuring(runs: Path, name: str, *model: str) -> list[str]:
    """The arguments that have a model answer the held-out problems in the form it is trained on."""
    return [
        "stage=eval",
        f"name={name}",
        *model,
        "benchmark=custom",
        f"benchmarks.custom.data.path={runs}/data/test.jsonl",
        "benchmarks.custom.title=Held-out problems",
        "benchmarks.custom.zero_shot.template='{question}'",
        "prompting=zero_shot",
        f"sampling.max_new_tokens={MAX_NEW_TOKENS}",
        f"paths.runs={runs}",
    ]


def _metrics(arguments: Sequence[str]) -> dict[str, Any]:
    """What a finished run left in its metrics.json."""
    from dsm.config.runs import run_path

    return json.loads((run_path(compose_config(arguments)) / "metrics.json").read_text(encoding="utf-8"))


def _activate() -> str:
    activate = Path(sys.prefix, "bin", "activate")
    here = Path.cwd()
    return str(activate.relative_to(here) if activate.is_relative_to(here) else activate)


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
