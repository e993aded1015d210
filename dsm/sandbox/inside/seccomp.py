"""The system calls a program may make: a list of what is allowed, as seccomp filters in classic BPF.

Allowed is what CPython, NumPy and SymPy need to compute, to read files and to print. All else fails: sockets,
processes, signals, namespaces, tracing, keys, bpf, io_uring, and any call invented later. A few calls are allowed with
certain arguments only. Processes cannot multiply, so the limits on one process bound the whole program.

There are two filters, and the kernel heeds both. The server's is the long one, and lets it fork and wait besides; it is
made once. The program's is short, since every run installs it, and takes back what only the server needs.

They are assembled here, without libseccomp: sixty lines for two architectures are easier to check than a binding.
Sources: linux/filter.h, linux/seccomp.h, and the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

# name, number on x86_64, number on aarch64 ("-": this architecture has none)
_ALLOWED = """
read 0 63   write 1 64   readv 19 65   writev 20 66   pread64 17 67   pwrite64 18 68   preadv 295 69
pwritev 296 70   lseek 8 62   close 3 57   close_range 436 436   dup 32 23   dup2 33 -   dup3 292 24   pipe 22 -
pipe2 293 59   select 23 -   pselect6 270 72   poll 7 -   ppoll 271 73   epoll_create1 291 20   epoll_ctl 233 21
epoll_wait 232 -   epoll_pwait 281 22   eventfd2 290 19   open 2 -   openat 257 56   access 21 -
faccessat 269 48   faccessat2 439 439   stat 4 -   fstat 5 80   lstat 6 -   newfstatat 262 79   statx 332 291
statfs 137 43   fstatfs 138 44   readlink 89 -   readlinkat 267 78   getdents64 217 61   getcwd 79 17
chdir 80 49   fchdir 81 50   umask 95 166   fadvise64 221 223   mmap 9 222   munmap 11 215   mprotect 10 226
mremap 25 216   madvise 28 233   brk 12 214   rt_sigaction 13 134   rt_sigprocmask 14 135   rt_sigreturn 15 139
rt_sigpending 127 136   rt_sigtimedwait 128 137   rt_sigsuspend 130 133   sigaltstack 131 132   pause 34 -
alarm 37 -   getitimer 36 102   setitimer 38 103   restart_syscall 219 128   futex 202 98
set_robust_list 273 99   set_tid_address 218 96   rseq 334 293   membarrier 324 283   sched_yield 24 124
sched_getaffinity 204 123   arch_prctl 158 -   gettid 186 178   exit 60 93   exit_group 231 94   getpid 39 172
getppid 110 173   getuid 102 174   geteuid 107 175   getgid 104 176   getegid 108 177   getresuid 118 148
getresgid 120 150   getgroups 115 158   getpgrp 111 -   getpgid 121 155   getsid 124 156   getrlimit 97 163
getrusage 98 165   times 100 153   uname 63 160   sysinfo 99 179   time 201 -   gettimeofday 96 169
clock_gettime 228 113   clock_getres 229 114   clock_nanosleep 230 115   nanosleep 35 101   getrandom 318 278
getcpu 309 168
"""
# What only the server needs: to fork, wait, stop a program and talk to its client.
_SERVER = """
wait4 61 260   pidfd_open 434 434   kill 62 129   recvfrom 45 207   sendto 44 206
"""
_CHECKED = """
clone 56 220   fcntl 72 25   ioctl 16 29   prctl 157 167   prlimit64 302 261
"""

_THREAD, _NEW_NAMESPACES = 0x0001_0000, 0x7E02_0000  # CLONE_THREAD; every CLONE_NEW*
_FCNTL = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: no owners, leases, sizes
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_SET_PDEATHSIG, _SET_NAME, _SET_SECCOMP = 1, 15, 22  # of prctl
_SELF = 0  # as prlimit64's process

_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, ALU|AND|K, JMP|JEQ|K, JGE, RET|K
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_DENY = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
_X32 = 0x4000_0000
_NEWEST = 424  # from here on all architectures share numbers; ENOSYS makes the C library fall back to an older call

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


@dataclass(frozen=True)
class _Architecture:
    audit: int
    column: int
    x32: bool


_ARCHITECTURES = {"x86_64": _Architecture(0xC000_003E, 1, True), "aarch64": _Architecture(0xC000_00B7, 2, False)}


def supported(machine: str) -> bool:
    """Whether there is a filter for this `os.uname().machine` with 64-bit addresses."""
    return machine in _ARCHITECTURES and struct.calcsize("P") == 8


def server_filter(machine: str) -> bytes:
    """What the server may call, and so programs at most: `struct sock_filter[]`."""
    architecture = _ARCHITECTURES[machine]
    code = _start(architecture)
    for number in _numbers(_ALLOWED + _SERVER, architecture).values():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    checked = _numbers(_CHECKED, architecture)
    code += _check(checked["clone"], 0, (0, _THREAD), mask=_THREAD | _NEW_NAMESPACES)
    code += _check(checked["fcntl"], 1, _FCNTL)
    code += _check(checked["ioctl"], 1, _IOCTL)
    code += _check(checked["prctl"], 0, (_SET_PDEATHSIG, _SET_NAME, _SET_SECCOMP))
    code += _check(checked["prlimit64"], 0, (_SELF,))
    code += [(_AT_LEAST, 0, 1, _NEWEST), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS), _DENY]
    return _pack(code)


def program_filter(machine: str) -> bytes:
    """What a program may not call even though the server may: to be installed on top of the server's."""
    architecture = _ARCHITECTURES[machine]
    code = _start(architecture)
    for number in _numbers(_SERVER, architecture).values():
        code += [(_EQUAL, 0, 1, number), _DENY]
    checked = _numbers(_CHECKED, architecture)
    code += _check(checked["clone"], 0, (_THREAD,), mask=_THREAD)
    code += _check(checked["prctl"], 0, (_SET_NAME,))
    return _pack([*code, (_RETURN, 0, 0, _ALLOW)])


def _start(architecture: _Architecture) -> list[_Instruction]:
    """Load the number of the call, having killed what calls by other numbers: 32-bit code, and x32."""
    code = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture.audit), (_RETURN, 0, 0, _KILL_PROCESS)]
    code.append((_LOAD, 0, 0, _NUMBER))
    if architecture.x32:  # the same audit word, the numbers shifted
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL_PROCESS)]
    return code


def _pack(code: list[_Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _numbers(table: str, architecture: _Architecture) -> dict[str, int]:
    words = table.split()
    rows = zip(words[::3], words[architecture.column :: 3], strict=True)
    return {name: int(number) for name, number in rows if number != "-"}


def _check(number: int, argument: int, values: tuple[int, ...], mask: int | None = None) -> list[_Instruction]:
    """Allow call `number` if its argument (the low 32 bits: the kernel reads no more of these) is one of `values`."""
    body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]  # both are little-endian
    if mask is not None:
        body.append((_AND, 0, 0, mask))
    for value in values:
        body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    body.append(_DENY)
    return [(_EQUAL, 0, len(body), number), *body]


_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class _Filter(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def install(code: bytes) -> None:
    """Bind the calling thread, and all it starts, by this filter for good. PR_SET_NO_NEW_PRIVS must be set.

    Raises:
        OSError: if the kernel refuses; nothing is filtered then.
    """
    program = _Filter(len(code) // 8, code)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
