"""What mkdocs makes of the settings: a page for each stage, read off the schemas and the files of conf/.

Nothing of it is committed, so it cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dsm.config.comments import comments
from dsm.config.compose import compose_config, compose_raw
from dsm.config.listing import groups, stage_groups, summaries
from dsm.config.plan import plan_text
from dsm.config.stages import STAGES

_PLANNED = {
    "base_7b": [
        "parallel.shard=64",
        "parallel.shard=16 parallel.tensor=4",
        "parallel.shard=8",
        "parallel.shard=8 parallel.reduce_gradients=microbatch",
        "parallel.shard=8 model.activation_checkpointing=full",
    ],
    "corpus_1_3b/deepseekmath": ["plan.gpus=8", "parallel.shard=8", "parallel.shard=8 parallel.replicate=4"],
    "instruct_7b": ["parallel.shard=8"],
    "rl_7b": ["parallel.shard=8", "parallel.shard=16"],
}
"""What the table of docs/scaling.md shows; `python docs/hooks.py` prints it, and a test compares."""
_MODEL = "model=deepseek_7b tokenizer.path=tokenizers/deepseek"
_INPUTS = {
    "instruct_7b": f"{_MODEL} data.sources.all.path=FILE",
    "rl_7b": f"{_MODEL} prompts.sources.gsm8k.path=FILE prompts.sources.math.path=FILE",
}
_LIMITS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_NOT_TOLD = 2**31  # the limit of a count, which no one comes near


def on_config(config: Any) -> Any:
    """Give each stage its place in the navigation."""
    config.nav.append({"Settings": ["reference/index.md", *(f"reference/{stage}.md" for stage in STAGES)]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the reference to mkdocs' files."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """File name -> Markdown: every stage, and an index of them."""
    said = summaries("stage")
    lines = [f"| [`stage={stage}`]({stage}.md) | {said[stage]} |" for stage in STAGES]
    experiments = [f"| `experiment={name}` | {text} |" for name, text in summaries("experiment").items()]
    index = [
        "# Settings", "", "Every stage with all of its settings, as the schemas have them.", "", "| stage | |",
        "|---|---|", *lines, "", "Experiments bring a stage and its settings; what you add has the last word.", "",
        "| experiment | |", "|---|---|", *experiments, "",
    ]  # fmt: skip
    return {"index": "\n".join(index)} | {stage: stage_page(stage) for stage in STAGES}


def stage_page(stage: str) -> str:
    """Groups of a stage with their options, and all its settings: type, default, meaning."""
    composed = OmegaConf.to_container(compose_raw([f"stage={stage}"]), resolve=False)
    options = groups()
    brought = [name for name in stage_groups(stage) if name in options]
    lines = [f"# `stage={stage}`", "", summaries("stage")[stage], ""]
    if brought:
        lines += ["## Groups", "", "`group=option` chooses a file of `conf/`.", "", "| group | options |", "|---|---|"]
        lines += [f"| `{name}` | {', '.join(f'`{option}`' for option in options[name])} |" for name in brought]
        lines.append("")
    lines += ["## Settings", "", "| setting | takes | default | |", "|---|---|---|---|"]
    told = comments(stage, [(group, option) for group in brought for option in options[group]])
    for key, takes, about in settings(STAGES[stage][0]):
        said = about or told.get(key, "")
        lines.append(f"| `{key}` | {_cell(takes)} | {_default(composed, key)} | {_cell(said)} |")
    return "\n".join(lines) + "\n"


def settings(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, what it takes, what it means) of every setting below a schema, in its order."""
    for name, field in schema.model_fields.items():
        yield from _of_field(f"{prefix}{name}", field.annotation, field)


def _of_field(key: str, annotation: Any, field: FieldInfo) -> Iterator[tuple[str, str, str]]:
    schemas = list(_schemas(annotation))
    about = field.description or ""
    if not schemas:
        yield key, _takes(annotation, field), about
        return
    keyed = get_origin(_bare(annotation)) is dict
    for number, schema in enumerate(schemas):
        if len(schemas) > 1:
            first = next(iter(schema.model_fields.items()))
            tag = get_args(first[1].annotation)
            form = f"form {number + 1} of {len(schemas)}"
            yield f"{key}{'.NAME' if keyed else ''}", form, f"{first[0]}={'|'.join(map(str, tag))}"
        elif about:
            yield key, "a group" if not keyed else "groups by name", about
        yield from settings(schema, f"{key}{'.NAME' if keyed else ''}.")


def _bare(annotation: Any) -> Any:
    """Without `| None` and without Annotated."""
    if hasattr(annotation, "__metadata__"):
        return _bare(annotation.__origin__)
    if get_origin(annotation) in (Union, UnionType):
        kept = [part for part in get_args(annotation) if part is not NoneType]
        return _bare(kept[0]) if len(kept) == 1 else annotation
    return annotation


def _schemas(annotation: Any) -> Iterator[type[BaseModel]]:
    """The schemas that a value may have, of dictionaries those of their values."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is dict:
        yield from _schemas(get_args(annotation)[1])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _schemas(part)


def _takes(annotation: Any, field: FieldInfo) -> str:
    limits = [*field.metadata, *getattr(annotation, "__metadata__", ())]
    told = []
    for limit in limits:
        for part in getattr(limit, "metadata", [limit]):
            told += [
                f"{words} {value:,}"
                for name, words in _LIMITS.items()
                if (value := getattr(part, name, None)) is not None and value < _NOT_TOLD
            ]
    return ", ".join(dict.fromkeys([_type(annotation), *told]))


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if origin is Literal:
        return " | ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " | ".join("`null`" if part is NoneType else _type(part) for part in parts)
    if origin in (list, tuple):
        return f"a list of {_type(parts[0])}"
    if origin is dict:
        return f"names with {_type(parts[1])}"
    names = {int: "integer", float: "number", str: "text", bool: "`true` | `false`", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(composed: Any, key: str) -> str:
    if ".NAME" in key:
        return ""
    value = composed
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return ""
        value = value[part]
    if value == "???":
        return "**to be given**"
    if isinstance(value, dict):
        return ""
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    return f"`{_cell(text)}`" if text else "`''`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def memory_table() -> str:
    """What `mode=plan` says of the recipes on H100s, as Markdown."""
    lines = ["| settings | state | the rest | together, of 77 GB | time |", "|---|---|---|---|---|"]
    for recipe, layouts in _PLANNED.items():
        lines.append(f"| **{recipe}** | | | | |")
        lines += [_planned(recipe, layout) for layout in layouts]
    return "\n".join(lines) + "\n"


def _planned(recipe: str, layout: str) -> str:
    command = f"experiment=deepseekmath/{recipe} {layout} {_INPUTS.get(recipe, '')}"
    rows: dict[str, str] = {}
    for line in plan_text(compose_config(command.split())).splitlines():
        label, _, rest = line.strip().partition("  ")
        rows.setdefault(label, rest.strip())
    together = rows["together, about"]
    state = sum(_gigabytes(rows[part]) for part in ("parameters, fp32", "gradients, fp32", "AdamW state, fp32"))
    fits = next(text for label, text in rows.items() if label.startswith("in 77 GB"))
    verdict = "does not fit" if fits.startswith("DOES NOT") else "fits"
    time, _, device = rows["time, at most"].partition(" at ")[0].partition(" on ")
    device = device or f"{rows['ranks'].partition(',')[0]} H100"
    rest = _gigabytes(together) - state
    return f"| `{layout}` | {state:.1f} GB | {rest:.1f} GB | {together}: {verdict} | {time} on {device} |"


def _gigabytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"MB": 1e-3, "GB": 1.0, "TB": 1e3}[unit]


if __name__ == "__main__":
    print(memory_table())
