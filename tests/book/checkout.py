"""A copy of this checkout that a test may change: its own library, its own tools, no chapter's results."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["src", "book", "_toc.yml", "_config.yml", "README.md"]
PARTS += ["pyproject.toml", "Makefile", "constraints.txt"]
TOC = """format: jb-book
root: book/index
parts:
- caption: The papers
  numbered: true
  chapters: [{{file: book/chapters/{chapter}}}]
- caption: Behind the pages
  chapters: [{{file: book/adding-a-paper}}, {{file: book/reading-guide}}, {{file: book/api/{chapter}}}]
"""


def copied(folder):
    """The sources of the book and the library, without results."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    shutil.rmtree(folder / "book/results")
    return folder


class Checkout:
    """The folder of the copy, and commands that run there as in a terminal with its environment activated."""

    def __init__(self, folder):
        self.root = copied(folder)
        (folder / ".gitignore").write_text(".venv/\n.repro/\n_build/\n__pycache__/\n.*_cache/\n")
        (folder / "tests/papers").mkdir(parents=True)
        (folder / ".venv").mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
        (folder / ".venv/.installed").touch()  # newer than what asks for packages: none is installed
        tools = folder / ".venv/bin"
        self.lints = (tools / "ruff").is_file() and find_spec("mypy")  # not where only what runs is installed
        # the copy's library before the one that is installed
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
        self.environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        # reading PyTorch anew takes mypy half a minute
        self.environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
        self.run("git init -q && git config user.name a && git config user.email a@b")
        self.run("git add . && git commit -qm 'The book'")

    def run(self, command):
        """What a command prints, both of its streams; it must end well."""
        if command == "make lint" and not self.lints:
            return ""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(["bash", "-c", command], cwd=self.root, env=self.environment, **streams)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
        return done.stdout

    def only(self, chapter):
        """Take the other chapters out of the contents: their runs take minutes, and have tests of their own."""
        (self.root / "_toc.yml").write_text(TOC.format(chapter=chapter))
        for page in ("index", "reading-guide"):
            (self.root / f"book/{page}.md").write_text(f"# {page}\n")
