"""Near-duplicates: signatures estimate the true similarity; who is kept depends on dates, addresses and texts alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from dsm.corpus.executors import LocalExecutor
from dsm.corpus.grams import Grams
from dsm.corpus.near import MinHash, similarity
from dsm.corpus.near_steps import PairStep, run_near
from dsm.corpus.pages import PAGE_SCHEMA, PageTable, write_columns, write_table
from dsm.corpus.steps import Manifest, Task, run_step

MINHASH = MinHash()
WORDS = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(26 * 26)]


def words(rng: random.Random, count: int) -> list[str]:
    """A text without rhyme or reason."""
    return [rng.choice(WORDS) for _ in range(count)]


def estimate(first: str, second: str) -> float:
    """The similarity that the signatures say."""
    signatures = [MINHASH.signature(text) for text in (first, second)]
    return float(similarity(*(np.stack([signature]) for signature in signatures if signature is not None))[0])


# ---------------------------------------------------------------- signatures


def test_estimates_the_true_similarity() -> None:
    """The error is that of 112 independent draws, and there is no bias, for short texts and long ones."""
    rng, errors, expected = random.Random(0), [], []
    for _ in range(250):
        first = words(rng, rng.choice([40, 200, 1500]))
        second, changed = list(first), int(len(first) * rng.random() ** 2 / 2)
        at = rng.randrange(len(first) - changed + 1)
        second[at : at + changed] = words(rng, changed)
        sets = [{tuple(text[i : i + 5]) for i in range(len(text) - 4)} for text in (first, second)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        errors.append(estimate(" ".join(first), " ".join(second)) - true)
        expected.append(true * (1 - true) / MINHASH.size)
    rmse, theory = np.sqrt(np.mean(np.square(errors))), np.sqrt(np.mean(expected))
    assert theory < 0.045
    assert rmse < 1.15 * theory
    assert abs(np.mean(errors)) < 0.006


def test_numbers_and_operators_make_other_texts() -> None:
    """Problems are not the same for being worded alike; case, white space and punctuation do not make others."""
    assert estimate("Solve 3x^2+5x-7=0", "Solve 8x^2-4x+2=0") == 0
    assert estimate("Solve $3x^2 + 5x - 7 = 0$.", "solve 3x^{2}+5x-7=0") == 1
    assert estimate("a b c d e + f g h", "a b c d e - f g h") < 0.6
    assert estimate("Solve\n\n it;  NOW, please, my friend!", "solve it now please my friend") == 1
    assert estimate("小明有5个苹果吃了2个还剩几个", "小明有5个苹果,吃了2个,还剩几个?") == 1
    assert estimate("小明有5个苹果吃了2个还剩几个", "小明有7个苹果吃了3个还剩几个") < 0.5


def test_short_and_empty_texts() -> None:
    """A text of fewer grams than a run is one run; one without any has no signature."""
    assert estimate("two words", "Two words.") == 1
    assert estimate("two words", "two swords") == 0
    assert MINHASH.signature(" ... ") is None


def test_signatures_are_frozen() -> None:
    """The same on any machine and in any version: what is stored is compared with what is made later."""
    signature = MINHASH.signature("Solve 3x^2+5x-7=0 for x, 其中 x > 0.")
    assert signature is not None
    assert xxhash.xxh3_64_hexdigest(signature.tobytes()) == "8047faf00cf08000"
    keys = MINHASH.keys(signature[None])
    assert keys.shape == (14, 1)
    assert xxhash.xxh3_64_hexdigest(keys.tobytes()) == "16406fa62fa79d95"


def test_keys_are_equal_where_a_band_is() -> None:
    """One changed value changes its own band's key and no other."""
    first = np.arange(112, dtype=np.uint32)[None]
    second = first.copy()
    second[0, 17] += 1
    assert np.flatnonzero((MINHASH.keys(first) != MINHASH.keys(second))[:, 0]).tolist() == [2]


# ---------------------------------------------------------------- steps

Page = tuple[str, str, str]  # url, date, text


def write_shards(root: Path, shards: Sequence[Sequence[Page]], repeated: frozenset[str] = frozenset()) -> None:
    """The steps pages and urls of a run."""

    class Pages:
        name, version = "pages", "1"

        def settings(self) -> dict[str, str]:
            return {"all": repr(shards)}

        def run(self, task: Task, out: Path) -> dict[str, int]:
            pages = shards[int(task.name)]
            rows = {field.name: [0 if pa.types.is_integer(field.type) else ""] * len(pages) for field in PAGE_SCHEMA}
            rows |= {"url": [url for url, _, _ in pages], "date": [date for _, date, _ in pages]}
            rows |= {"text": [text for *_, text in pages], "url_hash": [hash_of(url) for url, _, _ in pages]}
            write_table(pa.table(rows, schema=PAGE_SCHEMA), out / "pages.parquet")
            return {"in": len(pages), "out": len(pages)}

    class Urls(Pages):
        name = "urls"

        def run(self, task: Task, out: Path) -> dict[str, int]:
            pages = shards[int(task.name)]
            write_columns({"duplicate_url": pa.array([url in repeated for url, _, _ in pages], pa.bool_())}, out)
            return {"in": len(pages), "out": len(pages)}

    tasks = [Task(str(number), ()) for number in range(len(shards))]
    for step in (Pages(), Urls()):
        run_step(step, tasks, root / "steps" / step.name, LocalExecutor(0))


def hash_of(url: str) -> int:
    """A stand-in for the hash of a canonical address."""
    return xxhash.xxh3_64_intdigest(url.encode())


def duplicates(root: Path) -> dict[str, str]:
    """url -> url of the page that is kept instead, by the steps near."""
    steps = root / "steps"
    pages, urls = (Manifest.load(steps / name) for name in ("pages", "urls"))
    manifest = run_near(pages, urls, steps, LocalExecutor(0), minhash=MINHASH)
    found: dict[str, int] = {}
    names: dict[int, str] = {}
    for _, table in PageTable(root).tables(["url", "url_hash", "duplicate_of"]):
        rows = table.to_pylist()
        names |= {row["url_hash"]: row["url"] for row in rows}
        found |= {row["url"]: row["duplicate_of"] for row in rows if row["duplicate_of"]}
    total = manifest.total()
    assert total["near_duplicate"] == len(found)
    assert total["in"] == total["out"] + total["near_duplicate"] + total["duplicate_url"] == len(names)
    return {url: names[kept] for url, kept in found.items()}


def crawl() -> list[Page]:
    """30 families of copies with a little boilerplate, and 40 pages of their own."""
    rng, pages = random.Random(1), []
    for family in range(30):
        text = words(rng, 300)
        for copy in range(rng.randrange(2, 5)):
            frame = [*words(rng, 8), *text, *words(rng, 8)]
            pages.append((f"f{family}/{copy}", f"2024-0{1 + copy}-01T00:00:00Z", " ".join(frame)))
    return pages + [(f"own/{n}", "2024-01-01", " ".join(words(rng, 100))) for n in range(40)]


def test_copies_collapse_onto_the_earliest(tmp_path: Path) -> None:
    """Every copy points to the first of its family; pages of their own to none."""
    pages = crawl()
    write_shards(tmp_path, [pages[:50], pages[50:]])
    expected = {url: url.partition("/")[0] + "/0" for url, *_ in pages if url[0] == "f" and not url.endswith("/0")}
    assert duplicates(tmp_path) == expected


def test_neither_shards_nor_their_order_matter(tmp_path: Path) -> None:
    """The same pages, dealt out anew, have the same duplicates: ties go by the address, unknown dates come last."""
    rng = random.Random(2)
    text = words(rng, 200)
    pages = [(f"same/{n}", rng.choice(["", "2024-05-05", "2023-05-05"]), " ".join(text[n:])) for n in range(12)]
    found = []
    for number in range(3):
        rng.shuffle(pages)
        write_shards(tmp_path / str(number), [pages[: 4 * number], pages[4 * number :]])
        found.append(duplicates(tmp_path / str(number)))
    assert found[0] == found[1] == found[2]
    kept = min(pages, key=lambda page: (page[1] or "9", hash_of(page[0])))[0]
    assert found[0]
    assert set(found[0].values()) == {kept}


def test_a_chain_does_not_make_its_ends_one(tmp_path: Path) -> None:
    """Each page shares nine tenths with the last, the ends nothing: each duplicate is like the page that is kept."""
    text = words(random.Random(3), 1000)
    pages = [(f"chain/{n}", f"2024-01-{n + 1:02}", " ".join(text[20 * n : 20 * n + 200])) for n in range(30)]
    write_shards(tmp_path, [pages])
    found, texts = duplicates(tmp_path), {url: text for url, _, text in pages}
    assert found
    assert all(estimate(texts[url], texts[kept]) >= 0.7 for url, kept in found.items())
    assert all(kept not in found for kept in found.values())
    assert len(set(texts) - found.keys()) >= 7


def test_repeated_addresses_take_no_part(tmp_path: Path) -> None:
    """They are out already, and nothing is a duplicate of what is not there."""
    text = " ".join(words(random.Random(4), 100))
    write_shards(tmp_path, [[("a", "2020-01-01", text), ("b", "2021-01-01", text)]], repeated=frozenset({"a"}))
    assert duplicates(tmp_path) == {}


def test_memory_parts_find_the_same(tmp_path: Path) -> None:
    """A band in many parts has the pairs that it has in one."""
    pages = crawl()
    write_shards(tmp_path, [pages[:31], [], pages[31:]])
    steps = tmp_path / "steps"
    duplicates(tmp_path)
    found = []
    for part_pages in (1000, 7):
        out = tmp_path / str(part_pages)
        out.mkdir()
        PairStep(0.7, part_pages=part_pages).run(Task("band-003", (steps / "near-signatures" / "manifest.json",)), out)
        found.append(sorted(np.load(out / "pairs.npy").tolist()))
    assert found[0] == found[1] != []


def test_a_crawl_without_texts(tmp_path: Path) -> None:
    """No page, no gram: no duplicate and no error."""
    write_shards(tmp_path, [[("a", "", " "), ("b", "", "")], []])
    assert duplicates(tmp_path) == {}


@pytest.mark.parametrize("text", ["x\ud800y", "\U0010ffff a", "a" * 100_000, "\\" * 1000, "1," * 1000])
def test_strange_texts_have_grams(text: str) -> None:
    """Nothing that a page can hold breaks the cutting."""
    grams = Grams.of(text)
    assert all(grams.texts())
