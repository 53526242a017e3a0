"""Throw 170 bad inputs at the command: each ends in a second, with one message, no traceback.

    python tests/benchmarks/bad_inputs.py

Sweep files, `--set` and command lines, each through the command's own entry point in this process;
what is imported once is imported before. Exit status 1 where one ends otherwise than with 2, with a
traceback, or takes longer than a second. Results: bad_inputs.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

GOOD = "name: x\nmodels: [tiny-random]\nmethods: [magnitude]\ntargets: ['0.5']\n"
READING = GOOD.replace("magnitude", "wanda") + "calibration: "
ALIASES = "\n".join(
    ["a0: &a0 [x, x, x]", *(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]" for k in range(1, 40))]
)

FILES: dict[str, bytes | str] = {
    "nothing": "",
    "a comment": "# nothing here\n",
    "a number": "5",
    "a text": "wanda",
    "a list": "- name: x",
    "null": "null",
    "two documents": "name: x\n---\nname: y",
    "a tab": "name: x\n\tmodels: [a]",
    "an open quote": "name: 'x",
    "an open list": "name: x\nseeds: [0, 1",
    "an open map": "name: x\ncalibration: {samples: 2",
    "a stray bracket": "name: x\nseeds: 0]",
    "a colon too many": "name: x: y",
    "a key twice": "name: x\nname: y",
    "a key that is a list": "? [a]\n: b",
    "a key that is a number": "5: x",
    "a key that is true": "true: x",
    "an alias of a list": "a: &a [x]\nb: *a",
    "aliases of aliases": ALIASES,
    "an unknown alias": "name: *x",
    "an object": "name: !!python/object/apply:os.system [id]",
    "a set": "name: x\nmethods: !!set {wanda}",
    "binary": "name: !!binary aGk=",
    "a date": "name: 2026-01-01\nseeds: [2026-01-01]",
    "a merge": "name: x\n<<: {seeds: [0]}",
    "bytes of a picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "bytes of an archive": b"PK\x03\x04\x14\x00",
    "Latin-1": "name: x # gr\xfc\xdfe".encode("latin-1"),
    "UTF-16": "name: x".encode("utf-16"),
    "half a character": b"name: x\xe2\x82",
    "a NUL": "name: 'x\0y'",
    "a bell": "name: x\x07",
    "64 KB and more": "name: x\n#" + "x" * 64_000,
    "3 000 brackets": "name: " + "[" * 3_000 + "]" * 3_000,
    "3 000 dashes": "name: " + "- " * 3_000,
    "100 000 targets": f"{GOOD}seeds: [0]\noptions: [{'0.1, ' * 10_000}]",
    "10 000 seeds": GOOD + f"seeds: {list(range(10_000))}",
    "no name": "models: [tiny-random]",
    "an empty name": GOOD.replace("x", "''", 1),
    "a name that climbs": GOOD.replace("x", "../x", 1),
    "a name of dots": GOOD.replace("x", "'..'", 1),
    "a long name": GOOD.replace("x", "x" * 300, 1),
    "a name that is a list": GOOD.replace("name: x", "name: [x]"),
    "a name with a slash": GOOD.replace("x", "a/b", 1),
    "a misspelt field": GOOD + "sedes: [1]",
    "a model that is a number": "name: x\nmodels: [5]",
    "a model with a NUL": 'name: x\nmodels: ["a\\0b"]',
    "a model that is not there": "name: x\nmodels: [./nothing]",
    "a model that is empty": "name: x\nmodels: ['']",
    "a model of nobody's home": "name: x\nmodels: ['~nosuchuser/m']",
    "a model that is this file": "name: x\nmodels: [./sweep.yaml]",
    "a model that is a folder of nothing": "name: x\nmodels: [.]",
    "a GGUF file that is none": "name: x\nmodels: [./bad.gguf]",
    "a folder with a broken configuration": "name: x\nmodels: [./broken]",
    "files of text that are not there": READING + "{corpus: {source: files, files: [no.txt]}}",
    "text that is a folder": READING + "{corpus: {source: files, files: [.]}}",
    "text of a device": READING + "{corpus: {source: files, files: [/dev/zero]}}",
    "text of a pipe": READING + "{corpus: {source: files, files: [pipe]}}",
    "a model of a device": "name: x\nmodels: [/dev/zero]",
    "a model of a pipe": "name: x\nmodels: [./pipe.gguf]",
    "a model of a device by another name": "name: x\nmodels: [./endless.gguf]",
    "text that is too short": READING
    + "{corpus: {source: files, files: [sweep.yaml]}, samples: 1000}",
    "text that is no text": READING + "{corpus: {source: files, files: [bad.gguf]}}",
}

SETTINGS = (
    """
=|name|name=|.=1|a.b.c.d=1|[0]=1|seeds[5]=1|seeds[-1]=1|seeds.x=1|models[x]=1|name.x=1
models=[]|models=5|models={a: b}|models=[a, a]|models=[[a]]|methods=[]|methods=[wandaa]|methods=all
methods=[wanda, wanda]|methods=[null]|methods={wanda: 1}|targets=[]|targets=[0]|targets=[1]
targets=[1.5]|targets=[-0.5]|targets=[nan]|targets=[inf]|targets=[1e-30]|targets=[2:4:8]
targets=[4:2]|targets=[0:4]|targets=['']|targets=[half]|targets=[0.5, 0.50]|targets=0.5
targets=[true]|targets=[2:99999999999999999999]|seeds=[]|seeds=[-1]|seeds=[1.5]|seeds=[true]
seeds=[x]|seeds=[99999999999999999999]|seeds=[0, 0]|dtype=float8|dtype=[]|calibration=5
calibration.samples=0|calibration.samples=-3|calibration.samples=1.5|calibration.samples=many
calibration.samples=1000000000|calibration.sequence_length=1|calibration.sampling=sorted
calibration.corpus.source=web|calibration.corpus={source: files}|calibration.corpus={source: hub}
calibration.corpus={source: files, files: []}|calibration.corpus.split=test
evaluation.perplexity=[]|evaluation.perplexity[9].windows=1|evaluation.zero_shot.tasks=[nosuchtask]
evaluation.batch_size=0|evaluation.max_memory={cpu: lots}|evaluation.device_map=everywhere
options.wanda.beta=1|options.swiftprune.alpha=2|options.nosuch.x=1|options=5
variants.wanda.method=wanda|variants.x.method=nosuch|variants.x={method: wanda, options: {y: 1}}
tracking.experiment=a/b|trust.remote_code=perhaps|on_overlap=maybe|reported=[{}]
""".strip()
    .replace("\n", "|")
    .split("|")
)

COMMANDS = [
    ["plan"],
    ["plan", ""],
    ["plan", "nosuch.yaml"],
    ["plan", "quickstrat"],
    ["plan", "/"],
    ["plan", "/dev/null/x.yaml"],
    ["plan", "~nosuchuser/x.yaml"],
    ["plan", "x\ny.yaml"],
    ["plan", "x" * 5_000],
    ["plan", "\udcff.yaml"],
    ["plan", "smoke", "--set"],
    ["plan", "smoke", "--sett", "a=1"],
    ["plan", "smoke", "more"],
    ["nosuch"],
    ["--nosuch"],
    ["run", "smoke", "--work-pool"],
    ["run", "smoke", "--set", "seeds=[x]"],
    ["up", "--limit", "0"],
    ["up", "--prefect-port", "99999"],
    ["up", "--mlflow-port", "x"],
    ["report", "nosuch"],
    ["report", "../x"],
    ["report"],
    ["export", "nosuch", "--to", "out"],
    ["export", "nosuch"],
    ["diff", "a"],
    ["diff", "a", "b"],
    ["diff", "a:b@c", "::"],
    ["diff", "0" * 32, "1" * 32],
]


@dataclass(frozen=True)
class Ended:
    status: int
    seconds: float
    said: str

    @property
    def problem(self) -> str:
        if "Traceback" in self.said or "a fault of secateur's" in self.said:
            return "a traceback"
        if self.seconds > 1:
            return f"{self.seconds:.2f} s"
        if self.status != 2 or not self.said.strip():
            return f"exit status {self.status}"
        return ""


def thrown(arguments: list[str]) -> Ended:
    """What the command does with a command line."""
    from flows import cli

    sys.argv = ["secateur", *arguments]
    said = io.StringIO()
    begun = time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = cli.status()
        except BaseException as error:  # noqa: BLE001 (counted)
            said.write(f"Traceback: {error!r}")
            status = 1
    return Ended(status, time.perf_counter() - begun, said.getvalue())


def inputs() -> dict[str, tuple[bytes, list[str]]]:
    """Name → the sweep file beside it, and the command line."""
    good = GOOD.encode()
    known = {
        f"file: {name}": (
            text if isinstance(text, bytes) else text.encode(),
            ["plan", "sweep.yaml"],
        )
        for name, text in FILES.items()
    }
    known |= {
        f"--set {setting}": (good, ["plan", "sweep.yaml", "--set", setting]) for setting in SETTINGS
    }
    return known | {f"{command}"[:80]: (good, command) for command in COMMANDS}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"SECATEUR_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"}
        Path("bad.gguf").write_bytes(b"GGUF" + bytes(range(256)))
        Path("broken").mkdir()
        os.mkfifo("pipe")
        os.mkfifo("pipe.gguf")
        Path("endless.gguf").symlink_to("/dev/zero")
        Path("broken/config.json").write_text(json.dumps({"model_type": ["llama"]}))
        Path("sweep.yaml").write_text(GOOD)
        imported = [["report", "nosuch"], ["export", "nosuch", "--to", "out"]]
        imported += [["plan", "sweep.yaml", "--set", "evaluation.zero_shot.tasks=[piqa]"]]
        for command in imported:
            thrown(command)
        if thrown(["plan", "sweep.yaml"]).status:
            raise AssertionError("a good sweep is refused")
        ended: dict[str, Ended] = {}
        for name, (content, command) in inputs().items():
            Path("sweep.yaml").write_bytes(content)
            ended[name] = thrown(command)
        os.chdir("/")
    problems = {name: end.problem for name, end in ended.items() if end.problem}
    for name, problem in problems.items():
        print(f"{name[:80]!r}: {problem}\n    {' '.join(ended[name].said.split())[:300]}")
    slowest = max(ended.values(), key=lambda end: end.seconds)
    traced = sum(problem == "a traceback" for problem in problems.values())
    late = sum(end.seconds > 1 for end in ended.values())
    print(
        f"{len(ended)} inputs: {traced} tracebacks, {late} over a second, {len(problems)} problems"
    )
    print(f"the slowest took {slowest.seconds:.2f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
