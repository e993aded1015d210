"""Programs that try to get out, to do harm or to outlive their run. Each prints ESCAPED where it succeeds.

They find the addresses of their targets in `WORLD` (see `siege.py`) and helpers from `PRELUDE`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

PRELUDE = '''
import ctypes, os, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, *arguments):
    """Do something that must fail."""
    try:
        got = what(*arguments)
    except (Exception, SystemExit) as error:
        print("contained:", type(error).__name__, error)
    else:
        print("ESCAPED", what, got)

def call(number, *arguments):
    """A system call, past the C library's wrappers."""
    got = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def read(path):
    with open(path, "rb") as file:
        return file.read(100_000)
'''


@dataclass(frozen=True)
class Attack:
    """`ends`: the statuses it may come to. `result`: as a `Program`'s."""

    code: str
    ends: str = "ok"
    result: str | None = None
    x86_only: bool = False


def attacks(**table: str | Attack) -> dict[str, Attack]:
    """Attacks by name, each with the prelude; a bare program is to come to its end, having failed."""
    complete = {}
    for name, attack in table.items():
        attack = attack if isinstance(attack, Attack) else Attack(attack)
        code = PRELUDE + textwrap.dedent(attack.code)
        complete[name] = replace(attack, code=code)
    return complete


NETWORK = attacks(
    tcp="attempt(socket.create_connection, ('127.0.0.1', WORLD['tcp']), 1)",
    tcp_outside="attempt(socket.create_connection, ('1.1.1.1', 53), 1)",
    udp="attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', WORLD['udp'])))",
    dns="attempt(socket.getaddrinfo, 'example.org', 80)",
    listen="attempt(lambda: socket.create_server(('127.0.0.1', 0)))",
    ipv6="attempt(lambda: socket.socket(socket.AF_INET6))",
    abstract_unix_socket="attempt(lambda: socket.socket(socket.AF_UNIX).connect(WORLD['abstract']))",
    path_unix_socket="attempt(lambda: socket.socket(socket.AF_UNIX).connect(WORLD['socket']))",
    unix_pair_to_abstract="""
        def send():
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            one.sendto(b"x", WORLD["abstract"])
        attempt(send)
    """,
    netlink="attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0)))",
    raw_packets="""
        attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    """,
    vsock="attempt(lambda: socket.socket(40, socket.SOCK_STREAM))",
    url="import urllib.request; attempt(urllib.request.urlopen, f\"http://127.0.0.1:{WORLD['tcp']}/\")",
)

READING = attacks(
    secret_file="attempt(read, WORLD['secret'])",
    shadow="attempt(read, '/etc/shadow')",
    passwd="attempt(read, '/etc/passwd')",
    home="attempt(os.listdir, '/home'); attempt(read, '/root/.bashrc'); attempt(read, '/root/.ssh/id_rsa')",
    repository="for name in ('pyproject.toml', 'dsm/cli.py'): attempt(read, WORLD['repository'] + '/' + name)",
    environment="print(dict(os.environ)); attempt(lambda: os.environ['DSM_TEST_SECRET'])",
    own_environ="attempt(read, '/proc/self/environ')",
    first_environ="attempt(read, '/proc/1/environ')",
    callers_environ="for pid in (WORLD['caller'], os.getppid()): attempt(read, f'/proc/{pid}/environ')",
    callers_memory="for pid in (WORLD['caller'], os.getppid()): attempt(read, f'/proc/{pid}/mem')",
    own_maps="attempt(read, '/proc/self/maps')",
    processes="attempt(lambda: [name for name in os.listdir('/proc') if name.isdigit()])",
    root_of_others="attempt(os.listdir, '/proc/1/root'); attempt(os.listdir, f'/proc/{os.getppid()}/cwd/')",
    kernel="""
        attempt(os.listdir, "/sys")
        for path in ("/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/kallsyms", "/proc/sys/kernel/core_pattern"):
            attempt(read, path)
    """,
    up_and_out="attempt(read, '../' * 30 + WORLD['secret'].lstrip('/'))",
    link_to_secret="attempt(lambda: (os.symlink(WORLD['secret'], 'link'), read('link')))",
    callers_memory_by_call="""
        buffer = ctypes.create_string_buffer(64)
        def peek(pid):
            vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
            remote = (ctypes.c_void_p * 2)(id(sys), 64)
            return call(310 if os.uname().machine == "x86_64" else 270, pid, vector, 1, remote, 1, 0)
        attempt(peek, os.getppid())
        attempt(peek, WORLD["caller"])
    """,
)

WRITING = attacks(
    beside_secret="attempt(open, WORLD['folder'] + '/escaped', 'w')",
    tmp="attempt(open, '/tmp/escaped', 'w'); attempt(os.mkdir, '/tmp/escaped')",
    working_folder="attempt(open, 'escaped', 'w')",
    shm="attempt(open, '/dev/shm/escaped', 'w'); import multiprocessing.shared_memory as s; "
    "attempt(s.SharedMemory, 'escaped', True, 1 << 20)",
    everywhere="""
        library = os.path.dirname(os.__file__)
        for folder in ("/", "/dev", "/usr", "/usr/lib", "/etc", "/var/tmp", "/run", library, *sys.path):
            attempt(open, folder + "/escaped", "w")
            attempt(os.open, folder, os.O_TMPFILE | os.O_RDWR)
    """,
    poison_packages="""
        import numpy, sympy
        for path in (numpy.__file__, sympy.__file__, os.__file__, *(m.__file__ for n, m in list(sys.modules.items())
                     if n.startswith("inside") and getattr(m, "__file__", None))):
            attempt(open, path, "a")
            attempt(os.unlink, path)
            attempt(os.rename, path, path + ".old")
            attempt(os.chmod, path, 0o777)
            attempt(os.truncate, path, 0)
    """,
    temporary_files="import tempfile; attempt(tempfile.mkdtemp); attempt(tempfile.TemporaryFile)",
    special_files="attempt(os.mkfifo, 'pipe'); attempt(os.mknod, 'node'); attempt(os.link, os.__file__, 'link')",
    memory_file="attempt(os.memfd_create, 'escaped')",
    fill_disk="""
        for path in ("/tmp/fill", "/dev/shm/fill", "fill"):
            def fill():
                with open(path, "wb") as file:
                    for _ in range(1 << 10):
                        file.write(bytes(1 << 20))
            attempt(fill)
    """,
)

MEMORY = attacks(
    bytes_at_once=Attack("bytearray(1 << 40)", "memory"),
    bytes_bit_by_bit=Attack("hoard = []\nwhile True: hoard.append(bytearray(1 << 24))", "memory timeout"),
    numpy_at_once=Attack("import numpy; numpy.ones(1 << 40)", "memory"),
    numpy_bit_by_bit=Attack(
        "import numpy as np\nhoard = []\nwhile True: hoard.append(np.ones(1 << 20))", "memory timeout"
    ),
    string=Attack("text = 'x'\nwhile True: text += text", "memory timeout"),
    swallowed=Attack(
        """
        hoard = []
        while True:
            try:
                hoard.append(bytearray(1 << 24))
            except MemoryError:
                if sum(map(len, hoard)) > 1 << 30:
                    print("ESCAPED")
        """,
        "timeout",
    ),
    shared_maps=Attack(
        "import mmap\nhoard = []\nwhile True: hoard.append(mmap.mmap(-1, 1 << 26))", "error memory timeout"
    ),
    stacks="""
        threading.stack_size(1 << 26)
        def start():
            for number in range(1000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        attempt(start)
    """,
    pipes="attempt(lambda: [os.pipe() for _ in range(1000)])",
    raise_limits="""
        import resource
        for name in dir(resource):
            if name.startswith("RLIMIT_"):
                kind = getattr(resource, name)
                hard = resource.getrlimit(kind)[1]
                if hard != resource.RLIM_INFINITY:
                    attempt(resource.setrlimit, kind, (hard + 1, hard + 1))
        attempt(resource.prlimit, os.getppid(), resource.RLIMIT_CPU, (0, 0))
        attempt(resource.prlimit, WORLD["caller"], resource.RLIMIT_CPU, (0, 0))
    """,
)

PROCESSES = attacks(
    fork="attempt(os.fork)",
    fork_bomb="""
        for _ in range(10_000):
            try:
                os.fork()
            except OSError:
                continue
            print("ESCAPED")
    """,
    fork_in_thread="thread = threading.Thread(target=attempt, args=(os.fork,)); thread.start(); thread.join()",
    vfork_and_others="""
        numbers = (57, 58, 435) if os.uname().machine == "x86_64" else (435,)
        for number in numbers:
            attempt(call, number, 0, 0, 0, 0, 0)
        clone = 56 if os.uname().machine == "x86_64" else 220
        for flags in (0, 17, 0x100 | 17, 0x10000000 | 17, 0x20000 | 17, 0x8000 | 17, 0x50f00):
            if flags & 0x10000 == 0:
                attempt(call, clone, flags, 0, 0, 0, 0)
    """,
    shell="attempt(subprocess.run, ['/bin/sh', '-c', 'id']); print(os.system('id') == 0 and 'ESCAPED' or 'contained')",
    spawn="attempt(os.posix_spawn, sys.executable, [sys.executable, '-V'], {})",
    multiprocessing="import multiprocessing as m; attempt(lambda: m.get_context('fork').Process(target=print).start())",
    executor="import concurrent.futures as f; attempt(lambda: f.ProcessPoolExecutor(1).submit(print).result(5))",
    replace_self="attempt(os.execv, sys.executable, [sys.executable, '-c', 'print(\"ESCAPED\")'])",
    daemon="""
        def daemon():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(3600)
                os._exit(0)
        attempt(daemon)
    """,
    new_session="attempt(os.setsid); attempt(os.setpgid, 0, 0)",
    threads=Attack(
        """
        def start():
            for number in range(10_000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        threading.stack_size(1 << 15)
        attempt(start)
        print("ESCAPED" if threading.active_count() > 40 else "contained")
        """
    ),
    threads_go_on=Attack(
        """
        def run():
            while True:
                print("still here")
        threading.Thread(target=run, daemon=True).start()
        """
    ),
    thread_never_ends=Attack("threading.Thread(target=time.sleep, args=(60,)).start()", "timeout"),
)

SIGNALS = attacks(
    server="""
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
            attempt(os.kill, os.getppid(), number)
            attempt(os.kill, 1, number)
    """,
    everybody="attempt(os.kill, -1, signal.SIGKILL); attempt(os.killpg, 0, signal.SIGKILL)",
    caller="attempt(os.kill, WORLD['caller'], signal.SIGSTOP); attempt(os.kill, WORLD['bystander'], signal.SIGKILL)",
    by_other_calls="""
        numbers = (200, 234, 129, 297, 434, 424) if os.uname().machine == "x86_64" else (130, 131, 138, 240, 434, 424)
        for pid in (1, os.getppid(), WORLD["bystander"]):
            for number in numbers:
                attempt(call, number, pid, pid if number in (131, 234, 240, 297) else 9, 9, 0)
    """,
    by_owned_file="""
        import fcntl
        for command, value in ((fcntl.F_SETOWN, os.getppid()), (fcntl.F_SETSIG, 9), (fcntl.F_NOTIFY, 1),
                               (fcntl.F_SETLEASE, 0), (fcntl.F_SETPIPE_SZ, 1 << 20)):
            attempt(fcntl.fcntl, 1, command, value)
    """,
    trace="""
        number = 101 if os.uname().machine == "x86_64" else 117
        for request in (0, 16, 0x4206):
            attempt(call, number, request, os.getppid(), 0, 0)
            attempt(call, number, request, WORLD["caller"], 0, 0)
    """,
    priority="""
        attempt(os.setpriority, os.PRIO_PROCESS, os.getppid(), 19)
        attempt(os.setpriority, os.PRIO_PROCESS, WORLD["bystander"], 19)
        attempt(os.setpriority, os.PRIO_USER, os.getuid(), 19)
        attempt(os.nice, -5)
        attempt(os.sched_setaffinity, os.getppid(), {0})
        attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    """,
    ignore_all=Attack(
        """
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            pass
        """,
        "timeout",
    ),
    block_all=Attack("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nsum(range(10**13))", "timeout"),
)

TIME = attacks(
    loop=Attack("while True: pass", "timeout"),
    loop_that_catches=Attack(
        """
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
        """,
        "timeout",
    ),
    sleep=Attack("time.sleep(3600)", "timeout"),
    wait_for_signal=Attack("signal.pause() if os.uname().machine == 'x86_64' else time.sleep(3600)", "timeout"),
    big_integer=Attack("3 ** 10 ** 9", "timeout"),
    regular_expression=Attack("import re; re.match('(a+)+$', 'a' * 60 + 'b')", "timeout"),
    symbolic=Attack("import sympy; sympy.factorint((2**521 - 1) * (2**607 - 1))", "timeout"),
    many_cores=Attack(
        """
        import numpy
        for _ in range(8):
            threading.Thread(target=lambda: numpy.ones((300, 300)) @ numpy.ones((300, 300)), daemon=True).start()
        while True:
            pass
        """,
        "timeout",
    ),
    read_stdin=Attack("print(repr(sys.stdin.read()), repr(os.read(0, 10))); input()", "error"),
    recursion=Attack("def f(): f()\nf()", "error"),
    recursion_unlimited=Attack("sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "memory error crashed timeout"),
    recursion_in_c=Attack(
        """
        sys.setrecursionlimit(10**9)
        def f(n): return max([n], key=lambda k: f(k + 1))
        f(0)
        """,
        "crashed memory",
    ),
    set_clock="""
        attempt(time.clock_settime, time.CLOCK_REALTIME, 0)
        attempt(call, 164 if os.uname().machine == "x86_64" else 170, 0, 0)
    """,
    own_alarm=Attack("signal.alarm(1); signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.2)", "crashed"),
)

OUTPUT = attacks(
    stdout=Attack("while True: print('x' * 10_000)", "output timeout"),
    stderr=Attack("while True: os.write(2, b'x' * 10_000)", "output timeout"),
    one_line=Attack("print('x' * 10**8)", "output"),
    bytes_of_all_kinds="os.write(1, bytes(range(256)) * 100); os.write(2, b'\\xff\\xfe\\x00' * 100)",
    value=Attack("answer = 'x' * 10**7", "ok", "answer"),
    deep_value=Attack("answer = []\nfor _ in range(10**5): answer = [answer]", "error memory crashed", "answer"),
    traceback=Attack("raise ValueError('x' * 10**7)", "error output"),
    closed=Attack("print('a'); os.close(1); os.close(2); print('b')", "ok error"),
    replaced=Attack("print('a'); sys.stdout = None; sys.stderr = object()", "ok"),
    nonblocking="os.set_blocking(1, False); print('x')",
)
