"""A server of docs/environments.md in plain Python, whose environment's name says what is wrong with it.

Its state is a counter, and its observation the counter and the seed; actions are added to the counter. An episode
terminates at 5 and is cut off after 4 steps.
"""

import json
import struct
import sys

CONTINUOUS = {"kind": "continuous", "low": [-1, 0], "high": [3, 4]}


class Copy:
    def reset(self, seed):
        self.seed, self.count, self.steps = seed, 0.0, 0

    def step(self, amount):
        self.count += amount
        self.steps += 1


def main():
    given, taken = sys.stdin.buffer, sys.stdout.buffer
    name, copies, resets = "", [], 0

    def answer(head, data=b""):
        body = json.dumps(head).encode() + b"\n" + data
        taken.write(struct.pack("<I", len(body)) + body)
        taken.flush()

    def seen(copy):
        numbers = [copy.count, float(copy.seed % 1000)]
        if name == "drifts":
            numbers[0] += resets
        if name == "nan" and copy.count:
            numbers[1] = float("nan")
        return struct.pack("<2f", *numbers)

    while head := given.read(4):
        line, _, data = given.read(struct.unpack("<I", head)[0]).partition(b"\n")
        request = json.loads(line)
        kind = request["request"]
        if kind == "make":
            name, copies = request["environment"], [Copy() for _ in range(request["copies"])]
            made = {
                "protocol": 2 if name == "newer" else 1,
                "observation": {"kind": "vector", "length": 2},
                "actions": CONTINUOUS if name == "continuous" else {"kind": "discrete", "count": 3},
            }
            if name == "no actions":
                made["actions"] = {"kind": "discrete", "count": 0}
            if name == "no spaces":
                del made["observation"]
            if name == "made of list":
                made = [made]
            answer({"error": "no such world"} if name == "refuses" else made)
        elif kind == "reset":
            resets += 1
            for index, seed in zip(request["copies"], request["seeds"]):
                copies[index].reset(seed)
            answer({}, b"".join(seen(copies[index]) for index in request["copies"]))
        elif kind == "step":
            which = [copies[index] for index in request["copies"]]
            if name == "ends":
                sys.exit(7)
            for at, copy in enumerate(which):
                if name == "continuous":
                    copy.step(sum(struct.unpack_from("<2d", data, 16 * at)))
                else:
                    copy.step(struct.unpack_from("<I", data, 4 * at)[0])
            rewards = [float("inf") if name == "infinite" else copy.count for copy in which]
            flags = bytes(5 <= copy.count for copy in which), bytes(4 <= copy.steps for copy in which)
            if name == "flags":
                flags = bytes([9] * len(which)), flags[1]
            numbers = struct.pack(f"<{len(which)}d", *rewards) + b"".join(flags)
            observations = b"".join(seen(copy) for copy in which)
            answer({}, numbers + (observations[:-1] if name == "short" else observations))


main()
