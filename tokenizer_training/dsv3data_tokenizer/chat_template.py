"""DeepSeek-V3's turns as a Jinja template, for `apply_chat_template` of `transformers`.

    <bos> system texts <｜User｜> … <｜Assistant｜> … <eos> <｜User｜> …

System texts are joined by an empty line and come first, wherever they stand. An assistant turn may
end with tool calls, each with its type, name, and arguments in a block of JSON; the tool messages
that follow share one block of outputs, after which the assistant goes on without a mark of its own.
What tools there are is for the system text to say: DeepSeek-V3 has no format for it.

Control-token text inside a message becomes a control id when the result is tokenized: that is how
`transformers` works. Replace it before, where messages come from strangers.

[chat template of deepseek-ai/DeepSeek-V3; the end of calls is written there for two calls and
more, here always]
"""

from __future__ import annotations

CHAT_TEMPLATE = """\
{%- if tools is defined and tools %}
{{- raise_exception('this template has no place for tools: describe them in a system message') }}
{%- endif %}
{{- bos_token }}
{%- for message in messages if message['role'] == 'system' %}
{{- '' if loop.first else '\\n\\n' }}
{{- message['content'] }}
{%- endfor %}
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{{- '<｜User｜>' + message['content'] }}
{%- elif message['role'] == 'assistant' %}
{%- if loop.first or loop.previtem['role'] != 'tool' %}
{{- '<｜Assistant｜>' }}
{%- endif %}
{{- message['content'] or '' }}
{%- if message['tool_calls'] %}
{{- '<｜tool▁calls▁begin｜>' }}
{%- for call in message['tool_calls'] %}
{{- '' if loop.first else '\\n' }}
{{- '<｜tool▁call▁begin｜>' + (call['type'] or 'function') + '<｜tool▁sep｜>' }}
{{- call['function']['name'] + '\\n```json\\n' }}
{%- set arguments = call['function']['arguments'] %}
{{- arguments if arguments is string else arguments | tojson }}
{{- '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}
{{- '<｜tool▁calls▁end｜>' }}
{%- endif %}
{{- eos_token }}
{%- elif message['role'] == 'tool' %}
{%- if loop.first or loop.previtem['role'] != 'tool' %}
{{- '<｜tool▁outputs▁begin｜>' }}
{%- else %}
{{- '\\n' }}
{%- endif %}
{{- '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
{%- if loop.last or loop.nextitem['role'] != 'tool' %}
{{- '<｜tool▁outputs▁end｜>' }}
{%- endif %}
{%- elif message['role'] != 'system' %}
{{- raise_exception('a message has the role ' + message['role']
    + ', not system, user, assistant or tool') }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt and messages[-1]['role'] != 'tool' %}
{{- '<｜Assistant｜>' }}
{%- endif %}"""
