"""System calls that no answer to a benchmark needs and that reach round a limit or into the kernel.

Why each is refused: memory that no process' resident size shows (memfd, System V segments, queues
and semaphores), other processes' memory (ptrace), mounts and namespaces (bubblewrap has taken the
right to them already: this is the second lock), and interfaces where the kernel has often been
broken (bpf, io_uring, userfaultfd, perf, keys).
"""

import platform
import struct

from loopcoder.errors import EvaluationError

# name: (number on x86_64, number on aarch64); linux/arch/*/include, which never change.
_REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
}
# machine: (column above, AUDIT_ARCH_*, whether numbers from 0x40000000 on are a second table, x32)
_MACHINES = {"x86_64": (0, 0xC000003E, True), "aarch64": (1, 0xC00000B7, False)}

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050001


def refusals() -> bytes:
    """The filter as bubblewrap's --seccomp reads it: an array of struct sock_filter.

    A refused call fails with EPERM; a call of another architecture kills the process. Raises
    `EvaluationError` on a machine whose call numbers are not known here.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise EvaluationError(
            f"the sandbox knows the system calls of {' and '.join(_MACHINES)}, not of {machine}"
        )
    column, architecture, x32 = _MACHINES[machine]
    tests = [(_EQUAL, numbers[column]) for numbers in _REFUSED.values()]
    if x32:
        tests.append((_AT_LEAST, 0x40000000))
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *((test, len(tests) - at, 0, number) for at, (test, number) in enumerate(tests)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
