"""A real Dask scheduler and real workers, each a process of its own on the loopback interface."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import distributed
import psutil

HERE = Path(__file__).resolve().parent
_LOCAL = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
_ALREADY = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
PATIENCE = 600.0
"""Seconds after which what is waited for is taken to have failed: far more than a slow and busy machine takes."""


def wait_until(true, what="it", seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(0.02)


class Loopback:
    """The processes of a cluster; ``first`` is a worker's first place to look for modules."""

    def __init__(self, folder):
        self.folder = folder
        self._processes = []
        self.workers = []
        place = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--scheduler-file", str(place), "--port", "0")
        wait_until(lambda: place.is_file() and place.stat().st_size, "a scheduler")
        self.address = json.loads(place.read_text())["address"]

    def worker(self, name, first=()):
        arguments = (self.address, "--nthreads", "1", "--no-nanny", "--name", name)
        process = self._start("dask_worker", *arguments, "--local-directory", str(self.folder), first=first)
        self.workers.append(process)
        return process

    def _start(self, module, *arguments, first=()):
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *_LOCAL, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*first, HERE, *_ALREADY]))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def end(self):
        for process in self._processes:
            kill(process)


def kill(process):
    """kill -9."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=PATIENCE)


@contextmanager
def cluster(folder, workers=2):
    loopback = Loopback(folder)
    try:
        for number in range(workers):
            loopback.worker(f"worker-{number}")
        if workers:
            with distributed.Client(loopback.address, timeout=PATIENCE, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=PATIENCE)
        yield loopback
    finally:
        loopback.end()


def children_of(pid):
    return psutil.Process(pid).children(recursive=True)


def command_of(process):
    with suppress(psutil.Error):
        return process.cmdline()
    return []
