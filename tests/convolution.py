#!/usr/bin/env python3
"""A small network of convolutions with PyTorch's outputs and gradients, for the tests of hearken-control.

    pip install torch
    python tests/convolution.py        writes crates/hearken-control/tests/fixtures/convolution.json

Rows are images [height, width, channels] with numbers behind them, which join what the last convolution gives; weights of
convolutions are [kernel, kernel, channels, outputs], those of dense layers [inputs, outputs]. The loss is the sum of the
outputs times given slopes.
"""

import json
import pathlib

import torch

HEIGHT, WIDTH, CHANNELS, MORE, ROWS = 11, 9, 2, 3, 4
LAYERS = [(5, 4, 2), (6, 2, 1)]
HIDDEN, OUTPUTS = 7, 3
FILE = pathlib.Path(__file__).parent.parent / "crates/hearken-control/tests/fixtures/convolution.json"


def network(activation):
    convolutions, channels = [], CHANNELS
    height, width = HEIGHT, WIDTH
    for outputs, kernel, stride in LAYERS:
        convolutions.append(torch.nn.Conv2d(channels, outputs, kernel, stride))
        channels = outputs
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    inputs = channels * height * width + MORE
    return convolutions, [torch.nn.Linear(inputs, HIDDEN), torch.nn.Linear(HIDDEN, OUTPUTS)]


def run(convolutions, dense, activation, rows):
    pixels = HEIGHT * WIDTH * CHANNELS
    x = rows[:, :pixels].reshape(ROWS, HEIGHT, WIDTH, CHANNELS).permute(0, 3, 1, 2)
    for layer in convolutions:
        x = activation(layer(x))
    x = x.permute(0, 2, 3, 1).reshape(ROWS, -1)
    x = activation(dense[0](torch.cat([x, rows[:, pixels:]], 1)))
    return dense[1](x)


def flat(convolutions, dense, of):
    parts = []
    for layer in convolutions:
        parts += [of(layer.weight).permute(2, 3, 1, 0).reshape(-1), of(layer.bias)]
    for layer in dense:
        parts += [of(layer.weight).T.reshape(-1), of(layer.bias)]
    return torch.cat(parts).tolist()


def case(name, activation):
    torch.manual_seed(3)
    convolutions, dense = network(activation)
    rows = torch.randn(ROWS, HEIGHT * WIDTH * CHANNELS + MORE, requires_grad=True)
    slopes = torch.randn(ROWS, OUTPUTS)
    outputs = run(convolutions, dense, activation, rows)
    (outputs * slopes).sum().backward()
    return {
        "activation": name,
        "values": flat(convolutions, dense, lambda parameter: parameter.detach()),
        "rows": rows.detach().reshape(-1).tolist(),
        "slopes": slopes.reshape(-1).tolist(),
        "outputs": outputs.detach().reshape(-1).tolist(),
        "gradients": flat(convolutions, dense, lambda parameter: parameter.grad),
        "row_gradients": rows.grad.reshape(-1).tolist(),
    }


def main():
    cases = [case("tanh", torch.tanh), case("relu", torch.relu)]
    made = {
        "made_by": f"tests/convolution.py with PyTorch {torch.__version__}",
        "image": [HEIGHT, WIDTH, CHANNELS],
        "more": MORE,
        "convolutions": LAYERS,
        "hidden": HIDDEN,
        "outputs": OUTPUTS,
        "cases": cases,
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(made) + "\n")


main()
