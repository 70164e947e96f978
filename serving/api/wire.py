"""Request and response bodies, as OpenAI spells them. A field that is not here is refused, never ignored in silence.

Fields whose effect this server lacks are taken at the value that asks for nothing, so that clients that always send
them work; fields that only label a request (user, metadata) are taken and not used.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from serving.engines.base import Sampling

MAX_STOPS = 16
MAX_PROMPTS = 16
MAX_ANSWERS = 16
MAX_TOP_LOG_PROBS = 20
MAX_NAME = 200
MAX_EXTRA = 256
# The largest context of a family is 262,144 tokens, and a token of code has about four letters
MAX_TEXT = 1 << 20
MAX_TOKEN_IDS = 1 << 18
MAX_PARTS = 256
MAX_LABELS = 16


def _encodable(text: str) -> str:
    # JSON can spell half of a surrogate pair, which is no character: no tokenizer takes it and no answer can hold it
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half of a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]
LongText = Annotated[Text, Field(max_length=MAX_TEXT)]
Label = Annotated[Text, Field(max_length=512)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
Zero = Annotated[float, Field(ge=0, le=0)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
MaxTokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
StopText = Annotated[Text, Field(min_length=1, max_length=256)]
Stops = StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]], Field(min_length=1, max_length=MAX_TOKEN_IDS)
]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Received(BaseModel):
    """A body that came in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamOptions(Received):
    """include_usage adds a last chunk with the token counts; include_obfuscation is taken and not used."""

    include_usage: bool = False
    include_obfuscation: bool = False


class GenerationFields(Received):
    """What chat and completions share."""

    model: Text = Field(min_length=1, max_length=MAX_NAME)
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: Label | None = None
    metadata: Annotated[dict[Label, Label], Field(max_length=MAX_LABELS)] | None = None
    store: Literal[False] | None = None

    @property
    def num_answers(self) -> int:
        """How many answers each prompt gets."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, *, max_tokens: int | None, num_top_log_probs: int | None) -> Sampling:
        """The engine's terms; OpenAI's defaults are temperature 1 and top_p 1."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=stops,
            num_top_log_probs=num_top_log_probs,
        )


class CompletionRequest(GenerationFields):
    """POST /v1/completions. With suffix, the answer is the text between prompt and suffix."""

    prompt: (
        LongText
        | Annotated[list[LongText], Field(min_length=1, max_length=MAX_PROMPTS)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    suffix: LongText | None = None
    max_tokens: MaxTokens | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOG_PROBS)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None


class ExtraFile(Received):
    """Another file, or a part of one, that stands before the prompt."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    filename: Text = Field(default="", max_length=4096)
    text: LongText


class InfillRequest(Received):
    """POST /infill of llama.cpp. model is ours: a name of GET /v1/models; without it the base answers.

    prompt is what stands at the cursor already. n_predict -1 is as many as the server allows; 0 reads the
    prompt, for those that come. t_max_predict_ms ends an answer at the first line's end after that time. Unknown
    fields are ignored, see infill.py.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Text | None = Field(default=None, max_length=MAX_NAME)
    input_prefix: LongText = ""
    input_suffix: LongText = ""
    input_extra: Annotated[list[ExtraFile], Field(max_length=MAX_EXTRA)] = []
    prompt: LongText = ""
    n_predict: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    n_cmpl: Annotated[int, Field(ge=1, le=MAX_PROMPTS)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Annotated[list[StopText], Field(max_length=MAX_STOPS)] = []
    t_max_predict_ms: Annotated[float, Field(ge=0)] | None = None
    response_fields: Annotated[list[Label], Field(max_length=64)] | None = None
    stream: Literal[False] | None = None
    lora: Nothing | None = None


class LoadAdapterRequest(Received):
    """POST /v1/load_lora_adapter. Replacing a name in place is refused: its content would change under a reader."""

    lora_name: Text = Field(max_length=MAX_NAME)
    lora_path: Text = Field(min_length=1, max_length=4096)
    load_inplace: Literal[False] = False


class AliasRequest(Received):
    """POST /v1/adapters/alias: let alias stand for an adapter, by id or path inside the adapters folder."""

    alias: Text = Field(max_length=MAX_NAME)
    adapter: Text = Field(min_length=1, max_length=4096)


class RollbackRequest(Received):
    """POST /v1/adapters/rollback."""

    alias: Text = Field(max_length=MAX_NAME)


class SplitRequest(Received):
    """POST /v1/adapters/split: let the adapter to, by id or path, have a share of alias's requests, or copies of all.

    Without to, all go to what alias stands for again.
    """

    alias: Text = Field(max_length=MAX_NAME)
    to: Text | None = Field(default=None, min_length=1, max_length=4096)
    weight: Annotated[float, Field(gt=0, lt=1)] | None = None
    shadow: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "SplitRequest":
        num_ways = (self.weight is not None) + self.shadow
        if num_ways != (0 if self.to is None else 1):
            raise ValueError("to goes with weight or with shadow, and without it neither is given")
        return self


class UnloadAdapterRequest(Received):
    """POST /v1/unload_lora_adapter."""

    lora_name: Text = Field(max_length=MAX_NAME)


class Sent(BaseModel):
    """A body that goes out; what was not set is left out, what was set to None is null."""

    def body(self) -> dict[str, Any]:
        """The JSON document."""
        return self.model_dump(mode="json", exclude_unset=True)


class PromptTokensDetails(Sent):
    """cached_tokens were read for an earlier prompt that began alike."""

    cached_tokens: int


class Usage(Sent):
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ModelCard(Sent):
    """A name that the field model may have. parent is the base of an adapter, None for the base itself."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["finetune"] = "finetune"
    parent: str | None
    root: str
    max_model_len: int


class AdapterCard(Sent):
    """A name and what it stands for. previous is what rolling back leads to; num_active counts requests right now.

    tried is what gets a share of the requests beside it; share None: copies of all.
    """

    name: str
    adapter_id: str
    previous: str | None
    tried: str | None
    share: float | None
    base: str
    rank: int
    targets: list[str]
    trained_on: str
    served_on: str
    weights_digest: str
    loaded_at: int
    num_active: int


class WaitingCard(Sent):
    """A name and what it will stand for when the server has its card back; previous: what it stands for until then."""

    name: str
    adapter_id: str
    previous: str | None
    base: str


class VersionCard(Sent):
    """An adapter that the engine holds or is about to: fetching, validating, resident or draining."""

    adapter_id: str
    state: str
    loaded_at: int
    num_active: int


class ErrorBody(Sent):
    """The inner object of every answer that is not a success."""

    message: str
    type: str
    param: str | None
    code: str | None
