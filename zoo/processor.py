"""What a processor is quick at in TensorFlow, by the instruction sets that Linux says it has."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

# Any of these lets TensorFlow leave 16 bits to oneDNN (its util/util.cc, IsDataTypeSupportedByOneDNNOnThisCPU).
_NEEDED = {
    "bfloat16": {"avx512f", "avx_ne_convert"},
    "float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert"},
}


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Those of the first x86 processor, named as in its ``flags``; empty where nothing tells them, as on a Mac."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())


def slower_than_float32(compute_dtype: str, known: Set[str]) -> bool:
    """Whether a processor with the instruction sets ``known`` computes ``compute_dtype`` slower than float32.

    TensorFlow then falls back from oneDNN to loops of its own.
    """
    return bool(known) and compute_dtype in _NEEDED and not _NEEDED[compute_dtype] & known
