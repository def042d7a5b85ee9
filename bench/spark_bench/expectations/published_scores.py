"""A score next to published ones: set beside them only where the whole protocol is the same."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, toml

from spark_bench.expectations.setting import model_names
from spark_bench.formats import plural
from spark_bench.results.quality_schema import QualityResult

_FILE = Path(__file__).with_name("scores.toml")
_Count = Annotated[int, Meta(ge=0)]
Stated = str | int | float | None


class PublishedTaskScore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score that somebody has published; None and "": not stated.

    models: ids of the models that it holds for
    setting: the variant of the project's catalog, or what it was instead; quantization: as served
    evidence: as in `Published`
    task: by its name here; percent: of `items`, whose answers are right
    harness, harness_version: what has the prompts and the grader
    shots: worked examples in front of each item
    temperature, max_tokens: of each request; thoughts are included in max_tokens
    protocol: all of it, in its source's words
    """

    models: tuple[str, ...]
    setting: str = ""
    quantization: str = ""
    evidence: str
    task: str
    percent: Annotated[float, Meta(ge=0, le=100)]
    items: _Count | None = None
    harness: str = ""
    harness_version: str = ""
    shots: _Count | None = None
    endpoint: Literal["chat", "completions", ""] = ""
    thinking: Literal["on", "off", ""] = ""
    temperature: float | None = None
    max_tokens: _Count | None = None
    protocol: str
    source: str

    @property
    def stated(self) -> dict[str, Stated]:
        """What must be the same for two scores to be compared. The harness with its version fixes
        the prompt and the grader, so worked examples count only where they are stated."""
        examples = {} if self.shots is None else {"shots": self.shots}
        return {
            "harness": self.harness,
            "version of the harness": self.harness_version,
            "items": self.items,
            "endpoint": self.endpoint,
            "thinking": self.thinking,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **examples,
        }


@cache
def load_scores() -> tuple[PublishedTaskScore, ...]:
    """Everything in scores.toml."""
    return toml.decode(_FILE.read_bytes(), type=dict[str, tuple[PublishedTaskScore, ...]])["scores"]


def protocol_of(result: QualityResult) -> dict[str, Stated]:
    """How a result was measured, under the keys of `PublishedTaskScore.stated`."""
    protocol, items = result.config.protocol, result.config.items
    # A task of a harness names it, its version and the data: "sgl-eval 0.1.3, test.jsonl".
    harness, _, version = items.source.partition(",")[0].rpartition(" ")
    return {
        "harness": harness or items.source,
        "version of the harness": version if harness else result.provenance.client.version,
        "items": result.score.answered,
        "endpoint": protocol.endpoint,
        "thinking": protocol.thinking,
        "temperature": protocol.temperature,
        "max_tokens": protocol.max_tokens,
        "shots": 0,
    }


def published_scores(
    result: QualityResult, among: tuple[PublishedTaskScore, ...] | None = None
) -> Iterator[str]:
    """Yield a sentence for each score that is published for a result's model and task: the figure
    where the protocol is the same, else why it is not compared.

    among: the published scores; None: the catalog's
    """
    models = set(model_names(result.provenance, result.config.model))
    own = [
        one
        for one in (load_scores() if among is None else among)
        if one.task == result.config.task and models & set(one.models)
    ]
    here, score = protocol_of(result), result.score
    refused: dict[tuple[str, str], int] = {}
    for one in own:
        if reason := why_not_compared(one.stated, here):
            refused[reason, one.source] = refused.get((reason, one.source), 0) + 1
        elif score.score is not None and score.low is not None and score.high is not None:
            within = score.low <= one.percent / 100 <= score.high
            setting = ", ".join(filter(None, (one.quantization, one.setting, one.evidence)))
            yield (
                f"{one.percent:g} % published ({setting}; {one.source}), "
                f"{'within' if within else 'outside'} the interval of "
                f"{100 * score.low:.1f} to {100 * score.high:.1f} % here"
            )
    for (reason, source), count in refused.items():
        yield f"{plural(count, 'published score')} not compared: {reason} ({source})"


def why_not_compared(stated: dict[str, Stated], here: dict[str, Stated]) -> str:
    """Why a published score is not set beside one of here; "": its protocol is the same.

    >>> why_not_compared({"items": 1319, "thinking": ""}, {"items": 9, "thinking": "off"})
    'protocol not stated (thinking); items 1319 there, 9 here'
    """
    lacking = [name for name, value in stated.items() if value in ("", None)]
    differing = [
        f"{name} {value} there, {here[name]} here"
        for name, value in stated.items()
        if name not in lacking and value != here[name]
    ]
    unstated = [f"protocol not stated ({', '.join(lacking)})"] if lacking else []
    return "; ".join(unstated + differing)
