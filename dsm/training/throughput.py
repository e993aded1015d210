"""What a device can do at best, for model FLOPs utilisation (MFU)."""

from __future__ import annotations

import torch

# Dense bf16 TFLOP/s without sparsity, from the makers' data sheets (SXM parts where there are several).
_PEAK_BF16_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "H800": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "A10G": 70.0,
    "RTX 4090": 165.2,
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOP/s of one device at dense bf16; None where it is not known (CPUs, other GPUs, other precisions)."""
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops * 1e12 for part, tflops in _PEAK_BF16_TFLOPS.items() if part in name), None)


def memory_gb(device: torch.device) -> float:
    """Peak memory of this process in GB: allocated on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource  # not on every system, and only a CPU run asks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
