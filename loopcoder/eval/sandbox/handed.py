"""What is handed to bubblewrap when it starts: files without a name, and two pipes to it."""

import fcntl
import os
from collections.abc import Sequence
from types import TracebackType

from loopcoder.eval.sandbox.supervise import Launch

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Handed:
    """File descriptors for one launch; closed again where it does not come to one."""

    def __init__(self) -> None:
        self._theirs: list[int] = []
        self._ours: list[int] = []

    def __enter__(self) -> "Handed":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            for descriptor in (*self._theirs, *self._ours):
                os.close(descriptor)

    def file(self, data: bytes) -> str:
        """The descriptor of a file in memory; sealed, so that the sandbox cannot write to it."""
        descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._theirs.append(descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return str(descriptor)

    def arguments(self, words: Sequence[str]) -> list[str]:
        """Options for bubblewrap, as a file: a list of processes shows no path and no variable."""
        for word in words:
            if "\0" in word:
                raise ValueError(f"{word!r} holds a NUL; names and variables cannot")
        return ["--args", self.file(b"".join(word.encode() + b"\0" for word in words))]

    def gates(self) -> list[str]:
        """Options that tell us of its first process, and that hold it until we look at it."""
        info, gate = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self._ours += [info[0], gate[1]]
        self._theirs += [info[1], gate[0]]
        return ["--info-fd", str(info[1]), "--block-fd", str(gate[0])]

    def launch(
        self, argv: list[str], stdin: bytes | None, namespace: int | None, *, lasting: bool = False
    ) -> Launch:
        """All of it; `stdin` is None for a pipe to talk through."""
        given = None if stdin is None else int(self.file(stdin))
        info, release = self._ours
        return Launch(
            argv=argv,
            env={},
            descriptors=[d for d in self._theirs if d != given],
            stdin=given,
            info=info,
            release=release,
            namespace=namespace,
            lasting=lasting,
        )
