"""What may be a name that clients use, and what a caller is told of one that stands for nothing that it sees."""

from finetune.contracts.adapter_files import PLAIN_NAME
from serving.errors import AdapterConflictError, AdapterMissingError, RequestError


def check_name(name: str, base_name: str) -> None:
    """Raise unless an adapter may be served under name. Raises RequestError, AdapterConflictError for the base's."""
    if not PLAIN_NAME.fullmatch(name):
        raise RequestError(
            "An adapter's name has 1 to 128 letters, digits, dots, dashes and underscores.",
            "Choose another name.",
            param="lora_name",
            code="adapter_name_invalid",
        )
    if name == base_name:
        raise AdapterConflictError(f"The name {name!r} is the base's.", "Load the adapter under another name.")


def model_missing(model: str) -> RequestError:
    """The answer to a request for a model that is not served, or not for the caller."""
    return RequestError(
        f"The model {model!r} is not served here.",
        "GET /v1/models lists what is.",
        param="model",
        code="model_not_found",
        status=404,
    )


def alias_missing(name: str) -> AdapterMissingError:
    """The answer to a change of a name that is not served, or not for the caller."""
    return AdapterMissingError(f"No adapter is served as {name!r}.", "GET /v1/adapters lists those that are.")


def name_taken(name: str, hint: str) -> AdapterConflictError:
    """The answer to a load under a name that stands for something."""
    return AdapterConflictError(f"The name {name!r} is in use.", hint)
