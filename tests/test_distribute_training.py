"""A batch on several replicas or workers trains as one device does on it; what cannot work is told."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from test_train_classifier import data as colours
from test_train_classifier import small
from tiny import tiny_detector

import zoo
from zoo.cli.main import build_parser, main
from zoo.cli.servers import SERVED, check_server_options
from zoo.cli.strategy import naming_lost_workers
from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.launch import free_ports
from zoo.distribute.replicas import Replicas, strategy_of
from zoo.distribute.strategies import make_strategy
from zoo.training.recipe import Recipe
from zoo.training.scaling import scale_rate

HERE = Path(__file__).parent
CLOSE = 1e-5
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


COLUMNS = {
    "classifier": {"weights", "loss", "top1_error", "val_loss", "val_top1_error"},
    "detector": {"weights", "loss", "rpn_box", "proposal_recall", "val_loss", "val_rpn_box", "val_map"},
}


def mirrored(folder: Path, replicas: int) -> dict:
    words = [sys.executable, str(HERE / "distribute_mirrored.py"), str(folder), str(replicas)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, dict]:
    """Folder of what one device does, and how two replicas compare with it."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, mirrored(folder, 2)


def close(found: dict[str, float], columns: set[str]) -> None:
    assert columns <= found.keys()
    assert {name: value for name, value in found.items() if not value <= CLOSE} == {}


def summarised(folder: Path, strategy: str, workers: int, replicas: int) -> None:
    """The run's summary has a row for each worker, whose parts of a step can be true."""
    told = json.loads((folder / "summary.json").read_text())
    assert told["strategy"] == strategy
    assert (told["totals"]["workers"], told["totals"]["replicas"], len(told["workers"])) == (workers, replicas, workers)
    for row in told["workers"]:
        assert row["examples/s"] > 0
        assert row["compute, ms"] > 0
        assert all(0 <= row[f"{part}, ms"] < 60_000 for part in ("input", "compute", "exchange", "update", "other"))


@pytest.mark.parametrize("replicas", [2, 4])
def test_mirrored_replicas_train_as_one_device(two, replicas):
    """Twenty steps of a detector that samples and of a classifier with batch normalisation."""
    folder, report = two
    if replicas == 2:
        assert min(report[kind]["moved"] for kind in COLUMNS) > 1000 * CLOSE
    else:
        report = mirrored(folder, replicas)
    for kind, columns in COLUMNS.items():
        wanted = {name for name in columns if replicas == 2 or not name.startswith("val_")}
        close(report[kind]["differs"], wanted)
        summarised(folder / kind / f"replicas{replicas}", "mirrored", 1, replicas)
    # Each replica has its own dropout masks, and each step other ones.
    assert report["masks"] == [replicas, replicas, 2 * replicas]
    # Each gradient, of norm 4 * 2**.5 at first, is cut to 1 as a whole; the step of the overflow is left out by all.
    assert report["overflow"] == [pytest.approx(1 - 2 * 0.1 / 2**0.5)] * 2 + [2]


def test_two_workers_train_as_one_device_though_one_is_killed(two):
    """The group goes on after the first epoch, and ends with the weights of one device."""
    folder, _ = two
    words = ["--workers", "2", "--", sys.executable, str(HERE / "distribute_worker.py"), str(folder), *COLUMNS]
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli.main", "launch", *words], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "worker 1 was killed by SIGKILL; all are started again (restart 1 of 3)" in done.stdout
    lines = [
        line.split("DIFFERENCE ")[1].split(maxsplit=1) for line in done.stdout.splitlines() if "DIFFERENCE" in line
    ]
    assert [kind for kind, _ in lines] == list(COLUMNS)
    for kind, found in lines:
        close(json.loads(found), COLUMNS[kind])
        summarised(folder / kind / "workers", "multi_worker", 2, 2)


# What is told


def several(count: int = 4, workers: int = 1) -> Replicas:
    """As if there were so many."""
    replicas = Replicas(small())
    replicas.count, replicas.workers = count, workers
    return replicas


def batches(size: int, pictures: int = 24):
    return SimpleNamespace(batch_size=size, source=colours(pictures))


def test_what_replicas_cannot_share_is_told():
    several().check(batches(8))
    with pytest.raises(ValueError, match=r"a batch of 6 pictures cannot be shared evenly by 4 .* give 4 or 8"):
        several().check(batches(6))
    with pytest.raises(ValueError, match=r"give 4$"):
        several().check(batches(2))
    with pytest.raises(ValueError, match="4 replicas, but colours has 3 pictures; use at most 3"):
        several().check(batches(4, pictures=3))
    with pytest.raises(ValueError, match=r"accumulate=2: .* give accumulate=1 and a batch of 16"):
        several().check(batches(8), accumulate=2)
    with pytest.raises(ValueError, match="give epochs or steps"):
        several(4, workers=2).check(batches(8), by_clock=True)
    several(4).check(batches(8), by_clock=True)


def test_workers_without_a_shared_folder_are_told(monkeypatch):
    replicas = several(2, workers=2)
    monkeypatch.setattr(replicas, "numbers_of_all", lambda number: [3.0, 0.0])
    with pytest.raises(ValueError, match=r"different checkpoints in runs/a \(epochs done, worker 0: 3, worker 1: 0\)"):
        replicas.check_same_epoch(3, "runs/a")


def test_a_model_has_to_be_built_under_its_strategy():
    import tensorflow as tf

    model = small()
    assert strategy_of(model) is None
    assert strategy_of(SimpleNamespace()) is None
    with tf.distribute.OneDeviceStrategy("CPU:0").scope(), pytest.raises(ValueError, match="was not built under"):
        strategy_of(model)


def test_strategies_that_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match="choose one of none, mirrored, multi_worker"):
        make_strategy("horovod")
    with pytest.raises(ValueError, match="for the strategy mirrored only"):
        make_strategy("none", devices=2)
    with pytest.raises(ValueError, match="give at least 1"):
        make_strategy("mirrored", devices=0)
    keras.ops.zeros(())  # TensorFlow has started
    with pytest.raises(ValueError, match="make the strategy before anything else"):
        make_strategy("mirrored", devices=64)


def test_one_replica_is_no_strategy():
    """Clipping, averaging and validation under a strategy with one replica, in this process."""
    import tensorflow as tf

    found = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        with strategy.scope():
            model = tiny_detector()
        found.append(np.asarray(model.weights[0]))
        assert (strategy_of(model) is None) == (len(found) == 1)
    np.testing.assert_array_equal(*found)


def test_the_rate_grows_with_the_batch():
    """Goyal 2017: 8192 pictures learn at 3.2 where 256 learn at .1, after five epochs of warm-up."""
    scaled = scale_rate(Recipe(learning_rate=0.1), batch_size=8192, given_for=256, steps_per_epoch=156)
    assert (scaled.learning_rate, scaled.warmup_steps) == (pytest.approx(3.2), 780)
    with pytest.raises(ValueError, match="at least 1 picture, not 0"):
        scale_rate(Recipe(), 8, 0, 1)


def test_a_lost_worker_is_told_in_a_sentence():
    import tensorflow as tf

    page = "Graph execution error:\n\nDetected at node x\nCollective ops is aborted by: tasks are unhealthy\nmore"
    lost = tf.errors.UnavailableError(None, None, page)
    workers = tf.distribute.MultiWorkerMirroredStrategy.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    says = r"ended \(tasks are unhealthy\); .* again with --resume"
    with pytest.raises(WorkerLostError, match=says), naming_lost_workers(workers):
        raise lost
    with pytest.raises(tf.errors.UnavailableError), naming_lost_workers(tf.distribute.get_strategy()):
        raise lost


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "TF_CONFIG is no JSON"),
        ('{"cluster": {"worker": ["localhost:PORT0"]}, "task": {"type": "worker", "index": 1}}', "has worker 0 to 0"),
        (
            '{"cluster": {"worker": ["localhost:PORT0", "localhost:PORT1"]}, "task": {"type": "worker", "index": 0}}',
            "worker 1 at localhost:PORT1 (nobody listens there)",
        ),
        (
            '{"cluster": {"worker": ["localhost:PORT0"], "ps": ["localhost:PORT1"]}, "task": '
            '{"type": "worker", "index": 0}}',
            "TF_CONFIG has ps, but with the strategy multi_worker all tasks are workers",
        ),
    ],
)
def test_the_command_tells_soon(monkeypatch, capsys, tmp_path, config, says):
    for number, port in enumerate(free_ports(2)):
        config, says = config.replace(f"PORT{number}", str(port)), says.replace(f"PORT{number}", str(port))
    monkeypatch.setenv("TF_CONFIG", config)
    words = ["train", "--strategy", "multi_worker", "--wait", "1", "--data", "digits:4", "--out", str(tmp_path)]
    began = time.monotonic()
    assert main([*words, "--model", "faster_rcnn_resnet18"]) == 2
    assert time.monotonic() - began < 30  # as promised
    assert says in capsys.readouterr().err


def test_options_that_do_not_go_together(capsys, tmp_path):
    words = ["train", "--data", "digits:4", "--model", "faster_rcnn_resnet18", "--out", str(tmp_path)]
    assert main([*words, "--devices", "2"]) == 2
    assert "--devices goes with --strategy mirrored, not with none" in capsys.readouterr().err
    assert main([*words, "--strategy", "mirrored", "--pods", "a=b"]) == 2
    assert "--pods goes with --strategy multi_worker" in capsys.readouterr().err


def test_ready_files_hold_commands_that_are_understood():
    import yaml

    folder = HERE.parent / "examples" / "cluster"
    commands = []
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            spec = document.get("spec", {})
            for part in spec.get("tfReplicaSpecs", {"": spec}).values():
                if "template" in part:
                    commands.append(part["template"]["spec"]["containers"][0]["command"])
    for file in sorted(folder.glob("*.sbatch")):
        text = file.read_text().replace("\\\n", " ").replace('"', "")
        line = next(line for line in text.splitlines() if "zoo train" in line)
        commands.append(line[line.index("zoo train") :].split(" && ")[0].split())
    found = []
    for command in commands:
        args = build_parser().parse_args(command[1:])
        assert args.resume
        assert args.model in zoo.list_models()
        found.append((args.strategy, args.cluster))
    # Kubeflow's chief, workers and servers run the same command.
    assert found == [
        *[("parameter_server", "tf_config")] * 3,
        ("multi_worker", "tf_config"),
        ("multi_worker", "kubernetes"),
        ("parameter_server", "slurm"),
        ("multi_worker", "slurm"),
    ]


def test_the_commands_of_the_documentation_are_understood():
    lines = (HERE.parent / "docs" / "distributed.md").read_text().splitlines()
    commands = [line.split()[1:] for line in lines if line.strip().startswith(("zoo train -", "zoo launch -"))]
    strategies = []
    for command in commands:
        args = build_parser().parse_args(command)
        if command[0] == "launch":
            servers = args.ps
            args = build_parser().parse_args(args.words[args.words.index("zoo") + 1 :])
            assert (servers > 0) == (args.strategy in SERVED)
        check_server_options(args)
        strategies.append(args.strategy)
    assert strategies == ["mirrored", "multi_worker", "multi_worker", "parameter_server", "sandblaster"]
