"""The plans of mining, of cleaning texts, of made-up crawls: what is read, what it costs at stated rates."""

from __future__ import annotations

from pathlib import Path

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.crawl import CrawlStageConfig
from dsm.config.decontaminate import DecontaminateConfig
from dsm.config.executor import ExecutorConfig
from dsm.config.mine import MineConfig
from dsm.config.plan.disk import source_row
from dsm.config.plan.table import Rows, columns, count, duration, size, tokens

PACKED_BYTES, RAW_BYTES = 22_700, 85_000
"""A page of Common Crawl, gzipped and not (2.9B pages in 59.9 TiB, 225 TiB)."""
RATES = {
    "pages: read": 7_500,
    "pages: extract": 160,
    "urls": 100_000,
    "near": 480,
    "round: score": 370,
    "round: cut, domains": 100_000,
}
"""Pages a core and second, of 85 kB HTML and 1,000 words; scripts/bench/mine.py measures them."""
_TRAINING_WORDS = 600_000  # a core and second
_WORDS, _BYTES_A_WORD, _UNPACKED = 1000, 6.0, 3.5  # of an example; of text; unpacked bytes of a packed one
_STEPS = {"pages": ("pages: read", "pages: extract"), "urls": ("urls",), "near": ("near",)}
_PACKED = (".gz", ".zst", ".lz4", ".parquet")


def mine_sections(config: MineConfig) -> dict[str, Rows]:
    """Crawl and seed, the loop, the cost of each step."""
    crawl, cut, rounds = config.crawl, config.cut, config.rounds
    pages = _pages(Path(crawl.path).expanduser())
    fitted = config.classifier
    model = 4 * fitted.dim * (fitted.bucket + 500_000)  # a vocabulary of half a million words is a large one
    budgets = "none" if cut.tokens is None else ", then ".join(tokens(budget) for budget in cut.tokens)
    examples = f"at most {count(fitted.positives)} positives, {count(fitted.negatives)} negatives"
    return {
        "Crawl": [
            source_row("crawl", crawl.path),
            ("pages", "not known before it is there" if pages is None else f"about {count(pages)}, by its bytes"),
            ("tokens", f"counted with {crawl.tokenizer}" if crawl.tokenizer else "estimated from the characters"),
            ("near-duplicates", _near(config)),
        ],
        "Rounds": [
            source_row("seed corpus", config.seed_corpus.path),
            ("rounds", f"at most {rounds.max}; fewer when {rounds.stop_overlap:.0%} of one had been collected before"),
            ("classifier", f"dim {fitted.dim}, {fitted.epochs} epochs at {fitted.lr:g}; {examples}"),
            ("memory", f"at most about {size(model)} a worker for its model"),
            ("cut", f"tokens: {budgets}; least score: {'none' if cut.threshold is None else f'{cut.threshold:g}'}"),
            ("candidates", f"more than {config.domains.share:.0%} of {config.domains.min_pages}+ pages collected"),
            ("annotation", _annotator(config)),
        ],
        "Corpus": [*_cleaning(config), ("workers", _workers(config.executor))],
        "Cost": _cost(config, pages),
    }


def decontaminate_sections(config: DecontaminateConfig) -> dict[str, Rows]:
    """What is cleaned of what."""
    texts = [source_row(f"source {name}", source.path) for name, source in config.data.sources.items()]
    return {"Texts": [*texts, ("workers", _workers(config.executor))], "Benchmarks": _cleaning(config)}


def crawl_sections(config: CrawlStageConfig) -> dict[str, Rows]:
    """What is made up."""
    return {"Crawl": [(key, str(value)) for key, value in config.crawl.model_dump().items()]}


def _near(config: MineConfig) -> str:
    near = config.near
    if not near.enabled:
        return "kept"
    kept = f"{near.bands} x {near.rows} signatures of {near.ngram} words, similarity {near.threshold:g}"
    return f"one is kept: {kept}"


def _annotator(config: MineConfig) -> str:
    asked = config.annotation
    if asked.annotator == "rules":
        return f"the rules of {source_row('', asked.rules or '')[1]}"
    if asked.annotator == "human":
        return "people: the run stops after each round until 'dsm stage=annotate' has been used"
    return "none: one round"


def _cleaning(config: MineConfig | DecontaminateConfig) -> Rows:
    rows = []
    for name, benchmark in config.benchmarks.items():
        rows.append((benchmark.title or name, source_row("", _path(benchmark, config.data_root))[1]))
    found = config.decontamination
    what = f"{found.ngram} equal words in a row, or a whole text of {found.min_ngram} to {found.ngram - 1}"
    return [*rows, ("a match", f"{what}, removes the {found.unit}")] if rows else [("benchmarks", "none: not cleaned")]


def _path(benchmark: BenchmarkConfig, root: str | None) -> str:
    data = benchmark.data
    return data.path or (f"{root}/{data.file}" if root and data.file else data.hub) or "NOT GIVEN"


def _workers(executor: ExecutorConfig) -> str:
    if executor.kind == "slurm":
        return f"{executor.jobs:,} Slurm jobs of {executor.workers:,} processes"
    number = "one a core" if executor.workers is None else f"{executor.workers:,} processes"
    return f"{number}, {'on this machine' if executor.kind == 'local' else 'of a Ray cluster'}"


def _cost(config: MineConfig, pages: int | None) -> Rows:
    """Core-hours of each step at the rates stated, and on this many workers."""
    number, rounds = pages or 1_000_000, config.rounds.max if config.annotation.annotator != "none" else 1
    chosen = [name for step, names in _STEPS.items() if step in config.steps for name in names]
    if not config.near.enabled:
        chosen = [name for name in chosen if name != "near"]
    table: dict[str, list[str]] = {}
    total = training = 0.0
    if "rounds" in config.steps:
        chosen += ["round: score", "round: cut, domains"]
    for name in chosen:
        times = rounds if name.startswith("round") else 1
        hours = times * number / RATES[name] / 3600
        total += hours
        table[name] = [f"{RATES[name]:,}", str(times), f"{hours:,.2f}"]
    if "rounds" in config.steps:
        training = rounds * _training_words(config) / _TRAINING_WORDS / 3600
        total += training
        table["round: train, one core"] = [f"{_TRAINING_WORDS // _WORDS:,}", str(rounds), f"{training:,.2f}"]
    table["together"] = ["", "", f"{total:,.2f}"]
    rows = columns(["pages a core and second", "times", "core-hours"], table)
    of = f"of {count(number)} pages" if pages else "a million pages"
    workers = config.executor.workers
    if config.executor.kind == "slurm":
        workers = config.executor.jobs * config.executor.workers
    if workers:
        hours = (total - training) / workers + training
        rows.append(("time", f"{duration(3600 * hours)} on {workers:,} cores"))
    return [("core-hours", f"{of}, at the rates of dsm/config/plan/mine.py"), *rows]


def _training_words(config: MineConfig) -> float:
    """Of all epochs of one round; a small seed has fewer positives than are asked for."""
    fitted, path = config.classifier, Path(config.seed_corpus.path).expanduser()
    positives = fitted.positives * float(_WORDS)
    if path.exists():
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        read = sum(file.stat().st_size * (_UNPACKED if file.suffix in _PACKED else 1) for file in files)
        positives = min(positives, read / _BYTES_A_WORD)
    negatives = min(fitted.negatives * float(_WORDS), fitted.ratio * positives)
    return fitted.epochs * (positives + negatives)


def _pages(path: Path) -> int | None:
    """How many pages so many bytes hold, roughly; None where there are none yet."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    estimate = sum(file.stat().st_size / (PACKED_BYTES if file.suffix in _PACKED else RAW_BYTES) for file in files)
    return max(1, round(estimate)) if files else None
