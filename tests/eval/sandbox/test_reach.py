"""What a hostile program tries to see, change or become: nothing of ours is there to be had."""

import ast
import os
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from loopcoder.eval.sandbox.types import Limits
from tests.eval.sandbox.support import Lab, refused, tries

pytestmark = pytest.mark.slow


# ---- seeing what is not its own


def test_home_and_repository_are_not_there(survivor: Lab) -> None:
    repository = Path(__file__).parents[3]
    home = [Path.home() / name for name in os.listdir(Path.home())][:20]
    system = ["etc/shadow", "etc/hostname", "var", "boot", "sys/kernel", "dev/sda", "dev/mem"]
    paths = [*home, repository / "pyproject.toml", Path(__file__), *(Path("/") / s for s in system)]
    shown = Path(sys.base_prefix)
    hidden = [str(p) for p in paths if not shown.is_relative_to(p) and not p.is_relative_to("/usr")]
    code = f"import os\nprint([p for p in {hidden!r} if os.path.lexists(p)])"
    assert survivor.run(code).stdout == b"[]\n"


def test_our_variables_are_not_there(survivor: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor those of any process that it sees, the first one among them."""
    monkeypatch.setenv("LOOPCODER_TEST_SECRET", "c0ffee")
    code = """
    import glob, os
    print(sorted(os.environ))
    for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/task/*/environ'):
        try: print(path, open(path, 'rb').read())
        except OSError as error: print(error)
    """
    outcome = survivor.run(textwrap.dedent(code))
    assert b"/proc/1/environ" in outcome.stdout
    assert b"SECRET" not in outcome.stdout
    assert b"c0ffee" not in outcome.stdout
    names = set(ast.literal_eval(outcome.stdout.decode().splitlines()[0]))
    ours = {"HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "TMPDIR", "USER"}
    assert names - {"LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"} == ours


def test_no_process_but_its_own(survivor: Lab) -> None:
    code = "import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))"
    assert survivor.run(code).stdout in (b"[1, 2]\n", b"[1, 2, 3]\n")


def test_no_file_of_ours_is_open(survivor: Lab, tmp_path: Path) -> None:
    with (tmp_path / "ours").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        code = """
        import os
        print(os.listdir('/proc/self/fd'))  # the last one is the listing's own
        for number in range(3, 1024):
            try: os.write(number, b'theirs')
            except OSError: pass
            else: print('wrote to', number)
        for path in set(os.listdir('/proc/1/fd')) - {'0', '1', '2'}:
            try: open('/proc/1/fd/' + path, 'wb').write(b'theirs')
            except OSError: pass
        """
        outcome = survivor.run(textwrap.dedent(code))
    assert outcome.stdout.splitlines()[0] == b"['0', '1', '2', '3']"
    assert b"wrote to" not in outcome.stdout
    assert (tmp_path / "ours").read_bytes() == b""


def test_its_input_cannot_be_changed(survivor: Lab) -> None:
    code = tries("open('/proc/self/fd/0', 'wb').write(b'theirs')")
    assert refused(survivor.run(code, stdin=b"ours"))


# ---- writing where it should not


def test_only_tmp_can_be_written(survivor: Lab) -> None:
    code = """
    import os
    wrote = []
    for top in ['/', '/usr', '/usr/bin', '/etc', '/bin', '/lib', '/dev', '/proc', '/run', '/root',
                '/home', '/var/tmp', '/opt', '/mnt', os.path.dirname(os.__file__)]:
        try: open(os.path.join(top, 'theirs'), 'w').close()
        except OSError: continue
        wrote.append(top)
    for path in ['/etc/passwd', '/etc/group', '/usr/bin/env', os.__file__,
                 '/proc/sys/kernel/hostname', '/proc/sysrq-trigger',
                 '/proc/sys/kernel/core_pattern', '/proc/self/uid_map']:
        try: open(path, 'r+b', buffering=0).write(b'1')
        except OSError: continue
        wrote.append(path)
    print(wrote)
    open('/tmp/mine', 'w').close(); open('/dev/shm/mine', 'w').close()
    """
    outcome = survivor.run(textwrap.dedent(code))
    assert (outcome.stdout, outcome.stderr) == (b"[]\n", b"")


def test_links_lead_nowhere_else(survivor: Lab) -> None:
    code = tries("import os\nos.symlink('/etc/shadow', 'link')\nopen('link')")
    assert refused(survivor.run(code))


# ---- reaching other processes and the network


def test_killing_everything(survivor: Lab) -> None:
    """Every number, every group, all at once; what dies is its own."""
    code = """
    import os, signal
    for number in [os.getppid(), 1, -1, *range(2, 50000)]:
        if number != os.getpid():
            try: os.kill(number, signal.SIGKILL)
            except OSError: pass
    print('still here')
    """
    assert survivor.run(textwrap.dedent(code)).stdout == b"still here\n"


def test_tracing(survivor: Lab) -> None:
    code = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (16, 0x4206):  # attach, seize
        for pid in (1, os.getppid(), 2):
            print('refused' if libc.ptrace(request, pid, 0, 0) == -1 else 'traced')
    buffer = ctypes.create_string_buffer(8)
    class Piece(ctypes.Structure):
        _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
    piece = Piece(ctypes.addressof(buffer), 8)
    read = libc.process_vm_readv(1, ctypes.byref(piece), 1, ctypes.byref(piece), 1, 0)
    print('refused' if read == -1 else 'read')
    """
    assert refused(survivor.run(textwrap.dedent(code)))


def test_network(survivor: Lab) -> None:
    """A listener of ours on the loop, a name, an address outside, an abstract socket of ours."""
    abstract = f"\0loopcoder-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        unix.bind(abstract)
        unix.listen()
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        steps = [
            f"socket.create_connection(('127.0.0.1', {tcp.getsockname()[1]}), timeout=2)",
            "socket.create_connection(('1.1.1.1', 53), timeout=2)",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))",
            "socket.getaddrinfo('example.org', 80)",
            f"socket.socket(socket.AF_UNIX).connect({abstract!r})",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        ]
        code = "import socket\n" + "".join(map(tries, steps))
        code += (
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
            f".sendto(b'x', ('127.0.0.1', {udp.getsockname()[1]}))\n"
        )
        outcome = survivor.run(code, limits=Limits(seconds=30))
        assert refused(outcome), outcome
        assert len(outcome.stdout.splitlines()) == len(steps)
        time.sleep(0.05)
        with pytest.raises(BlockingIOError):
            udp.recv(1)


# ---- becoming more than it is


def test_no_right_is_left(survivor: Lab) -> None:
    outcome = survivor.run("print(open('/proc/self/status').read())")
    lines = outcome.stdout.decode().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == ["1000"] * 4


def test_setuid_programs_give_nothing(survivor: Lab) -> None:
    code = """
    import os, subprocess
    for name in ('su', 'mount', 'passwd', 'newgrp', 'chsh', 'sudo'):
        for top in ('/usr/bin/', '/bin/'):
            if os.path.exists(top + name) and os.stat(top + name).st_mode & 0o4000:
                subprocess.run([top + name, '-c', 'id -u'], stdin=subprocess.DEVNULL, timeout=20)
    print(os.getuid())
    """
    outcome = survivor.run(textwrap.dedent(code), limits=Limits(seconds=60))
    assert outcome.stdout.split() == [b"1000"]


@pytest.mark.parametrize(
    "code",
    [
        "os.chroot('/tmp')",
        "os.setuid(0)",
        "os.setgroups([0])",
        "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))",
        "os.nice(-5)",
        "os.chown('/tmp', 0, 0)",
        "check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
        "check(libc.mount(b'/', b'/tmp', None, 4096, None))",
        "check(libc.umount2(b'/usr', 2))",
        "check(libc.unshare(0x10000000))",  # a user namespace
        "check(libc.unshare(0x00020000))",  # a mount namespace
        "check(libc.setns(os.open('/proc/1/ns/mnt', 0), 0))",
        "check(libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0))",  # clone, x86_64
        "check(libc.syscall(425, 8, ctypes.create_string_buffer(256)))",  # io_uring
        "check(libc.sethostname(b'theirs', 6))",
    ],
)
def test_what_only_root_may(survivor: Lab, code: str) -> None:
    if "syscall(56" in code and os.uname().machine != "x86_64":
        pytest.skip("the number of clone on x86_64")
    setup = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def check(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    """
    outcome = survivor.run(textwrap.dedent(setup) + tries(code))
    assert refused(outcome), outcome


def test_leaving_by_an_open_directory(survivor: Lab) -> None:
    """Above the root there is the root."""
    code = """
    import os
    os.chdir('/'); here = os.stat('.')
    os.chdir('../../../..'); print(os.path.samestat(here, os.stat('.')))
    print(sorted(os.listdir('/proc/1/root')) == sorted(os.listdir('/')))
    """
    assert survivor.run(textwrap.dedent(code)).stdout == b"True\nTrue\n"
