"""What the scripts of this folder share: running programs, describing the machine, writing pages."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "results"
HEARKEN = ROOT / "target" / "release" / "hearken"


def run(command, environment=None):
    """Runs a program to its end. Returns what it printed and the most memory it held in MiB, by the
    operating system's account."""
    output, memory, _ = run_timed(command, environment)
    return output, memory


def run_timed(command, environment=None):
    """As `run`, with the seconds of processors that it took."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode != 0:
            words = " ".join(str(word) for word in command)
            sys.exit(f"{words}\nfailed with {child.returncode}:\n{errors.read()[-4000:]}")
        # Linux counts kibibytes, macOS bytes.
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return output.read(), usage.ru_maxrss // unit, usage.ru_utime + usage.ru_stime


def hearken(program, work, *options):
    """The results of `hearken bench`, with memory as seen from outside."""
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder) / "results.json"
        _, memory = run([program, "bench", "--work", work, *options, "--json", results])
        rows = json.loads(results.read_text())
    return [{**row, "peak_rss_mb": memory} for row in rows]


def machine():
    """What a reader needs to know of this machine."""
    name, memory = platform.processor() or platform.machine(), None
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
        first = pathlib.Path("/proc/meminfo").read_text().splitlines()[0]
        memory = round(int(first.split()[1]) / (1 << 20))
    except OSError:
        pass
    return {
        "processor": name, "threads": os.cpu_count(), "memory_gib": memory,
        "system": f"{platform.system()} {platform.release()}",
    }


def machine_sentence(described):
    memory = described["memory_gib"]
    held = f", {memory} GiB of memory" if memory else ""
    return f"{described['processor']}, {described['threads']} threads{held}, {described['system']}"


def commit():
    """The commit that is measured, with a mark if files other than documents differ from it: one run
    after another writes its results."""
    git = ["git", "-C", ROOT]
    try:
        shown = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs"]).returncode
        return f"{shown}-dirty" if changed else shown
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def today():
    return datetime.date.today().isoformat()


def table(headings, rows):
    """A table in Markdown; the first column is words, the others are numbers."""
    marks = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, marks, *rows]) + "\n"


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def replace_section(name, text, page=PAGE):
    """Replaces what stands between the two marks of a section."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text()
    if begin not in old or end not in old:
        sys.exit(f"{page}: the marks {begin} and {end} are missing")
    before, rest = old.split(begin, 1)
    _, after = rest.split(end, 1)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
