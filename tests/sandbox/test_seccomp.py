"""The filters, run by an interpreter of their byte code: what each call of each architecture comes to."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from dsm.sandbox.inside.seccomp import _ALLOWED, _CHECKED, _SERVER, program_filter, server_filter, supported

ALLOW, KILL = "allow", "kill"
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}
ROW = re.compile(r"(\w+) (\S+) (\S+)")
TABLE = {name: {"x86_64": x86, "aarch64": arm} for name, x86, arm in ROW.findall(_ALLOWED + _SERVER + _CHECKED)}
MACHINES = ["x86_64", "aarch64"]


def verdict(code: bytes, audit: int, number: int, *arguments: int) -> str | int:
    """Run a filter as the kernel does (linux/filter.h): ALLOW, KILL, or the errno of the failure."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("<HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, constant = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                accumulator &= constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x06:
                kind = constant & 0xFFFF0000
                return {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x00050000: constant & 0xFFFF}[kind]
            case _:
                raise AssertionError(f"not an operation we use: {operation:#x}")


def both(machine: str, name: str | int, *arguments: int) -> tuple[str | int, str | int]:
    """What the call comes to for the server, and for a program, whom both filters bind."""
    number = int(TABLE[name][machine]) if isinstance(name, str) else name
    server = verdict(server_filter(machine), AUDIT[machine], number, *arguments)
    program = verdict(program_filter(machine), AUDIT[machine], number, *arguments)
    return server, server if server != ALLOW else program


@pytest.mark.parametrize("machine", MACHINES)
def test_what_computing_needs_is_allowed(machine: str) -> None:
    for name, *_ in ROW.findall(_ALLOWED):
        if TABLE[name][machine] != "-":
            assert both(machine, name) == (ALLOW, ALLOW), name


@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_server_needs_is_taken_back_from_programs(machine: str) -> None:
    for name, *_ in ROW.findall(_SERVER):
        assert both(machine, name) == (ALLOW, errno.EPERM), name


@pytest.mark.parametrize("machine", MACHINES)
def test_programs_start_threads_and_nothing_else(machine: str) -> None:
    glibc, musl, fork, vfork = 0x3D0F00, 0x7D0F00, 0x1200011, 0x4111
    assert both(machine, "clone", glibc) == both(machine, "clone", musl) == (ALLOW, ALLOW)
    assert both(machine, "clone", fork) == both(machine, "clone", vfork) == (ALLOW, errno.EPERM)
    for namespace in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
        assert both(machine, "clone", namespace | 17) == (errno.EPERM, errno.EPERM)
        assert both(machine, "clone", glibc | namespace) == (errno.EPERM, errno.EPERM)
    assert both(machine, 435, 0) == (errno.ENOSYS, errno.ENOSYS)  # clone3: libc falls back to clone


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_are_checked(machine: str) -> None:
    assert both(machine, "fcntl", 1, 3) == (ALLOW, ALLOW)
    assert both(machine, "fcntl", 1, 8)[1] == both(machine, "fcntl", 1, 10)[1] == errno.EPERM  # F_SETOWN, F_SETSIG
    assert both(machine, "ioctl", 0, 0x5401) == (ALLOW, ALLOW)
    assert both(machine, "ioctl", 0, 0x5412)[1] == errno.EPERM  # TIOCSTI
    assert both(machine, "ioctl", 0, 0x5412_0000_5401)[1] == ALLOW  # the kernel reads 32 bits, and so do we
    assert both(machine, "prlimit64", 0) == (ALLOW, ALLOW)
    assert both(machine, "prlimit64", 1)[1] == errno.EPERM
    assert both(machine, "prctl", 15) == (ALLOW, ALLOW)
    assert both(machine, "prctl", 22) == (ALLOW, errno.EPERM)  # PR_SET_SECCOMP: the server needs it once a program
    assert both(machine, "prctl", 4)[1] == errno.EPERM  # PR_SET_DUMPABLE


@pytest.mark.parametrize("machine", MACHINES)
def test_everything_else_fails_whatever_it_may_be(machine: str) -> None:
    known = {int(numbers[machine]) for numbers in TABLE.values() if numbers[machine] != "-"}
    for number in set(range(2_000)) - known:
        expected = errno.ENOSYS if number >= 424 else errno.EPERM
        assert both(machine, number) == (expected, expected)


@pytest.mark.parametrize("code", [server_filter, program_filter])
def test_other_numberings_are_fatal(code) -> None:
    assert verdict(code("x86_64"), AUDIT["i386"], 20) == KILL
    assert verdict(code("x86_64"), AUDIT["aarch64"], 0) == KILL
    assert verdict(code("aarch64"), AUDIT["arm"], 20) == KILL
    assert verdict(code("x86_64"), AUDIT["x86_64"], 0x40000000) == KILL  # x32's read
    assert verdict(code("x86_64"), AUDIT["x86_64"], 0xFFFFFFFF) == KILL


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    official = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    assert {name: numbers["x86_64"] for name, numbers in TABLE.items()} == {name: official[name] for name in TABLE}
    # aarch64 uses the generic table; calls that differ between word lengths appear there as __NR3264_<name>
    generic_header = Path("/usr/include/asm-generic/unistd.h").read_text()
    generic = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", generic_header))
    for name, numbers in TABLE.items():
        if numbers["aarch64"] != "-":
            number = generic.get("fstatat" if name == "newfstatat" else name)
            assert numbers["aarch64"] == number, name


def test_support() -> None:
    assert supported("x86_64")
    assert supported("aarch64")
    assert not supported("riscv64")
