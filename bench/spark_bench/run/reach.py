"""The server under test: its address, the connection to it, the model that it serves."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

import spark_bench
from spark_bench import INVENTORY, PROJECT, errors, formats, project, secret
from spark_bench.client.recorder import Recorder
from spark_bench.client.target import target
from spark_bench.client.transport import TapeTransport
from spark_bench.options import ServerOptions
from spark_bench.protocol import failures, models
from spark_bench.results.redact import HIDDEN

# SGLang's own default.
LOCAL = "http://localhost:30000"
# Time limit of a request outside the load, such as counting the tokens of many prompts.
SECONDS = 30.0
# Path at which a server of several models says which are loaded, by the owner in its list: Ollama
# and llama-swap.
RUNNING = {"library": "/api/ps", "llama-swap": "/running"}
# How many names of a list a message shows.
SHOWN = 20


@dataclass(frozen=True)
class ReachedServer:
    """A server that answers.

    url: without /v1
    http: for everything outside the load, over the recorder's sockets
    model: id to request; "": the server chooses
    engine: the model's owner by /v1/models ("sglang", "vllm", "llamacpp"); "" if not reported
    context: tokens that a prompt and its answer may have together; None: unknown
    listed: all models that it lists
    api_key: sent with each request; None: it needs none
    """

    url: str
    recorder: Recorder
    http: httpx.Client
    listing: project.ProjectListing | None
    model: str = ""
    engine: str = ""
    context: int | None = None
    listed: tuple[models.ListedModel, ...] = ()
    notes: tuple[str, ...] = ()
    api_key: secret.Secret | None = None

    def lists_apart(self, name: str) -> bool:
        """Whether it lists a model of this name that is not the requested one."""
        roots = {model.id: model.root or model.id for model in self.listed}
        return name in roots and roots[name] != roots.get(self.model, self.model)

    def hidden(self, text: str) -> str:
        """`text` without our API key: some servers repeat a key that they reject."""
        key = self.http.headers.get("authorization", "").removeprefix("Bearer ")
        return text.replace(key, HIDDEN) if key else text


@contextmanager
def reach(
    options: ServerOptions, step: Callable[[str], None] = lambda _: None
) -> Iterator[ReachedServer]:
    """Connect to the server of these options. Raises Unreachable or BadInput if that fails.

    step: called with a description of each thing that may take long
    """
    listing = _find_listing(options, step)
    foreign: tuple[str, ...] = ()
    if listing and options.url and not same_server(options.url, listing.url):
        # The project's model, launch, nodes and key say nothing about the measured server.
        foreign = (
            f"{options.inventory} has its head at {listing.url}, not at {options.url}: this "
            "result has neither its deployment nor the power of its nodes",
        )
        listing = None
    url = options.url or (listing.url if listing else "") or LOCAL
    # Send the project's own key only to the project's own server.
    key = options.api_key or (secret.project_key(listing.api_key_file) if listing else None)
    recorder = Recorder(target(url))
    try:
        recorder.open(1)
        with httpx.Client(
            transport=TapeTransport(recorder),
            base_url=url,
            headers=request_headers(key),
            timeout=SECONDS,
            trust_env=False,
        ) as http:
            listed, model, notes = _choose_model(http, options.model)
            yield ReachedServer(
                *(url, recorder, http, listing, model.id, model.owner, model.context, listed),
                notes=(*foreign, *notes),
                api_key=key,
            )
    except errors.Unreachable as error:
        hint = _unreachable_hint(options, listing, url, error.message)
        raise errors.Unreachable(f"{error.message}{hint}") from None
    finally:
        recorder.close()


def same_server(one: str, other: str) -> bool:
    """Whether two URLs lead to the same port of the same machine, under any name or address."""
    parts = [urlsplit(url) for url in (one, other)]
    ports = [part.port or {"https": 443}.get(part.scheme, 80) for part in parts]
    if ports[0] != ports[1]:
        return False
    names = [part.hostname or "" for part in parts]
    return names[0] == names[1] or bool(_addresses(names[0]) & _addresses(names[1]))


def _addresses(name: str) -> set[str]:
    """A host's addresses, empty if it has none; all loopback addresses count as one."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        return set()
    return {
        "loopback" if ip_address(each.partition("%")[0]).is_loopback else each for each in addresses
    }


def request_headers(key: secret.Secret | None) -> dict[str, str]:
    """The headers of every request."""
    headers = {
        "user-agent": f"spark-bench/{spark_bench.__version__}",
        "accept-encoding": "identity",
    }
    if key:
        headers["authorization"] = f"Bearer {key.reveal()}"
    return headers


def _find_listing(
    options: ServerOptions, step: Callable[[str], None]
) -> project.ProjectListing | None:
    """The project's listing if it is needed, for the URL or the nodes' power; else None.

    Raises BadInput if an option needs a project and there is none.
    """
    if options.url and not options.power:
        return None
    if (options.project / project.LISTING).is_file():
        step(f"asking {options.inventory} where the head is and what it serves")
    try:
        listing = project.find_listing(options.project, options.inventory)
    except errors.BenchError as error:
        if not options.url:
            raise
        message = error.message.replace("measure with --url", "leave --power out")
        raise type(error)(message) from None
    # The option that needs a project, as it was given.
    needing = "--power" if options.power else ""
    if options.project != PROJECT:
        needing = f"--project {options.project}"
    elif options.inventory != INVENTORY:
        needing = f"--inventory {options.inventory}"
    if listing is None and needing:
        raise errors.BadInput(
            f"{needing}: no project in {options.project} ({project.LISTING} is not there): "
            "run it in the project's folder, give that with --project, or leave the option out"
        )
    return listing


def _unreachable_hint(
    options: ServerOptions, listing: project.ProjectListing | None, url: str, message: str
) -> str:
    if not options.url and listing is None:
        return f" (no project in {options.project}, so {LOCAL} was tried: give --url)"
    if not options.url:
        return f" (the head, as {options.inventory} has it; is it deployed?)"
    # A server without TLS waits for more bytes, or answers with something that is not TLS.
    secure = url.startswith("https:")
    if secure and ("no connection" in message or "WRONG_VERSION" in message):
        return f"; if it does not speak TLS, http{url.removeprefix('https')}"
    if not secure and "/v1/models" in message:
        return f": check --url; if it speaks TLS, https{url.removeprefix('http')}"
    return ""


def _choose_model(
    http: httpx.Client, wanted: str
) -> tuple[tuple[models.ListedModel, ...], models.ListedModel, tuple[str, ...]]:
    """Choose the model to request.

    Returns all listed models, the chosen one, and notes on the choice. Raises BadInput if the
    wanted model is not served.
    """
    try:
        answer = http.get("/v1/models")
    except httpx.TransportError as error:
        raise errors.Unreachable(f"{_base_url(http)}: /v1/models: {error}") from None
    if answer.status_code in (401, 403) and not wanted:
        cure = failures.cure(f"http_{answer.status_code}")
        raise errors.Unreachable(
            f"{_base_url(http)} answers {answer.status_code}: {cure}; if it only hides its "
            "list, give the model's name with --model"
        )
    listed = models.parse_models(answer.content) if answer.is_success else ()
    if not listed:
        note = f"/v1/models lists nothing (HTTP {answer.status_code}): the model is unchecked"
        return (), models.ListedModel(wanted), (note,)
    served = [model.id for model in listed]
    if wanted and wanted not in served:
        hint = formats.did_you_mean(wanted, served, most=1)
        raise errors.BadInput(
            f"--model {wanted}: {_base_url(http)} serves {_join_names(served)}{hint}"
        )
    if wanted:
        return listed, listed[served.index(wanted)], ()
    first, *others = _loaded_models(http, models.model_candidates(listed))
    if not others:
        return listed, first, ()
    names = _join_names(served)
    note = f"--model names none of those served ({names}): {first.id} was used, the first"
    return listed, first, (note,)


def _loaded_models(
    http: httpx.Client, several: list[models.ListedModel]
) -> list[models.ListedModel]:
    """Those that are loaded, for a server that says so at a path in RUNNING; otherwise, all."""
    path = RUNNING.get(several[0].owner)
    if len(several) == 1 or path is None or any(model.loaded for model in several):
        return several
    with suppress(httpx.TransportError):
        running = {
            model.id
            for model in models.parse_models(http.get(path).content)
            if model.loaded is not False
        }
        return [model for model in several if model.id in running] or several
    return several


def _join_names(served: list[str]) -> str:
    """The names in a sentence; only the first SHOWN if there are many."""
    more = len(served) - SHOWN
    return ", ".join(served[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _base_url(http: httpx.Client) -> str:
    """The client's URL as it was typed, without the slash that httpx appends."""
    return str(http.base_url).rstrip("/")
