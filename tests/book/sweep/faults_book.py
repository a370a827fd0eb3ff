"""A toy chapter that marks when it begins and ends, swept by the real command line, and what there is to kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import psutil
import running_book
from loopback import PATIENCE

MARKS = "FAULTS_MARKS"
PARAMETERS = """profile: str = "quick"  # {smoke, quick, full, paper} how much to run
n: int = None  # [1, 9] how many
seed: int = None  # [0, 1000000] the number of the run
mode: str = "fine"  # {fine, raise, kill, exit, sleep, eat, flood, endless} how the work ends"""
WORK = f"""import os, signal, sys, time
def mark(what):
    with open(os.environ["{MARKS}"], "a") as file:
        file.write(f"{{what}} {{seed}}\\n")
mark("begun")
time.sleep(0.5)
if mode == "raise":
    raise ValueError("the flux capacitor is empty")
if mode == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "exit":
    sys.exit()
if mode == "sleep":
    time.sleep(3000)
if mode == "eat":
    hoard = [bytearray(50_000_000) for _ in range(20)]
    time.sleep(3000)
if mode == "flood":
    for _ in range(20):
        print("drop " * 100_000)
while mode == "endless":
    print("drop " * 100_000)"""
# what a chapter's ledger shows, written out: the library that makes one takes longer to import than the rest to run
LEDGER = """from IPython.display import display
values = [0.001 * (seed + i) for i in range(7)]
measured = {"claim": "T1", "test": "low", "values": values}
shown = {"chapter": "toy", "profile": profile, "seed": 500_000, "measurements": [measured], "not_tested": {}}
mark("ended")
display({"application/vnd.repro.ledger+json": shown}, raw=True)"""


class Swept:
    """One sweep of the toy by ``repro sweep``: its folder, its marks, its processes."""

    def __init__(self, place, *arguments, folder=None, cells=(), **environment):
        self.book = running_book.make(place / "book", PARAMETERS, *(cells or (WORK, LEDGER)))
        self.folder = folder or place / "sweep"
        self.marks = place / "marks"
        self.marks.touch()
        self.arguments = arguments
        (place / "tmp").mkdir(exist_ok=True)
        # into a pipe Python buffers what is printed, unless the shell says otherwise; the order of lines is tested
        own = {MARKS: str(self.marks), "TMPDIR": str(place / "tmp"), "PYTHONUNBUFFERED": ""}
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
        return {path.name: path.read_bytes() for path in (self.folder / "runs").glob("*.json")}

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
    return int(json.loads(content)["values"]["seed"])


def kill_9(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def workers_and_kernels(pid):
    """The processes below this one that run notebooks, and their kernels."""
    workers, kernels = [], []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if "repro.book._worker" in command:
            workers.append(process)
        elif "ipykernel_launcher" in command:
            kernels.append(process)
    return workers, kernels
