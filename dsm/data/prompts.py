"""The questions that a policy is asked while it learns by reward: read, put into words and tokenised once.

A row is read and asked exactly as instruction data are (`dsm.data.formats`), so that a policy meets the prompts it was
fine-tuned on and is measured with. All columns of a row stay with its prompt: rewards take them as keyword arguments.
The prompts lie in the cache, keyed by all that they depend on, and come into memory one by one. A row that cannot be
asked, or that asks what another asks, is set aside with its reason.
"""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from dsm.config.prompts import DifficultyConfig, PromptDataConfig
from dsm.data.formats import (
    CHAT,
    TEMPLATES,
    chat_template_jinja,
    render_prompt,
    tokenise_example,
)
from dsm.data.layouts import Turn
from dsm.data.prompt_order import PromptOrder
from dsm.data.prompt_rows import Asked, read_questions
from dsm.data.records import RAW_CHARS, Record, Rejected, content_fingerprint, read_records
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.errors import UserError
from dsm.files import atomic_directory, atomic_write_text, digest, sole_writer
from dsm.rollout.record import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dsm.runtime.launch import World

_FORMAT = 1  # raise it when what lies in the cache changes its meaning
_SOURCE_ORDER, _MIX_ORDER = 4, 5  # keys of permutations; dsm.data.order has 1 to 3
_STAND_IN = "."  # an answer where none is needed, so that rows of any layout are read by the same code


@dataclass(frozen=True)
class SetAside:
    """A row that is not asked, and why."""

    source: str
    location: str
    kind: str
    reason: str
    raw: str


class Prompts(Sequence[Prompt]):
    """The prompts of a set, read from the cache as they are asked for.

    Attributes:
        facts: what the prompts depend on, by name; equal facts mean equal prompts.
        lengths: (N,) their tokens.
        set_aside: prompts that filters took out; what could not be read lies in the cache (`write_set_aside`).
    """

    def __init__(self, folder: Path, config: PromptDataConfig, facts: dict[str, str], room: int | None) -> None:
        self.facts = dict(facts)
        self._names, self._weights = list(config.sources), [source.weight for source in config.sources.values()]
        self._folder = folder
        self._report: dict[str, int] = json.loads((folder / "report.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("starts", "rows", "sources")}
        self._starts, self._rows, self._sources = arrays["starts"], arrays["rows"], arrays["sources"]
        self._ids = np.load(folder / "ids.npy", mmap_mode="r")
        with (folder / "prompts.jsonl").open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.set_aside: list[SetAside] = []
        self._kept = np.arange(len(self._sources))
        self._filter(config, room)
        self.lengths = np.diff(self._starts)[self._kept]
        self.sources = self._sources[self._kept]

    def __len__(self) -> int:
        """The number of prompts."""
        return len(self._kept)

    @overload
    def __getitem__(self, number: int) -> Prompt: ...
    @overload
    def __getitem__(self, number: slice) -> list[Prompt]: ...
    def __getitem__(self, number: int | slice) -> Prompt | list[Prompt]:
        """One prompt, or several."""
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        number = range(len(self))[number]  # from the end too, and IndexError beyond
        place = int(self._kept[number])
        row = self._row(place)
        ids = tuple(self._ids[self._starts[place] : self._starts[place + 1]].tolist())
        source = self._names[int(self._sources[place])]
        return Prompt(number, row["id"], row["question"], ids, source, row["columns"])

    def order(self, seed: int) -> PromptOrder:
        """The order in which a run with this seed asks them."""
        return PromptOrder(self.sources, self._weights, seed)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the facts: it guards resume."""
        return digest(list(self.facts.items()))

    @property
    def counts(self) -> dict[str, int]:
        """Prompts, and rows set aside by kind: bad, duplicate, too_long, too_easy, too_hard, no_pass_rate."""
        kinds = Counter(row.kind for row in self.set_aside)
        return {"prompts": len(self)} | {k: n for k, n in self._report.items() if k != "prompts"} | dict(kinds)

    def write_set_aside(self, file: Path) -> int:
        """All rows set aside as JSON lines with their reasons; returns how many. No file where there are none."""
        text = (self._folder / "set_aside.jsonl").read_text(encoding="utf-8")
        text += "".join(_json(asdict(row)) + "\n" for row in self.set_aside)
        if text:
            atomic_write_text(file, text)
        return text.count("\n")

    def _row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self._text[self._rows[place] : self._rows[place + 1]])
        return row

    # ------------------------------------------------------------ filters

    def _filter(self, config: PromptDataConfig, room: int | None) -> None:
        limits = [limit for limit in (config.max_tokens, room) if limit is not None]
        if limits:
            most = min(limits)
            self.facts["prompts.max_tokens"] = str(most)
            lengths = np.diff(self._starts)
            self._leave_out(
                {int(i): ("too_long", f"{lengths[i]} tokens, more than {most}") for i in np.flatnonzero(lengths > most)}
            )
            if not len(self):
                name = "prompts.max_tokens" if config.max_tokens == most else "rollout.max_new_tokens"
                raise UserError(f"{name}: no prompt has at most {most} tokens; the shortest has {lengths.min()}")
        if config.difficulty is not None:
            self.facts["prompts.difficulty"] = digest(
                config.difficulty.model_dump(exclude={"path"}), content_fingerprint(config.difficulty.path)
            )
            rates = pass_rates(config.difficulty.path)
            found = {int(place): self._difficulty(int(place), rates, config.difficulty) for place in self._kept}
            self._leave_out({place: why for place, why in found.items() if why is not None})
            if not len(self):
                raise UserError(
                    f"prompts.difficulty.path={config.difficulty.path}: leaves no prompt; widen min and max"
                )

    def _difficulty(self, place: int, rates: Mapping[str, float], config: DifficultyConfig) -> tuple[str, str] | None:
        rate = rates.get(self._row(place)["id"])
        if rate is None:
            return ("no_pass_rate", f"{config.path} does not know it") if config.unknown == "set_aside" else None
        if rate < config.min:
            return "too_hard", f"pass rate {rate:.3g} is below {config.min:g}"
        return ("too_easy", f"pass rate {rate:.3g} is above {config.max:g}") if rate > config.max else None

    def _leave_out(self, why: Mapping[int, tuple[str, str]]) -> None:
        for place, (kind, reason) in why.items():
            row = self._row(place)
            source = self._names[int(self._sources[place])]
            self.set_aside.append(SetAside(source, row["location"], kind, reason, row["question"][:RAW_CHARS]))
        self._kept = self._kept[~np.isin(self._kept, list(why))]


def load_prompts(
    config: PromptDataConfig,
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    world: World | None = None,
    *,
    room: int | None = None,
    key: str = "prompts.sources",
) -> Prompts:
    """Read and tokenise the prompts, or find them tokenised.

    Args:
        cache: folder for what is tokenised, shared by runs.
        world: all ranks; the first one tokenises for all of them.
        room: tokens that a prompt may have with an answer behind it; longer ones are set aside.
        key: the config key that errors name.

    Raises:
        UserError: a source cannot be read, or no prompt is left.
    """

    def make() -> tuple[Path, dict[str, str]]:
        facts = {}
        for name, source in config.sources.items():
            content = content_fingerprint(source.path, split=source.split, key=f"{key}.{name}.path")
            facts[f"{key}.{name}"] = digest(source.model_dump(exclude={"path", "weight"}), content)
        facts |= {"prompts.template": config.template, "tokenizer": tokenizer_fingerprint(tokenizer)}
        if has_own_chat_form(tokenizer):
            facts["chat_template"] = digest(tokenizer.chat_template)
        facts["format"] = str(_FORMAT)
        folder = cache / f"prompts-{digest(list(facts.items()))[:16]}"
        with sole_writer(folder):
            if not folder.is_dir():
                _write(config, tokenizer, folder, key)
        return folder, facts

    folder, facts = make() if world is None else world.on_first(make)
    facts |= {f"{key}.{name}.weight": str(source.weight) for name, source in config.sources.items()}
    return Prompts(folder, config, facts, room)


def pass_rates(path: str) -> dict[str, float]:
    """The pass rate of each prompt, by its id, as a stage=rollouts run has recorded them.

    Raises:
        UserError: the file cannot be read, or a line is no such record.
    """
    name, rates = "prompts.difficulty.path", {}
    for row in read_records(path, key=name):
        rate = row.row.get("pass_rate") if isinstance(row, Record) else None
        known = isinstance(row, Record) and isinstance(row.row.get("id"), str)
        if not known or not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise UserError(f"{name}={path}: {row.location}: must hold id and pass_rate, a share from 0 to 1")
        assert isinstance(row, Record)
        rates[row.row["id"]] = float(rate)
    return rates


def has_own_chat_form(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer brings a chat template other than the paper's."""
    return getattr(tokenizer, "chat_template", None) not in (None, chat_template_jinja(CHAT))


def prompt_ids(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase, template: str = "auto") -> list[int]:
    """The tokens of a conversation that ends with a question, up to where the policy takes over.

    Args:
        template: 'chat', 'plain', or 'auto': the tokenizer's own chat form where it brings one, else 'chat'.
    """
    if template == "auto" and has_own_chat_form(tokenizer):
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return tokenise_example(render_prompt(turns, TEMPLATES["chat" if template == "auto" else template]), tokenizer)[0]


def _write(config: PromptDataConfig, tokenizer: PreTrainedTokenizerBase, folder: Path, key: str) -> None:
    ids: list[NDArray[np.int32]] = []
    sources: list[int] = []
    rows = [0]
    counts: Counter[str] = Counter()
    seen: dict[bytes, tuple[str, str]] = {}
    with (
        atomic_directory(folder) as partial,
        (partial / "prompts.jsonl").open("wb") as out,
        (partial / "set_aside.jsonl").open("w", encoding="utf-8") as aside,
    ):
        for number, (name, source) in enumerate(config.sources.items()):
            first_bad, good = None, 0
            for row in read_questions(source, f"{key}.{name}"):
                if isinstance(row, Asked):
                    input_ids = tuple(prompt_ids(row.turns, tokenizer, config.template))
                    row = _unless_known(row, input_ids, seen)
                if isinstance(row, Rejected):
                    kind = "duplicate" if row.reason.startswith(_DUPLICATE) else "bad"
                    counts[kind] += 1
                    first_bad = first_bad or row
                    aside.write(_json(asdict(SetAside(name, row.location, kind, row.reason, row.raw))) + "\n")
                    continue
                said = [[turn.role, turn.content] for turn in row.turns]
                content = {"id": f"{name}-{digest(said)[:16]}", "question": row.question, "location": row.location}
                rows.append(rows[-1] + out.write(_json(content | {"columns": row.columns}).encode() + b"\n"))
                ids.append(np.asarray(input_ids, dtype=np.int32))
                sources.append(number)
                good += 1
                if good == source.limit:
                    break
            if not good:
                reason = f"the first: {first_bad.location}: {first_bad.reason}" if first_bad else "it holds none"
                raise UserError(f"{key}.{name}.path={source.path}: none of its rows can be asked; {reason}")
        np.save(partial / "ids.npy", np.concatenate(ids))
        np.save(partial / "starts.npy", np.cumsum([0, *map(len, ids)]))
        np.save(partial / "rows.npy", np.asarray(rows, dtype=np.int64))
        np.save(partial / "sources.npy", np.asarray(sources, dtype=np.int64))
        (partial / "report.json").write_text(json.dumps({"prompts": len(ids), **counts}))


_DUPLICATE = "asks what another asks"


def _unless_known(row: Asked, input_ids: tuple[int, ...], seen: dict[bytes, tuple[str, str]]) -> Asked | Rejected:
    """The row, unless another one, whose place is told, has the same prompt."""
    own = row.location, str(row.columns.get("gold"))
    other, gold = seen.setdefault(np.asarray(input_ids, dtype=np.int32).tobytes(), own)
    if other == row.location:
        return row
    return row.rejected(f"{_DUPLICATE} ({other})" + (f", which has the answer {gold}" if gold != own[1] else ""))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", errors="replace").decode()
