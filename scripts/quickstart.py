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
from dsm.config.model import ModelConfig
from dsm.config.run import SFTConfig
from dsm.errors import UserError

TRAIN, TEST, SHOWN = 24_000, 300, 3
"""Problems to learn from, problems held out to measure on, and outputs of these to show."""
MAX_NEW_TOKENS = 128


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
    from dsm.data.tokenizer import load_tokenizer
    from dsm.evaluation.accuracy import greedy_accuracy
    from dsm.models.build import build_model

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
    tokenizer_path = _metrics(tokenizer_arguments)["export"]
    tokenizer = load_tokenizer(tokenizer_path)

    _heading(f"3/4 The untrained model answers {test} problems it will never be trained on")
    arguments = ["experiment=quickstart", f"tokenizer.path={tokenizer_path}", *settings]
    config = compose_config(arguments)
    assert isinstance(config, SFTConfig)
    untrained = build_model(config.model, len(tokenizer), seed=config.seed)
    before = greedy_accuracy(untrained, tokenizer, held_out, max_new_tokens=MAX_NEW_TOKENS)
    print(f"{before.correct} of {before.total} right")

    _heading("4/4 Fine-tuning, then the same problems again")
    if status := cli.main(arguments):
        return status
    metrics = _metrics(arguments)
    trained = build_model(ModelConfig(path=metrics["export"]), len(tokenizer), seed=config.seed)
    after = greedy_accuracy(trained, tokenizer, held_out, max_new_tokens=MAX_NEW_TOKENS)
    for problem, output in list(zip(held_out, after.outputs, strict=True))[:SHOWN]:
        verdict = "right" if output.correct else f"wrong, it is {problem.answer}"
        print(f"\n  {problem.question}\n  -> {output.text}  [{verdict}]")

    _heading("Done")
    run = Path(metrics["export"]).parent
    longer = [argument for argument in arguments if not argument.startswith("trainer.steps=")]
    longer.append(f"trainer.steps={2 * metrics['total/step']}")
    print(f"""\
accuracy on {test} held-out problems (greedy)
  before training  {before.accuracy:6.1%}
  after            {after.accuracy:6.1%}

run folder  {run}
export      {run}/export  (any tool that reads Hugging Face folders loads it)

Next, after 'source {_activate()}'
  dsm {shlex.join(arguments)} mode=plan
  dsm {shlex.join(longer)}
  dsm stage=sft model=pretrained model.path={run}/export data.sources.mine.path=YOUR.jsonl trainer.steps=50
  dsm --help""")
    return 0


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
