"""An environment for harbor on machines without Docker: one bubblewrap sandbox a task.

It has the system's programs read-only, no network, and the directories that harbor and its tasks
use. It stands in for the container alone: harbor, its agent and its verifier are the real ones.
Imported by harbor's own Python (`--env bubblewrap_environment:Bubblewrap`), not by the tests.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harbor.environments.base import BaseEnvironment, ExecResult

DIRECTORIES = ("app", "harbor", "logs", "root", "solution", "tests", "tmp")
SYSTEM = ("bin", "lib", "lib64", "usr", "etc/alternatives", "etc/passwd", "etc/ld.so.cache")

# Inside the sandbox: runs what it is told, a line of JSON each. What a command leaves running (the
# agent's tmux) must live on, so its output goes to a file, whose end need not be waited for.
WORKER = """
import json, os, subprocess, sys, tempfile
for line in sys.stdin:
    told = json.loads(line)
    with tempfile.TemporaryFile() as out:
        try:
            status = subprocess.run(
                ["bash", "-c", told["command"]], cwd=told["cwd"], env={**os.environ, **told["env"]},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=told["seconds"],
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        out.seek(0)
        print(json.dumps([status, out.read().decode(errors="replace")]), flush=True)
"""


class Bubblewrap(BaseEnvironment):
    """The least that harbor asks of an environment."""

    process: "subprocess.Popen[str] | None" = None

    @staticmethod
    def type() -> str:
        return "bubblewrap"

    def _validate_definition(self) -> None:
        assert shutil.which("bwrap")

    async def start(self, force_build: bool) -> None:
        self.top = Path(tempfile.mkdtemp())
        self.turn = asyncio.Lock()
        argv = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        argv += ["--uid", "0", "--gid", "0", "--proc", "/proc", "--dev", "/dev"]
        for name in SYSTEM:
            argv += ["--ro-bind-try", f"/{name}", f"/{name}"]
        for name in DIRECTORIES:
            (self.top / name).mkdir()
            argv += ["--bind", str(self.top / name), f"/{name}"]
        for name, value in {"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}.items():
            argv += ["--setenv", name, value]
        self.process = subprocess.Popen(
            [*argv, "/usr/bin/python3", "-u", "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        await self.ensure_dirs([Path(target) for target in self._mount_targets()])

    async def stop(self, delete: bool) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.top)

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        told = {"command": command, "cwd": cwd or "/app", "env": env or {}, "seconds": timeout_sec}
        async with self.turn:
            status, out = await asyncio.to_thread(self._ask, told)
        return ExecResult(stdout=out, stderr="", return_code=status)

    def _ask(self, told: dict[str, Any]) -> tuple[int, str]:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        status, out = json.loads(self.process.stdout.readline())
        return status, out

    def _inside(self, path: str | Path) -> Path:
        found = self.top / str(path).lstrip("/")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        shutil.copy(source_path, self._inside(target_path))

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        shutil.copytree(source_dir, self._inside(target_dir), dirs_exist_ok=True)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        shutil.copy(self._inside(source_path), target_path)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        shutil.copytree(self._inside(source_dir), target_dir, dirs_exist_ok=True)
