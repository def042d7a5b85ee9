"""A fake project to deploy from: a folder whose pyinfra is fake_pyinfra.py, and an engine in this
process that serves, over real HTTP, whatever was deployed last.

>>> with FakeProject(tmp_path) as project:
...     project.all("--models", "a,b", "--yes")
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import chdir
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import spark_bench
from click.testing import CliRunner
from spark_bench.cli import main
from spark_bench.quality.arithmetic import arithmetic_items
from spark_bench.results.suite_results import SuiteResults

HERE = Path(__file__).parent
ANSWERS = {i.messages[-1].content: str(i.expected) for i in arithmetic_items(0, False)}
LOAD = ("--profile", "quick", "-n", "3", "-i", "8", "-o", "4")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Engine(BaseHTTPRequestHandler):
    """Chat completions as a stream, of the model that `project` serves.

    Faults by the served model: "silent" answers 500, "half" cuts every second answer, "stuck"
    answers a run's two probes and never gets beyond the first token of what follows. It answers
    the items of `arith`; "wrong" says that each is 7777, "bad at N" what ends with the digit N.
    "doubted" answers right, and the deploy's probes warn.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's ACK
    project: FakeProject

    def do_GET(self) -> None:
        name = self.project.read("served.json").get("name", "")
        if self.project.key and self.headers["Authorization"] != f"Bearer {self.project.key}":
            return self.reply(401, {"message": "no such key"})
        if self.path != "/v1/models" or not name:
            return self.reply(404, {})
        return self.reply(200, {"data": [{"id": name, "object": "model"}]})

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.project.read("served.json").get("model", "")
        fault = self.project.read("faults.json").get(name, "")
        if self.project.key and self.headers["Authorization"] != f"Bearer {self.project.key}":
            return self.reply(401, {"message": "no such key"})
        if self.path != "/v1/chat/completions":
            return self.reply(404, {})
        if fault == "silent":
            return self.reply(500, {"message": "Internal server error"})
        if (answer := ANSWERS.get(query["messages"][-1]["content"])) is not None:
            bad = fault == "wrong" or (fault.startswith("bad at ") and answer.endswith(fault[-1]))
            message = {"role": "assistant", "content": f"It is {7777 if bad else answer}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.reply(200, {"model": self.project.served, "choices": [choice]})
        return self.stream(name, query.get("max_tokens") or 4, fault)

    def stream(self, model: str, tokens: int, fault: str) -> None:
        self.project.streams[model] += 1
        cut = fault == "half" and self.project.streams[model] % 2 == 0
        stuck = fault == "stuck" and self.project.streams[model] > 2
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for n in range(tokens):
            time.sleep(0.001)
            self.event(delta(f" w{n}", "length" if n == tokens - 1 else None))
            if stuck:
                self.project.stuck.set()
                self.project.closing.wait()
            if cut:
                self.close_connection = True
                return
        usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
        self.event({"choices": [], "usage": usage})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, what: Any) -> None:
        text = what if isinstance(what, str) else json.dumps(what)
        data = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def delta(text: str, finish: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def model(alias: str, number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"org/{alias}", "alias": alias, "number": number, "sparks": [1, 2], **more}


CATALOGUE = (model("a", 1), model("b", 2), model("c", 3), model("gated", 4, gated=True))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients are killed here: a connection that breaks is nothing to report."""


class FakeProject:
    """In `folder`, as long as the context lasts. seconds: what a deploy takes. key: what the engine
    wants to see, where it is set."""

    key = ""

    def __init__(self, folder: Path, nodes: int = 2, seconds: float = 0.0) -> None:
        self.folder, self.streams = folder, Counter[str]()
        # stuck: an answer has begun that will not end; closing: the project is about to go.
        self.stuck, self.closing = threading.Event(), threading.Event()
        handler = type("Handler", (Engine,), {"project": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        for path in ("deploys/listing.py", "deploys/feasible.py", "inventories/spark.py"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("")
        program = folder / ".venv/bin/pyinfra"
        program.parent.mkdir(parents=True)
        source = (HERE / "fake_pyinfra.py").read_text().splitlines(keepends=True)
        program.write_text("".join([f"#!{sys.executable} -SE\n", *source[1:]]))
        program.chmod(0o755)
        url = f"http://127.0.0.1:{self.server.server_port}"
        names = [f"fake-{n}" for n in range(1, nodes + 1)]
        self.write("settings.json", url=url, nodes=names, catalogue=CATALOGUE, seconds=seconds)

    def __enter__(self) -> FakeProject:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    # ---- its state

    def read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / name).read_text())
            return content
        except FileNotFoundError:
            return {}

    def write(self, name: str, **what: Any) -> None:
        (self.folder / name).write_text(json.dumps(what))

    def fails(self, **faults: str) -> None:
        """What goes wrong, by a model's alias."""
        self.stuck.clear()
        self.write("faults.json", **{f"org/{alias}": fault for alias, fault in faults.items()})

    @property
    def deploys(self) -> list[dict[str, str]]:
        """The --data of each deploy so far, the report's file left out."""
        lines = (self.folder / "calls.log").read_text().splitlines()
        calls = [json.loads(line) for line in lines]
        return [
            dict(
                w.split("=", 1)
                for at, w in enumerate(words)
                if words[at - 1] == "--data" and not w.startswith("report=")
            )
            for words in calls
            if words[2] == "deploy.py"
        ]

    @property
    def served(self) -> str:
        return str(self.read("served.json").get("model", ""))

    def deploy(self, alias: str, **data: str) -> None:
        """Serve a model, with `spark-bench` having no part in it."""
        data = {"model": f"org/{alias}", "report": str(self.folder / "report.json"), **data}
        words = [word for name, value in data.items() for word in ("--data", f"{name}={value}")]
        program = [self.folder / ".venv/bin/pyinfra", "-y", "inventories/spark.py", "deploy.py"]
        subprocess.run([*program, *words], check=True, stdout=subprocess.DEVNULL)

    # ---- spark-bench all

    def words(self, *words: str, load: tuple[str, ...] = LOAD) -> list[str]:
        """`spark-bench all`, with the results in `out`."""
        where = () if "--resume" in words or "--output-dir" in words else ("--output-dir", "out")
        project = () if "--resume" in words else ("--project", str(self.folder), *load)
        return [sys.executable, "-P", "-m", "spark_bench", "all", *project, *where, *words]

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words, **more),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def all(self, *words: str, **more: Any) -> Done:
        """`spark-bench all` in this process; what it starts are processes of their own."""
        return self.type_here("all", *self.words(*words, **more)[5:])

    def type_here(self, *words: str) -> Done:
        """`spark-bench WORDS` in this process, typed in the project's folder."""
        with chdir(self.folder):
            # Given whole, the environment is afterwards what it was.
            done = CliRunner().invoke(main, words, env=self.environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        root = str(Path(spark_bench.__file__).parents[1])
        return {**os.environ, "PYTHONPATH": root, "XDG_CONFIG_HOME": str(self.folder / "none")}

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def results(self) -> SuiteResults:
        return msgspec.json.decode((self.out / "results.json").read_bytes(), type=SuiteResults)

    @property
    def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in self.results.results}

    def clear(self) -> None:
        """As before the first run."""
        shutil.rmtree(self.out, ignore_errors=True)
        for name in ("served.json", "faults.json", "calls.log"):
            (self.folder / name).unlink(missing_ok=True)
