"""Decisions: their files, what they say about pages, rules, CSV, agreement."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.corpus.annotate.agreement import agreement, kappa
from dsm.corpus.annotate.tables import add_rows, export_csv, read_csv
from dsm.corpus.annotations import CODES, Decision, Decisions, append_rows, covers, normal_prefix
from dsm.errors import UserError


def decisions(*rows: tuple[str, ...]) -> Decisions:
    """(domain, prefix, verdict[, annotator])."""
    return Decisions.replay(Decision.now(row[0], row[1], row[2], row[3] if row[3:] else "ada") for row in rows)  # type: ignore[arg-type]


def accepted(found: Decisions, *addresses: str) -> list[bool]:
    split = [address.partition("/") for address in addresses]
    return found.accepts([one[0] for one in split], [f"/{one[2]}" for one in split]).tolist()


def test_the_longest_prefix_decides() -> None:
    found = decisions(
        ("a.org", "/", "accept"), ("a.org", "/users", "reject"), ("a.org", "/users/math", "accept"),
        ("a.org", "/misc", "split"), ("a.org", "/dubious", "unsure"), ("b.org", "/q", "accept"),
    )  # fmt: skip
    pages = {
        "a.org/": True, "a.org/x": True, "a.org/users": False, "a.org/users/7": False, "a.org/users/math/1": True,
        "a.org/users/mathematics": False, "a.org/misc/1": False, "a.org/dubious/1": False,
        "b.org/": False, "b.org/q": True, "b.org/q/1": True, "b.org/q?page=2": True, "b.org/q1": False,
        "b.org/quiz/q": False, "c.org/q": False,
    }  # fmt: skip
    assert dict(zip(pages, accepted(found, *pages), strict=True)) == pages


def test_prefixes_have_one_spelling() -> None:
    for spelling in ("a/b", "/a/b", "/a/b/", " //a/b?x=1 ", "/a/./b", "/%61/b"):
        assert normal_prefix(spelling) == "/a/b"
    assert {normal_prefix(spelling) for spelling in ("", "/", "//", "?x")} == {"/"}
    assert Decision.now("www.A.org", "q/", "accept", "ada").key == ("a.org", "/q")
    assert normal_prefix("/wiki/Группа") == normal_prefix("/wiki/%D0%93%D1%80%D1%83%D0%BF%D0%BF%D0%B0")


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "a.b"]), max_size=4)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["x.org", "y.org"]), SEGMENTS, st.sampled_from(list(CODES))), max_size=12),
    st.lists(st.tuples(st.sampled_from(["x.org", "y.org", "z.org"]), SEGMENTS, st.booleans()), max_size=20),
)
def test_columns_and_single_pages_get_the_same_verdicts(rules: list, pages: list) -> None:
    found = decisions(*((domain, "/" + "/".join(segments), verdict) for domain, segments, verdict in rules))
    domains = [domain for domain, _, _ in pages]
    paths = ["/" + "/".join(segments) + ("?q=1/2" if query else "") for _, segments, query in pages]
    codes = found.codes(pa.chunked_array([pa.array(domains, pa.string())]), pa.array(paths, pa.string()), "ada")
    for domain, path, code in zip(domains, paths, codes, strict=True):
        # An independent reading: of all decisions that cover the page, the one with the longest prefix.
        covering = [row for row in found.decisions() if row.domain == domain and covers(row.prefix, path)]
        wanted = max(covering, key=lambda row: len(row.prefix), default=None)
        assert code == (CODES[wanted.verdict] if wanted else 0)
        assert found.verdict(domain, path.partition("?")[0], "ada") == wanted


def test_what_annotators_dispute_stays_out() -> None:
    found = decisions(
        ("a.org", "/", "accept", "ada"), ("a.org", "/users", "reject", "bo"), ("b.org", "/", "unsure", "bo"),
        ("b.org", "/", "accept", "cy"),
    )  # fmt: skip
    assert accepted(found, "a.org/q", "a.org/users/1", "b.org/1") == [True, False, True]
    assert accepted(Decisions(), "a.org/q") == [False]
    assert Decisions().accepts([], []).tolist() == []


def test_files_replay_and_undo_takes_back_one_verdict_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "annotations" / "ada.jsonl"
    first, second = (Decision.now("a.org", "/q", verdict, "ada", "hash") for verdict in ("reject", "accept"))
    undo = Decision(**{**second.as_row(), "undo": True})
    for row in (first, second):
        append_rows(file, [row])
    assert Decisions.load([file]).of("ada") == {("a.org", "/q"): second}
    append_rows(file, [undo])
    assert Decisions.load([file]).of("ada") == {("a.org", "/q"): first}
    append_rows(file, [undo, undo])  # the last one finds nothing to take back
    assert Decisions.load([file]).annotators == []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 5  # nothing is ever changed or removed
    assert lines[0] == {
        "domain": "a.org", "prefix": "/q", "verdict": "reject", "annotator": "ada", "at": first.at, "pages": "hash",
    }  # fmt: skip
    assert [line.get("undo", False) for line in lines] == [False, False, True, True, True]


def test_a_writer_killed_in_the_middle_of_a_line_costs_that_line_only(tmp_path: Path) -> None:
    file = tmp_path / "ada.jsonl"
    rows = [Decision.now(f"{name}.org", "/", "accept", "ada") for name in "abc"]
    append_rows(file, rows[:2])
    whole = file.read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole) - 1, 9):
        file.write_bytes(whole[:cut])
        append_rows(file, [rows[2]])
        found = Decisions.load([file])
        assert {domain for domain, _ in found.of("ada")} == {"a.org", "c.org"}
        assert [(broken.file, broken.line) for broken in found.broken] == [(file, 2)]


def test_rows_that_say_nothing_are_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "ada.jsonl"
    good = Decision.now("a.org", "/", "accept", "ada").as_row()
    bad = [[1], good | {"verdict": "yes"}, good | {"domain": 7}, good | {"annotator": " "}]
    file.write_text("\n".join(json.dumps(row) for row in [good, *bad]) + "\n\n\xff\n", encoding="latin-1")
    found = Decisions.load([file])
    assert len(found.decisions()) == 1
    assert [broken.line for broken in found.broken] == [2, 3, 4, 5, 7]
    assert "verdict='yes': must be one of accept, reject, split, unsure" in found.broken[1].reason


def test_the_digest_is_of_what_stands() -> None:
    rows = [("a.org", "/", "accept"), ("b.org", "/", "reject")]
    one, other = decisions(*rows), decisions(("b.org", "/", "accept"), *reversed(rows))
    assert one.digest() == other.digest() == decisions(*rows).digest()
    assert one.digest() != decisions(rows[0]).digest()


@pytest.mark.parametrize("name", ["rules.txt", "rules.yaml"])
def test_rules(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    mark = "- " if name.endswith("yaml") else ""
    lines = [
        "https://www.mathoverflow.net/questions/",
        "!mathoverflow.net/questions/tagged  # lists",
        "b.org",
        "! b.org/u",
    ]
    file.write_text("# what we know\n\n" + "".join(f"{mark}{line}\n" for line in lines))
    found = Decisions.from_rules(file)
    assert accepted(found, "mathoverflow.net/questions/1", "mathoverflow.net/questions/tagged/x") == [True, False]
    assert accepted(found, "mathoverflow.net/users", "b.org/", "b.org/x", "b.org/u/1") == [False, True, True, False]
    file.write_text(f"{mark}a.org\n{mark}a b c\n")
    with pytest.raises(UserError, match="line 2, 'a b c': no rule; allowed is domain/prefix"):
        Decisions.from_rules(file)
    with pytest.raises(UserError, match="cannot be read"):
        Decisions.from_rules(tmp_path / "none.txt")


def test_csv_there_and_back(tmp_path: Path) -> None:
    verdicts = [(verdict, who) for verdict in CODES for who in ("ada", "bo")]
    rows = [Decision.now(f"d{n}.org", f'/p{n},q"', one, who, "h") for n, (one, who) in enumerate(verdicts)]
    before = Decisions.replay(rows)
    assert export_csv(before, tmp_path / "all.csv") == 8
    folder = tmp_path / "annotations"
    assert add_rows(folder, read_csv(tmp_path / "all.csv", "nobody")) == {"ada": 4, "bo": 4}
    after = Decisions.load(sorted(folder.glob("*.jsonl")))
    assert after.decisions() == before.decisions()
    assert add_rows(folder, read_csv(tmp_path / "all.csv", "nobody")).total() == 0  # they stand already


def test_a_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_text("\ufeffverdict,domain,prefix,remark\r\naccept,www.a.org,/q/,nice\r\n", encoding="utf-8")
    (row,) = read_csv(file, "ada")
    assert (row.domain, row.prefix, row.verdict, row.annotator) == ("a.org", "/q", "accept", "ada")
    add_rows(tmp_path, [row])
    assert Decisions.load([tmp_path / "ada.jsonl"]).decisions()[0].at  # stamped with now


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("domain,prefix\na.org,/\n", "no column verdict"),
        ("domain,prefix,verdict\na.org,/,accept\nb.org,/,maybe\n", "line 3: verdict='maybe': must be one of accept"),
        ("domain,prefix,verdict\n,/,accept\n", "line 2: domain: missing"),
        ("domain,prefix,verdict,annotator\na.org,/,accept,../../x\n", "line 2: annotator='../../x': must be letters"),
        (None, "cannot be read"),
    ],
)
def test_a_csv_is_taken_whole_or_not_at_all(tmp_path: Path, text: str | None, wrong: str) -> None:
    file = tmp_path / "sheet.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=wrong.replace(".", r"\.")):
        read_csv(file, "ada")


def test_kappa_by_hand() -> None:
    # 20 accepted by both, 15 rejected by both, 5 and 10 disputed: observed 35/50, expected .5 * .6 + .5 * .4 = .5
    pairs = [("accept", "accept")] * 20 + [("accept", "reject")] * 5 + [("reject", "accept")] * 10
    pairs += [("reject", "reject")] * 15
    assert kappa(pairs) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert kappa([("accept", "reject"), ("reject", "accept")]) == -1
    assert kappa([]) is None
    assert kappa([("accept", "accept")] * 3) is None


def test_kappa_is_zero_on_average_for_annotators_who_throw_dice() -> None:
    generator = random.Random(0)
    dice = [(generator.choice(list(CODES)), generator.choice(list(CODES))) for _ in range(20_000)]
    found = kappa(dice)
    assert found is not None
    assert abs(found) < 0.02


def test_agreement_compares_inherited_verdicts() -> None:
    found = decisions(
        ("a.org", "/", "accept", "ada"),
        ("a.org", "/", "split", "bo"), ("a.org", "/q", "accept", "bo"), ("a.org", "/users", "reject", "bo"),
        ("b.org", "/", "reject", "ada"), ("b.org", "/", "reject", "bo"),
        ("c.org", "/", "unsure", "ada"), ("c.org", "/", "reject", "bo"),
        ("d.org", "/", "accept", "ada"),
    )  # fmt: skip
    both = agreement(found, "ada", "bo")
    assert (both.items, both.agreed) == (4, 2)
    assert [(one.domain, one.prefix, one.verdicts) for one in both.conflicts] == [
        ("a.org", "/users", {"ada": "accept", "bo": "reject"}),
        ("c.org", "/", {"ada": "unsure", "bo": "reject"}),
    ]
    # ada: 2 accept, 1 reject, 1 unsure; bo: 1 accept, 3 reject; expected (2*1 + 1*3) / 16
    assert both.kappa == pytest.approx((0.5 - 5 / 16) / (1 - 5 / 16))
    mirrored = agreement(found, "bo", "ada")
    assert (mirrored.kappa, len(mirrored.conflicts)) == (both.kappa, 2)


def test_many_pages_and_rules_at_once() -> None:
    generator = np.random.default_rng(0)
    count = 100_000
    domains = pa.array([f"d{n}.org" for n in generator.integers(0, 50, count)])
    paths = pa.array([f"/{'quf'[n % 3]}/{n % 97}/page-{n}" for n in range(count)])
    found = decisions(
        *((f"d{n}.org", p, v) for n in range(25) for p, v in (("/", "accept"), ("/u", "reject"), ("/q/7", "split")))
    )
    codes = found.accepts(domains, paths)
    wanted = [
        int(domain[1:-4]) < 25 and path[1] != "u" and not path.startswith("/q/7/")
        for domain, path in zip(domains.to_pylist(), paths.to_pylist(), strict=True)
    ]
    assert codes.tolist() == wanted
