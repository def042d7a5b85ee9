"""From the bytes of an exchange to the events of its answer."""

from dataclasses import dataclass, field

import numpy as np

from spark_bench.protocol import content, sse
from spark_bench.protocol.http1 import BodyEnd, Framing, MalformedHttp
from spark_bench.protocol.tape import Ints, Tape
from spark_bench.record import Ended


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Answer:
    """A response, taken apart.

    status: 0 if no head came
    body: the bytes of an answer that is no event stream
    data: of each event of one that is
    reads: of each event, the read that completed it
    stamps: of each event, when that was, ns
    errors: indices of events that name themselves an error
    problem: a line that belongs to no event stream, "" if there is none
    whole: the end of the body came
    malformed: what is wrong with the HTTP, "" if nothing is
    too_large: that is its size, once decoded
    """

    status: int = 0
    body: bytes | None = None
    data: list[bytes] = field(default_factory=list)
    reads: Ints = field(default_factory=_none)
    stamps: Ints = field(default_factory=_none)
    errors: set[int] = field(default_factory=set)
    problem: str = ""
    whole: bool = False
    malformed: str = ""
    too_large: bool = False

    @property
    def ok(self) -> bool:
        """There is an answer: a success by its status, in HTTP that can be read."""
        return 200 <= self.status < 300 and not self.malformed

    def place(self, tape: Tape, ends: Ints) -> None:
        """Give each event the read that held its last byte."""
        self.reads = tape.reads(ends)
        self.stamps = tape.stamps[self.reads]

    @property
    def merged_reads(self) -> int:
        """Reads that completed more than one event."""
        same = self.reads[1:] == self.reads[:-1]
        return int(np.count_nonzero(same) - np.count_nonzero(same[1:] & same[:-1]))


def read_answer(tape: Tape, ended: Ended, most: int = content.MOST_BYTES) -> Answer:
    """The answer in these bytes, as far as it came. most: bytes of its body, decoded."""
    framing = Framing(spans=[])
    try:
        if not framing.read_head(tape.data):
            return Answer()
        return _answer(tape, framing, ended, most)
    except MalformedHttp as error:
        too_large = isinstance(error, content.TooLarge)
        status = framing.head.status if framing.head else 0
        return Answer(status, malformed=str(error), too_large=too_large)


def _answer(tape: Tape, framing: Framing, ended: Ended, most: int) -> Answer:
    head = framing.head
    assert head is not None
    if head.status == 200 and framing.body_end is BodyEnd.CHUNKED and not head.encodings:
        common = sse.split_events(tape.data, head.size)
        if common is not None:
            answer = Answer(200, data=common[0], whole=True)
            answer.place(tape, common[1])
            return answer
    body = content.read_body(tape, framing, most)
    whole = ended is Ended.COMPLETE if body.ended is None else body.ended
    answer = Answer(head.status, whole=whole)
    # JSON by its first byte: proxies are known to change content types, but not this.
    is_json = body.tape.data[:64].lstrip()[:1] in (b"{", b"[")
    if is_json or not 200 <= head.status < 300:
        answer.body = body.tape.data
        return answer
    events = sse.parse_events(body.tape.data, whole=whole)
    answer.data, answer.errors, answer.problem = events.data, events.errors, events.problem
    answer.place(body.tape, np.array(events.ends, np.int64))
    return answer
