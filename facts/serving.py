"""The ranks' responses, requested on the nodes so that the controller need not reach the fabric;
and the ranks' logs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import QuoteString, StringCommand

from cluster.engine import log as engine_log, readiness, serving
from cluster.engine.allocation import MEMORY_PATTERN, Allocation, read_allocation
from cluster.engine.nccl import NCCL_PATTERN, loaded_nccl
from cluster.node.readings import Shown
from cluster.rank.runtime import runtime_of
from facts.containers import Containers, Processes
from facts.fact import Fact, count, decimal, join, quote

# SGLang's own health check gives up after 20 s (SGLANG_HEALTH_CHECK_TIMEOUT).
HEALTH_SECONDS = 25
COMPLETION_SECONDS = 120
# Seconds. One look must not take long: a rank that hangs is not ready.
LOOK_SECONDS = 10
# Lines of a log that are read, and kept without NCCL's: it logs some hundred lines at once while a
# rank starts, which do not show how far the rank is.
LOG_LINES = 1_000
KEPT_LINES = 40
# The same for a diagnosis, whose lines are kept without those about batches: these are most of the
# log of an engine that serves for days.
DIAGNOSIS_LINES = 20_000
DIAGNOSIS_KEPT = 4_000
DIAGNOSIS_SECONDS = 20
BATCHES = r"(Decode|Prefill) batch"
# Each line is cut to COLUMNS characters. server_args is a line of 30,000: DRAFT leaves of it only
# the argument that says whose files may be missing.
COLUMNS = 2_000
DRAFT = r"s/(server_args=).*(speculative_draft_model_path='[^']*').*/\1\2/"
ANSWER_TOKENS = 48
# More than any group has: an answer that speaks of others is not ours.
MOST_RANKS = 1000
# NCCL's version is among the first of a log's lines: no more of a long log are read for it.
FIRST_LINES = 2_000
# CUDA graphs, the last of it, come after NCCL's lines and the bars of the weights' shards.
ALLOCATION_LINES = 10_000
FIRST = """
docker logs --since "$(docker inspect --format '{{.State.StartedAt}}' "$1")" "$1" 2>&1 |
head -n "$2"
""".strip()
# What FlashInfer, TVM-FFI, torch and Triton compile kernels with (`ps -o comm`).
COMPILERS = r"ninja|nvcc|cicc|ptxas|cudafe\+\+|cc1plus"
# The API key comes on stdin, as a line.
READ_KEY = "IFS= read -r key\n"
SHOW_KEY = "printf 'Authorization: Bearer %s\\n' \"$key\" |"


class RankLook(Fact[readiness.RankHealth]):
    """One look at one rank: its container, its /health, its log's last words.

    + node: whose look this is
    + runtime, rank: how the rank is run, and its name
    + url: where it serves ("http://127.0.0.1:30000")
    """

    def command(self, node: str, runtime: str, rank: str, url: str) -> StringCommand:
        ranks = Containers().command([rank]) if runtime == "docker" else Processes().command()
        return join(
            StringCommand("printf 'node %s\\nname %s\\n'", quote((node, rank))),
            # A subshell: it exits if the engine does not answer; the rest is printed anyway.
            # An engine that does not answer is queried no further.
            join("\n(\n", ranks, "\n) 2>/dev/null && {\necho asked\n"),
            join(nccl_lines(runtime, rank), "}\n"),
            join("printf 'health %s\\n' \"$(", curl(f"{url}/health", LOOK_SECONDS), ')"\n'),
            StringCommand(f"ps -e -o comm= | grep -qxE '{COMPILERS}' && echo compiling\n"),
            join(last_lines(runtime, rank, KEPT_LINES), " | sed 's/^/log /'; :"),
        )

    def parse(self, output: list[str]) -> readiness.RankHealth:
        lines = output
        values = {word: rest for line in lines for word, _, rest in [line.partition(" ")]}
        log = [line.removeprefix("log ") for line in lines if line.startswith("log ")]
        containers = [line for line in lines if line.startswith("{")]
        processes = [line for line in lines if line.count("\t") >= 3]
        ranks = Containers().process(containers) or Processes().process(processes)
        step = engine_log.phase(log)
        return readiness.RankHealth(
            node=values["node"],
            rank=next((rank for rank in ranks if rank.name == values["name"]), None),
            health=http_status(values.get("health", "")),
            phase=step,
            lost="" if "asked" in lines else "its container engine does not answer",
            progress=engine_log.capture_progress(log) if step == engine_log.CAPTURING else "",
            words=next(iter(engine_log.meaningful_lines(log, 1)), ""),
            compiling="compiling" in lines,
            nccl=loaded_nccl([line[5:] for line in lines if line.startswith("nccl ")]),
        )


class Served(Fact[serving.GroupAnswers]):
    """The whole group's responses, requested on the head in one command.

    + urls: of every rank, rank 0 first
    + model: the id that is expected to be served
    + runtime, rank: the head's rank, for the transport in its log; "" leaves that out
    + keyed: the API requires a key, which is the first line of the command's stdin; a request
      without one is sent too
    """

    def command(
        self,
        urls: Sequence[str],
        model: str,
        runtime: str = "docker",
        rank: str = "",
        keyed: bool = False,
    ) -> StringCommand:
        head = urls[0]
        listed = f"{head}/v1/models"
        return join(
            READ_KEY if keyed else "",
            "health=$(\n",
            # In the background: all ranks answer at the same time.
            *(
                join(
                    f"printf 'health {number} %s\\n' \"$(",
                    curl(f"{url}/health", HEALTH_SECONDS),
                    ')" &\n',
                )
                for number, url in enumerate(urls)
            ),
            # If a rank is lost, a completion would take its whole time limit: none is requested.
            "wait)\nprintf '%s\\n' \"$health\"\nmodels= chat=\n",
            "[ -n \"$(printf '%s\\n' \"$health\" | grep -v '^health [0-9]* 200 ')\" ] || {\n",
            join("printf 'keyless %s\\n' \"$(", curl(listed, HEALTH_SECONDS), ')"\n')
            if keyed
            else "",
            join("models=$(", curl(listed, HEALTH_SECONDS, before="\n", keyed=keyed), ")\n"),
            _ask("chat", f"{head}/v1/chat/completions", serving.question(model), keyed),
            # 400: a model without a chat template. Request a plain completion.
            'case "$chat" in *"\n400 "*)\n',
            _ask("chat", f"{head}/v1/completions", serving.plain_question(model), keyed),
            ";; esac\n}\nprintf 'models %s\\nchat %s\\n' ",
            StringCommand(_one_line("models"), _one_line("chat")),
            join("\n", _transport_lines(rank, "log ")) if runtime == "docker" and rank else "",
        )

    def parse(self, output: list[str]) -> serving.GroupAnswers:
        lines = output
        health: dict[int, serving.EndpointReply] = {}
        for line in lines:
            if line.startswith("health "):
                _, rank, rest = [*line.split(None, 2), "", ""][:3]
                health[count(rank)] = reply(rest)
        ranks = range(max((rank for rank in health if rank < MOST_RANKS), default=-1) + 1)
        return serving.GroupAnswers(
            health=tuple(health.get(rank, serving.EndpointReply(0)) for rank in ranks),
            models=_reply(lines, "models "),
            completion=_reply(lines, "chat "),
            keyless=next((http_status(x[8:]) for x in lines if x.startswith("keyless ")), 0),
            log=tuple(line.removeprefix("log ") for line in lines if line.startswith("log ")),
        )


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: its path, and the JSON to POST (None: a GET)."""

    path: str
    body: Mapping[str, object] | None = None


def endpoints(model: str, runtime: str) -> tuple[Endpoint, ...]:
    """SGLang's endpoints; llama.cpp's own way of generating is /completion."""
    messages = [{"role": "user", "content": serving.QUESTION}]
    limit = {"max_tokens": ANSWER_TOKENS, "temperature": 0}
    native = (
        Endpoint("/completion", {"prompt": serving.QUESTION, "n_predict": 8})
        if runtime == "process"
        else Endpoint(
            "/generate", {"text": serving.QUESTION, "sampling_params": {"max_new_tokens": 8}}
        )
    )
    return (
        Endpoint("/health"),
        Endpoint("/v1/models"),
        Endpoint("/v1/chat/completions", {"model": model, "messages": messages, **limit}),
        Endpoint("/v1/completions", {"model": model, "prompt": serving.QUESTION, **limit}),
        native,
    )


class Endpoints(Fact[dict[str, serving.EndpointReply]]):
    """Path → answer, for every endpoint.

    + url: where rank 0 serves, as its own node reaches it
    + model: the id to ask for
    + runtime: "docker" or "process", which decides the engine's native endpoint
    + keyed: the API requires a key, which is the first line of the command's stdin
    """

    default = staticmethod(dict[str, serving.EndpointReply])

    def command(
        self, url: str, model: str, runtime: str = "docker", keyed: bool = False
    ) -> StringCommand:
        parts: list[StringCommand] = []
        for endpoint in endpoints(model, runtime):
            json_type = ("-H", "Content-Type: application/json")
            body = (*json_type, "-d", json.dumps(endpoint.body)) if endpoint.body else ()
            to = f"{url}{endpoint.path}"
            request = curl(to, COMPLETION_SECONDS, *body, before="\n--- ", keyed=keyed)
            parts.append(join(f"echo '=== {endpoint.path}'; ", request, "; echo\n"))
        return join(READ_KEY if keyed else "", *parts)

    def parse(self, output: list[str]) -> dict[str, serving.EndpointReply]:
        replies: dict[str, serving.EndpointReply] = {}
        path, body = "", list[str]()
        for line in output:
            if line.startswith("=== "):
                path, body = line.removeprefix("=== "), []
            elif line.startswith("--- "):
                replies[path] = reply(line.removeprefix("--- "), "\n".join(body).strip())
            else:
                body.append(line)
        return replies


@dataclass(frozen=True)
class DiagnosisLog(Shown):
    """A rank's log.

    + lines: since its last start, without batches
    + transport: NCCL's lines about what carries its traffic
    """

    lines: tuple[str, ...] = ()
    transport: tuple[str, ...] = ()


class RankLog(Fact[DiagnosisLog]):
    """The part of a rank's log that a diagnosis reads.

    + runtime, rank: how it is run, and what its container is called
    + earlier: of all its lives, not just the last
    """

    @staticmethod
    def default() -> DiagnosisLog:
        return DiagnosisLog()

    def command(self, runtime: str, rank: str, earlier: bool = False) -> StringCommand:
        words = runtime_of(runtime).logs(rank, DIAGNOSIS_LINES, earlier=earlier)
        log = join(quote(("timeout", str(DIAGNOSIS_SECONDS), *words.bounded)), " 2>&1")
        filtered = join(
            *(log, " | grep -avE ", QuoteString(BATCHES), f" | tail -n {DIAGNOSIS_KEPT} | sed -E "),
            *(QuoteString(DRAFT), f" | cut -c -{COLUMNS} | sed 's/^/log /'\n"),
        )
        if runtime != "docker":
            return join(filtered, ":")
        return join(filtered, _transport_lines(rank, "nccl "))

    def parse(self, output: list[str]) -> DiagnosisLog:
        return DiagnosisLog(
            lines=tuple(line[4:] for line in output if line.startswith("log ")),
            transport=tuple(line[5:] for line in output if line.startswith("nccl ")),
        )


class RankAllocation(Fact[Allocation]):
    """What a container's engine has allocated, by the lines of its start.

    + rank: its name
    """

    default = staticmethod(Allocation)

    def command(self, rank: str) -> StringCommand:
        first = ("sh", "-c", FIRST, "sh", rank, str(ALLOCATION_LINES))
        command = quote(("timeout", str(DIAGNOSIS_SECONDS), *first))
        pick = quote(("grep", "-a", "-m", "40", "-E", MEMORY_PATTERN))
        return join(command, " | ", pick, " | cut -c -400; :")

    def parse(self, output: list[str]) -> Allocation:
        return read_allocation(output)


# ---- the commands' parts


def last_lines(runtime: str, rank: str, count: int, seconds: int = LOOK_SECONDS) -> StringCommand:
    """The last lines of a rank's log without NCCL's, each cut to 2,000 characters."""
    command = quote(("timeout", str(seconds), *runtime_of(runtime).logs(rank, LOG_LINES).bounded))
    return join(command, f" 2>&1 | grep -av 'NCCL INFO' | tail -n {count} | cut -c -2000")


def nccl_lines(runtime: str, rank: str, seconds: int = LOOK_SECONDS) -> StringCommand:
    """The lines that name the NCCL that a rank has loaded, "nccl " before each."""
    if runtime != "docker":
        return StringCommand()
    first = ("sh", "-c", FIRST, "sh", rank, str(FIRST_LINES))
    pick = quote(("grep", "-a", "-m", "4", "-E", NCCL_PATTERN))
    command = quote(("timeout", str(seconds), *first))
    return join(command, " | ", pick, " | cut -c -300 | sed 's/^/nccl /'\n")


def curl(
    url: str, seconds: int, *more: str, before: str | None = None, keyed: bool = False
) -> StringCommand:
    """A request of bounded time; prints status and seconds.

    + before: print the body first, then this; None: no body
    + keyed: send the key that READ_KEY has read, through curl's stdin: it is in no process's
      arguments, since printf is the shell's own
    """
    if keyed:
        more = ("-H", "@-", *more)
    out = ("-o", "/dev/null") if before is None else ()
    wrote = f"{before or ''}%{{http_code}} %{{time_total}}"
    limits = ("curl", "-s", "--noproxy", "*", "-m", str(seconds))
    request = quote((*limits, *out, "-w", wrote, *more, url))
    return StringCommand(SHOW_KEY if keyed else "", request, "|| :")


def _ask(variable: str, url: str, body: str, keyed: bool) -> StringCommand:
    content = ("-H", "Content-Type: application/json", "-d", body)
    request = curl(url, COMPLETION_SECONDS, *content, before="\n", keyed=keyed)
    return join(f"{variable}=$(", request, ")\n")


def _one_line(variable: str) -> str:
    """The variable's value with spaces in place of newlines: JSON needs no newlines."""
    return f'''"$(printf %s "${variable}" | tr '\\n' ' ')"'''


def _transport_lines(rank: str, mark: str) -> StringCommand:
    """NCCL's lines about its transport, a mark before each. NCCL prints them once, at the start:
    only the last start's lines are read, and only the first few."""
    started = quote(("docker", "inspect", "--format", "{{.State.StartedAt}}", rank))
    logs = join('timeout 20 docker logs --since "$(', started, ')" ', QuoteString(rank))
    pick = quote(("grep", "-a", "-m", "20", "-E", engine_log.TRANSPORT_PATTERN))
    return join(logs, " 2>&1 | ", pick, f" | sed 's/^/{mark}/'; :")


def http_status(words: str) -> int:
    """The status in curl's `STATUS SECONDS`; 0 if there is none, as without curl."""
    first = next(iter(words.split()), "")
    return int(first) if first.isdecimal() and len(first) == 3 else 0


def reply(words: str, body: str = "") -> serving.EndpointReply:
    """An answer, from curl's `STATUS SECONDS`; status 0 if they are something else."""
    status, seconds = [*words.split(), "0", "0"][:2]
    try:
        return serving.EndpointReply(http_status(status), body, decimal(seconds))
    except ValueError:
        return serving.EndpointReply(0, body)


def _reply(lines: list[str], mark: str) -> serving.EndpointReply:
    line = next((x.removeprefix(mark) for x in lines if x.startswith(mark)), "")
    body, status, seconds = ["", "", "", *line.rsplit(None, 2)][-3:]
    return reply(f"{status} {seconds}", body)
