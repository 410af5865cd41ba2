"""The code as the house wants it: linted, formatted, every file small enough to be one idea."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("zoo", "heads", "datasets", "export", "examples", "benchmarks", "tests")


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *FOLDERS, "setup.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_imports_point_one_way():
    forbidden = {
        "heads": ("zoo.datasets", "zoo.export", "zoo.detectors", "zoo.backbones", "zoo.training", "zoo.cli"),
        "datasets": ("zoo.heads", "zoo.export", "zoo.detectors", "zoo.backbones", "zoo.training", "zoo.cli"),
        "zoo/detectors": ("zoo.datasets.pipeline", "zoo.training", "zoo.cli", "zoo.export"),
        "zoo/backbones": ("zoo.heads", "zoo.datasets", "zoo.training", "zoo.cli", "zoo.export"),
        "zoo/training": ("zoo.cli", "zoo.export"),
    }
    for folder, names in forbidden.items():
        for file in (ROOT / folder).rglob("*.py"):
            code = [line for line in file.read_text().splitlines() if line.lstrip().startswith(("import ", "from "))]
            for line in code:
                assert not any(name in line for name in names), f"{file.relative_to(ROOT)}: {line.strip()}"
