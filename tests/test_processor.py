"""What TensorFlow computes fast, by instruction sets; the rules are those of its ``util/util.cc``."""

import pytest

from zoo.processor import instruction_sets, slower_than_float32

# As Linux prints them, shortened.
ZEN3 = "fpu sse2 fma avx f16c avx2 vaes"
SKYLAKE = "fpu sse2 fma avx f16c avx2 avx512f avx512bw"
ARROW_LAKE = "fpu sse2 fma avx f16c avx2 avx_vnni avx_ne_convert"
ZEN4 = f"{SKYLAKE} avx512_vnni avx512_bf16"
SAPPHIRE_RAPIDS = f"{ZEN4} avx512_fp16 amx_tile amx_bf16 amx_int8"


@pytest.fixture
def cpuinfo(tmp_path):
    """A file like Linux's for two processors."""

    def write(flags):
        one = f"processor\t: 0\nvendor_id\t: Somebody\nflags\t\t: {flags}\nvmx flags\t: tsc_offset\nbugs\t\t: none\n"
        path = tmp_path / "cpuinfo"
        path.write_text(one + "\n" + one.replace(": 0", ": 1"))
        return path

    return write


@pytest.mark.parametrize(
    ("flags", "bfloat16", "float16"),
    [
        (ZEN3, True, True),
        (SKYLAKE, False, True),
        (ARROW_LAKE, False, False),
        (ZEN4, False, True),
        (SAPPHIRE_RAPIDS, False, False),
    ],
)
def test_processors(cpuinfo, flags, bfloat16, float16):
    known = instruction_sets(cpuinfo(flags))
    assert known == set(flags.split())
    assert slower_than_float32("bfloat16", known) == bfloat16
    assert slower_than_float32("float16", known) == float16
    assert not slower_than_float32("float32", known)


def test_a_machine_that_does_not_tell(tmp_path, cpuinfo):
    arm = tmp_path / "arm"
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    for path in (tmp_path / "none", arm):
        known = instruction_sets(path)
        assert known == set()
        assert not slower_than_float32("bfloat16", known)
