"""Take from a process, for good, what reading a file does not need: writing, connecting, starting programs.

Runs inside the process that reads a stranger's file, after its libraries are imported and before the file is touched.
Three layers, each of which holds alone: limits on resources; a filter of the system calls (Linux on x86-64), under
which the kernel refuses every call that is not on a short list; and an audit hook, which ends the process when Python
itself asks for more, on every platform.
"""

from __future__ import annotations

import os
import struct
import sys

STOPPED = 77
"""Exit code of a process that asked for more than reading."""
_ALLOWED_CALLS = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25, "mincore": 27,
    "madvise": 28, "dup": 32, "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72, "getcwd": 79,
    "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "sigaltstack": 131, "arch_prctl": 158, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "set_robust_list": 273, "getcpu": 309,
    "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip
"""Numbers on x86-64. Files are opened by ``open`` and ``openat``, threads are made by ``clone``: see their rules."""
_OPEN, _CLONE, _OPENAT = 2, 56, 257
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_X86_64 = 0xC000003E
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_HARMLESS = (
    "builtins.id", "code.", "compile", "cpython.", "ctypes.addressof", "ctypes.dlsym", "exec", "gc.", "glob.", "import",
    "marshal.", "mmap.", "object.", "open", "os.listdir", "os.scandir", "os.walk", "os.fwalk", "pathlib.", "pickle.",
    "re.", "sys._getframe", "sys.unraisablehook", "sys.excepthook", "time.", "torch.",
)  # fmt: skip
"""Beginnings of the audit events that reading may raise; every other event ends the process."""


def confine(*, memory_bytes: int, cpu_s: int) -> None:
    """Give up writing, connecting and starting programs, in this process and for good.

    Args:
        memory_bytes: Address space that the process may take beyond what it has.
        cpu_s: Seconds of computing that are left to it.
    """
    _limit(memory_bytes, cpu_s)
    _filter_calls()
    _watch()


def _limit(memory_bytes: int, cpu_s: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + cpu_s,
    }
    if (taken := _address_space()) is not None:
        limits["RLIMIT_AS"] = taken + memory_bytes
    for name, limit in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def _address_space() -> int | None:
    """Bytes of address space of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  (as few imports as can be)
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def filters_calls() -> bool:
    """Whether this platform is one where system calls are filtered."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32


def _filter_calls() -> None:
    """Let the kernel refuse all system calls but a few; where it cannot, the audit hook and the limits remain."""
    if not filters_calls():
        return
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    code = _program()
    program = Program(len(code) // 8, code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)


def _program() -> bytes:
    """Write the filter for the kernel: 8 bytes an instruction.

    Source:
        Linux, Documentation/userspace-api/seccomp_filter.rst; struct seccomp_data holds the number at 0, the
        architecture at 4 and the arguments from 16 on, 8 bytes each.
    """
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, no_such_call, not_permitted, kill = 0x7FFF0000, 0x00050000 | 38, 0x00050000 | 1, 0x80000000

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    def argument(n: int) -> bytes:
        return step(load, 16 + 8 * n)

    steps = [step(load, 4), step(equal, _X86_64, 1, 0), step(give, kill), step(load, 0)]
    steps += [step(at_least, 0x40000000, 0, 1), step(give, kill)]  # numbers of the x32 variant
    for number, flags in ((_OPEN, 1), (_OPENAT, 2)):
        steps += [step(equal, number, 0, 4), argument(flags), step(any_bit, _WRITING, 0, 1)]
        steps += [step(give, not_permitted), step(give, allow)]
    steps += [step(equal, _CLONE, 0, 4), argument(0), step(any_bit, _CLONE_THREAD, 1, 0)]
    steps += [step(give, not_permitted), step(give, allow)]
    for number in sorted(_ALLOWED_CALLS.values()):
        steps += [step(equal, number, 0, 1), step(give, allow)]
    return b"".join([*steps, step(give, no_such_call)])


def _watch() -> None:
    end = os._exit

    def hook(event: str, args: tuple[object, ...]) -> None:
        if not event.startswith(_HARMLESS) or (event == "open" and _writes(args)):
            end(STOPPED)

    sys.addaudithook(hook)


def _writes(args: tuple[object, ...]) -> bool:
    """Whether an ``open`` event asks to write: by its mode, or by its flags."""
    _, mode, flags = (*args, None, None, None)[:3]
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)
