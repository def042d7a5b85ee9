"""The HTTP servers: rank 0's, and the dummy one of every other rank."""

import copy
import json
import sys
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sglang import OLD, __version__, answers, ending, metrics
from sglang.logs import log

HEALTH = ("/health", "/health_generate")


class Server(ThreadingHTTPServer):
    """A server with what its handlers ask: arguments, faults, peers and status of the rank."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, args, faults, peers, handler):
        self.args, self.faults, self.peers = args, faults, peers
        self.status = "starting"  # then "up", at last "leaving"
        self.dead = ""  # its scheduler, and whether /health sees that: "seen", "unseen"
        self.under_way = self.requests = self.generated = 0  # completions, and their tokens
        self.latencies = metrics.Latencies()
        super().__init__((args.host, args.port), handler)

    def handle_error(self, request, client_address):
        """Keep quiet, as uvicorn does, of a client that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def open_server(args, faults, peers, handler):
    """The server, listening. A port that is taken shows only now, after loading."""
    try:
        return Server(args, faults, peers, handler)
    except OSError:
        where = f"('{args.host}', {args.port})"
        what = "error while attempting to bind on address"
        log(f"ERROR:    [Errno 98] {what} {where}: address already in use")
        if args.node_rank and OLD:
            sys.exit(1)
        ending.end()


# As prometheus_client says it; Prometheus 3 takes no other.
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body=None):
        self.send(status, b"" if body is None else json.dumps(body).encode(), "application/json")

    def send(self, status, data, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing: the dummy server keeps quiet."""


class Dummy(Handler):
    """A rank > 0 answers only that its scheduler has loaded."""

    def do_GET(self):
        healthy = HEALTH if OLD else (*HEALTH, "/ping")
        if self.path == "/metrics" and self.server.args.enable_metrics:
            self.send(200, b"", PROMETHEUS)
        elif self.path in healthy:
            self.reply(200)
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.reply(404, {"detail": "Not Found"})


class Front(Handler):
    """Rank 0."""

    def do_GET(self):
        answer = {
            **dict.fromkeys(HEALTH, self.health),
            "/ping": self.health,
            "/v1/models": lambda: self.reply(200, self.models()),
            "/get_model_info": lambda: self.reply(200, self.model_info()),
            "/get_server_info": lambda: self.reply(200, self.server_info()),
            "/flush_cache": lambda: self.reply(200, "Cache flushed."),
        }
        if not OLD:
            answer["/ready"] = self.ready
            answer["/model_info"] = answer["/get_model_info"]
            answer["/server_info"] = answer["/get_server_info"]
        if self.server.args.enable_metrics:
            answer["/metrics"] = self.metrics
        self.route(answer)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        try:
            self.query = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            return self.reply(400, {"object": "error", "message": "Invalid JSON", "code": 400})
        return self.route(
            {
                "/v1/chat/completions": self.chat,
                "/v1/completions": self.completion,
                "/generate": lambda: self.whole(answers.generate(self.query)),
                "/flush_cache": lambda: self.reply(200, "Cache flushed."),
            }
        )

    def route(self, answer):
        path = self.path.split("?")[0]
        if not self.allowed(path):
            return self.reply(401, {"error": "Unauthorized"})
        if path not in answer:
            return self.reply(404, {"detail": "Not Found"})
        return answer[path]()

    def allowed(self, path):
        key = self.server.args.api_key
        if not key or path.startswith(("/health", "/ready", "/metrics")):
            return True
        return self.headers.get("Authorization") == f"Bearer {key}"

    # ---- state

    def health(self):
        """200 after a step of all ranks, 503 while it starts, leaves, or a rank doesn't answer."""
        if self.server.status != "up":
            if self.server.status == "leaving":
                log("Health check request received during shutdown. Returning 503.")
            return self.reply(503)
        time.sleep(self.server.faults.health_seconds)
        limit = self.server.faults.health_timeout
        if self.server.dead == "seen":
            time.sleep(limit)
        elif self.server.dead or self.server.peers.step(limit):
            return self.reply(200)
        lost = f"Server couldn't get a response from detokenizer for last {limit:.0f} seconds."
        log(f"Health check failed. {lost}")
        return self.reply(503)

    def ready(self):
        self.reply(200 if self.server.status == "up" else 503)

    def models(self):
        name = self.server.faults.serve_as or self.server.args.served_model_name
        model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "sglang"}
        return {
            "object": "list",
            "data": [{**model, "root": name, "parent": None, "max_model_len": answers.CONTEXT}],
        }

    def model_info(self):
        path = self.server.args.model_path
        name = {} if OLD else {"served_model_name": self.server.args.served_model_name}
        rest = {"tokenizer_path": path, "is_generation": True, "stub": True}
        return {"model_path": path, **name, **rest}

    def server_info(self):
        state = {"last_gen_throughput": 0.0, "memory_usage": {}}
        capacity = {"max_total_num_tokens": 8192, "internal_states": [state]}
        args = copy.deepcopy(vars(self.server.args))  # as both versions do, by way of asdict
        return {**args, **capacity, "version": __version__, "stub": True}

    def metrics(self):
        args = self.server.args
        gauges = dict.fromkeys(("num_running_reqs", "num_queue_reqs", "token_usage"), 0.0)
        gauges["spec_accept_length"] = 0.0
        counters = {"prompt_tokens_total": self.server.requests}
        gauges["num_running_reqs"] = float(self.server.under_way)
        if args.speculative_algorithm:
            counts = self.server.generated, self.server.requests
            draft_tokens = int(args.speculative_num_draft_tokens or 4)
            kind = self.server.faults.nonsense()
            counters |= answers.speculation(*counts, draft_tokens, kind)
            gauges["spec_num_draft_tokens"] = counters.pop("spec_num_draft_tokens")
            gauges["spec_accept_length"] = answers.accepted(draft_tokens, kind)
        text = metrics.exposition(args.served_model_name, gauges, counters, self.server.latencies)
        self.send(200, text.encode(), PROMETHEUS)

    # ---- answers

    def chat(self):
        thinks = bool(self.server.args.reasoning_parser)
        with self.kind() as kind:
            if self.query.get("stream"):
                return self.stream(answers.chat_chunks(self.query, thinks, kind))
            return self.whole(answers.chat(self.query, thinks, kind))

    def completion(self):
        with self.kind() as kind:
            if self.query.get("stream"):
                return self.stream(answers.completion_chunks(self.query, kind))
            return self.whole(answers.completion(self.query, kind))

    @contextmanager
    def kind(self):
        """What is wrong with the answers; meanwhile this request is under way."""
        kind = self.server.faults.nonsense()
        self.server.under_way += 1
        self.server.requests += 1
        try:
            if self.server.dead:
                threading.Event().wait()
            if kind == "neighbours":
                time.sleep(0.1)  # or none of several requests would meet another
                self.query["neighbours"] = self.server.under_way > 1
            yield kind
        finally:
            self.server.under_way -= 1

    def refused(self):
        """Answer a request that can't be served; True where that was done."""
        if self.server.faults.completion_fails:
            error = {"object": "error", "message": "Internal server error", "code": 500}
            self.reply(500, error)
            return True
        if message := answers.too_long(self.query):
            self.reply(
                400, {"object": "error", "message": message, "type": "BadRequestError", "code": 400}
            )
            return True
        return False

    def whole(self, answer):
        if self.refused():
            return
        count = (answer.get("usage") or {}).get("completion_tokens", 1)
        self.server.generated += count
        self.server.peers.step()
        began, seconds = time.monotonic(), self.server.faults.token_seconds
        time.sleep(seconds * count)
        self.server.latencies.observe([began + seconds * i for i in range(count + 1)])
        self.reply(200, answer)

    def stream(self, chunks):
        if self.refused():
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        times = [time.monotonic()]
        for chunk in chunks:
            self.server.generated += 1
            self.server.peers.step()
            time.sleep(self.server.faults.token_seconds)
            times += [time.monotonic()] * answers.has_token(chunk)
            self.event(json.dumps(chunk))
        self.server.latencies.observe(times)
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, text):
        data = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_request(self, code="-", size="-"):
        host, port = self.client_address
        status = HTTPStatus(int(code))
        log(f'INFO:     {host}:{port} - "{self.requestline}" {status.value} {status.phrase}')
