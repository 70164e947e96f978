"""What the installed libraries say of this machine, for `finetune doctor`: `python -m finetune.cli.installed`.

A process of its own, since importing them takes seconds and may fail in ways that must not end the command.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

from finetune.guard.offline import go_offline


def main() -> None:
    """Print one JSON document: the device and what the libraries made of the switches."""
    go_offline()
    json.dump({"torch": _torch(), "online": _online()}, sys.stdout)


def _torch() -> dict[str, Any]:
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "version": str(torch.__version__),
        "card": torch.cuda.get_device_name() if has_gpu else None,
        "bytes": torch.cuda.get_device_properties(0).total_memory if has_gpu else 0,
        "bfloat16": has_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
    }


def _online() -> list[str]:
    """Libraries that would go to the network all the same: each is asked, none is taken at its variable's word."""
    import datasets.config
    import huggingface_hub.constants as hub
    from mlflow.telemetry.utils import is_telemetry_disabled
    from transformers import modeling_utils
    from transformers.integrations import hub_kernels

    answers = {
        "huggingface_hub": hub.HF_HUB_OFFLINE and hub.HF_HUB_DISABLE_TELEMETRY and hub.HF_HUB_DISABLE_UPDATE_CHECK,
        "transformers": modeling_utils.is_offline_mode() and not hub_kernels._kernels_enabled,
        "datasets": datasets.config.HF_HUB_OFFLINE and not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
        "mlflow": is_telemetry_disabled(),
    }
    return [f"{name} {version(name)}" for name, is_off in answers.items() if not is_off]


if __name__ == "__main__":
    main()
