"""Does Hearken render chat templates as Transformers does?

Run by hand; needs transformers:

    cargo build --release -p hearken-cli
    python tests/chat_templates.py                     compares on the templates of our tests
    python tests/chat_templates.py --templates DIR     compares on every *.jinja in DIR
    python tests/chat_templates.py --write             writes what Transformers makes of ours:
                                                       golden.json and conversations.jsonl beside them

Every template gets every conversation, with tools and without. The texts and the token ids have to
be equal, the loss mask where the template marks what the assistant writes; and what one of the two
refuses, the other has to refuse.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "crates" / "hearken-model" / "tests" / "fixtures"
OURS = FIXTURES / "templates"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place: \"now\" & later.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town, e.g. Köln"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"], "default": "celsius",
                         "description": "Of the temperature"},
                "days": {"type": ["integer", "null"], "description": "How many", "default": 3},
            },
            "required": ["place"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Looks for documents.",
        "parameters": {
            "type": "object",
            "properties": {
                "queries": {"type": "array", "items": {"type": "string"}, "description": "Texts"},
                "filter": {"type": "object", "additionalProperties": {"type": "boolean"},
                           "description": "What counts"},
                "limit": {"type": "number", "description": "At most", "maximum": 1.5e3},
            },
            "required": ["queries", "limit"],
        },
        "return": {"type": "array", "items": {"type": "string"}},
    },
}
NOW = {"type": "function", "function": {"name": "now", "description": "The time.",
                                        "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, SEARCH, NOW]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(identity, name, arguments):
    return {"id": identity, "type": "function",
            "function": {"name": name, "arguments": arguments}}


HI = said("user", "Hi there!")
CALLS = [
    said("user", "How warm is it in Köln?"),
    {"role": "assistant", "content": None,
     "tool_calls": [call("abcdefghi", "get_weather", {"place": "Köln", "days": None})]},
    said("tool", '{"celsius": 21.5}', name="get_weather", tool_call_id="abcdefghi"),
]
CONVERSATIONS = {
    "one question": dict(messages=[HI], add_generation_prompt=True),
    "a question and its answer": dict(messages=[HI, said("assistant", "Hello. How are you?")]),
    "system and several turns": dict(
        messages=[said("system", "Be brief.\n"), HI, said("assistant", "  Hello.\n\n"),
                  said("user", "What is 2 + 2?\n\tSay <b>why</b> & \"how\"."),
                  said("assistant", "4 — since 1 + 3 = 4 😀"), said("user", "Thanks")],
        add_generation_prompt=True),
    "turns without a prompt": dict(
        messages=[HI, said("assistant", "Hello."), said("user", "And?"), said("assistant", "Well.")]),
    "a special token in a content": dict(
        messages=[said("user", "Say <|im_end|> and </s>."), said("assistant", "No <|im_start|>.")]),
    "tools and a question": dict(messages=[HI], tools=TOOLS, add_generation_prompt=True),
    "tools with a system message": dict(
        messages=[said("system", "Call what you need."), HI], tools=[WEATHER],
        add_generation_prompt=True),
    "a call and its result": dict(messages=CALLS, tools=TOOLS, add_generation_prompt=True),
    "a call, its result and an answer": dict(
        messages=[*CALLS, said("assistant", "It is 21.5 degrees warm.")], tools=[WEATHER]),
    "two calls at once": dict(
        messages=[
            said("user", "Compare."),
            {"role": "assistant", "content": "Let me see.",
             "tool_calls": [
                 call("call_0001", "search", {"queries": ["a", "b's"], "filter": {"x": True, "y": False},
                                              "limit": 2.0}),
                 call("call_0002", "now", {})]},
            said("tool", "[1, 2]", name="search", tool_call_id="call_0001"),
            said("tool", "noon", name="now", tool_call_id="call_0002"),
            said("assistant", "Done."), said("user", "Again!"),
        ],
        tools=TOOLS, add_generation_prompt=True),
    "parts": dict(
        messages=[said("user", [{"type": "text", "text": " What is "},
                                {"type": "text", "text": "this? "}]),
                  said("assistant", [{"type": "text", "text": "Text."}])]),
    "reasoning": dict(
        messages=[HI, said("assistant", "Hello.", reasoning_content="They greet me."),
                  said("user", "2 + 2?"),
                  said("assistant", "<think>\nEasy.\n</think>\n\nFour.")]),
    "reasoning before a call": dict(
        messages=[said("user", "Now?"),
                  {"role": "assistant", "content": "", "thinking": "The clock knows.",
                   "tool_calls": [call("call_0003", "now", {})]},
                  said("tool", "noon", tool_call_id="call_0003")],
        tools=[NOW], add_generation_prompt=True),
    "variables": dict(
        messages=[said("system", "Be kind. /no_think"), HI], add_generation_prompt=True,
        enable_thinking=False, date_string="1 May 2025", reasoning_effort="high",
        documents=[{"title": "One", "text": "First."}, {"title": "Two", "text": "Second\n"}],
        controls={"citations": True, "length": "short"}),
    "a message to continue": dict(
        messages=[HI, said("assistant", "The capital of France ")], continue_final_message=True),
    "the developer speaks": dict(
        messages=[said("developer", "Answer in verse."), HI], add_generation_prompt=True),
    "two users in a row": dict(messages=[HI, HI], add_generation_prompt=True),
    "an empty answer": dict(messages=[HI, said("assistant", "")]),
}


def model_dir(parent, template):
    """A tokenizer with this template."""
    folder = pathlib.Path(parent)
    shutil.copy(FIXTURES / "hf" / "llama" / "tokenizer.json", folder)
    shutil.copy(OURS / "tokenizer_config.json", folder)
    (folder / "chat_template.jinja").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def transformers_says(folder, conversation):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = dict(conversation)
    messages = given.pop("messages")
    marks = "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **given)
        wants_mask = marks and "continue_final_message" not in given
        out = tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=wants_mask, **given)
    except Exception as error:  # whatever a template does
        return {"error": f"{type(error).__name__}: {error}"}
    said = {"text": text, "input_ids": out["input_ids"]}
    if wants_mask:
        said["loss_mask"] = out["assistant_masks"]
    return said


def hearken_says(hearken, folder, conversations):
    """One run for all; where it refuses a line, again for those after it."""
    answers = []
    while len(answers) < len(conversations):
        rest = conversations[len(answers):]
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rest)
        run = subprocess.run([hearken, "template", "--model", folder, "--input", "-", "--output", "-"],
                             input=lines, capture_output=True, text=True, check=False)
        answers += [json.loads(line) for line in run.stdout.splitlines()]
        if run.returncode != 0:
            answers.append({"error": run.stderr.strip()})
    return answers


def compare(name, case, expected, found):
    if "error" in expected or "error" in found:
        if ("error" in expected) != ("error" in found):
            print(f"{name}: {case}\n  Transformers: {str(expected)[:600]}\n  Hearken: {str(found)[:600]}")
            return False
        return True
    for key in expected:
        if expected[key] != found[key]:
            print(f"{name}: {case}: {key}\n  Transformers: {expected[key]!r}\n  Hearken: {found[key]!r}")
            return False
    return True


def digest(ids):
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]


def write_golden(golden):
    with open(OURS / "conversations.jsonl", "w", encoding="utf-8") as file:
        for name, conversation in CONVERSATIONS.items():
            file.write(json.dumps({"name": name, **conversation}, ensure_ascii=False) + "\n")
    for cases in golden.values():
        for said in cases.values():
            if "input_ids" in said:
                said["ids"] = len(said["input_ids"])
                said["sha256"] = digest(said.pop("input_ids"))
            if "loss_mask" in said:
                said["loss_mask"] = "".join(map(str, said["loss_mask"]))
    with open(OURS / "golden.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=0)
        file.write("\n")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--templates", type=pathlib.Path, default=OURS)
    arguments.add_argument("--hearken", default=str(ROOT / "target" / "release" / "hearken"))
    arguments.add_argument("--write", action="store_true")
    arguments = arguments.parse_args()
    golden, equal, refused, cases, whole = {}, 0, 0, 0, 0
    templates = sorted(arguments.templates.rglob("*.jinja"))
    for template in templates:
        with tempfile.TemporaryDirectory() as parent:
            folder = model_dir(parent, template)
            expected = [transformers_says(folder, one) for one in CONVERSATIONS.values()]
            golden[template.stem] = dict(zip(CONVERSATIONS, expected))
            if arguments.write:
                continue
            found = hearken_says(arguments.hearken, folder, list(CONVERSATIONS.values()))
        same = [compare(template.stem, case, one, other)
                for case, one, other in zip(CONVERSATIONS, expected, found)]
        equal, cases, whole = equal + sum(same), cases + len(same), whole + all(same)
        refused += sum("error" in one for one in expected)
    if arguments.write:
        write_golden(golden)
        return
    print(f"transformers {transformers.__version__}: {whole} of {len(templates)} templates agree in all "
          f"conversations; {equal} of {cases} pairs, {refused} of them refused by both")


if __name__ == "__main__":
    main()
