"""Maps the repository's four top-level folders into the one import name ``zoo``.

Everything else about the package is in ``pyproject.toml``.
"""

from setuptools import find_packages, setup

PARTS = ("heads", "datasets", "export")


def packages() -> list[str]:
    """``zoo`` and its sub-packages, and each part under its name inside ``zoo``."""
    found = ["zoo"] + [f"zoo.{name}" for name in find_packages("zoo")]
    for part in PARTS:
        found += [f"zoo.{part}"] + [f"zoo.{part}.{name}" for name in find_packages(part)]
    return found


setup(
    packages=packages(),
    package_dir={"zoo": "zoo", **{f"zoo.{part}": part for part in PARTS}},
)
