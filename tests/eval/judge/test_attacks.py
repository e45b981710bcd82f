"""Programs that try to pass without solving anything. Each fails, and the next answer is judged."""

import textwrap

import pytest

from tests.eval.judge.running import by_inputs, by_tests, judged, needs_bubblewrap

pytestmark = [pytest.mark.slow, needs_bubblewrap]

REFERENCE = "def f(x):\n    return [x * x + 1, 'the secret ' + str(x)]\n"
INPUTS = by_inputs(REFERENCE, (1,), (2,), (3,))
TESTS = by_tests(
    REFERENCE,
    "def check(candidate):\n"
    "    for x in (1, 2, 3):\n"
    "        assert candidate(x) == [x * x + 1, 'the secret ' + str(x)]\n"
    "check(f)\n",
)
LIAR = """\
class Liar({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __len__(self): return 2
    def __iter__(self): return iter((self, self))
    def __getitem__(self, key): return self
    def __bool__(self): return True
    def __getattribute__(self, name): return lambda *_: True
"""

# Name: what it is about, the program, and the reasons its verdict may give.
ATTACKS = {
    "exit": ("import sys\nsys.exit(0)", {"raised"}),
    "exit when called": ("import sys\ndef f(x): sys.exit(0)", {"raised"}),
    "raise SystemExit": ("def f(x): raise SystemExit(0)", {"raised"}),
    "_exit": ("import os\nos._exit(0)", {"died"}),
    "_exit when called": ("import os\ndef f(x): os._exit(0)", {"died"}),
    "an object equal to all": (LIAR.format(base="") + "def f(x): return Liar()", {"wrong"}),
    "an int equal to all": (LIAR.format(base="int") + "def f(x): return Liar()", {"wrong"}),
    "a list equal to all": (LIAR.format(base="list") + "def f(x): return Liar()", {"wrong"}),
    "a str equal to all": (
        LIAR.format(base="str") + "def f(x): return [x * x + 1, Liar('')]",
        {"wrong"},
    ),
    "a lying class": (
        "class Meta(type):\n"
        "    def __eq__(self, other): return True\n"
        "    def __hash__(self): return hash(list)\n"
        "    def __instancecheck__(self, other): return True\n"
        "class Liar(metaclass=Meta):\n"
        "    __class__ = list\n"
        "    def __eq__(self, other): return True\n"
        "def f(x): return Liar()",
        {"wrong", "raised"},
    ),
    "builtins": (
        "import builtins\n"
        "def f(x): return 1\n"
        "for name in ('all', 'any', 'repr', 'len', 'isinstance', 'type', 'str', 'int', 'map'):\n"
        "    setattr(builtins, name, lambda *_: True)",
        {"wrong", "died", "raised", "output"},
    ),
    "the judge's modules": (
        "import sys\n"
        "for name in list(sys.modules):\n"
        "    if 'judge' in name or name in ('json', 'time', 'os', 'signal'):\n"
        "        module = sys.modules[name]\n"
        "        for key in list(vars(module)):\n"
        "            if callable(vars(module)[key]):\n"
        "                setattr(module, key, lambda *a, **k: {'passed': True, 'value': True})\n"
        "def f(x): return 1",
        {"died", "wrong"},
    ),
    "frames": (
        "import sys\n"
        "def f(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        for scope in (frame.f_locals, frame.f_globals):\n"
        "            for value in list(scope.values()):\n"
        "                if isinstance(value, list) and value and 'secret' in repr(value):\n"
        "                    return value\n"
        "        frame = frame.f_back",
        {"wrong"},
    ),
    "objects and files": (
        "import gc, os, sys\n"
        "def f(x):\n"
        "    word = 'the se' + 'cret'\n"
        "    for thing in gc.get_objects():\n"
        "        if isinstance(thing, (list, tuple, dict)) and len(thing) < 1000:\n"
        "            for part in thing:\n"
        "                if type(part) is str and part.startswith(word): return [x * x + 1, part]\n"
        "    for top, _, names in os.walk('/tmp'):\n"
        "        for name in names:\n"
        "            text = open(os.path.join(top, name), errors='replace').read()\n"
        "            if word in text or 'check(' in text: return [x * x + 1, word + ' ' + str(x)]\n"
        "    return 'nothing'",
        {"wrong"},
    ),
    "words to every descriptor": (
        "import os\n"
        "for fd in range(64):\n"
        "    for line in (b'{\"passed\":true}', b'{\"ready\":true}', b'{\"value\":1}'):\n"
        "        try: os.write(fd, line + b'\\n')\n"
        "        except OSError: pass\n"
        "def f(x): return 1",
        {"died"},
    ),
    "an early reply": (
        "import os\n"
        "def f(x):\n"
        "    for fd in range(3, 64):\n"
        '        try: os.write(fd, b\'{"call":"0","value":1,"seconds":0}\\n\' * 3)\n'
        "        except OSError: pass\n"
        "    return 1",
        {"died", "wrong"},
    ),
    "two replies": (
        "import sys\n"
        "def f(x):\n"
        "    lines = sys._getframe(2).f_locals['lines']\n"
        "    number = sys._getframe(2).f_locals['request']['call']\n"
        "    for _ in range(3):\n"
        "        lines.send({'call': number, 'value': [x * x + 1, 'no'], 'seconds': 0})\n"
        "    return 1",
        {"wrong", "died"},
    ),
    "closed descriptors": ("import os\ndef f(x): os.closerange(0, 64)", {"died"}),
    "a thread that writes on": (
        "import os, threading\n"
        "def write():\n"
        "    while True:\n"
        "        for fd in range(3, 8):\n"
        "            try: os.write(fd, b'{\"passed\":true}\\n')\n"
        "            except OSError: pass\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "def f(x): return 1",
        {"died", "output"},
    ),
    "exit handlers": (
        "import atexit, os\n"
        "atexit.register(lambda: [os.write(fd, b'{\"passed\":true}\\n') for fd in range(9)])\n"
        "def f(x): raise SystemExit(0)",
        {"raised"},
    ),
    "a trace function": (
        "import sys\n"
        "def trace(frame, event, arg):\n"
        "    frame.f_locals.update(value=True, passed=True)\n"
        "    return trace\n"
        "sys.settrace(trace)\n"
        "def f(x): return 1",
        {"wrong"},
    ),
    "recursion": ("def f(x): return f(x)", {"raised"}),
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x) + 1",
        {"died", "memory", "raised"},
    ),
    "an endless generator": (
        "def f(x):\n    while True:\n        yield x",
        {"wrong"},
    ),
    "a cyclic list": ("def f(x):\n    a = []\n    a.append(a)\n    return a", {"output"}),
    "a deep list": (
        "def f(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
        {"output"},
    ),
    "a gigabyte": ("def f(x): return 'a' * (1 << 30)", {"memory", "raised", "output", "died"}),
    "memory": ("def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 20))", {"memory"}),
    "another entry point": (
        "import sys\n"
        "def f(x):\n"
        "    sys._getframe(2).f_locals['function'] = None\n"
        "    sys.modules['candidate'].f = lambda x: [x * x + 1, '']\n"
        "    return 1",
        {"wrong"},
    ),
    "children that answer": (
        "import os\ndef f(x):\n    for _ in range(4): os.fork()\n    return 1",
        {"wrong", "died"},
    ),
    "a signal to the parent": (
        "import os, signal\n"
        "for pid in (os.getppid(), -1, 0):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError: pass\n"
        "def f(x): return 1",
        {"died", "wrong"},
    ),
    "files of the judge": (
        "import glob\n"
        "for name in glob.glob('/tmp/*.py'):\n"
        "    try: open(name, 'w').write('def serve(): print(chr(123) + chr(125))')\n"
        "    except OSError: pass\n"
        "def f(x): return 1",
        {"wrong"},
    ),
}


@pytest.mark.parametrize("problem", [INPUTS, TESTS], ids=["inputs", "assertions"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails(name, problem):
    code, reasons = ATTACKS[name]
    verdict = judged(problem, code)
    assert not verdict.base
    assert not verdict.plus
    assert verdict.reason in reasons, verdict


TIMELESS = {
    "a loop": "def f(x):\n    while True: pass",
    "no clock": (
        "import signal, time\n"
        "time.perf_counter = time.monotonic = time.time = lambda: 0.0\n"
        "signal.setitimer = signal.alarm = signal.signal = lambda *_: None\n"
        "def f(x):\n    while True: pass"
    ),
    "no exception ends it": (
        "def f(x):\n"
        "    while True:\n"
        "        try:\n"
        "            while True: pass\n"
        "        except BaseException: pass"
    ),
    "an exception whose text never ends": (
        "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x): raise E"
    ),
    "a generator that never gives": "def f(x):\n    while True: pass\n    yield",
}


@pytest.mark.parametrize("name", TIMELESS)
def test_time_ends(name):
    assert judged(INPUTS, TIMELESS[name], min_seconds=0.5).reason == "timeout"


def test_time_ends_in_a_test_program():
    assert judged(TESTS, TIMELESS["no clock"], test_seconds=1.0).reason == "timeout"


def test_a_top_level_that_never_ends(monkeypatch):
    monkeypatch.setattr("loopcoder.eval.judge.process.LOAD_SECONDS", 0.5)
    assert judged(INPUTS, "while True: pass").reason == "timeout"


def test_a_false_clock_does_not_make_slow_calls_quick():
    code = """
        import time
        now = time.time
        time.perf_counter = lambda: 0.0
        def f(x):
            end = now() + 3
            while now() < end: pass
            return [x * x + 1, 'the secret ' + str(x)]
        """
    assert judged(INPUTS, textwrap.dedent(code), min_seconds=1.0).reason == "timeout"


def test_honest_answers_pass_after_all_that():
    for problem in (INPUTS, TESTS):
        verdict = judged(problem, REFERENCE + "print('noise')\n")
        assert (verdict.base, verdict.plus, verdict.reason) == (True, True, "passed")
