"""Files and folders that are whole or not there, whenever their writer dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dsm.files import atomic_directory, atomic_file, atomic_write_text, clear_partial_files, sole_writer

SLAIN = """
import os, signal, sys
from pathlib import Path
from dsm.files import atomic_directory
if sys.argv[2] == "between the renames":
    rename = Path.rename
    def killed(self, target):
        rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = killed
with atomic_directory(Path(sys.argv[1])) as aside:
    (aside / "weights").write_text("new")
    if sys.argv[2] == "in the block":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def fill(folder: Path, **files: str) -> None:
    with atomic_directory(folder) as aside:
        for name, text in files.items():
            (aside / name).write_text(text)


def test_a_folder_appears_whole_and_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "export"
    with atomic_directory(folder) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "a").write_text("1")
        assert not folder.exists()
        assert aside.name.startswith(".")
    assert (folder / "sub" / "a").read_text() == "1"
    fill(folder, b="2")
    assert content(folder) == {"b": "2"}
    assert os.listdir(tmp_path / "deep") == ["export"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    fill(folder, weights="old")
    with pytest.raises(FileNotFoundError):
        fill(folder, **{"weights": "new", "no/such/folder": "new"})
    assert content(folder) == {"weights": "old"}
    assert os.listdir(tmp_path) == ["export"]


@pytest.mark.parametrize("when", ["in the block", "between the renames"])
def test_a_killed_writer_loses_nothing(when: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    fill(folder, weights="old")
    dead = subprocess.run([sys.executable, "-c", SLAIN, str(folder), when], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert folder.exists() == (when == "in the block")
    with pytest.raises(FileNotFoundError):  # the next writer first puts back what was there, then fails
        fill(folder, **{"no/such/folder": "new"})
    assert content(folder) == {"weights": "old"}
    assert os.listdir(tmp_path) == ["export"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    for text in ("eins", "zwei 数"):
        atomic_write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(path.parent) == ["state.json"]


def test_a_file_that_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "step.ckpt"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_file(path) as file:
            file.write(b"ne")
            assert sorted(os.listdir(tmp_path)) == [".step.ckpt.partial", "step.ckpt"]
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["step.ckpt"]


def test_what_killed_writers_left_is_cleared(tmp_path: Path) -> None:
    for name in (".a.partial", "a", "b.partial", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / ".c.partial" / "d").mkdir(parents=True)
    clear_partial_files(tmp_path)
    clear_partial_files(tmp_path / "absent")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a", "b.partial"]


MAKER = """
import sys, time
from pathlib import Path
from dsm.files import atomic_directory, sole_writer
folder = Path(sys.argv[1])
with sole_writer(folder):
    if not folder.is_dir():
        with atomic_directory(folder) as aside:
            time.sleep(0.2)
            (aside / sys.argv[2]).write_text("made")
"""


def test_of_several_that_would_make_the_same_one_does_and_the_others_find_it(tmp_path: Path) -> None:
    makers = [subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path / "shared"), str(n)]) for n in range(3)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert len(list((tmp_path / "shared").iterdir())) == 1


def test_a_killed_writer_holds_nobody_up(tmp_path: Path) -> None:
    held = "import sys, os, signal; from pathlib import Path; from dsm.files import sole_writer\n"
    held += "with sole_writer(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", held, str(tmp_path / "shared")], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with sole_writer(tmp_path / "shared"):
        assert not (tmp_path / "shared").exists()
