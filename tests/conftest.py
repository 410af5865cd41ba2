"""No test touches the network or the user's own cache of weights, unless it says so itself."""

import contextlib
import ctypes
import gc
import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """An empty ``ZOO_HOME`` for all tests, and no downloads; child processes inherit both."""
    changed = {"ZOO_HOME": str(tmp_path_factory.mktemp("zoo-home")), "ZOO_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value


@pytest.fixture(scope="module", autouse=True)
def memory_given_back():
    """Free the models of the file before: Keras's graphs are cycles, and glibc keeps what was freed.

    Two processes that run the whole suite held nearly 17 GB towards its end without this. It is done before a file's
    first test, when pytest no longer holds the last one's fixtures. What is left then stays for good (modules, caches,
    TensorFlow's graphs of gradients, millions of objects in the end): frozen, no later collection looks through it,
    which took seconds each.
    """
    gc.collect()
    gc.freeze()
    # Python collects of its own accord when a quarter has come to what the last collection left: to next to nothing.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.fixture
def in_time():
    """What waits for a result that never comes fails, and does not hang."""

    def too_long(number, frame):
        raise AssertionError("took more than five minutes")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 300)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def eagerly_all():
    """Nothing is compiled while the file's tests run: of a few steps, tracing takes longest.

    For tests of what is around a training, where others of compiled trainings stand beside them.
    """
    with _eagerly():
        yield


@pytest.fixture
def eagerly():
    """The same for one test."""
    with _eagerly():
        yield


@contextlib.contextmanager
def _eagerly():
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def cifar10_zip():
    """The archive of CIFAR-10 in class folders, where it is at hand."""
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "cifar10.zip").is_file():
        pytest.skip("CIFAR-10 is not here: set ZOO_SHARED_DATA to the folder that holds cifar10.zip")
    return Path(shared) / "cifar10.zip"
