"""
Chat templates with what the templates of mainstream models use, and what transformers renders.

Usage: python bench/parity/make_templates.py > test/fixtures/templates.json
Needs: pip install transformers jinja2
"""

import json

from transformers.utils.chat_template_utils import render_jinja_template

TURNS = """{% for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- header }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>' }}
    {{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""

SOURCES = {
    "turns with white space control": TURNS,
    "a namespace and a slice": """{% set ns = namespace(system='', count=0) %}{% if messages[0].role == 'system' %}
{% set ns.system = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}
{{ bos_token }}{% for m in rest %}{% set ns.count = ns.count + 1 %}[{{ ns.count }}/{{ rest | length }}]
{{- m.content }}{% if loop.last and ns.system %} ({{ ns.system }}){% endif %}{% endfor %}""",
    "alternation, tests and defaults": """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}{% endif %}{{ m.role | upper }}{{ ': ' ~ m.content }}
{% endfor %}{% if tools is defined and tools is none %}no tools{% endif %} {{ date | default('today') }} {% if none_here is none %}none{% endif %}""",
    "filters": """{% for m in messages %}{{ m | tojson }}
{{ m.content | length }} {{ m.content.split(' ') | join('-') }} {{ m.content[:5] }} {{ m.content[-3:] }}
{% if m.content.strip().startswith('a') %}a{% endif %}{% if 'z' in m.content %}z{% endif %} {{ m.role | capitalize | replace('U', 'u') }}
{% endfor %}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{- messages | map(attribute='role') | join(',') }} {{ [3, 1, 2] | sort }} {{ messages | last | tojson(indent=2) }}""",
    "macros and loops": """{% macro turn(role, text) %}<{{ role }}>{{ text }}</{{ role }}>
{% endmacro %}{% for m in messages if m.role != 'system' %}{{ turn(m.role, m.content) }}{% else %}nobody{% endfor %}
{%- for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}{% for i in range(2, 9, 3) %}{{ i }}
{%- if not loop.last %}, {% endif %}{% endfor %}{# not said #}""",
    "arithmetic and logic": """{{ 7 % 3 }} {{ 2 * 3 + 1 }} {{ 1 if messages | length > 2 else 0 }} {% if not messages %}empty{% endif %}
{% if 1 < 2 and 1 != 2 or false %}yes{% endif %} {{ 'x' if messages[9] is defined else 'y' }} {{ "quote's" }} {{ 'tab\\tnew\\nline' }}""",
    "comparisons of several kinds": """{% set system = false %}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}
{% endif %}{% if system != false %}<<{{ system }}>>{% endif %}{% for m in messages %}{% if m.content == false %}f{% endif %}
{% if m.content == 0 %}0{% endif %}{% if m.content == none %}n{% endif %}{% if m == messages[-1] %}l{% endif %}
{% endfor %}{% if [1, ['a']] == [1, ['a']] and {'a': [1]} == {'a': [1.0]} and [1] != [2] and [] != [1] %}same{% endif %}
{% if 1 == true and 0 == false and 1 != '1' and 1 == 1.0 and true != 'true' %}numbers{% endif %}""",
    "line ends of Windows": TURNS.replace("\n", "\r\n") + "\r\n{% if true %}\r\n  {{ 'a\r\nb' }}\r{% endif %}\r\nend\r\n",
}

CHATS = [
    [{"role": "user", "content": " a question, über <b>&amp;</b> "}],
    [
        {"role": "user", "content": "az"},
        {"role": "assistant", "content": "two\nlines"},
        {"role": "user", "content": "a last one"},
    ],
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ""}, {"role": "assistant", "content": "b"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": "0"}, {"role": "user", "content": "0"}],
]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

rows = []
for name, source in SOURCES.items():
    for messages in CHATS:
        for prompt in [False, True]:
            try:
                rendered, _ = render_jinja_template(
                    conversations=[messages], chat_template=source, add_generation_prompt=prompt, **TOKENS
                )
                text = rendered[0]
            except Exception as error:
                text = None
                assert "alternate" in str(error), (name, error)
            rows.append({"name": name, "source": source, "messages": messages, "prompt": prompt, "text": text})
print("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")
