"""The toy chapter, swept by the real command line, and what there is to kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import pandas as pd
import psutil
import running_book
from loopback import PATIENCE


class Swept:
    """One sweep of the toy by ``repro sweep``: its folder, its marks, its processes."""

    def __init__(self, place, *arguments, folder=None, cells=(), **environment):
        self.book = running_book.make(place / "book", running_book.PARAMETERS, *cells)
        self.folder = folder or place / "sweep"
        self.marks = place / "marks"
        self.marks.touch()
        self.arguments = arguments
        (place / "tmp").mkdir(exist_ok=True)
        # into a pipe Python buffers what is printed, unless the shell says otherwise; the order of lines is tested
        own = {running_book.MARKS: str(self.marks), "TMPDIR": str(place / "tmp"), "PYTHONUNBUFFERED": ""}
        self.environment = os.environ | own | environment

    def start(self, *more):
        command = [sys.executable, "-m", "repro.cli", "sweep", "toy", "--output", str(self.folder)]
        return subprocess.Popen(
            [*command, *self.arguments, *more],
            cwd=self.book.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more):
        """Exit code and what was said; how long it took is in ``seconds``."""
        before = time.monotonic()
        found = ended(self.start(*more))
        self.seconds = time.monotonic() - before
        return found

    def kept(self):
        """The runs written down so far: content by the name of the file."""
        return {path.name: path.read_bytes() for path in (self.folder / "runs").glob("*.run")}

    def marked(self, what):
        """How often each seed has ``begun`` or ``ended``."""
        lines = (line.split() for line in self.marks.read_text().splitlines())
        return Counter(int(seed) for mark, seed in lines if mark == what)

    def table(self):
        """The Parquet table, after a look at whether the CSV table says the same."""
        table = pd.read_parquet(self.folder / "table.parquet")
        assert pd.read_csv(self.folder / "table.csv").id.tolist() == table.id.tolist()
        return table


def ended(process, seconds=PATIENCE):
    """Exit code and output of a process, which is killed if it takes too long."""
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, said


def seed_of(content):
    return int(json.loads(content.partition(b"\n")[2])["values"]["seed"])


def kill_9(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kernels(pid):
    """The kernels below this process."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            found += [process] * ("ipykernel_launcher" in process.cmdline())
    return found
