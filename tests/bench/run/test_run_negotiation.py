"""A run finds out what its server understands, and says what it had to leave out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_behaviors import ALWAYS, KEY
from faulty_call import CHAT, LAST_CHUNK, STREAM_HEAD, Call, event, whole_stream
from faulty_network import tls_contexts
from faulty_server import FaultyServer
from run_here import Ran, run, short
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.reference_server.streams import Flags
from spark_bench.telemetry.messages import SamplerJob
from spark_bench.telemetry.sampling import Sampling

QUIET = ["--quiet", "--no-metrics"]
NO_EOS = "the server does not accept ignore_eos: answers may end before --output-len"
NO_USAGE = "the server does not accept stream_options: it returns no token counts"
UNTOLD = "the server returns no token counts: they are the tokenizer's, or the number of events"


class Particular(FaultyServer):
    """Answers well what `refuses` gives no reason against; else with 400 and the reason.

    models: what /v1/models lists; None: there is no such path
    owner: of the models
    flush: the status of /flush_cache
    """

    def __init__(
        self,
        refuses: Callable[[Call], str] = lambda call: "",
        *,
        models: tuple[str, ...] | None = ("faulty-model",),
        owner: str = "nobody",
        flush: str = "200 OK",
    ) -> None:
        super().__init__()
        self.refuses, self.models, self.owner, self.flush = refuses, models, owner, flush

    def _answer(self, call: Call) -> bool:
        if call.path == "/flush_cache":
            call.send_error(self.flush, "not while requests run")
        elif call.path == "/v1/models" and self.models is None:
            call.send_error("404 Not Found", "Not Found")
        elif call.path == "/v1/models":
            entries = [{"id": name, "owned_by": self.owner} for name in self.models or ()]
            call.send_json({"object": "list", "data": entries})
        elif call.path == CHAT and (reason := self.refuses(call)):
            call.send_error("400 Bad Request", reason)
        else:
            return super()._answer(call)
        return True

    def calls_to(self, path: str = CHAT) -> list[Call]:
        return [call for call in self.calls if call.path == path]


@contextmanager
def measured(server: Particular, here: Path, *words: str) -> Iterator[Ran]:
    with server:
        yield run(server.url, *short(n=4, c=2, o=4), *QUIET, *words, here=here)


def unknown(*fields: str) -> Callable[[Call], str]:
    """Refuses a request that has any of these; "a.b" is field b of a."""

    def reason(call: Call) -> str:
        for field in fields:
            name, _, inner = field.partition(".")
            if name in call.json and (not inner or inner in call.json[name]):
                return f"Unknown field: {field}"
        return ""

    return reason


EACH = "stream_options.continuous_usage_stats"


@pytest.mark.parametrize(
    ("fields", "remaining", "notes"),
    [
        pytest.param([EACH], {"ignore_eos", "stream_options"}, [], id="counts-with-each"),
        pytest.param(["ignore_eos"], {"stream_options"}, [NO_EOS], id="ignore_eos"),
        pytest.param(["stream_options"], {"ignore_eos"}, [NO_USAGE, UNTOLD], id="stream_options"),
        pytest.param(
            ["ignore_eos", "stream_options"], set(), [NO_EOS, NO_USAGE, UNTOLD], id="both"
        ),
        pytest.param(["ignore_eos", EACH], {"stream_options"}, [NO_EOS], id="some-of-each"),
    ],
)
def test_only_refused_fields_are_left_out(
    tmp_path: Path, fields: list[str], remaining: set[str], notes: list[str]
) -> None:
    server = Particular(unknown(*fields))
    with measured(server, tmp_path) as ran:
        assert ran.code == 0, ran.err
    body = server.calls_to()[-1].json
    assert {"ignore_eos", "stream_options"} & set(body) == remaining
    assert "continuous_usage_stats" not in body.get("stream_options", {})
    assert ran.notes == notes
    assert ran.result.config.ignore_eos == ("ignore_eos" in remaining)
    assert ran.result.summary.total_output_tokens == 4 * 4


MAX = "the server does not accept max_tokens: max_completion_tokens was sent"
COOL = "the server refuses temperature 0: it uses its own"
EXTRA = "the server refuses top_p, seed of --extra-body: left out"


@pytest.mark.parametrize(
    ("fields", "lacking", "notes"),
    [
        pytest.param(["max_tokens"], ["max_tokens"], [MAX], id="max_tokens"),
        pytest.param(["temperature"], ["temperature"], [COOL], id="temperature"),
        pytest.param(["top_p", "seed"], ["top_p", "seed"], [EXTRA], id="extra-body"),
        pytest.param(
            ["max_tokens", "ignore_eos", "temperature", "stream_options", "top_p", "seed"],
            ["max_tokens", "ignore_eos", "temperature", "stream_options", "top_p", "seed"],
            [NO_EOS, NO_USAGE, COOL, MAX, EXTRA, UNTOLD],
            id="all",
        ),
    ],
)
def test_each_refused_field_is_given_up_by_name(
    tmp_path: Path, fields: list[str], lacking: list[str], notes: list[str]
) -> None:
    server = Particular(unknown(*fields))
    with measured(server, tmp_path, "--extra-body", '{"top_p": 1, "seed": 2}') as ran:
        assert ran.code == 0, ran.err
    body = server.calls_to()[-1].json
    assert not set(lacking) & set(body) and server.calls_to()[-1].tokens == 4
    assert ran.notes == notes
    config = ran.result.config
    assert config.temperature == (None if "temperature" in lacking else 0)
    assert config.extra_body == ({} if "top_p" in lacking else {"top_p": 1, "seed": 2})


def test_a_refusal_without_names_is_tried_out(tmp_path: Path) -> None:
    """Whatever the server doesn't say is found out."""
    server = Particular(lambda call: "bad request" if "temperature" in call.json else "")
    with measured(server, tmp_path) as ran:
        assert ran.code == 0, ran.err
    assert COOL in ran.result.notes


@pytest.mark.parametrize("reason", ["Unknown field: ignore_eos", "unknown error"])
def test_a_refusal_in_a_stream_is_one_where_it_names_a_field(tmp_path: Path, reason: str) -> None:
    class InStream(Particular):
        def _answer(self, call: Call) -> bool:
            if call.path != CHAT or "ignore_eos" not in call.json:
                return super()._answer(call)
            call.send_head(STREAM_HEAD)
            call.send_chunks([event({"error": {"message": reason}})])
            call.send(LAST_CHUNK)
            return True

    server = InStream()
    with measured(server, tmp_path) as ran:
        refused = "ignore_eos" in reason
        assert ran.code == (0 if refused else 1)
    assert (NO_EOS in ran.result.notes) == refused
    assert ("ignore_eos" in server.calls_to()[-1].json) != refused


def test_a_null_in_extra_body_removes_a_field(tmp_path: Path) -> None:
    server = Particular()
    words = '{"temperature": null, "stop": null, "stream_options": {"include_usage": null}}'
    with measured(server, tmp_path, "--extra-body", words) as ran:
        assert ran.code == 0, ran.err
    body = server.calls_to()[-1].json
    assert "temperature" not in body and body["stop"] is None
    assert body["stream_options"] == {}


def test_a_refusal_for_another_reason_is_the_result(tmp_path: Path) -> None:
    server = Particular(lambda call: "this model is for embeddings")
    with measured(server, tmp_path) as ran:
        assert ran.code == 1
    assert ran.result.summary.failures == {"http_400": 4}
    assert "ignore_eos" in server.calls_to()[-1].json
    assert any("this model is for embeddings" in note for note in ran.result.notes)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("how", ["auto", "usage", "off"])
def test_counts_with_each_event_are_requested_where_the_server_gives_them(
    reference: ReferenceServer, tmp_path: Path, k: int, how: str
) -> None:
    """Also where the probes' events are one token each: those of a load need not be."""
    reference.configure(ttft_us=1000, itl_us=1000, k=k)
    ran = run(reference.url, *short(), *QUIET, "--count-tokens", how, here=tmp_path)
    assert ran.code == 0
    requested = {Flags.CONTINUOUS_USAGE in s.flags for s in ran.streams(reference.dump())}
    assert requested == {how != "off"}
    assert ran.result.config.count_tokens == ("off" if how == "off" else "usage")


@pytest.mark.parametrize("endpoint", ["chat", "completions", "generate"])
def test_each_endpoint(reference: ReferenceServer, tmp_path: Path, endpoint: str) -> None:
    reference.configure(ttft_us=1000, itl_us=1000)
    ran = run(reference.url, *short(), *QUIET, "--endpoint", endpoint, here=tmp_path)
    summary = ran.result.summary
    assert ran.code == 0, ran.err
    assert (summary.completed, summary.total_output_tokens) == (8, 8 * 8)
    assert summary.total_input_tokens == 8 * 16
    assert ran.result.lengths.differing == 0 and not ran.notes


def test_a_server_without_usage(faulty: FaultyServer, tmp_path: Path) -> None:
    ran = run(faulty.at("missing_usage"), *short(o=4), *QUIET, here=tmp_path)
    assert ran.code == 0
    assert ran.notes == [UNTOLD]
    summary = ran.result.summary
    assert (summary.completed, summary.total_output_tokens) == (8, 8 * 4)
    assert ran.result.lengths.checked == 0
    assert ran.result.audit.verdict == "approximate"
    assert any("the number of tokens is unknown" in why for why in ran.result.audit.reasons)


def test_lengths_without_a_tokenizer_are_called_approximate(
    faulty: FaultyServer, tmp_path: Path
) -> None:
    ran = run(faulty.url, *short(o=4), "--no-metrics", here=tmp_path)
    assert ran.code == 0
    assert ran.result.lengths.tokenizer is None
    assert "approximate without a tokenizer (--tokenizer)" in ran.out


def test_lengths_the_server_counts_differently_are_noted(tmp_path: Path) -> None:
    """Its /tokenize counts letters, its usage words."""

    class Letters(Particular):
        def _answer(self, call: Call) -> bool:
            if call.path != "/tokenize":
                return super()._answer(call)
            call.send_json({"count": len(call.json["prompt"])})
            return True

    with Letters() as server:
        ran = run(server.url, *short(i=64, o=4), "--no-metrics", here=tmp_path)
    lengths = ran.result.lengths
    assert lengths.tokenizer == "the server's /tokenize"
    assert lengths.differing == lengths.checked == 8
    assert lengths.asked_input == 8 * 64 and lengths.largest_difference < -20
    assert "8 of 8 prompts differ from the requested" in ran.out
    assert any("counts some texts differently than the server's" in n for n in ran.result.notes)


# ---- which model -------------------------------------------------------------------------------


def test_without_a_model_list_the_users_model_is_used(tmp_path: Path) -> None:
    server = Particular(models=None)
    with measured(server, tmp_path, "--model", "mine") as ran:
        assert ran.code == 0
    assert server.calls_to()[-1].json["model"] == "mine"
    assert any("the model is unchecked" in note for note in ran.result.notes)


def test_the_first_of_several_models_is_used_and_the_rest_noted(tmp_path: Path) -> None:
    server = Particular(models=("bge-m3", "one", "two"))
    with measured(server, tmp_path) as ran:
        assert ran.code == 0
    assert ran.result.config.model == server.calls_to()[-1].json["model"] == "one"
    assert ran.notes == [
        "--model names none of those served (bge-m3, one, two): one was used, the first"
    ]
    server = Particular(models=("one", "two"))
    with measured(server, tmp_path, "--model", "two") as ran:
        assert ran.result.config.model == "two" and not ran.notes


@pytest.mark.parametrize(
    ("owner", "path", "models"),
    [
        pytest.param("library", "/api/ps", {"models": [{"name": "two"}]}, id="ollama"),
        pytest.param(
            "llama-swap",
            "/running",
            {"running": [{"model": "two", "state": "ready"}, {"model": "one", "state": "stopped"}]},
            id="llama-swap",
        ),
    ],
)
def test_the_loaded_model_is_chosen_of_several(
    tmp_path: Path, owner: str, path: str, models: dict[str, object]
) -> None:
    class Loaded(Particular):
        def _answer(self, call: Call) -> bool:
            if call.path != path:
                return super()._answer(call)
            call.send_json(models)
            return True

    with measured(Loaded(models=("one", "two"), owner=owner), tmp_path) as ran:
        assert ran.code == 0
    assert ran.result.config.model == "two" and not ran.notes


class Answering(Particular):
    """Names these models in its answers, one after the other, the last for good."""

    def __init__(self, *names: str, models: tuple[str, ...] = ("alias",)) -> None:
        super().__init__(models=models)
        self.names = list(names)

    def _answer(self, call: Call) -> bool:
        if call.path != CHAT:
            return super()._answer(call)
        call.send_head(STREAM_HEAD)
        name = self.names.pop(0) if len(self.names) > 1 else self.names[0]
        call.send_chunks(whole_stream(call, name))
        call.send(LAST_CHUNK)
        return True


def test_the_name_behind_an_alias_is_noted(tmp_path: Path) -> None:
    with measured(Answering("Qwen2.5-0.5B"), tmp_path) as ran:
        assert ran.code == 0, ran.err
    (note,) = ran.notes
    assert note.startswith("requested alias, but the answers name Qwen2.5-0.5B: the name behind")
    assert ran.result.summary.completed == 4


def test_a_name_that_changes_is_a_wrong_model(tmp_path: Path) -> None:
    names = ["Qwen2.5-0.5B"] * 6 + ["llama-8b"]
    with measured(Answering(*names), tmp_path, "--warmup", "0") as ran:
        assert ran.code == 1
    assert ran.result.summary.failures == {"wrong_model": 1}


def test_another_of_the_models_listed_is_a_wrong_model(tmp_path: Path) -> None:
    with measured(Answering("two", models=("one", "two")), tmp_path, "--model", "one") as ran:
        assert ran.code == 1
    assert ran.result.summary.failures == {"wrong_model": 4}


def test_a_model_that_must_be_named(tmp_path: Path) -> None:
    def reason(call: Call) -> str:
        return "" if "model" in call.json else "you must provide a model parameter"

    server = Particular(reason, models=None)
    with measured(server, tmp_path) as ran:
        assert ran.code == 1 and not ran.results
    assert ran.err.count("\n") == 1
    assert "you must provide a model parameter" in ran.err and "with --model" in ran.err


def test_a_model_that_is_not_served(tmp_path: Path) -> None:
    server = Particular(models=("qwen-72b", "llama-8b"))
    with measured(server, tmp_path, "--model", "qwen-7b") as ran:
        assert ran.code == 2
    assert ran.err.count("\n") == 1 and "serves qwen-72b, llama-8b (did you mean" in ran.err
    assert not server.calls_to() and not ran.results


# ---- who may ask -------------------------------------------------------------------------------


def test_a_key_that_is_missing(faulty: FaultyServer, tmp_path: Path) -> None:
    ran = run(faulty.at("needs_key"), *short(), *QUIET, here=tmp_path)
    assert ran.code == 1 and not ran.results
    assert "401: set SPARK_BENCH_API_KEY or --api-key-file" in ran.err


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_key_is_sent_and_never_shown(faulty: FaultyServer, tmp_path: Path, source: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    words = ["--api-key-file", str(file)] if source == "file" else []
    env = {"SPARK_BENCH_API_KEY": KEY} if source == "environment" else None
    here = tmp_path / "run"
    ran = run(
        faulty.at("needs_key"),
        *short(o=4),
        *words,
        "--json",
        "--save-requests",
        here=here,
        env=env,
    )
    assert ran.code == 0, ran.err
    content = b"".join(path.read_bytes() for path in here.iterdir())
    assert KEY not in ran.out + ran.err and KEY.encode() not in content
    # The server's metrics, models and prompts were all asked for with it.
    assert {call.headers.get("authorization") for call in faulty.calls} == {f"Bearer {KEY}"}


def test_a_key_echoed_by_the_server_is_not_shown(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def telling(call: Call) -> bool:
        call.send_error("500 Internal Server Error", f"no: {call.headers['authorization']}")
        return True

    monkeypatch.setitem(ALWAYS, "server_error", telling)
    here = tmp_path / "run"
    words = [*short(o=4), *QUIET, "--save-requests", "--json"]
    env = {"SPARK_BENCH_API_KEY": KEY}
    ran = run(faulty.at("server_error"), *words, here=here, env=env)
    assert "failed: HTTP 500: no: Bearer ***" in ran.result.notes
    content = b"".join(path.read_bytes() for path in here.iterdir())
    assert KEY not in ran.out + ran.err and KEY.encode() not in content


def test_a_key_is_not_passed_on(
    faulty: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed, start = list[bytes](), Sampling.start

    def noted(job: SamplerJob) -> Sampling:
        sampling = start(job)
        handed.append(Path(f"/proc/{sampling.process.pid}/environ").read_bytes())
        return sampling

    monkeypatch.setattr(Sampling, "start", noted)
    env = {"SPARK_BENCH_API_KEY": KEY, "OTHER": "there"}
    ran = run(faulty.at("needs_key"), *short(o=4), here=tmp_path, env=env)
    assert ran.code == 0, ran.err
    assert len(handed) == 1 and b"OTHER=there" in handed[0]
    assert KEY.encode() not in handed[0]


# ---- what goes before --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "flush", "flushed", "expected"),
    [
        pytest.param("sglang", "200 OK", 1, False, id="sglang"),
        pytest.param("sglang", "400 Bad Request", 1, True, id="sglang-refuses"),
        pytest.param("vllm", "200 OK", 0, False, id="another-engine"),
    ],
)
def test_sglangs_prefix_cache_is_emptied(
    tmp_path: Path, owner: str, flush: str, flushed: int, expected: bool
) -> None:
    server = Particular(owner=owner, flush=flush)
    with measured(server, tmp_path) as ran:
        assert ran.code == 0
    assert len(server.calls_to("/flush_cache")) == flushed
    assert any("refused /flush_cache" in note for note in ran.result.notes) == expected


def test_a_cache_meant_to_be_hit_is_not_flushed(tmp_path: Path) -> None:
    server = Particular(owner="sglang")
    with measured(server, tmp_path, "--cache", "hit", "--warmup", "1") as ran:
        assert ran.code == 0
    assert not server.calls_to("/flush_cache")
    assert len({call.body for call in server.calls_to()[-5:]}) == 1  # the warm-up's, too


def test_a_warm_up_that_fails_is_a_note(reference: ReferenceServer, tmp_path: Path) -> None:
    reference.configure(ttft_us=1000, itl_us=1000, fail_every=3)
    ran = run(reference.url, *short(n=1, c=1), *QUIET, "--warmup", "auto", here=tmp_path)
    assert ran.code == 0
    assert [n.partition(" (")[0] for n in ran.notes] == ["1 of 1 warm-up requests failed"]
    assert ran.result.summary.failed == 0


# ---- how it is reached -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behavior",
    [
        "byte_by_byte",
        "gzipped",
        "http_1_0",
        "content_length",
        "one_packet",
        "odd_chunks",
        "closes_each",
        "closes_idle",
        "continues_first",
        "huge_headers",
        "crlf",
        "comments",
        "no_done",
        "two_events_a_send",
    ],
)
def test_any_framing(faulty: FaultyServer, tmp_path: Path, behavior: str) -> None:
    ran = run(faulty.at(behavior), *short(o=4, n=6, c=3), *QUIET, here=tmp_path)
    assert ran.code == 0, ran.err
    summary = ran.result.summary
    assert (summary.completed, summary.failed) == (6, 0)
    assert summary.total_output_tokens == 6 * 4


def test_ipv6(tmp_path: Path) -> None:
    with FaultyServer(ipv6=True) as server:
        ran = run(server.url, *short(o=4), *QUIET, here=tmp_path)
    assert (ran.code, ran.result.summary.completed) == (0, 8)
    assert ran.result.config.url == server.url


def test_tls_is_stated(tmp_path: Path) -> None:
    context, trusted = tls_contexts(tmp_path)
    env = {"SSL_CERT_FILE": str(trusted)}
    with FaultyServer(tls=context) as server:
        ran = run(server.url, *short(o=4), "--no-metrics", here=tmp_path / "run", env=env)
    assert (ran.code, ran.result.summary.completed) == (0, 8)
    assert ran.result.audit.transport == "tls"
    assert "(tls), read" in " ".join(ran.out.split())


def test_tls_that_nobody_vouches_for(tmp_path: Path) -> None:
    context, _ = tls_contexts(tmp_path)
    with FaultyServer(tls=context) as server:
        ran = run(server.url, *short(), *QUIET, here=tmp_path / "run")
    assert ran.code == 1 and "certificate" in ran.err and ran.err.count("\n") == 1


def test_bodies_have_what_was_added(faulty: FaultyServer, tmp_path: Path) -> None:
    added = {"top_p": 0.5, "stream_options": {"mine": 1}}
    words = ["--extra-body", json.dumps(added), "--temperature", "0.3"]
    ran = run(faulty.url, *short(o=4), *QUIET, *words, here=tmp_path)
    body = faulty.calls[-1].json
    assert ran.code == 0
    assert (body["top_p"], body["temperature"]) == (0.5, 0.3)
    assert body["stream_options"] == {"include_usage": True, "mine": 1}
