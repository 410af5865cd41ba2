"""Planning: what layers do, counted by loops; estimates against arithmetic by hand."""

import itertools
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from tiny import tiny_detector, tiny_fast

import zoo
from zoo.cli.main import main
from zoo.heads.low_rank import LowRankDense
from zoo.plan import Link, mirrored, parameter_servers
from zoo.plan_measure import measure_step
from zoo.plan_work import LayerWork, Workload, count_work

# 4 MB of parameters, of which half have a gradient; a third of the work forward.
WORK = Workload(
    "toy", (8, 8), (LayerWork("a", 100, 200, 1000), LayerWork("b", 0, 0, 500)), 1_000_000, 4_000_000, 2_000_000
)
FAST = Link(1e9, latency=0.0)


def products_of_a_convolution(height, width, channels, kernel, filters, stride, padding, groups=1):
    """Goes over every place, every tap and every channel and counts; padding is multiplied too, as always."""
    pad = padding == "same"
    rows = -(-height // stride) if pad else len(range(0, height - kernel + 1, stride))
    columns = -(-width // stride) if pad else len(range(0, width - kernel + 1, stride))
    count = 0
    for _ in itertools.product(range(rows), range(columns), range(filters), range(kernel), range(kernel)):
        count += channels // groups
    return count


def network(*parts, shape):
    return keras.Sequential([keras.Input(shape), *parts, layers.GlobalAveragePooling2D()])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(4, 3, 2), products_of_a_convolution(9, 12, 6, 3, 4, 2, "valid")),
        (layers.Conv2D(4, 3, padding="same"), products_of_a_convolution(9, 12, 6, 3, 4, 1, "same")),
        (layers.Conv2D(4, 3, groups=2), products_of_a_convolution(9, 12, 6, 3, 4, 1, "valid", groups=2)),
        # Each channel by itself, twice.
        (layers.DepthwiseConv2D(3, 2, depth_multiplier=2), 2 * products_of_a_convolution(9, 12, 6, 3, 1, 2, "valid")),
        # A dense layer at each of the 108 places.
        (layers.Dense(5), 9 * 12 * sum(1 for _ in itertools.product(range(6), range(5)))),
        (LowRankDense(5, rank=2), 9 * 12 * (6 * 2 + 2 * 5)),
        # Each of the input's numbers goes to 3 x 3 places in 4 channels.
        (layers.Conv2DTranspose(4, 3, 2), sum(1 for _ in itertools.product(range(9), range(12), range(6), range(36)))),
    ],
)
def test_products_of_a_layer(layer, expected):
    work = count_work(with_six_channels(layer))
    assert {each.layer: each.macs for each in work.layers}[layer.name] == expected
    assert work.uncounted == ()


def with_six_channels(layer):
    """A picture of 9 x 12 whose three channels come twice, without any product."""
    inputs = keras.Input((9, 12, 3))
    x = layer(layers.Concatenate()([inputs, inputs]))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def test_a_kernel_of_an_unknown_kind_is_named():
    inputs = keras.Input((4, 4, 3))
    x = layers.EinsumDense("bhwc,cd->bhwd", (None, None, 5), name="strange")(inputs)
    work = count_work(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    assert (work.uncounted, work.forward_macs) == (("strange",), 0)


def test_networks_of_the_papers():
    """Layer by layer from the papers; ResNet-20 is known for 41 MMAC, VGG-16 for 15.5 GMAC, dense layers included."""
    resnet = [(32, 3, 16), *[(32, 16, 16)] * 6, (16, 16, 32), *[(16, 32, 32)] * 5, (8, 32, 64), *[(8, 64, 64)] * 5]
    vgg = [(224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128), (56, 128, 256), *[(56, 256, 256)] * 2]
    vgg += [(28, 256, 512), *[(28, 512, 512)] * 2, *[(14, 512, 512)] * 3]
    resnet, vgg = (sum(9 * side**2 * before * after for side, before, after in each) for each in (resnet, vgg))
    work = count_work(zoo.get("resnet20"))
    assert work.forward_macs == resnet + 64 * 10
    assert work.parameters == 271_098
    assert round(work.forward_macs / 1e6) == 41
    assert count_work(zoo.get("vgg16", include_top=False)).forward_macs == vgg
    assert round((vgg + 25088 * 4096 + 4096 * 4096 + 4096 * 1000) / 1e9, 1) == 15.5


def test_the_way_back_costs_twice_but_for_the_first_layer_and_what_is_frozen():
    model = network(
        *(layers.Conv2D(4, 3, name="first"), layers.BatchNormalization(name="norm")),
        *(layers.Conv2D(4, 3, name="second"), layers.Conv2D(4, 1, name="third")),
        shape=(9, 12, 3),
    )
    back = {each.layer: each.backward / each.macs for each in count_work(model).layers if each.macs}
    assert back == {"first": 1, "second": 2, "third": 2}
    whole = count_work(model)
    for name in ("first", "norm"):
        model.get_layer(name).trainable = False
    frozen = count_work(model)
    back = {each.layer: each.backward / each.macs for each in frozen.layers if each.macs}
    assert back == {"first": 0, "second": 1, "third": 2}
    assert frozen.parameter_bytes == whole.parameter_bytes == 4 * model.count_params()
    assert whole.gradient_bytes - frozen.gradient_bytes == 4 * (3 * 3 * 3 * 4 + 4 + 2 * 4)
    model.get_layer("third").trainable = model.get_layer("second").trainable = False
    with pytest.raises(ValueError, match="nothing to train"):
        mirrored(count_work(model), 1.0, 1, 1, FAST)


def test_outputs_are_what_training_keeps():
    inputs = keras.Input((9, 9, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, 2)(inputs)))
    model = keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))
    assert count_work(model).activation_bytes == 4 * (3 * 4 * 4 * 4 + 5)


@pytest.mark.parametrize("make", [tiny_detector, tiny_fast])
def test_a_detector_is_counted_with_its_head_and_left_as_it_was(make):
    model = make()
    before = [keras.ops.convert_to_numpy(each) for each in model.variables]
    work = count_work(model, (64, 96))
    # The four convolutions halve 64 x 96; the head looks at 16 regions of 4 x 4 cells with 32 channels.
    convolutions = sum(
        (64 >> level) * (96 >> level) * 9 * before * after
        for level, before, after in ((1, 3, 12), (2, 12, 16), (3, 16, 24), (4, 24, 32))
    )
    head = 16 * (4 * 4 * 32 * 48 + 48 * 3 + 48 * 12)
    found = {}
    for each in work.layers:
        found[each.layer] = found.get(each.layer, 0) + each.macs
    assert sum(found[f"conv{number}"] for number in (1, 2, 3, 4)) == convolutions
    assert found["fc"] == 16 * 4 * 4 * 32 * 48
    rpn = 4 * 6 * (9 * 32 * 32 + 32 * (12 + 24)) if make is tiny_detector else 0
    assert work.forward_macs == convolutions + head + rpn
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_one_device_takes_what_was_measured():
    for overlap in (0, 1):
        found = mirrored(WORK, 0.125, 4, 1, replace(FAST, overlap=overlap))
        assert (found.step_s, found.exchange_s, found.efficiency, found.speedup) == (0.125, 0, 1, 1)
        assert (found.pictures_per_s, found.limit) == (32, "computing")


def test_a_ring_by_hand():
    # 2 MB of gradients, four devices: six messages of .5 MB at 1 GB/s, each .1 ms late.
    found = mirrored(WORK, 0.01, 8, 4, Link(1e9, latency=1e-4))
    assert found.exchange_s == pytest.approx(6 * (0.5e6 / 1e9 + 1e-4))
    assert found.step_s == pytest.approx(0.01 + found.exchange_s)
    assert found.pictures_per_s == pytest.approx(32 / found.step_s)
    assert found.efficiency == pytest.approx(0.01 / found.step_s)
    # Two thirds of a step are the way back: 6.7 ms, behind which 3.6 ms vanish.
    assert mirrored(WORK, 0.01, 8, 4, Link(1e9, 1e-4, overlap=1.0)).efficiency == 1
    half = mirrored(WORK, 0.004, 8, 4, Link(1e9, 1e-4, overlap=0.5))
    assert half.exchange_s == pytest.approx(0.0036 - 0.5 * 2 / 3 * 0.004)


def test_a_batch_that_stays_is_shared():
    found = mirrored(WORK, 0.01, 8, 4, FAST, fixed=True)
    assert (found.pictures, found.compute_s) == (8, 0.0025)
    assert found.speedup == pytest.approx(0.01 / (0.0025 + 0.003))
    with pytest.raises(ValueError, match="a batch of 8 pictures cannot be shared evenly by 3 devices"):
        mirrored(WORK, 0.01, 8, 3, FAST, fixed=True)


def test_more_devices_and_slower_links_are_less_efficient():
    rows = [mirrored(WORK, 0.01, 8, devices, Link(1e9)) for devices in (1, 2, 3, 4, 8, 64)]
    assert all(a.efficiency > b.efficiency for a, b in itertools.pairwise(rows))
    assert all(a.pictures_per_s < b.pictures_per_s for a, b in itertools.pairwise(rows))
    links = [mirrored(WORK, 0.01, 8, 8, Link(each)) for each in (1e8, 1e9, 1e10)]
    assert all(a.efficiency < b.efficiency for a, b in itertools.pairwise(links))
    workers = [parameter_servers(WORK, 0.01, 8, count, 1, Link(1e9)) for count in (1, 2, 3, 4, 8)]
    assert all(a.efficiency >= b.efficiency for a, b in itertools.pairwise(workers))
    assert all(a.pictures_per_s <= b.pictures_per_s for a, b in itertools.pairwise(workers))


def test_parameter_servers_by_hand():
    # A worker alone: 10 ms of computing, 4 MB down and 2 MB up at 1 GB/s. A server sends 250 copies a second at most.
    one = parameter_servers(WORK, 0.01, 8, 1, 1, FAST)
    assert one.step_s == pytest.approx(0.016)
    assert (one.limit, one.staleness) == ("computing", 0)
    four = parameter_servers(WORK, 0.01, 8, 4, 1, FAST)  # just as many as the server can serve
    assert (four.limit, four.step_s, four.efficiency) == ("computing", pytest.approx(0.016), pytest.approx(0.625))
    eight = parameter_servers(WORK, 0.01, 8, 8, 1, FAST)
    assert (eight.limit, eight.pictures_per_s) == ("servers", pytest.approx(8 * 250))
    assert eight.step_s == pytest.approx(8 / 250)
    two = parameter_servers(WORK, 0.01, 8, 8, 2, FAST)
    assert two.pictures_per_s == pytest.approx(8 * 500)
    rare = parameter_servers(WORK, 0.01, 8, 1, 1, FAST, n_push=4, n_fetch=4)
    assert rare.step_s == pytest.approx(0.01 + 0.001 + 0.0005)
    assert parameter_servers(WORK, 0.01, 8, 4, 1, FAST, n_push=4, n_fetch=4).staleness == 12
    assert parameter_servers(WORK, 0.01, 8, 4, 1, FAST, n_push=1, n_fetch=3).staleness == 6
    with pytest.raises(ValueError, match="n_push=2, n_fetch=3"):
        parameter_servers(WORK, 0.01, 8, 4, 1, FAST, n_push=2, n_fetch=3)


def test_memory_by_hand():
    alone, four = (mirrored(WORK, 0.01, 8, devices, FAST, slots=2) for devices in (1, 4))
    assert alone.device_bytes == 4_000_000 + 3 * 2_000_000 + 8 * 1500
    assert four.device_bytes == alone.device_bytes + 2_000_000
    found = parameter_servers(WORK, 0.01, 8, 4, 4, FAST)
    assert found.device_bytes == 4_000_000 + 2 * 2_000_000 + 8 * 1500
    assert found.server_bytes == (4_000_000 + 2_000_000) / 4


def test_units():
    assert Link.of_gigabits(8) == Link(1e9, 50e-6, 0.0)
    assert Link.of_gigabits(8, 100).latency == pytest.approx(1e-4)
    for wrong, told in (
        ({"bandwidth": 0}, "bandwidth of 0"),
        ({"overlap": 2}, "overlap of 2"),
        ({"latency": -1}, "latency"),
    ):
        with pytest.raises(ValueError, match=told):
            Link(**{"bandwidth": 1e9, **wrong})
    with pytest.raises(ValueError, match="a step of 0 s"):
        mirrored(WORK, 0.0, 1, 1, FAST)


def test_distbeliefs_speech_model():
    """Dean 2012, section 5: 11 frames of 40 numbers, four layers of 2560, 8192 outputs: about 42 million parameters.

    Eight devices of 5 TFLOP/s with 10 Gbit/s lose as much time as they compute for with 4,730 frames each.
    """
    widths = (11 * 40, 2560, 2560, 2560, 2560, 8192)
    macs = [before * after for before, after in itertools.pairwise(widths)]
    parameters = sum(macs) + sum(widths[1:])
    assert round(parameters / 1e6) == 42
    work = tuple(LayerWork("", mac, (2 if number else 1) * mac, 0) for number, mac in enumerate(macs))
    speech = Workload("speech", (11, 40), work, parameters, 4 * parameters, 4 * parameters)
    assert speech.training_flops == 2 * (3 * sum(macs) - 440 * 2560)
    found = mirrored(speech, speech.training_flops * 4730 / 5e12, 4730, 8, Link.of_gigabits(10))
    assert found.efficiency == pytest.approx(0.5, abs=0.001)


def test_the_command_prints_and_writes_what_was_estimated(capsys, tmp_path):
    file = tmp_path / "plan.json"
    words = ["plan", "--model", "resnet20", "--batch", "64", "--step-time", "0.05", "--bandwidth", "8"]
    assert main([*words, "--devices", "1", "4", "--json", str(file)]) == 0
    told = capsys.readouterr().out
    assert "0.3 M parameters, 0.04 GMAC forward" in told
    assert "0.05 s a step of 64 (given)" in told
    record = json.loads(file.read_text())
    one, four = record["estimates"]
    assert (one["step_s"], one["efficiency"]) == (0.05, 1)
    # 269,722 numbers are trained: 0.27 M but for the moving statistics.
    gradient = record["model"]["gradient_bytes"]
    assert gradient == 4 * 269_722
    assert four["exchange_s"] == pytest.approx(6 * (gradient / 4 / 1e9 + 50e-6))
    assert record["link"] == {"bytes_per_s": 1e9, "latency_s": 5e-5, "overlap": 0.0}
    assert main([*words, "--strategy", "parameter_server", "--servers", "2", "--devices", "4"]) == 0
    assert "staleness" in capsys.readouterr().out
    assert main([*words, "--train-from", "all", "--devices", "1"]) == 0  # as in `zoo train`
    assert main([*words, "--servers", "2"]) == 2
    assert "--servers: with --strategy parameter_server only" in capsys.readouterr().err


def test_a_measured_step_is_what_one_device_takes():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(inputs)))
    measured = measure_step(model, 4, (8, 8), repeats=3)
    assert 0 < measured.fastest <= measured.seconds <= measured.slowest < 5
    found = mirrored(count_work(model), measured.seconds, 4, 1, FAST)
    assert found.step_s == measured.seconds
