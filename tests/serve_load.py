"""`hearken serve` under load, by OpenAI's own client.

usage: tests/serve_load.py HEARKEN FIRST SECOND MODEL OUT.json [SECONDS]

FIRST and SECOND are two directories of models with one vocabulary, between which weights are swapped ten times while 64 clients
ask for streams, every fifth of which is left in the middle. Then 32 streams of MODEL are timed beside one stream and
beside `hearken generate` on the same prompts. Needs `pip install openai`.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from openai import AsyncOpenAI

KEY = "load"
CLIENTS = 64
SWAPS = 10
PROMPTS = [f"Scene {number}. Enter the {who}, and says:" for number in range(8) for who in ("king", "fool", "ghost", "queen")]


class Server:
    def __init__(self, hearken, model, *more):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [hearken, "serve", "--model", model, "--name", "served", "--bind", "127.0.0.1:0", *more],
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env={**os.environ, "HEARKEN_ADMIN_KEY": KEY},
        )
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        if self.process.wait(60) != 0:
            sys.exit("the service did not end as it should")

    def client(self):
        return AsyncOpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=600)

    def metric(self, series):
        text = urllib.request.urlopen(self.url + "/metrics").read().decode()
        return float(re.search("^" + re.escape(series) + " (.*)$", text, re.MULTILINE)[1])

    def swap(self, path):
        body = json.dumps({"path": path}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(self.url + "/admin/weights", body, headers)
        return json.load(urllib.request.urlopen(request, timeout=600))


def settings(prompt, tokens, **more):
    extra = {"ignore_eos": True}
    return dict(model="served", prompt=prompt, max_tokens=tokens, temperature=0.8, seed=PROMPTS.index(prompt), extra_body=extra, **more)


async def swaps_under_load(server, first, second, seconds, tokens=48):
    client = server.client()

    async def alone():
        answers = [await client.completions.create(**settings(prompt, tokens)) for prompt in PROMPTS]
        versions = {answer.system_fingerprint for answer in answers}
        assert len(versions) == 1
        return versions.pop(), {prompt: answer.choices[0].text for prompt, answer in zip(PROMPTS, answers)}

    expected = dict([await alone()])
    await asyncio.to_thread(server.swap, second)
    expected.update([await alone()])
    assert len(expected) == 2
    counts = dict(whole=0, left=0, failed=0, differing=0, by_version={version: 0 for version in expected})
    first_tokens, end = [], time.monotonic() + seconds

    async def ask(number):
        turn = number
        while time.monotonic() < end:
            turn += 1
            prompt = PROMPTS[turn % len(PROMPTS)]
            leaves = turn % 5 == 0
            text, versions, begun = "", set(), time.monotonic()
            try:
                stream = await client.completions.create(stream=True, **settings(prompt, tokens))
                async for chunk in stream:
                    if not text:
                        first_tokens.append(time.monotonic() - begun)
                    versions.add(chunk.system_fingerprint)
                    text += chunk.choices[0].text
                    if leaves and 20 < len(text):
                        break
                await stream.close()
            except Exception as error:
                counts["failed"] += 1
                print(f"failed: {error!r}", file=sys.stderr)
                continue
            (version,) = versions
            right = expected[version][prompt]
            if text != right and not (leaves and right.startswith(text)):
                counts["differing"] += 1
            counts["left" if leaves else "whole"] += 1
            counts["by_version"][version] += 1

    async def swap():
        for number in range(SWAPS):
            await asyncio.sleep(seconds / (SWAPS + 1))
            await asyncio.to_thread(server.swap, (first, second)[number % 2])

    await asyncio.gather(swap(), *(ask(number * 7) for number in range(CLIENTS)))
    await client.close()
    for _ in range(200):
        under_way = server.metric("hearken_completions_under_way")
        pages = server.metric('hearken_cache_pages_in_use{model="served"}')
        if under_way == pages == 0:
            break
        time.sleep(0.05)
    return dict(
        clients=CLIENTS, seconds=seconds, swaps=SWAPS, **counts, completions_left_behind=under_way, pages_left_behind=pages,
        time_to_first_token_s=dict(median=statistics.median(first_tokens), largest=max(first_tokens)),
    )


async def timed(server, prompts, tokens):
    """By plain sockets: what a client does with a chunk would be taken from the cores that answer, as it is not where
    clients are elsewhere."""
    host, port = server.url.removeprefix("http://").split(":")
    first_tokens = []

    async def ask(prompt):
        wanted = settings(prompt, tokens, stream=True)
        body = json.dumps(wanted | wanted.pop("extra_body")).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        answer = b""
        while part := await reader.read(1 << 16):
            if b"data: " not in answer and b"data: " in answer + part:
                first_tokens.append(time.monotonic() - begun)
            answer += part
        writer.close()
        assert b"data: [DONE]" in answer, answer

    begun = time.monotonic()
    await asyncio.gather(*(ask(prompt) for prompt in prompts))
    seconds = time.monotonic() - begun
    return dict(streams=len(prompts), tokens_per_s=len(prompts) * tokens / seconds, first_token_s=statistics.median(first_tokens))


def generated(hearken, model, tokens):
    """Tokens a second of `hearken generate`, prompts included as in streams, without the time that reading the model takes."""
    with tempfile.TemporaryDirectory() as folder:
        def run(name, prompts, count):
            path = os.path.join(folder, f"{name}.jsonl")
            with open(path, "w") as file:
                file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
            begun = time.monotonic()
            subprocess.run(
                [hearken, "generate", "--model", model, "--input", path, "--output", os.path.join(folder, f"{name}.out.jsonl"),
                 "--max-new-tokens", str(count), "--temperature", "0.8", "--ignore-eos"],
                check=True, capture_output=True,
            )
            return time.monotonic() - begun
        # One token of one prompt takes little beside the reading.
        reading = run("one", PROMPTS[:1], 1)
        return len(PROMPTS) * tokens / (run("all", PROMPTS, tokens) - reading)


def main():
    hearken, first, second, model, out = sys.argv[1:6]
    seconds = float(sys.argv[6]) if 6 < len(sys.argv) else 60
    results = {"command": "tests/serve_load.py", "cores": os.cpu_count(), "load_average_before": os.getloadavg()[0]}
    with Server(hearken, first) as server:
        results["swaps_under_load"] = asyncio.run(swaps_under_load(server, first, second, seconds))
    print(json.dumps(results["swaps_under_load"]))
    tokens, ratios, rounds = 128, [], []
    with Server(hearken, model) as server:
        asyncio.run(timed(server, PROMPTS[:1], 4))
        one = asyncio.run(timed(server, PROMPTS[:1], tokens))
        # In turn, since other work on the machine comes and goes.
        for _ in range(5):
            many = asyncio.run(timed(server, PROMPTS, tokens))
            offline = generated(hearken, model, tokens)
            rounds.append(dict(streams_of_32=many, generate_tokens_per_s=offline))
            ratios.append(many["tokens_per_s"] / offline)
    results["throughput"] = dict(one_stream=one, rounds=rounds, ratio_to_generate=statistics.median(ratios))
    print(json.dumps(results["throughput"]))
    with open(out, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    load = results["swaps_under_load"]
    if load["failed"] or load["differing"] or load["completions_left_behind"] or load["pages_left_behind"]:
        sys.exit("something failed, differed or was left behind")


main()
