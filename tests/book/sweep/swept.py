"""The toy chapter, swept by the real command line, and a real Dask cluster on loopback: what there is to kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import distributed
import pandas as pd
import psutil
import running_book

HERE = Path(__file__).resolve().parent
PATIENCE = 600.0
"""Seconds after which what is waited for is taken to have failed: far more than a slow and busy machine takes."""


def wait_until(true, what="it"):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} seconds"
        time.sleep(0.02)


class Swept:
    """One sweep of the toy by ``repro sweep``: its folder, its marks, its processes."""

    def __init__(self, place, *arguments, folder=None, cells=(), **environment):
        self.book = running_book.make(place / "book", running_book.PARAMETERS, *cells)
        self.folder, self.marks, self.arguments = folder or place / "sweep", place / "marks", arguments
        self.marks.touch()
        (place / "tmp").mkdir(exist_ok=True)
        # into a pipe Python buffers what is printed, unless the shell says otherwise; the order of lines is tested
        own = {running_book.MARKS: str(self.marks), "TMPDIR": str(place / "tmp"), "PYTHONUNBUFFERED": ""}
        self.environment = os.environ | own | environment

    def start(self, *more):
        command = [sys.executable, "-m", "repro", "sweep", "toy", "--output", str(self.folder)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        where = {"cwd": self.book.root, "env": self.environment, "start_new_session": True}
        return subprocess.Popen([*command, *self.arguments, *more], **where, **streams)

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


def ended(process):
    """Exit code and output of a process, which is killed if it takes too long."""
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, said


def below(pid):
    return psutil.Process(pid).children(recursive=True)


def kernels(pid):
    """The kernels below this process."""
    found = []
    for process in below(pid):
        with suppress(psutil.Error):
            found += [process] * ("ipykernel_launcher" in process.cmdline())
    return found


def gone(processes):
    """Wait until they are."""
    wait_until(lambda: not any(map(psutil.Process.is_running, processes)))


class Cluster:
    """A scheduler and workers, each a process of its own; ``first`` is a worker's first place to look for modules."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        place = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--scheduler-file", str(place), "--port", "0")
        wait_until(lambda: place.is_file() and place.stat().st_size, "a scheduler")
        self.address = json.loads(place.read_text())["address"]

    def worker(self, name, *first):
        alone = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        return self._start("dask_worker", self.address, "--name", name, *alone, first=first)

    def _start(self, module, *arguments, first=()):
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1"]
        places = filter(None, [*map(str, first), str(HERE), os.environ.get("PYTHONPATH")])
        command += ["--dashboard-address", "127.0.0.1:0", *arguments]
        where = {"cwd": self.folder, "env": os.environ | {"PYTHONPATH": os.pathsep.join(places)}}
        quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        self.processes.append(subprocess.Popen(command, **where, **quiet))
        return self.processes[-1]


def kill_9(process):
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=PATIENCE)


@contextmanager
def cluster(folder, workers=2):
    found = Cluster(folder)
    try:
        for number in range(workers):
            found.worker(f"worker-{number}")
        if workers:
            there(found, workers)
        yield found
    finally:
        for process in found.processes:
            kill_9(process)


def there(cluster, workers):
    """What the scheduler says of its workers, once so many are there."""
    with distributed.Client(cluster.address, timeout=PATIENCE, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=PATIENCE)
        return client.scheduler_info()["workers"]
