"""How speed changes with the length of sequences, with the batch, and with threads.

    cargo build --release
    python3 bench/scaling.py

Writes docs/results/scaling.json, docs/results/scaling.svg and the section of docs/performance.md.
"""

import argparse
import math
import os

import pages

LENGTHS = [128, 256, 512, 1024, 2048, 4096]
BATCHES = [1, 2, 4, 8, 16, 32, 64]
# Tokens of a training step at every length.
STEP_TOKENS = 4096


def series(options):
    """name: (what varies, points); a point is (x, options of the run)."""
    threads = sorted({1, *range(2, os.cpu_count() + 1, 2), os.cpu_count()})

    def of_length(length):
        return ["--completion-tokens", length, "--batch", max(1, STEP_TOKENS // length)]

    return [
        ("sft", "tokens of a sequence", [(n, of_length(n)) for n in LENGTHS]),
        ("generate", "tokens of a prompt", [(n, ["--prompt-tokens", n, "--batch", 4]) for n in LENGTHS]),
        ("sft", "sequences of a step", [(n, ["--batch", n]) for n in BATCHES]),
        ("generate", "sequences of a step", [(n, ["--batch", n]) for n in BATCHES]),
        ("sft", "threads", [(n, ["--threads", n]) for n in threads]),
        ("generate", "threads", [(n, ["--threads", n]) for n in threads]),
    ]


def measure(options):
    chosen = ["--shape", options.shape, "--dtype", options.dtype, "--steps", options.steps]
    found = []
    for work, varied, points in series(options):
        rows = []
        for x, more in points:
            row = pages.hearken(options.hearken, work, *chosen, *more)[0]
            print(f"{work}, {x} {varied}: {row['tokens_per_s']:.0f} tokens/s", flush=True)
            rows.append({"x": x, **row})
        found.append({"work": work, "varied": varied, "rows": rows})
    return found


def tables(found):
    headings = ["", "tokens/s", "of peak", "MiB"]
    text = []
    for one in found:
        rows = [
            [
                f"{row['x']:,}", f"{row['tokens_per_s']:,.0f}", f"{100 * row['peak_share']:.0f} %",
                f"{row['peak_rss_mb']:,}",
            ]
            for row in one["rows"]
        ]
        text.append(pages.table([f"{one['work']}: {one['varied']}", *headings[1:]], rows))
    return "\n".join(text)


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 300, 210, 62, 34, 44


def panel(one, column, row):
    """One series: both axes logarithmic, so that a straight line is a power law."""
    points = [(point["x"], point["tokens_per_s"]) for point in one["rows"]]
    xs, ys = [math.log2(x) for x, _ in points], [math.log10(y) for _, y in points]
    # At least a decade, so that noise does not look like a trend.
    middle, half = (min(ys) + max(ys)) / 2, max(1.0, max(ys) - min(ys)) / 2 * 1.1
    low, high = middle - half, middle + half
    plot_width, plot_height = WIDTH - LEFT - 14, HEIGHT - TOP - BOTTOM
    span = max(xs) - min(xs) or 1

    def place(x, y):
        across = LEFT + (x - min(xs)) / span * plot_width
        return across, TOP + (high - y) / (high - low) * plot_height

    places = [place(x, y) for x, y in zip(xs, ys)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [
        f'<g transform="translate({column * WIDTH} {row * HEIGHT})">',
        f'<text x="{LEFT}" y="20" class="title">{one["work"]}</text>',
        f'<rect x="{LEFT}" y="{TOP}" width="{plot_width}" height="{plot_height}" class="frame"/>',
        f'<polyline points="{path}"/>',
    ]
    for (x, value), (across, down) in zip(points, places):
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3">'
            f"<title>{x:,}: {value:,.0f} tokens/s</title></circle>"
        )
        parts.append(
            f'<text x="{across:.1f}" y="{TOP + plot_height + 14}" class="middle">{x:,}</text>'
        )
    for power in range(math.floor(low), math.floor(high) + 1):
        for factor in (1, 2, 5):
            y = power + math.log10(factor)
            if low <= y <= high:
                _, down = place(min(xs), y)
                label = f"{factor * 10**power:,}"
                parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" class="end">{label}</text>')
                parts.append(
                    f'<line x1="{LEFT}" x2="{LEFT + plot_width}" y1="{down:.1f}" y2="{down:.1f}"/>'
                )
    under = LEFT + plot_width / 2
    parts.append(f'<text x="{under}" y="{HEIGHT - 8}" class="middle">{one["varied"]}</text></g>')
    return "\n".join(parts)


STYLE = """<style>
text { font: 11px sans-serif; fill: #333 } .title { font-weight: bold; font-size: 13px }
.middle { text-anchor: middle } .end { text-anchor: end }
.frame { fill: none; stroke: #999 } line { stroke: #ddd }
polyline { fill: none; stroke: #2a6fb0; stroke-width: 2 } circle { fill: #2a6fb0 }
</style>"""


def drawing(found):
    rows = math.ceil(len(found) / 2)
    width, height = 2 * WIDTH, rows * HEIGHT
    panels = [panel(one, index % 2, index // 2) for index, one in enumerate(found)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">',
            "<title>Tokens per second against length, batch and threads</title>",
            STYLE,
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *panels,
            "</svg>\n",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--shape", default="small30")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    found = measure(options)
    report = {
        "machine": pages.machine(), "date": pages.today(), "commit": pages.commit(),
        "shape": options.shape, "dtype": options.dtype, "series": found,
    }
    pages.write_json(pages.RESULTS / "scaling.json", report)
    (pages.RESULTS / "scaling.svg").write_text(drawing(found))
    text = (
        f"{pages.machine_sentence(report['machine'])}. {report['date']}, commit "
        f"{report['commit']}; {options.shape}, {options.dtype}, median of {options.steps} steps. "
        f"Training steps of {STEP_TOKENS:,} tokens at every length; prompts of every length in "
        "batches of 4.\n\n![tokens per second](results/scaling.svg)\n\n" + tables(found)
    )
    pages.replace_section("scaling", text)


if __name__ == "__main__":
    main()
