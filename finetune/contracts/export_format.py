"""Forms in which an adapter leaves. Apart, so that the command line knows them without loading the contracts."""

from enum import StrEnum


class ExportFormat(StrEnum):
    """How an adapter leaves: as it is, under the names of the multimodal class, or for llama.cpp."""

    PEFT = "peft"
    PEFT_MULTIMODAL = "peft-multimodal"
    GGUF = "gguf"
