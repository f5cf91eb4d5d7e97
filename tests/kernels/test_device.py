"""Device facts can be asked anywhere."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels.device import data_sheet, device_info


def test_cpu():
    info = device_info("cpu")
    assert info.type == "cpu" and info.name and info.num_units >= 1
    assert info.memory_bytes is None or info.memory_bytes > 2**28
    assert device_info() is info


def test_data_sheets_are_found_by_the_reported_name():
    assert data_sheet("NVIDIA H200").bandwidth_bytes_per_s == 4.8e12
    assert data_sheet("NVIDIA H100 80GB HBM3").bandwidth_bytes_per_s == 3.35e12
    assert data_sheet("NVIDIA H100 PCIe").bandwidth_bytes_per_s == 2.0e12
    assert data_sheet("NVIDIA A100-SXM4-80GB").half_flops == 312e12
    assert data_sheet("Radeon") is None


def test_unknown_devices_are_refused():
    with pytest.raises(ValueError, match="knows CPU and CUDA devices, not meta"):
        device_info("meta")
    with pytest.raises(ValueError, match="torch sees"):
        device_info("cuda:63")


@pytest.mark.gpu
def test_cuda():
    info = device_info("cuda")
    assert info.compute_capability == torch.cuda.get_device_capability()
    assert info.num_units > 0 and info.shared_memory_bytes >= 48 * 1024
