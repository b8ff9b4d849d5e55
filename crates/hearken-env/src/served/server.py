"""Serves environments of Gymnasium over standard input and output; docs/environments.md describes the protocol.

A frame is four bytes with its length, little-endian, then a line of JSON, then plain numbers, little-endian. Needs
gymnasium and numpy. What environments print goes to standard error.
"""

import json
import os
import struct
import sys

PROTOCOL = 1


class Refused(Exception):
    """What is asked for cannot be done; the text says why."""


def streams():
    """Standard input and output for frames alone; whatever else is printed goes to standard error."""
    given, taken = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return given, taken


def read_frame(stream):
    head = stream.read(4)
    if len(head) < 4:
        return None
    body = stream.read(struct.unpack("<I", head)[0])
    line, _, data = body.partition(b"\n")
    return json.loads(line), data


def write_frame(stream, head, data=b""):
    body = json.dumps(head).encode() + b"\n" + data
    stream.write(struct.pack("<I", len(body)) + body)
    stream.flush()


def area_weights(before, after):
    """A matrix [after, before] whose rows average the pixels that a new pixel covers."""
    weights = np.zeros((after, before), np.float32)
    scale = before / after
    for row in range(after):
        start, end = row * scale, (row + 1) * scale
        for pixel in range(int(start), min(before, int(np.ceil(end)))):
            weights[row, pixel] = (min(end, pixel + 1) - max(start, pixel)) / scale
    return weights


class Seeing:
    """How observations of a space are sent: as numbers, or as an image [height, width, channels]."""

    def __init__(self, space, wishes):
        self.space = space
        self.stack = wishes["frame_stack"]
        shape = getattr(space, "shape", None)
        self.is_image = (
            isinstance(space, gym.spaces.Box)
            and space.dtype == np.uint8
            and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))
        )
        self.gray = wishes["grayscale"]
        if not self.is_image:
            if self.gray or wishes["resize"]:
                raise Refused(f"grayscale and resize are for images, and observations are {space}")
            self.length = int(gym.spaces.utils.flatdim(space))
            return
        height, width = shape[:2]
        self.channels = 1 if self.gray or len(shape) == 2 else shape[2]
        self.size = (height, width)
        self.weights = None
        if wishes["resize"]:
            self.size = tuple(wishes["resize"])
            self.weights = (area_weights(height, self.size[0]), area_weights(width, self.size[1]))

    def description(self):
        if self.is_image:
            height, width = self.size
            return {"kind": "image", "channels": self.channels * self.stack, "height": height, "width": width}
        return {"kind": "vector", "length": self.length * self.stack}

    def one(self, observation):
        """An observation as it is stacked."""
        if not self.is_image:
            flat = gym.spaces.utils.flatten(self.space, observation)
            return np.asarray(flat, np.float32).reshape(-1)
        image = np.asarray(observation)
        if image.ndim == 2:
            image = image[:, :, None]
        if self.gray and 1 < image.shape[2]:
            image = image[:, :, :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            image = image[:, :, None]
        if self.weights is not None:
            rows, columns = self.weights
            image = np.einsum("ih,hwc->iwc", rows, image.astype(np.float32))
            image = np.einsum("jw,iwc->ijc", columns, image)
        if image.dtype != np.uint8:
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return image


class Copy:
    """One environment with the frames that it has shown."""

    def __init__(self, environment, seeing, skip):
        self.environment, self.seeing, self.skip = environment, seeing, skip
        self.frames = []

    def reset(self, seed):
        observation, _ = self.environment.reset(seed=seed)
        self.frames = [self.seeing.one(observation)] * self.seeing.stack

    def step(self, action):
        total, raw = 0.0, []
        for _ in range(self.skip):
            observation, reward, terminated, truncated, _ = self.environment.step(action)
            total += float(reward)
            raw = [*raw[-1:], observation]
            if terminated or truncated:
                break
        # Sprites that are drawn every other frame are seen in one of two.
        if self.seeing.is_image and len(raw) == 2:
            observation = np.maximum(raw[0], raw[1])
        self.frames = [*self.frames[1:], self.seeing.one(observation)]
        return total, bool(terminated), bool(truncated)

    def observation(self):
        return np.concatenate(self.frames, axis=-1).tobytes()


class Server:
    def make(self, request):
        if request["protocol"] != PROTOCOL:
            raise Refused(f"found protocol {request['protocol']}, expected {PROTOCOL}")
        for name in request["modules"]:
            module = __import__(name)
            if hasattr(gym, "register_envs"):
                gym.register_envs(module)
        options = dict(request["options"])
        if request["render"]:
            options.setdefault("render_mode", "rgb_array")
        environments = [gym.make(request["environment"], **options) for _ in range(request["copies"])]
        seeing = Seeing(environments[0].observation_space, request)
        self.copies = [Copy(environment, seeing, request["frame_skip"]) for environment in environments]
        self.actions = environments[0].action_space
        return {"protocol": PROTOCOL, "observation": seeing.description(), "actions": self.action_description()}, b""

    def action_description(self):
        space = self.actions
        if isinstance(space, gym.spaces.Discrete):
            return {"kind": "discrete", "count": int(space.n)}
        if isinstance(space, gym.spaces.Box):
            low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise Refused(f"actions without a bound cannot be served: {space}")
            return {"kind": "continuous", "low": low.tolist(), "high": high.tolist()}
        raise Refused(f"found actions of {space}, expected Discrete or Box")

    def action(self, data, index):
        if isinstance(self.actions, gym.spaces.Discrete):
            number = struct.unpack_from("<I", data, 4 * index)[0]
            return int(number) + int(self.actions.start)
        length = int(np.prod(self.actions.shape))
        numbers = np.frombuffer(data, "<f8", length, 8 * length * index)
        return numbers.reshape(self.actions.shape).astype(self.actions.dtype)

    def reset(self, request):
        for index, seed in zip(request["copies"], request["seeds"]):
            self.copies[index].reset(seed)
        return {}, b"".join(self.copies[index].observation() for index in request["copies"])

    def step(self, request, data):
        done = [self.copies[index].step(self.action(data, at)) for at, index in enumerate(request["copies"])]
        rewards, terminated, truncated = zip(*done)
        numbers = struct.pack(f"<{len(rewards)}d", *rewards) + bytes(terminated) + bytes(truncated)
        return {}, numbers + b"".join(self.copies[index].observation() for index in request["copies"])

    def unwrapped(self, request):
        environment = self.copies[request["copy"]].environment.unwrapped
        if not hasattr(environment, "state"):
            raise Refused(f"{type(environment).__name__} has no state that can be set")
        return environment

    def set_state(self, request):
        # Some have no state before their first episode.
        self.copies[request["copy"]].reset(0)
        environment = self.unwrapped(request)
        environment.state = np.array(request["state"], np.float64)
        return {}, b""

    def get_state(self, request):
        return {"state": [float(number) for number in self.unwrapped(request).state]}, b""

    def render(self, request):
        image = self.copies[request["copy"]].environment.render()
        image = np.asarray(image if image is not None else np.zeros(0))
        if image.ndim != 3 or image.shape[2] != 3:
            raise Refused("the environment draws no RGB images")
        return {"height": image.shape[0], "width": image.shape[1]}, image.astype(np.uint8).tobytes()

    def answer(self, request, data):
        kind = request["request"]
        if kind == "step":
            return self.step(request, data)
        if kind in ("make", "reset", "set_state", "get_state", "render"):
            return getattr(self, kind)(request)
        raise Refused(f"found the request {kind!r}")


def main():
    global gym, np
    given, taken = streams()
    problem = None
    try:
        import gymnasium as gym
        import numpy as np
    except ImportError as error:
        problem = f"{error}; `{sys.executable} -m pip install gymnasium` installs it"
    server = Server()
    while (frame := read_frame(given)) is not None:
        try:
            if problem:
                raise Refused(problem)
            head, data = server.answer(*frame)
        except Refused as refused:
            head, data = {"error": str(refused)}, b""
        except Exception as error:
            head, data = {"error": f"{type(error).__name__}: {error}"}, b""
        write_frame(taken, head, data)


main()
