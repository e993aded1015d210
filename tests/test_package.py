"""What is installed: the wheel brings conf/ and runs from any folder, and every dependency is pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OF_CUDA = re.compile(r"nvidia-|cuda-|triton")  # torch itself pins these, where its build needs them


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built by the hook that pip calls."""
    from hatchling.build import build_wheel

    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return folder / build_wheel(str(folder))
    finally:
        os.chdir(before)


def test_the_wheel_holds_every_setting_and_module_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    settings = {f"dsm/{file.relative_to(ROOT)}" for file in (ROOT / "conf").rglob("*") if file.is_file()}
    files = (file for file in (ROOT / "dsm").rglob("*") if file.is_file() and file.suffix != ".pyc")
    modules = {str(file.relative_to(ROOT)) for file in files}
    assert names == settings | modules
    assert len(settings) > 20


def test_the_wheel_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    """Composition and plan of the unpacked wheel, with neither the tree nor its conf/ in reach."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    (elsewhere / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    settings = ["stage=sft", "data.sources.mine.path=rows.jsonl", "tokenizer.path=hub:some/tokenizer", "model=mini"]

    def dsm(*arguments: str) -> str:
        code = "import sys, dsm.cli; print(dsm.cli.__file__); sys.exit(dsm.cli.main(sys.argv[1:]))"
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        where, text = run.stdout.split("\n", 1)
        assert where == str(site / "dsm" / "cli.py")
        return text

    assert "stage=sft" in dsm("--help")
    composed = dsm(*settings, "--cfg", "job")
    assert "path: rows.jsonl" in composed
    assert "hidden_size: 256" in composed
    assert "Plan of stage=sft" in dsm(*settings, "mode=plan")


def test_the_command_is_installed() -> None:
    points = distribution("dsm").entry_points.select(group="console_scripts", name="dsm")
    assert [point.value for point in points] == ["dsm.cli:main"]


def test_every_dependency_is_pinned() -> None:
    """All that `pip install .[dev]` brings, followed through the installed packages, stands in constraints.txt."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) == name, line
            assert "+" not in version, line
            pins[name] = version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    seen: set[str] = set()
    needed: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        elsewhere = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if elsewhere or str(requirement) in seen or OF_CUDA.match(name):
            continue
        seen.add(str(requirement))
        needed.add(name)
        for further in map(Requirement, distribution(name).requires or []):
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}):
                further.marker = None
                todo.append(further)
    assert needed <= set(pins), f"not pinned: {sorted(needed - set(pins))}; run 'make constraints'"
    assert {"torch", "transformers", "pytest", "hatchling", "ruff", "mypy"} <= needed
