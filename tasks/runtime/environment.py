"""What a figure was computed with: versions, hardware, and this code's own state."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.processes.lifeline import output_of

_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "gguf",
    "datasets",
    "accelerate",
    "prefect",
    "mlflow",
)


@cache
def code_version() -> str:
    """The package's version, with the commit (and ``-dirty``) when it runs from a checkout."""
    try:
        package = version("secateur")
    except PackageNotFoundError:
        package = "unknown"
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    described = output_of(describe, Path(__file__).parent, 5)
    return f"{package}+{described}" if described else package


@cache
def environment() -> dict[str, str]:
    """Versions and hardware, recorded with every sweep; they are in no fingerprint."""
    import torch

    facts = {"secateur": code_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    facts["platform"] = f"{platform.system()} {platform.machine()}"
    facts["processor"] = _processor()
    # The kernels that torch chooses here, and whether it may round float32 products (TF32).
    facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    facts["float32_matmul"] = torch.get_float32_matmul_precision()
    facts["threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        facts["cuda"] = str(torch.version.cuda)
        facts["gpus"] = ", ".join(
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        )
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
