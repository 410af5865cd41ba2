"""Load torchvision's compiled operators beside a PyTorch without CUDA.

torchvision's wheels are built for CUDA. Their processor kernels need none of it, yet the library does not load where
PyTorch's two CUDA libraries are missing. Two stand-ins that define the one variable it looks for let it load.
"""

import ctypes
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCE = "void* _ZN3c104cuda20CUDACachingAllocator9allocatorE;"
STAND_INS = ("libc10_cuda.so", "libtorch_cuda.so")


def load() -> None:
    """Make ``torch.ops.torchvision`` work, or raise ``OSError``."""
    found = importlib.util.find_spec("torchvision")
    if found is None:
        raise OSError("torchvision is not installed")
    library = str(Path(found.origin).with_name("_C.so"))
    try:
        torch.ops.load_library(library)
        return
    except OSError:
        if torch.version.cuda is not None:
            raise
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "stand_in.c"
        source.write_text(SOURCE)
        for name in STAND_INS:
            out = str(Path(folder) / name)
            subprocess.run(["cc", "-shared", "-o", out, str(source), f"-Wl,-soname,{name}"], check=True)
            ctypes.CDLL(out, mode=ctypes.RTLD_GLOBAL)
        # Lazily: functions that only CUDA tensors reach stay unresolved.
        ctypes.CDLL(library, mode=os.RTLD_LAZY)
