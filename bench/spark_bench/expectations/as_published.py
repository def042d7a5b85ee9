"""Loads as they were published: which figures were measured for what serves here, which of them
state the whole of their load, and a result beside the figures whose load it sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from spark_bench.errors import BadInput
from spark_bench.expectations.published import FIGURES, beside_text, figures_beside, load_published
from spark_bench.expectations.setting import EngineSettings, Expectation, ServedSetting, model_names
from spark_bench.formats import plural
from spark_bench.results.config_schema import Published
from spark_bench.results.provenance_schema import Provenance
from spark_bench.results.schema import Result

# The texts of sglang.bench_serving, as a figure that was taken with it names them.
RANDOM = "random, exact lengths, ignore_eos"
# How far the tokens that were sent and generated may be from the published load's.
_CLOSE = 0.01
# The summary's key whose interval belongs to a figure.
_KEYS = {
    "tpot_ms": "mean_tpot_ms",
    "itl_ms": "mean_itl_ms",
    "ttft_ms": "mean_ttft_ms",
    "output_throughput": "output_throughput",
    "total_per_gpu": "total_throughput",
}


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What serves, as far as published figures are chosen by it. "" and None: not known.

    models: what the model is called
    quantization: the engine's word; "": as the checkpoint stores it
    """

    models: tuple[str, ...]
    variant: str
    nodes: int | None
    parallelism: str
    quantization: str


def deployed(
    provenance: Provenance, requested: str, weights: str, variant: str, nodes: int | None
) -> Deployed:
    """What serves, by what was read of it.

    requested: the model's name in requests
    weights: the model's id, as the user says; "": it is known by its other names
    variant, nodes: as the user or the project says; "" and None: neither does
    """
    engine = EngineSettings(provenance)
    tp, pp = engine.number("tp_size", "tp"), engine.number("pp_size", "pp") or 1
    parts = [f"{name}{n}" for name, n in (("TP", tp), ("PP", pp)) if n and n > 1]
    return Deployed(
        models=(weights,) if weights else model_names(provenance, requested),
        variant=variant,
        nodes=nodes or engine.nodes(),
        parallelism="" if tp is None else " ".join(parts) or "TP1",
        quantization=engine.text("quantization"),
    )


@dataclass(frozen=True)
class Chosen:
    """Figures to send the loads of, fewest streams first. others: those that are not compared, and
    why; empty if certain streams were asked for."""

    figures: tuple[Published, ...]
    others: tuple[tuple[Published, str], ...]

    @property
    def notes(self) -> list[str]:
        """A sentence on each figure that is not compared."""
        return [
            f"not compared: {one.load} ({figures_text(one)}; {one.evidence}, {one.source}): {why}"
            for one, why in self.others
        ]


def figures_text(one: Published) -> str:
    """Its figures in words, TPOT first."""
    named = ((words, unit, getattr(one, name)) for name, (words, unit) in FIGURES.items())
    texts = [f"{words} {value:,.6g} {unit}" for words, unit, value in named if value]
    if one.decode_sum:
        texts.append(f"decode of all streams {one.decode_sum:,.6g} tok/s")
    return ", ".join(texts)


def unstated(one: Published) -> str:
    """Why its load can't be sent as it was; "" if it can."""
    if one.workload and one.workload != RANDOM:
        return f"its texts are not random ones: {one.workload!r}"
    pieces = {
        "texts": one.workload,
        "way of sending": one.protocol,
        "input and output lengths": one.input_len and one.output_len,
        "requests in flight": one.streams,
        "number of prompts": one.prompts,
        "cache state": one.cache,
    }
    missing = [name for name, value in pieces.items() if not value]
    if missing:
        return f"not stated: {', '.join(missing)}"
    return "" if one.cache == "flushed" else f"its cache was not empty: {one.cache!r}"


def choose_figures(here: Deployed, streams: Sequence[int] = ()) -> Chosen:
    """Choose the figures published for what serves.

    streams: those at these numbers of requests in flight; empty: all whose load is stated

    Raises BadInput if there is none, if it isn't known what serves, and for streams without one.
    """
    names = {name.lower() for name in here.models}
    own = [one for one in load_published() if names & {name.lower() for name in one.models}]
    called = here.models[0] if here.models else "the model"
    if not own:
        raise BadInput(
            f"--as-published: no figures are published for {called}; with their whole load, there "
            f"are some for {'; '.join(_settings(load_published()))}"
        )
    alike = _of_setting(own, here, called)
    reasons = [(one, unstated(one)) for one in alike]
    stated = sorted(
        (one for one, why in reasons if not why),
        key=lambda one: (one.streams or 0, one.input_len or 0, one.output_len or 0),
    )
    others = tuple((one, why) for one, why in reasons if why)
    if not stated:
        loads: dict[str, list[str]] = {}
        for one, why in others:
            loads.setdefault(why, []).append(f"{figures_text(one)} at {one.load}")
        raise BadInput(
            f"--as-published: nothing can be compared for {_called(called, here)}, since no "
            "published figure states the whole of its load: "
            + "; ".join(f"{why} ({', '.join(figures)})" for why, figures in loads.items())
        )
    for wanted in streams:
        if all(one.streams != wanted for one in stated):
            why = next((f": {why}" for one, why in others if one.streams == wanted), "")
            numbers = ", ".join(dict.fromkeys(str(one.streams) for one in stated))
            raise BadInput(
                f"--as-published {wanted}: {_called(called, here)} has no published figure with "
                f"its whole load at {wanted} in flight{why}; it has some at {numbers}"
            )
    if streams:
        return Chosen(tuple(one for one in stated if one.streams in streams), ())
    return Chosen(tuple(stated), others)


def _of_setting(own: Sequence[Published], here: Deployed, called: str) -> list[Published]:
    """Those of the variant, nodes, split and format that serve; a figure without a variant or
    another setting is of all variants."""
    there = f"with their whole load, there are figures for {'; '.join(_settings(own)) or 'none'}"
    variants = dict.fromkeys(one.variant for one in own if one.variant)
    if variants and not here.variant:
        raise BadInput(
            f"--as-published: it is not known which variant of {called} serves: give --variant, "
            f"one of {', '.join(map(repr, variants))}"
        )
    if here.nodes is None:
        counts = ", ".join(str(count) for count in sorted({one.nodes for one in own}))
        raise BadInput(
            f"--as-published: it is not known how many nodes serve {called}: give --nodes, one of "
            f"{counts}"
        )
    alike = [
        one
        for one in own
        if (one.variant == here.variant or not (one.variant or one.setting))
        and one.nodes == here.nodes
        and here.parallelism in ("", one.parallelism)
    ]
    if not alike:
        raise BadInput(
            f"--as-published: no figures are published for {_called(called, here)}; {there}"
        )
    # SGLang quantizes what is stored in BF16, and refuses to serve a checkpoint of another format
    # in any but its own.
    any_format = here.quantization.lower() in ("", "none", "auto")
    stored = [one for one in alike if any_format or one.quantization != "BF16"]
    if not stored:
        raise BadInput(
            f"--as-published: {_called(called, here)} serves in {here.quantization}, and its "
            f"published figures are for {alike[0].quantization}: deploy it without quantization"
        )
    return stored


def _called(name: str, here: Deployed) -> str:
    variant = f", variant {here.variant}" if here.variant else ""
    split = f" {here.parallelism}" if here.parallelism else ""
    return f"{name}{variant}, {plural(here.nodes or 1, 'node')}{split}"


def _settings(figures: Sequence[Published]) -> Iterator[str]:
    """The models, variants and numbers of nodes with figures that state their whole load."""
    of_model: dict[str, list[str]] = {}
    for one in figures:
        if not unstated(one):
            words = f"{one.variant} on {plural(one.nodes, 'node')}"
            of_model.setdefault(one.models[0], []).append(words)
    for model, settings in of_model.items():
        yield f"{model} ({', '.join(dict.fromkeys(settings))})"


# ---- a result beside the figures whose load it sent


def compare_load(result: Result, one: Published, setting: ServedSetting) -> Iterator[Expectation]:
    """Yield an expectation per published figure, TPOT first, or one that says why there is none.

    one: the figures whose load the result sent
    """
    if why := _deviation(result, one):
        text = f"not compared with {figures_text(one)} ({one.source}): {why}"
        yield Expectation(about="published", verdict="unknown", text=text, source=one.source)
        return
    for figure in figures_beside(one, result.summary):
        within = result.intervals.get(_KEYS.get(figure.metric, ""))
        scale = one.gpus if figure.metric == "total_per_gpu" else 1
        if within and within.method == "student-t":
            figure = replace(figure, low=within.low / scale, high=within.high / scale)
        yield replace(figure, text=f"{beside_text(figure)}: {figure.setting} ({one.source})")
    for remark in _remarks(setting):
        yield Expectation(about="published", verdict="unknown", text=remark)


def _deviation(result: Result, one: Published) -> str:
    """In what the load was not the published one; "" if it was."""
    summary, config = result.summary, result.config
    if result.status == "partial":
        return "the run ended before its last request"
    if summary.failed:
        return f"{summary.failed} of {summary.failed + summary.completed} requests failed"
    asked_in = summary.completed * (one.input_len or 0)
    asked_out = summary.completed * (one.output_len or 0)
    for what, tokens, wanted in (
        ("prompts", summary.total_input_tokens, asked_in),
        ("answers", summary.total_output_tokens, asked_out),
    ):
        if abs(tokens - wanted) > _CLOSE * wanted:
            return f"the {what} had {tokens:,} tokens, not {wanted:,}"
    sent = (config.num_prompts, config.input_len, config.output_len, config.concurrency)
    if sent != (one.prompts, one.input_len, one.output_len, one.streams):
        return "the load is not the published one"
    return ""


def _remarks(setting: ServedSetting) -> Iterator[str]:
    if setting.elsewhere:
        yield f"the published figures are for Sparks: {setting.elsewhere}"
    if setting.speculative:
        yield (
            f"decoding is speculative ({setting.speculative}), so speed depends on the texts: "
            "random ones there and here, but not the same"
        )
