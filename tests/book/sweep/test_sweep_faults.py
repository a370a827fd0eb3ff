"""Sweeps by the real command line whose parts are killed, whose disk is full, whose notebooks misbehave."""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import running_book
import swept
from swept import Swept, below, ended, gone, kill_9, wait_until

ON = "the same command with --resume goes on from there"


def look_whole(swept, n_points):
    """Every point has one row, done, with its notebook; nothing is half there or twice there."""
    table = swept.table()
    assert sorted(table.seed) == list(range(n_points))
    assert table.id.is_unique
    assert set(table.status) == {"done"}
    assert set(table["T1.verdict"]) == {"exploratory"}  # of planning seeds
    assert all((swept.folder / name).is_file() for name in table.notebook)
    assert len(swept.kept()) == n_points
    assert not list(swept.folder.rglob("*.part"))


def look_unchanged(swept, then, begun):
    """What had ended by then is as it was, and has not begun again."""
    for name, content in then.items():
        assert swept.kept()[name] == content
        seed = int(json.loads(content.partition(b"\n")[2])["values"]["seed"])
        assert swept.marked("begun")[seed] == begun[seed]


def look_stopped(swept, n_points, said):
    """The one line that says how much is kept and how to go on; what is kept, and what has begun."""
    kept, begun = swept.kept(), swept.marked("begun")
    (line,) = [line for line in said.splitlines() if line.endswith(ON)]
    assert "Traceback" not in said
    assert f"; {len(kept)} of {n_points} runs are in {swept.folder}" in line
    return line, kept, begun


def go_on(swept, n_points, snapshots):
    """Resume, on this machine, and look at what there is, and that what was kept has not begun again."""
    code, said = swept.run("--resume", "--workers", "2")
    assert code == 0, said
    assert f"{n_points} runs ({len(snapshots[-1][0])} from before)" in said
    look_whole(swept, n_points)
    for kept, begun in snapshots:
        look_unchanged(swept, kept, begun)


# --- kill -9: sweeps, Dask workers, schedulers; a kernel is one of the notebooks that misbehave ----------------------


def test_a_killed_sweep_goes_on_where_it_was_and_so_does_one_that_is_stopped(tmp_path):
    rng, n_points, n_kills = random.Random("sweep"), 5, 3
    swept = Swept(tmp_path, "-p", f"seed=0..{n_points - 1}", "--workers", "2")
    snapshots = []
    for round in range(n_kills):
        # killed soon after a run has begun, or soon after one was kept; the last one by a request to end
        def counted(kept=round > 0):
            return len(swept.kept()) if kept else swept.marked("begun").total()

        process, before = swept.start(*["--resume"][: round > 0]), counted()
        wait_until(lambda: counted() > before or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 1))
        running = below(process.pid) if process.poll() is None else []
        process.send_signal(signal.SIGTERM if round == n_kills - 1 else signal.SIGKILL)
        said, _ = process.communicate()
        gone(running)
        snapshots.append((swept.kept(), swept.marked("begun")))
    if process.returncode:
        assert process.returncode == 130
        look_stopped(swept, n_points, said)
        assert len(swept.table()) == len(swept.kept()) > 0
    code, said = swept.run()
    assert code == 2
    assert f"holds {len(swept.kept())} finished run" in said
    go_on(swept, n_points, snapshots)
    # each kill can hit the runs at work, of which there are two
    assert swept.marked("begun").total() <= n_points + 2 * n_kills


def test_killed_dask_workers_and_a_killed_scheduler(tmp_path, monkeypatch):
    rng, n_points, n_kills = random.Random("dask"), 5, 2
    monkeypatch.setenv(running_book.MARKS, str(tmp_path / "marks"))
    with swept.cluster(tmp_path, workers=0) as cluster:
        workers = [cluster.worker(f"worker-{number}") for number in range(2)]
        sweep = Swept(tmp_path, "-p", f"seed=0..{n_points - 1}", "--retries", str(n_kills))
        process = sweep.start("--cluster", cluster.address)
        for number in range(n_kills):
            wait_until(lambda: sweep.marked("begun").total() > number)  # noqa: B023
            time.sleep(rng.uniform(0, 0.5))
            victim = workers.pop(rng.randrange(2))
            running = below(victim.pid)
            kill_9(victim)
            workers.append(cluster.worker(f"instead-{number}"))
            gone(running)
        wait_until(sweep.kept)
        kill_9(cluster.scheduler)
        code, said = ended(process)
    then = sweep.kept(), sweep.marked("begun")
    if len(then[0]) < n_points:
        assert code == 1
        line = look_stopped(sweep, n_points, said)[0]
        assert f"the scheduler at {cluster.address} is gone; " in line
        assert len(sweep.table()) == len(then[0])
    go_on(sweep, n_points, [then])
    # a dead worker costs the run at work, a dead scheduler both
    assert sweep.marked("begun").total() <= n_points + n_kills + 2


# --- a full disk: a file system of 1 MB in memory ---------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    try_as = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*try_as, "mount", "-t", "tmpfs", "-o", f"size=1m,uid={os.geteuid()}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=200)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this machine lets us mount no file system")
    try:
        yield place
    finally:
        subprocess.run([*try_as, "umount", "--lazy", str(place)], check=True, timeout=200)


def fill(disk, leave):
    """Take all of a disk but some bytes; all of it, if a run that is at work took some meanwhile."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast = disk / "ballast"
    with suppress(OSError):
        ballast.write_bytes(bytes(free - leave))
    return ballast


@pytest.mark.parametrize("where", ["sweep", "work"])
def test_a_full_disk_stops_a_sweep_that_can_go_on(tmp_path, small_disk, where):
    """Full is, once a run or two are kept, the disk that the sweep is kept on, or that of temporary files."""
    n_points = 3
    arguments = ("-p", f"seed=0..{n_points - 1}", "--workers", "1")
    if where == "sweep":
        swept = Swept(tmp_path, *arguments, folder=small_disk / "sweep")
        ballast = fill(small_disk, leave=40_000)
        code, said = swept.run()
    else:
        swept = Swept(tmp_path, *arguments, TMPDIR=str(small_disk))
        process = swept.start()
        wait_until(swept.kept)
        ballast = fill(small_disk, leave=4096)
        code, said = ended(process)
    line, *then = look_stopped(swept, n_points, said)
    assert code == 1
    assert "full" in line
    assert 0 < len(then[0]) < n_points
    ballast.unlink()
    go_on(swept, n_points, [then])


# --- notebooks that misbehave, a folder that is taken, a crowd --------------------------------------------------------


def test_notebooks_that_misbehave_are_rows_and_the_others_finish(tmp_path):
    modes = ("sleep", "endless", "eat", "flood", "raise", "exit", "kill", "fine")
    # seconds enough for those that do end, on this machine: twice what one took, with its process
    swept = Swept(tmp_path / "one", "-p", "mode=flood", "--workers", "1")
    assert swept.run()[0] == 0
    enough = max(8, round(2 * swept.seconds))
    limits = ("--timeout", str(enough), "--memory", "400", "--retries", "1")
    swept = Swept(tmp_path, "-p", f"mode={','.join(modes)}", "--workers", "3", *limits)
    code, said = swept.run()
    assert code == 1
    assert "8 runs (0 from before), 2 done, 5 failed, 1 lost" in said
    assert said.splitlines()[-1].endswith("6 of 8 runs did not end well; the table's column error says why")
    assert "Traceback" not in said
    table = swept.table().set_index("mode")
    assert table.index.tolist() == list(modes)
    well = {"flood": "done", "fine": "done", "kill": "lost"}
    assert table.status.to_dict() == dict.fromkeys(modes, "failed") | well
    for mode, said in {
        "sleep": f"took more than the {enough} seconds of its budget",
        "eat": "MB of memory, more than the 400 MB of its budget",
        "raise": "ValueError: the flux capacitor is empty (at 'Experiments')",
        "exit": "SystemExit",
        "kill": "the kernel died (killed by signal SIGKILL)",
    }.items():
        assert said in table.error[mode]
    assert table.attempts.to_dict() == dict.fromkeys(modes, 1) | {"kill": 2}
    # what a flood leaves on the disk is small, and says that it was cut
    flood, endless = ((swept.folder / table.notebook[mode]).read_bytes() for mode in ("flood", "endless"))
    assert 7_000_000 < len(flood) < 9_000_000
    assert b"[cut: what this cell shows went over 8 MB" in flood
    assert len(endless) < 9_000_000
    assert swept.marked("begun").total() == 9
    # only what was lost is run again: the others would end as they did
    code, said = swept.run("--resume")
    assert "8 runs (7 from before), 2 done, 5 failed, 1 lost" in said
    assert swept.marked("begun").total() == 11


CROWD = """import json
from ipykernel.kernelapp import IPKernelApp
with open(IPKernelApp.instance().abs_connection_file) as file:
    connection = json.load(file)
print(seed, connection["transport"], connection["ip"])"""


def test_a_crowd_of_notebooks_find_their_sockets_and_leave_nothing_behind(tmp_path):
    swept = Swept(tmp_path, "-p", "seed=0..7", "--workers", "4", "--retries", "0", cells=(CROWD,))
    with tempfile.TemporaryDirectory(prefix="crowd-") as place:  # a short path, as sockets need
        swept.environment["TMPDIR"] = place
        code, said = swept.run()
        assert code == 0, said
        assert not list(Path(place).iterdir())
    table = swept.table()
    assert table.status.tolist() == ["done"] * 8
    printed = []
    for name in table.notebook:
        cells = nbformat.read(swept.folder / name, as_version=4).cells
        (output,) = (output for cell in cells for output in cell.get("outputs", ()))  # no warning beside it
        printed.append(output.text.split())
    seeds, transports, paths = zip(*printed, strict=True)
    assert [*map(int, seeds)] == table.seed.tolist() == list(range(8))
    assert set(transports) == {"ipc"}
    assert len(set(paths)) == 8
    assert json.loads((swept.folder / "sweep.json").read_text())["axes"] == ["seed=0..7"]
