"""Progress: what is made of the looks, plain lines, and the bar of a process of its own."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from random import Random

import pytest
import spark_bench
from spark_bench.client.tally import Progress
from spark_bench.display.bar import Bar
from spark_bench.display.progress import Live, Plain, Silent, Sketch, choose_display
from spark_bench.formats import digits, duration

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def look(
    seconds: float, done: int = 0, reads: int = 0, failed: int = 0, **more: tuple[float, ...]
) -> Progress:
    return Progress(
        seconds, total=50, sent=done + 4, done=done, failed=failed, in_flight=4, reads=reads, **more
    )


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_one_percent_off_at_most(share: float) -> None:
    random = Random(1)
    figures = sorted(random.lognormvariate(2, 2) for _ in range(5001))
    sketch = Sketch()
    sketch.add(figures)
    true = figures[max(0, -(-int(share * 5001 * 1000) // 1000) - 1)]
    quantile = sketch.quantile(share)
    assert quantile is not None
    assert quantile == pytest.approx(true, rel=0.0101)


def test_nothing_has_no_quantile() -> None:
    assert Sketch().quantile(0.5) is None


def test_a_sketch_stays_small() -> None:
    sketch = Sketch()
    sketch.add(10 ** (exponent / 1000) for exponent in range(-3000, 6000))
    assert len(sketch.buckets) < 1100


def test_rates_are_of_the_last_seconds() -> None:
    live = Live()
    for second in range(1, 11):
        live.view(look(second, done=second, reads=100 * second))
    views = [live.view(look(10 + second, done=10, reads=1000)) for second in range(1, 7)]
    rates = [view.tokens_per_second for view in views]
    assert rates == pytest.approx([80, 60, 40, 20, 0, 0])


def test_time_left_is_known_once_a_request_is_done() -> None:
    live = Live()
    assert live.view(look(1.0)).left is None
    assert live.view(look(2.0, done=10)).left == pytest.approx(8.0)


def test_plain_is_a_line_a_second() -> None:
    stream = io.StringIO()
    with Plain(stream) as show:
        show.start(50, "quick")
        for half in range(1, 9):
            show.update(look(half / 2 + 0.02, done=half, reads=10 * half, first_ms=(210.0,)))
        show.end()
    lines = stream.getvalue().splitlines()
    assert "approximate" in lines[0]
    assert len(lines) == 5
    assert lines[1] == (
        "quick: 1 s 2/50 done, 4 in flight, 1.96 req/s, ~19.6 tok/s, first event 212/212 ms, "
        "ITL -/- ms, 24 s left"
    )


def test_plain_says_what_failed() -> None:
    stream = io.StringIO()
    show = Plain(stream)
    show.start(50, "quick")
    show.update(look(1.0, done=5, failed=2))
    assert "5/50 done (2 failed)" in stream.getvalue()


def test_plain_prints_the_current_step() -> None:
    stream = io.StringIO()
    Plain(stream).step("warming up")
    assert stream.getvalue() == "warming up ...\n"


def test_nothing_is_shown_outside_of_a_load(terminal: Terminal) -> None:
    stream = io.StringIO()
    with Plain(stream) as plain, Bar(terminal.stream) as bar:
        for show in (plain, bar):
            show.update(look(1.0, done=41))
            show.start(50, "quick")
            show.update(look(1.0, done=42))
            show.end()
            show.update(look(2.0, done=43))
        bar.say("last")
        terminal.wait_for("last")
    for text in (stream.getvalue(), terminal.text):
        assert "42/50" in text
        assert "41/50" not in text and "43/50" not in text


def test_plain_outlives_its_stream() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        show = Plain(stream)
        show.start(50, "quick")
        show.update(look(1.0))
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


def test_the_display_depends_on_the_terminal() -> None:
    assert isinstance(choose_display(io.StringIO(), quiet=False), Plain)
    assert isinstance(choose_display(io.StringIO(), quiet=True), Silent)
    _, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        assert isinstance(choose_display(stream, quiet=False), Bar)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (0.99951, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (12.345, "12.3"),
        (1234567.8, "1,234,568"),
        (-3.21, "-3.21"),
    ],
)
def test_values_have_three_digits(value: float | None, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "- s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (0.9, "0.9 s"),
        (65, "65 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (150, "2 min 30 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3900, "1 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_durations_are_parsed_with_their_units(seconds: float | None, words: str) -> None:
    """1:05 is read as minutes by some and as hours by others."""
    assert duration(seconds) == words


class Terminal:
    """A pseudo terminal of 80 columns, and everything that was written to it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.stream = os.fdopen(slave, "w")
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self._seen += data
        except OSError:  # the last writer has closed it
            return

    @property
    def raw(self) -> str:
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        return CONTROL.sub("", self.raw)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} never came; seen: {self.text!r}"
            time.sleep(0.01)

    def close(self) -> None:
        self.stream.close()
        self._reader.join(5)
        os.close(self.master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("PYTHONPATH", str(Path(spark_bench.__file__).parents[1]))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal_ = Terminal()
    yield terminal_
    terminal_.close()


def test_the_bar_shows_and_clears(terminal: Terminal) -> None:
    with Bar(terminal.stream) as bar:
        bar.step("warming up")
        terminal.wait_for("warming up ...")
        bar.start(50, "repeat 1 of 2")
        bar.update(look(2.0, done=20, reads=400, first_ms=(200.0, 210.0), gap_ms=(10.0,) * 9))
        terminal.wait_for("approx., from reads")
        bar.say("a word between")
        terminal.wait_for("a word between")
        bar.update(look(3.0, done=30, reads=600, failed=1))
        terminal.wait_for("1 failed")
    text = terminal.text
    assert "repeat 1 of 2" in text
    assert "20/50  2 s  3 s left" in text
    assert re.search(r"4 in flight, 10\.\d req/s, ~200 tok/s", text)
    assert re.search(r"first event p50/p99 200/212 ms, ITL 10\.\d/10\.\d ms", text)
    # The cursor is there again, and the last thing on the screen is nothing.
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert terminal.raw.count("\x1b[2K") >= 3


def test_the_bar_is_80_columns_wide_at_most(terminal: Terminal) -> None:
    with Bar(terminal.stream) as bar:
        bar.start(50, "a label that is quite a bit longer than would fit beside the bar")
        bar.update(look(12345.6, done=20, reads=10**9, failed=10, gap_ms=(1234.5, 9999.0)))
        terminal.wait_for("approx., from reads")
    lines = [CONTROL.sub("", line) for line in re.split(r"[\r\n]+", terminal.raw)]
    assert max(map(len, lines)) <= 80


def test_ctrl_c_does_not_reach_the_bar(terminal: Terminal) -> None:
    with Bar(terminal.stream) as bar:
        assert bar.process is not None
        # A terminal's Ctrl-C goes to its session alone.
        assert os.getsid(bar.process.pid) != os.getsid(0)
        bar.start(50, "before")
        os.kill(bar.process.pid, signal.SIGINT)
        bar.start(50, "still there")
        terminal.wait_for("still there")


def test_a_run_goes_on_when_the_bar_dies(terminal: Terminal) -> None:
    with Bar(terminal.stream) as bar:
        assert bar.process is not None
        bar.start(50, "short life")
        terminal.wait_for("short life")
        os.kill(bar.process.pid, signal.SIGKILL)
        bar.process.wait(10)
        for second in range(5):
            bar.update(look(second))
    terminal.wait_for("short life")
    # What died could not show the cursor again.
    deadline = time.monotonic() + 5
    while not terminal.raw.endswith("\x1b[?25h") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert terminal.raw.endswith("\x1b[?25h")


def test_a_hung_bar_blocks_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_bench.display.bar.END", 0.2)
    with Bar(terminal.stream) as bar:
        assert bar.process is not None
        process = bar.process
        bar.start(50, "hangs")
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        for second in range(3000):
            bar.update(look(second, gap_ms=(1.0,) * 50))
        assert time.monotonic() - began < 5
    assert process.returncode == -signal.SIGKILL


def test_a_bar_that_resumes_gets_whole_lines(terminal: Terminal) -> None:
    with Bar(terminal.stream) as bar:
        assert bar.process is not None
        bar.start(50, "hung")
        terminal.wait_for("hung")
        os.kill(bar.process.pid, signal.SIGSTOP)
        for second in range(3000):
            bar.update(look(second, gap_ms=(1.0,) * 50))
        os.kill(bar.process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 20
        while "44/50" not in terminal.text and time.monotonic() < deadline:
            bar.update(look(9000.0, done=44))
            time.sleep(0.05)
        assert bar.process.poll() is None
        assert "44/50" in terminal.text


def test_without_a_process_there_is_no_bar_and_no_error(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with Bar(terminal.stream) as bar:
        bar.start(50, "quick")
        bar.update(look(1.0))
        bar.end()
        assert bar.process is None
    assert terminal.text == ""
