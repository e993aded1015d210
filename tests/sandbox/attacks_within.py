"""Attacks on what is near: the server that forked the program, the process it runs in, the kernel below."""

from __future__ import annotations

from tests.sandbox.attacks import Attack, attacks

SERVER = attacks(
    stray_descriptors="""
        found = []
        for number in range(3, 4096):
            try:
                os.write(number, b"\\x00\\x00\\x00\\x10" + b'{"status": "ok"}')
            except OSError:
                continue
            found.append(number)
        print("ESCAPED" if found else "contained", found)
    """,
    write_to_stdin="attempt(os.write, 0, b'x')",
    duplicate_descriptors="""
        for number in range(3, 64):
            os.dup2(1, number)
        for number in range(3, 64):
            os.write(number, b"\\x00\\x00\\x00\\x02{}")
    """,
    close_everything=Attack("os.closerange(0, 4096)", "ok"),
    leave_at_once=Attack("os._exit(0)", "crashed"),
    leave_by_exit=Attack("print('contained'); sys.exit()", "ok"),
    leave_with_status=Attack("sys.exit(3)", "error"),
    forge_own_result=Attack(  # allowed, as printing anything is: it tells about this program only
        """
        import gc, mmap, struct
        for thing in gc.get_objects() + [v for o in gc.get_objects() for v in gc.get_referents(o)]:
            if type(thing) is mmap.mmap:
                thing[:] = b"\\xff" * len(thing)
        os._exit(0)
        """,
        "crashed",
    ),
    forge_ok=Attack(
        """
        import inside.program as own
        frame = sys._getframe()
        while frame is not None:
            slot = frame.f_locals.get("slot")
            if slot is not None:
                slot.put(1, "forged")
                os._exit(0)
            frame = frame.f_back
        """,
        "ok error",
        "answer",
    ),
    poison_modules=Attack(
        """
        import builtins, json, math, numpy, random, sympy, traceback
        sympy.solve = numpy.arange = random.randint = lambda *a, **k: "ESCAPED"
        sympy.core.cache.clear_cache()
        for name in list(sys.modules):
            if name.startswith("inside") or name in ("json", "socket", "select"):
                for key in list(vars(sys.modules[name])):
                    setattr(sys.modules[name], key, None)
        json.dumps = os.write = os.fork = traceback.print_exception = None
        builtins.print = builtins.str = builtins.len = builtins.int = None
        os._exit = lambda status: None
        """,
        "crashed",
    ),
    poison_exit="""
        import os
        os._exit = lambda status: print("ESCAPED")
        sys.exit = lambda status=0: print("ESCAPED")
    """,
    poison_caches="""
        import sympy
        x = sympy.symbols("x")
        for cache in sympy.core.cache.CACHE:
            cache.cache_clear()
        sympy.solve.__code__ = (lambda *a, **k: "ESCAPED").__code__
        sympy.Integer.__add__ = lambda *a: 0
    """,
    hooks="""
        import atexit, builtins, gc
        atexit.register(lambda: print("ESCAPED"))
        sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)
        threading.settrace(lambda *a: None)
        sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *a: print("ESCAPED")
        builtins.__import__ = builtins.open = lambda *a: None
        os.register_at_fork(before=lambda: print("ESCAPED"), after_in_parent=lambda: print("ESCAPED"))
        gc.callbacks.append(lambda *a: None)
    """,
    finaliser=Attack(
        """
        class Late:
            def __del__(self):
                while True: pass
        late = Late()
        """,
        "ok timeout",
    ),
    evil_value=Attack(
        """
        class Evil:
            def __str__(self):
                raise SystemExit
            __repr__ = __str__
        answer = Evil()
        """,
        "error",
        "answer",
    ),
    endless_value=Attack("class E:\n  def __str__(self):\n    while True: pass\nanswer = E()", "timeout", "answer"),
    evil_exception=Attack(
        """
        class Evil(BaseException):
            def __str__(self):
                os._exit(0)
            __cause__ = property(lambda self: self)
        raise Evil
        """,
        "error crashed",
    ),
    evil_stream=Attack(
        """
        class Stream:
            def write(self, text): raise KeyboardInterrupt
            def flush(self): raise SystemExit
        sys.stdout = sys.stderr = Stream()
        raise ValueError
        """,
        "error",
    ),
    source_that_does_not_compile=Attack("\x00\ud800", "error"),
    nested_source=Attack("x = " + "(" * 10_000 + ")" * 10_000, "error memory crashed"),
    evil_result=Attack("answer = 1", "error", "answer + __import__('os').fork()"),
    import_server="import inside.server as s; attempt(s.main); attempt(s._kill_all) if os.getpid() == 1 else None",
    no_modules=Attack("sys.modules.clear(); sys.path.clear()", "ok error crashed"),
    no_builtins=Attack("import builtins\nbuiltins.__dict__.clear()", "ok error crashed"),
    async_exception=Attack(
        """
        ident = threading.main_thread().ident
        def pester():
            while True:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt))
        threading.Thread(target=pester, daemon=True).start()
        time.sleep(0.3)
        """,
        "error crashed timeout ok",
    ),
    marks_for_the_next="sys.mark = 'left behind'; os.environ['MARK'] = '1'; os.chdir('/')",
)

_NATIVE = """
import mmap
def native(*code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes(code))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long)(address)()
"""

KERNEL = attacks(
    every_other_call="""
        answers = set()
        for number in range(1024):
            if number in WORLD["allowed"] or number in (335, 336):  # uretprobe, uprobe: no filter is asked about these
                continue
            for arguments in ((-1,) * 6, (0,) * 6):
                try:
                    print("ESCAPED", number, call(number, *arguments))
                except OSError as error:
                    if error.errno not in (1, 38):  # EPERM, ENOSYS: not one of them came to the kernel's own checks
                        print("ESCAPED", number, error)
    """,
    namespaces="""
        for flags in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
            attempt(call, 272 if os.uname().machine == "x86_64" else 97, flags)
    """,
    mount="""
        attempt(lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 or 1 / 0)
        attempt(lambda: libc.umount2(b"/tmp", 2) == 0 or 1 / 0)
        attempt(os.chroot, "/tmp")
    """,
    become_root="""
        for change in (os.setuid, os.setgid, os.seteuid):
            attempt(change, 0)
        attempt(os.setgroups, [0])
        attempt(lambda: libc.prctl(8, 1, 0, 0, 0) == 0 or 1 / 0)
    """,
    be_traceable="""
        for option, value in ((4, 1), (0x59616D61, -1), (1, 0), (38, 0), (22, 0), (23, 0), (24, 0), (47, 1), (15, 0)):
            if option != 15:
                attempt(lambda: libc.prctl(option, value, 0, 0, 0) == 0 or 1 / 0)
    """,
    new_filter="""
        code = ctypes.create_string_buffer(b"\\x06\\x00\\x00\\x00\\x00\\x00\\xff\\x7f", 8)
        program = (ctypes.c_void_p * 2)(1, ctypes.addressof(code))
        attempt(lambda: libc.prctl(22, 2, program, 0, 0) == 0 or 1 / 0)
        attempt(call, 317 if os.uname().machine == "x86_64" else 277, 1, 0, program)
    """,
    keyring="attempt(call, 248 if os.uname().machine == 'x86_64' else 217, b'user', b'escaped', b'x', 1, -3)",
    rings="attempt(call, 425, 8, ctypes.create_string_buffer(120))",
    programs_in_the_kernel="""
        attempt(call, 321 if os.uname().machine == "x86_64" else 280, 0, ctypes.create_string_buffer(120), 120)
        attempt(call, 298 if os.uname().machine == "x86_64" else 241, ctypes.create_string_buffer(120), 0, -1, -1, 0)
        attempt(call, 323 if os.uname().machine == "x86_64" else 282, 1)
    """,
    shared_memory="attempt(call, 29 if os.uname().machine == 'x86_64' else 194, 1234, 4096, 0o1666)",
    terminal="""
        import fcntl
        for request in (0x5412, 0x5414, 0x540E, 0x541C, 0x5423, 0x4B4E):
            attempt(fcntl.ioctl, 0, request, b"x")
        attempt(open, "/dev/tty"); attempt(open, "/dev/ptmx"); attempt(os.openpty)
    """,
    null_pointer=Attack("ctypes.string_at(0)", "crashed"),
    abort=Attack("os.abort()", "crashed"),
    native_code=Attack(  # mov eax, 57 (fork); syscall; ret
        f"{_NATIVE}print('ESCAPED' if native(0xB8, 57, 0, 0, 0, 0x0F, 0x05, 0xC3) >= 0 else 'contained')",
        x86_only=True,
    ),
    calls_of_32_bits=Attack(  # mov eax, 20 (getpid of i386); int 0x80; ret
        f"{_NATIVE}native(0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3); print('ESCAPED')",
        "crashed",
        x86_only=True,
    ),
    calls_of_x32=Attack("call(0x40000000 + 39); print('ESCAPED')", "crashed", x86_only=True),
)
