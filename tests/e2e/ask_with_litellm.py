"""Ask an endpoint in each way that litellm has; run by a Python that has litellm, which this project's has not.

Arguments: the endpoint's base URL, a key, a model. Prints the answers as one JSON object.
"""

import asyncio
import json
import sys

import litellm

litellm.telemetry = False
URL, KEY, MODEL = sys.argv[1:]
TARGET = {"api_base": URL, "api_key": KEY, "max_tokens": 8, "temperature": 0}
CHAT = {"model": f"openai/{MODEL}", "messages": [{"role": "user", "content": "def add(a, b):"}], **TARGET}
TEXT = {"model": f"text-completion-openai/{MODEL}", "prompt": "def add(", **TARGET}


def said(chunks: list) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def in_a_loop() -> dict[str, str]:
    whole = await litellm.acompletion(**CHAT)
    chunks = [chunk async for chunk in await litellm.acompletion(**CHAT, stream=True)]
    text = await litellm.atext_completion(**TEXT, suffix=")")
    return {
        "async chat": whole.choices[0].message.content,
        "async stream": said(chunks),
        "async suffix": text.choices[0].text,
    }


whole = litellm.completion(**CHAT)
chunks = list(litellm.completion(**CHAT, stream=True, stream_options={"include_usage": True}))
pieces = list(litellm.text_completion(**TEXT, suffix=")", stream=True))
answers = {
    "chat": whole.choices[0].message.content,
    "tokens": str(whole.usage.total_tokens),
    "stream": said(chunks),
    "streamed tokens": str(chunks[-1].usage.total_tokens),
    "text": litellm.text_completion(**TEXT).choices[0].text,
    "suffix": litellm.text_completion(**TEXT, suffix=")").choices[0].text,
    "suffix stream": "".join(piece.choices[0].text or "" for piece in pieces),
    **asyncio.run(in_a_loop()),
}
sys.stdout.write(json.dumps(answers))
