"""What computes, and in which arithmetic."""

import ctypes
import os
import sys

import torch

from hilum.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of a name; auto is a GPU where there is one. Under torchrun each process takes its own.

    For a CPU the process keeps the memory that it frees, from here on.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device is {name!r}: {str(error).splitlines()[0]}; use cpu, or auto") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))
        torch.cuda.set_device(device)
    if device.type == "cpu":
        _keep_freed_memory()
    return device


def _keep_freed_memory() -> None:
    """Has glibc reuse freed blocks: it would unmap each activation, to be zeroed anew every step."""
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it, or ignore it
        if set_option is not None:
            m_trim_threshold, m_mmap_max = -1, -4  # of malloc.h
            set_option(m_trim_threshold, 2**31 - 1)
            set_option(m_mmap_max, 0)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The arithmetic of an encoder: bfloat16 where asked, or where auto finds the device fast at it."""
    fast = {"cuda": torch.cuda.is_available() and torch.cuda.is_bf16_supported(), "cpu": _fast_cpu_bfloat16()}
    wanted = precision == "bfloat16" or (precision == "auto" and fast.get(device.type, False))
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _fast_cpu_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
