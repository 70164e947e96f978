"""Ask base and adapter the same thing through a real server and a real client."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from finetune.contracts.dataset import Example
    from finetune.contracts.run import Home, RunState

# What clients ask for; the base goes by its own name.
ADAPTER_MODEL = "ours"
MAX_ANSWER_TOKENS = 48
SHOWN_CHARACTERS = 600
REQUEST_SECONDS = 120.0


class Answers(BaseModel):
    """One held-out gap and what was written into it. path is the file's; wanted is what its author wrote."""

    model_config = ConfigDict(frozen=True)

    path: str
    before: str
    wanted: str
    base: str
    adapter: str
    adapter_model: str


def ask_both(home: "Home", state: "RunState", dataset: Path) -> Answers:
    """Start the server, load the adapter into it, ask both models through the openai client, and stop the server."""
    from openai import OpenAI

    from finetune.terminal.output import note
    from serving.run import running_server

    example = held_out_gap(dataset)
    name = ADAPTER_MODEL
    with running_server(Path(state.base_path), home.adapters) as url:
        note(f"      serving on {url}")
        # the key is never checked on loopback; the client insists on having one
        client = OpenAI(base_url=f"{url}/v1", api_key="none", timeout=REQUEST_SECONDS, max_retries=0)
        client.post("/load_lora_adapter", body={"lora_name": name, "lora_path": state.adapter_id}, cast_to=object)
        base_name = next(model.id for model in client.models.list() if model.id != name)
        answers = [_complete(client, model, example) for model in (base_name, name)]
    path = example.provenance[0].path
    return Answers(
        path=path,
        before=_text(example, "prefix")[-SHOWN_CHARACTERS:],
        wanted=_text(example, "target"),
        base=answers[0],
        adapter=answers[1],
        adapter_model=name,
    )


def held_out_gap(dataset: Path) -> "Example":
    """The held-out infill row that the demo asks: one line with code around it, the first by id."""
    from finetune.contracts.dataset import Split, Task
    from finetune.contracts.errors import DatasetError
    from finetune.render.dataset import open_dataset

    rows = [row for row in open_dataset(dataset).examples(Split.HELDOUT) if row.task is Task.INFILL]
    single = [row for row in rows if "\n" not in _text(row, "target").strip() and len(_text(row, "target").strip()) > 8]
    if not rows:
        raise DatasetError(f"{dataset} holds out no infill row.", "Give the demo a repository with more source files.")
    return min(single or rows, key=lambda row: row.id)


def _complete(client: Any, model: str, example: "Example") -> str:
    answer = client.completions.create(
        model=model,
        prompt=_text(example, "prefix")[-SHOWN_CHARACTERS:],
        suffix=_text(example, "suffix")[:SHOWN_CHARACTERS],
        max_tokens=MAX_ANSWER_TOKENS,
        temperature=0,
    )
    return str(answer.choices[0].text)


def _text(example: "Example", role: str) -> str:
    return "".join(part.text for part in example.segments if part.role == role)
