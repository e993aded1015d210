"""Where programs cannot be shut in, the user is told what is missing; where they can, the jail is strict."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox import Program, Sandbox
from dsm.sandbox import jail as jail_module
from dsm.sandbox import probe as probe_module
from dsm.sandbox.jail import Jail, readable_paths
from dsm.sandbox.probe import probe

ASK = """
from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox.probe import probe
try:
    print(probe(SandboxConfig(allow_weaker={weaker})))
except UserError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    """What one test found out is not to be another's answer."""
    caches = (probe_module._try, probe_module._warn)
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


def ask(*before: str, weaker: bool = False, path: str | None = None) -> str:
    """The answer of another process, started by the command `before`."""
    environment = {**os.environ, "PATH": path} if path is not None else dict(os.environ)
    command = [*before, sys.executable, "-W", "ignore", "-c", ASK.format(weaker=weaker)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.strip()


# ---------------------------------------------------------------- refusals


def test_without_bubblewrap_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "dnf").touch(mode=0o755)
    answer = ask(path=str(tmp_path))
    sudo = "" if os.getuid() == 0 else "sudo "
    assert f"bubblewrap (bwrap) is missing; install it: {sudo}dnf install bubblewrap" in answer
    assert "sandbox.allow_weaker=true" in answer
    assert "\n" not in answer


def test_weaker_is_possible_on_demand_and_warned_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    config = SandboxConfig(workers=1, preload=[], allow_weaker=True)
    try:
        with pytest.warns(UserWarning, match="run without a jail") as caught:
            Sandbox(config).close()
    except UserError as error:  # root's interpreter is out of others' reach, and without CAP_SYS_ADMIN stays so
        pytest.skip(str(error))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Sandbox(config) as sandbox:
            assert sandbox.isolation == "weaker"
            assert sandbox.run([Program("print(1)")])[0].stdout == "1\n"


def test_allowing_weaker_changes_nothing_where_a_jail_is_possible(jail_possible: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(SandboxConfig(allow_weaker=True)) == "jail"


def test_a_kernel_that_forbids_namespaces(jail_possible: None) -> None:
    within = [
        "bwrap",
        "--unshare-user",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--bind",
        "/",
        "/",
        "--dev-bind",
        "/dev",
        "/dev",
    ]
    if (
        "--disable-userns"
        not in subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False).stdout
    ):
        pytest.skip("this bubblewrap cannot forbid namespaces")
    answer = ask(*within, "--disable-userns", "--")
    assert answer.startswith("sandbox: model-written programs cannot be isolated here: ")
    assert "bwrap: " in answer
    assert ask(*within, "--disable-userns", "--", weaker=True) == "weaker"
    assert ask(*within, "--") == "jail"  # it is that option that makes the difference


def test_root_that_is_an_ordinary_user_outside(jail_possible: None) -> None:
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("unshare -Ur does not work here")
    assert ask("unshare", "-Ur") == "jail"


@pytest.mark.parametrize(
    ("file", "value", "cure"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_advice_on_the_kernels_switches(
    file: str, value: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "_KERNEL", tmp_path)
    monkeypatch.setattr(probe_module, "_CONTAINERS", ())
    monkeypatch.setattr(probe_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("23\n")
    said = "bwrap: setting up uid map:\nPermission denied"
    assert probe_module._advice(said) == "bwrap says: bwrap: setting up uid map: Permission denied"
    (tmp_path / file).write_text(f"{value}\n")
    assert cure in probe_module._advice(said)


def test_advice_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "_KERNEL", tmp_path)
    monkeypatch.setattr(probe_module, "_CONTAINERS", (tmp_path,))
    monkeypatch.setattr(probe_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "docker run --security-opt seccomp=unconfined" in probe_module._advice("bwrap: No permissions")


def test_a_jail_with_a_hole_is_found_out(jail_possible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jail_module.bwrap_command
    monkeypatch.setattr(jail_module, "bwrap_command", lambda uid: [*whole(uid)[:-1], "--tmpfs", "/tmp", "--"])
    with pytest.raises(UserError, match="a program gets at writing"):
        probe(SandboxConfig())


# ---------------------------------------------------------------- what the jail is made of


def test_the_jails_processes_have_no_privileges_and_no_environment(
    jail_possible: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSM_TEST_SECRET", "opensesame")
    config = SandboxConfig(preload=[])
    jail = Jail(config, number=3)
    try:
        outer = jail._process.pid
        inner = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
        for pid in (outer, inner):
            try:
                assert b"opensesame" not in Path(f"/proc/{pid}/environ").read_bytes()
            except PermissionError:
                assert os.getuid() != 0  # not even we may look
        lines = Path(f"/proc/{inner}/status").read_text().splitlines()
        status = dict(line.split(":\t") for line in lines if ":\t" in line)
        expected = config.uid + 3 if os.getuid() == 0 else os.getuid()
        assert status["Uid"].split() == [str(expected)] * 4
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["NSpid"].split()[-1] == "1"
        for kind in ("net", "pid", "mnt", "user", "ipc", "uts") if os.getuid() == 0 else ():  # others may not look
            assert os.readlink(f"/proc/{inner}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    finally:
        jail.close()


def test_the_jail_holds_the_interpreter_and_the_systems_libraries_only(jail_possible: None) -> None:
    code = """
import os
found = []
for folder, folders, files in os.walk("/"):
    if folder in READS:
        folders.clear()
    else:
        found += [os.path.join(folder, name) for name in files]
answer = sorted(found)
"""
    jail = Jail(SandboxConfig(preload=[]))
    reads = [*readable_paths(), "/jail/inside"]
    execution, _ = jail.run(Program(f"READS = {reads!r}\n{code}", "answer"))
    jail.close()
    expected = {
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
        *(path for path in reads if os.path.isfile(path)),
    }
    assert execution.value == str(sorted(expected)), execution
    repository = str(Path(__file__).resolve().parents[2])
    for private in ("/root", "/home", "/etc", "/proc", "/var", "/tmp", repository):
        assert private not in reads
