"""The package as a whole: quick and quiet to import, in a checkout as well as installed."""

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).resolve().parent.parent


def run(code, **kwargs):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **kwargs)


def test_import_is_quiet_and_takes_nothing_heavy():
    code = (
        "import sys; import zoo; heavy = {'tensorflow', 'keras', 'numpy', 'jax', 'matplotlib', 'cv2', "
        "'PIL', 'h5py', "
        "'sklearn', 'rich'}; sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_checkout_works_without_installation(tmp_path):
    # -I -S: neither site-packages nor the editable installation's finder; only the standard library and the
    # checkout.
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import zoo, importlib.util as u; "
        "print([u.find_spec('zoo.' + n).origin for n in ('heads', 'datasets', 'export', 'cli')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for part in ("heads", "datasets", "export", "zoo/cli"):
        assert str(ROOT / part / "__init__.py") in done.stdout


def test_other_packages_called_datasets_do_not_matter(tmp_path):
    for name in ("datasets", "export", "heads"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong one')")
    run(
        "import zoo, zoo.datasets, zoo.export, zoo.heads",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )


def test_every_public_name_can_be_had():
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None, name
    assert set(zoo.__all__) <= set(dir(zoo))
    assert callable(zoo.draw)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"'detectt'.*list_models"):
        _ = zoo.detectt


def test_version_is_that_of_the_distribution():
    assert f'version = "{zoo.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "files",
        "file_checks",
        "transfer_bar",
        "detections",
        "drawing",
        "label_layout",
        "sheets",
        "inputs",
        "training.schedule",
        "training.coco_map",
        "training.detection_metric",
        "datasets.voc_metrics",
        "datasets.coco_metrics",
        "datasets.proposal_recall",
        "datasets.errors",
        "datasets.result_files",
    ],
)
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"zoo.{name}")
    outcome = doctest.testmod(module, extraglobs={"np": importlib.import_module("numpy")})
    assert outcome.attempted
    assert not outcome.failed
