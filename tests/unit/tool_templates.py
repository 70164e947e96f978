"""Two chat templates with tools, in the tokens of the Qwen families: calls as JSON, and calls with a tag for each
argument."""

OPENING = (
    "{%- if tools %}{{- '<|im_start|>system\\nTools:' }}"
    "{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content | trim }}"
    "{%- for call in message.tool_calls or [] %}"
)
CLOSING = (
    "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
JSON_TOOLS = (
    OPENING
    + '{{- \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    + "{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}"
    + CLOSING
)
TAGGED_TOOLS = (
    OPENING
    + "{{- '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}"
    + "{%- for key, value in call.function.arguments | items %}"
    + "{{- '<parameter=' + key + '>\\n' + (value if value is string else value | tojson) + '\\n</parameter>\\n' }}"
    + "{%- endfor %}{{- '</function>\\n</tool_call>' }}"
    + CLOSING
)
