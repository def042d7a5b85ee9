"""Short and long prompts in one load, for the reference server, whose prefill has a known speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from run_here import run
from spark_bench.cli import main
from spark_bench.metrics.mixed import MixedFigures
from spark_bench.reference_server.launcher import ReferenceServer
from spark_bench.results.config_schema import LongPrompts

PROFILE = """
[chats]
num_prompts = 24
input_len = 32
output_len = 40
concurrency = 4
long_every = 6
long_input_len = 512
long_output_len = 8
"""


@pytest.fixture
def profiles(tmp_path: Path) -> str:
    file = tmp_path / "profiles.toml"
    file.write_text(PROFILE)
    return str(file)


def test_the_two_kinds_are_apart_from_the_request_to_the_page(
    reference: ReferenceServer, tmp_path: Path, profiles: str
) -> None:
    reference.configure(ttft_us=2_000, itl_us=3_000, ttft_per_in_us=200)
    here = tmp_path / "r"
    ran = run(reference.url, "chats", "--profiles", profiles, "--warmup", "0", here=here)
    assert ran.code == 0, ran.err
    result, mixed = ran.result, ran.result.mixed
    assert isinstance(mixed, MixedFigures)
    assert result.config.long == LongPrompts(every=6, input_len=512, output_len=8)
    assert result.lengths.differing == 0 and result.summary.stopped_early == 0
    streams = ran.streams(reference.dump())
    long = [stream for stream in streams if stream.prompt_tokens == 512]
    assert [stream.tokens for stream in long] == [8] * 4
    assert {(s.prompt_tokens, s.tokens) for s in streams} == {(32, 40), (512, 8)}
    assert (mixed.short.completed, mixed.long.completed) == (20, 4)
    # 2 ms and 0.2 ms for each token of the prompt.
    for kind, true in ((mixed.short, 8.4), (mixed.long, 104.4)):
        assert kind.ttft_ms.p50 and true <= kind.ttft_ms.p50
    # The gaps by the server's log, between a long prompt's arrival and its first token.
    spans = [(stream.received_ns, int(stream.sent_ns[0])) for stream in long]
    inside = sum(
        any(begin < after and before < end for begin, end in spans)
        for stream in streams
        if stream.prompt_tokens == 32
        for before, after in zip(stream.sent_ns, stream.sent_ns[1:], strict=False)
    )
    assert mixed.during.n + mixed.otherwise.n == mixed.short.itl_ms.n == 20 * 39
    # A busy machine delivers tokens late: of those at the spans' ends, some count elsewhere.
    assert abs(mixed.during.n - inside) < 0.2 * mixed.short.itl_ms.n
    assert 0 < mixed.share < 1
    labels = [line.split()[0] for line in ran.out.splitlines() if line.strip()]
    assert {"short", "long", "prefill"} <= {*labels}
    assert "every 6th 512 in, 8 out" in " ".join(ran.out.split())
    page = tmp_path / "page.html"
    assert CliRunner().invoke(main, ["report", str(here), "-o", str(page)]).exit_code == 0
    assert "20 short" in page.read_text() and "4 long" in page.read_text()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--cache", "hit"], "--cache hit doesn't go with profile chats, which mixes two kinds"),
        (["--depth", "64"], "--depth doesn't go with profile chats"),
        (
            ["-n", "5"],
            "long_every: 6 is not allowed; it must be from 2 to the number of prompts (5)",
        ),
        (["-i", "512"], "long_input_len: 512 is not allowed; it must be more than input_len"),
    ],
)
def test_what_does_not_go_with_two_kinds_is_refused(
    reference: ReferenceServer, profiles: str, words: list[str], error: str
) -> None:
    ran = run(reference.url, "chats", "--profiles", profiles, *words)
    assert ran.code == 2 and error in ran.err and len(ran.err.splitlines()) == 1
    assert not reference.dump()


def test_a_context_too_short_for_the_long_ones_is_refused(
    reference: ReferenceServer, tmp_path: Path
) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(PROFILE.replace("= 512", "= 131072"))
    ran = run(reference.url, "chats", "--profiles", str(file))
    assert ran.code == 2 and "has long prompts of 131072 tokens with 8 for the answer" in ran.err


def test_texts_of_one_seed_are_the_same_and_none_begin_alike() -> None:
    from spark_bench.prompts.compose import PromptShape, compose
    from tiny_tokenizers import KINDS, tiny

    shape = PromptShape(8, 20, 4, long_every=4, long_input_tokens=200, long_output_tokens=2)
    tokens = tiny(next(iter(KINDS)))
    prompts = compose(shape, tokens, 3)
    lengths = [(p.input_tokens, p.output_tokens) for p in prompts]
    assert lengths == [(20, 4)] * 3 + [(200, 2)] + [(20, 4)] * 3 + [(200, 2)]
    texts = [prompt.messages[0].content for prompt in prompts]
    assert np.array_equal(tokens.count(texts), [length for length, _ in lengths])
    assert len({text.split()[0] for text in texts}) == 8
    assert compose(shape, tokens, 3) == prompts
