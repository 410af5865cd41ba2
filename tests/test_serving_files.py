"""Configuration, container and Kubernetes files of examples/serving: they parse, and they agree with each other."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from serving_protos import message
from serving_stand_in import rest_server

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "serving"
GRPC, REST = 8500, 8501


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def models_config(text=None):
    proto = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2", reason="tensorflow-serving-api is not installed"
    )
    return text_format.Parse(text or (FOLDER / "models.config").read_text(), proto.ModelServerConfig())


@pytest.fixture(scope="module")
def served():
    """The one model of models.config."""
    (config,) = models_config().model_config_list.config
    return config


@pytest.fixture(scope="module")
def kubernetes():
    """What ``kubectl apply -k`` applies, by kind."""
    names = documents("kustomization.yaml")[0]["resources"]
    return {document["kind"]: document for name in names for document in documents(name)}


@pytest.fixture(scope="module")
def container(kubernetes):
    (found,) = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_the_models_config_serves_the_highest_version(served):
    assert served.name == "digits"
    assert served.base_path == "/models/digits"
    assert served.model_platform == "tensorflow"
    assert served.model_version_policy.latest.num_versions == 1


def test_batches_are_small_and_never_padded():
    text = (FOLDER / "batching_parameters.txt").read_text()
    found = text_format.Parse(text, message("BatchingParameters")())
    assert 1 < found.max_batch_size.value <= 32
    assert 0 < found.batch_timeout_micros.value < 100_000
    assert found.num_batch_threads.value >= 1
    assert found.max_enqueued_batches.value >= 1
    assert not found.pad_variable_length_inputs
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text + "max_size { value: 1 }", message("BatchingParameters")())


def test_metrics_are_where_kubernetes_is_told_they_are(kubernetes):
    text = (FOLDER / "monitoring.config").read_text()
    found = text_format.Parse(text, message("MonitoringConfig")())
    notes = kubernetes["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert found.prometheus_config.enable
    assert notes["prometheus.io/path"] == found.prometheus_config.path
    assert notes["prometheus.io/port"] == str(REST)


def test_one_version_of_the_server_everywhere_that_of_tensorflow(container):
    images = {container["image"], documents("compose.yaml")[0]["services"]["serving"]["image"]}
    images.add(re.search(r"^FROM (\S+)", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)[1])
    (image,) = images
    name, _, version = image.partition(":")
    assert name == "tensorflow/serving"
    assert documents("kserve.yaml")[0]["spec"]["predictor"]["model"]["runtimeVersion"] == version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [each for each in project["dependencies"] if re.match(r"tensorflow[<>=]", each)]
    assert f">={version.rpartition('.')[0]}," in wanted


def test_compose_mounts_files_that_exist_where_the_flags_look(served):
    service = documents("compose.yaml")[0]["services"]["serving"]
    inside = {}
    for source, target, mode in (entry.rsplit(":", 2) for entry in service["volumes"]):
        assert mode == "ro"
        inside[target] = source
        if not source.startswith("$"):
            assert (FOLDER / source).is_file()
    for flag in service["command"]:
        if "_file=" in flag:
            assert flag.partition("=")[2] in inside
    assert Path(served.base_path).parent.as_posix() in inside
    # Reachable from this machine alone.
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)]
    assert f"/v1/models/{served.name}/metadata" in service["healthcheck"]["test"][-1]


def test_the_health_check_tells_a_model_that_is_there_from_one_that_is_not():
    kind, shell, option, command = documents("compose.yaml")[0]["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"

    class Model:
        signatures = ("serving_default",)

    with rest_server({"digits": Model()}) as address:
        port = address.rpartition(":")[2]
        for name, wanted in (("digits", 0), ("other", 1)):
            text = command.replace(str(REST), port).replace("digits", name)
            assert subprocess.run([shell, option, text], timeout=90).returncode == wanted
    assert subprocess.run([shell, option, command.replace(str(REST), port)], capture_output=True).returncode == 1


def test_the_image_holds_what_its_command_names():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    (copied,) = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and line.endswith("/config/")]
    assert all((FOLDER / name).is_file() for name in copied)
    (command,) = [line for line in lines if line.startswith("CMD ")]
    for flag in yaml.safe_load(command.removeprefix("CMD ")):
        assert flag.partition("=/config/")[2] in copied


def test_kubernetes_parts_find_each_other(kubernetes, container, served):
    assert {kind: document["apiVersion"] for kind, document in kubernetes.items()} == {
        "PersistentVolumeClaim": "v1",
        "Deployment": "apps/v1",
        "Service": "v1",
    }
    spec = kubernetes["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert kubernetes["Service"]["spec"]["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": GRPC, "http": REST}
    assert {port["port"]: ports[port["targetPort"]] for port in kubernetes["Service"]["spec"]["ports"]} == {
        GRPC: GRPC,
        REST: REST,
    }
    flags = dict(flag.removeprefix("--").split("=") for flag in container["args"])
    assert (flags["port"], flags["rest_api_port"]) == (str(GRPC), str(REST))
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert all(mount["name"] in volumes and mount["readOnly"] for mount in mounts.values())
    claim = volumes[mounts[Path(served.base_path).parent.as_posix()]["name"]]["persistentVolumeClaim"]["claimName"]
    assert claim == kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    (kustomization,) = documents("kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    assert volumes[mounts["/config"]["name"]]["configMap"]["name"] == generated["name"]
    assert all((FOLDER / name).is_file() for name in generated["files"])
    for flag, value in flags.items():
        if flag.endswith("_file"):
            assert value.removeprefix("/config/") in generated["files"]
    (upload,) = documents("upload.yaml")
    assert upload["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim


def test_kubernetes_waits_until_the_model_is_loaded_and_kills_no_busy_server(container, served, kubernetes):
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == f"/v1/models/{served.name}/metadata"
        assert container[probe]["httpGet"]["port"] in ports
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 120
    # Longer than a server is still sent requests, which it goes on to serve.
    assert kubernetes["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 20


@pytest.mark.parametrize("kind", ["plain", "kserve"])
def test_resources_are_limited(kind, container):
    if kind == "kserve":
        container = documents("kserve.yaml")[0]["spec"]["predictor"]["model"]
    for name in ("cpu", "memory"):
        assert container["resources"]["requests"][name]
        assert container["resources"]["limits"][name]


def test_no_container_runs_as_root_or_may_become_it(kubernetes, container):
    (upload,) = documents("upload.yaml")
    for pod, runs in (
        (kubernetes["Deployment"]["spec"]["template"]["spec"], container),
        (upload["spec"], upload["spec"]["containers"][0]),
    ):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert runs["securityContext"]["allowPrivilegeEscalation"] is False
        assert runs["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert documents("compose.yaml")[0]["services"]["serving"]["user"] == "1000:1000"
    assert "USER 1000:1000" in (FOLDER / "Dockerfile").read_text()


def test_kserve_serves_the_same_model_from_the_same_claim(served, kubernetes):
    (service,) = documents("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    # KServe gives the server its own name as the model's.
    assert service["metadata"]["name"] == served.name
    model = service["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow", "version": "2"}
    claim = kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    assert model["storageUri"] == f"pvc://{claim}/{Path(served.base_path).name}"


def write_config(*args):
    script = FOLDER / "write_models_config.py"
    return subprocess.run([sys.executable, str(script), *map(str, args)], capture_output=True, text=True)


def test_a_models_config_for_a_folder_of_exports(tmp_path):
    for place in ("digits/1", "digits/12", "cells-v2/3", "notes/drafts", "empty/1"):
        (tmp_path / place).mkdir(parents=True)
        if not place.startswith("empty"):
            (tmp_path / place / "saved_model.pb").touch()
    done = write_config(tmp_path, "--base", "/srv/a b/", "--versions", 2)
    assert done.returncode == 0
    found = models_config(done.stdout).model_config_list.config
    assert [(each.name, each.base_path) for each in found] == [
        ("cells-v2", "/srv/a b/cells-v2"),
        ("digits", "/srv/a b/digits"),
    ]
    assert {each.model_version_policy.latest.num_versions for each in found} == {2}


@pytest.mark.parametrize(
    ("names", "told"), [((), "export models into it"), (("a:b",), "a:b: name models with letters")]
)
def test_folders_that_make_no_models_config(names, told, tmp_path):
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").touch()
    done = write_config(tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""


def test_the_default_file_is_what_the_script_writes(tmp_path):
    (tmp_path / "digits/1").mkdir(parents=True)
    (tmp_path / "digits/1/saved_model.pb").touch()
    assert models_config(write_config(tmp_path).stdout) == models_config()
