"""What is installed: every module and every file that the package reads, under one import name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("heads", "datasets", "export")


def files_of(folder: Path) -> set[str]:
    """Paths inside, without what Python leaves behind."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_a_wheel_holds_everything_and_nothing_else(tmp_path):
    # A copy: building leaves folders behind.
    source = tmp_path / "source"
    for part in ("zoo", *PARTS):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "zoo = zoo.cli.main:main" in archive.read(entry).decode()
    wanted = {f"zoo/{name}" for name in files_of(source / "zoo")}
    wanted |= {f"zoo/{part}/{name}" for part in PARTS for name in files_of(source / part)}
    assert held == wanted
    assert {Path(name).suffix for name in held} >= {".py", ".h5", ".json", ".html"}
