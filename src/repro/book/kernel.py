"""A kernel that talks over private UNIX sockets, and runs the interpreter that runs us.

Parallel kernels over TCP collide on ports now and then, and ipykernel warns about each; kernels over UNIX sockets
with jupyter_client's default names collide nearly always. So each kernel gets a folder of its own, short enough
for the length that the system allows a socket's path, and falls back to TCP where that cannot be had.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import zmq
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

__all__ = ["PrivateKernelManager", "can_use_sockets", "private_folder"]

# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included
_LONGEST_PATH = 103
_SOCKET_NAME = "k-65535"


def can_use_sockets(folder: Path) -> bool:
    """Whether UNIX sockets exist here and their paths in this folder are short enough."""
    fits = len(os.fsencode(folder / _SOCKET_NAME)) <= _LONGEST_PATH
    return fits and os.name == "posix" and bool(zmq.has("ipc"))


def private_folder() -> Path:
    """A new temporary folder for one run, with a path short enough for sockets if any such place is writable."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        if can_use_sockets(Path(parent, "rp-12345678")) and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="rp-", dir=parent))
    return Path(tempfile.mkdtemp(prefix="rp-"))


class PrivateKernelManager(AsyncKernelManager):
    """Starts this interpreter's own ipykernel, whatever kernels are installed under the name python3.

    ``folder`` is set before the class is handed to nbclient, which makes the instance. ``last_exit`` is the exit
    code of a kernel that died (negative: the signal that killed it), None as long as none did.
    """

    folder: ClassVar[Path]
    last_exit: ClassVar[int | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kernel_spec = KernelSpec(
            argv=make_ipkernel_cmd(executable=sys.executable), display_name="Python 3", language="python"
        )
        self.connection_file = str(self.folder / "connection.json")
        if can_use_sockets(self.folder):
            self.transport = "ipc"
            self.ip = str(self.folder / "k")

    async def is_alive(self) -> bool:  # type: ignore[override]
        alive = bool(await super().is_alive())
        if not alive and self.provisioner is not None:
            code = await self.provisioner.poll()
            if code is not None:
                type(self).last_exit = code
        return alive
