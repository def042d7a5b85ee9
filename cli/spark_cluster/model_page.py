"""A model's page: the document of the project's cluster/reports/model_page.py, as lines of text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

import click

from spark_cluster.printable import UNKNOWN, gigabytes, table

Entry = Mapping[str, Any]
# Label → what it says of a form, in parts that forms may have in common.
Parts = Mapping[str, Sequence[str]]

OUTSIDE = (
    "It is not in the catalog: its size, format, shapes, license, parsers, and whether it is gated "
    "or fits, are unknown. pyinfra INVENTORY deploys/check.py --data model={id} reads size, format "
    "and shapes from its files on the head, else at the hub once the image is on the head, and "
    "shows a node's memory. A file catalog/ALIAS.toml beside the inventory can state all of them."
)
# Lines that are longer read badly; a label's column.
WIDEST, LABEL = 100, 13
# Numbers of a model, and what they are called.
SHAPE = {
    "layers": "{} layers",
    "attention_layers": "{} of them keep keys and values",
    "linear_layers": "{} keep a state of fixed size",
    "windowed_layers": "{} see a window",
    "attention_heads": "attention heads: {}",
    "kv_heads": "KV heads: {}",
    "kv_latent_dim": "latent attention of {} numbers",
    "experts": "{} experts a layer",
    "experts_per_token": "{} of them for each token",
}
# A figure's values: format, and how many digits.
RATES = {
    "decode": "decode {} tok/s",
    "decode_sum": "decode {} tok/s of all streams",
    "prefill": "prefill {} tok/s",
    "output_throughput": "{} output tok/s of all streams",
    "total_per_gpu": "{} input and output tok/s a GPU",
    "ttft_ms": "TTFT {} ms",
    "tpot_ms": "TPOT {} ms",
    "itl_ms": "ITL {} ms",
}
SETTINGS = {
    "mem_fraction": "memory",
    "kv_cache_dtype": "KV cache",
    "context_length": "context",
    "reasoning_parser": "reasoning",
    "tool_call_parser": "tools",
    "trust_remote_code": "remote code",
}
HOST_WORDS = {
    "drop_page_cache": "drop the page cache before loading",
    "watch_memory": "end the server before memory runs out, which would freeze the node",
}
EARLYOOM = {
    "leave room": "leave earlyoom its room: it ends processes at about 8 GB of free memory",
    "stop while loading": "stop earlyoom while the model loads",
}


def render_page(page: Entry, columns: int) -> str:
    """The whole page. columns: the terminal's width"""
    width = max(20, min(columns, WIDEST))
    lines = [*_identity(page, width)]
    sections = {
        "Memory of each node": _memory(page, width),
        "Variants": _variants(page, width),
        "Draft models": _drafts(page["model"], width),
        "Published figures, none of them measured here": _published(page["model"], width),
        "Pitfalls": _items(page["model"]["pitfalls"], width),
        "Values with other evidence, or a note": _values(page["model"], width),
        "Not found in any source": _items([", ".join(page["model"]["unknown"])], width),
        "Sources": _items(page["model"]["sources"], width),
    }
    for title, body in sections.items():
        if content := list(body):
            lines += ["", click.style(title, bold=True), *content]
    return "\n".join(lines)


def _identity(page: Entry, width: int) -> Iterator[str]:
    model = page["model"]
    number = f"  number {model['number']}" if model["number"] else ""
    names = f"{model['alias']}  {model['id']}" if model["alias"] else model["id"]
    yield click.style(names, bold=True) + number
    yield from _wrapped(model["notes"], width, "", "")
    if not page["in_catalog"]:
        yield from _wrapped(OUTSIDE.format(id=model["id"]), width, "", "")
        return
    yield ""
    for label, text in _facts(page):
        yield from _labeled(label, text, width)


def _facts(page: Entry) -> Iterator[tuple[str, str]]:
    model = page["model"]
    yield "format", model["quantization"] or UNKNOWN
    whose = {value["of"]: f" ({value['evidence']})" for value in model["values"]}
    yield "weights", gigabytes(model["weight_bytes"]) + whose.get("weight_bytes", "")
    parameters = UNKNOWN
    if model["parameters"]:
        parameters = f"{model['parameters'] / 1e9:.1f} billion"
        if model["active_parameters"]:
            parameters += f", {model['active_parameters'] / 1e9:.1f} billion for each token"
    yield "parameters", parameters + whose.get("parameters", "")
    shape = (form.format(value) for n, form in SHAPE.items() if (value := model["shape"][n]))
    yield "shape", ", ".join(shape) or UNKNOWN
    yield "context", f"{model['max_context']:,} tokens" if model["max_context"] else UNKNOWN
    if model["same_shapes"]:
        yield "same shapes", ", ".join(model["same_shapes"])
    yield "license", model["license"] or UNKNOWN
    gated = "yes: accept its license at the hub, and have a token" if model["gated"] else "no"
    yield "gated", UNKNOWN if "gated" in model["unknown"] else gated
    yield "revision", model["revision"] or UNKNOWN
    if model["runtime"] == "process":
        yield "runs", "on this machine's CPU, in the engine that comes with the project"
        return
    how = "by arithmetic" if model["weight_bytes"] else "unchecked, as its size is unknown"
    sparks = f"{', '.join(map(str, page['sparks'])) or 'none'} ({how})"
    if model["recommended_nodes"]:
        sparks += f"; recommended {model['recommended_nodes']}"
    yield "Sparks", sparks
    parsers = {"reasoning": model["reasoning_parser"], "tool calls": model["tool_call_parser"]}
    yield "parsers", ", ".join(f"{what}: {n or 'none stated'}" for what, n in parsers.items())
    yield "thinking", _thinking(model["thinking"])
    yield "host", "; ".join(_host(model["host"])) or "nothing special"


def _thinking(thinking: Entry | None) -> str:
    if not thinking:
        return UNKNOWN if thinking is None else ""
    default = {"on": "on by default", "off": "off by default", "always": "can't be off"}
    parts = [
        f"switched by {thinking['switch']}" if thinking["switch"] else "its switch is unknown",
        default.get(thinking["default"], "its default is unknown"),
        *([f"efforts: {', '.join(thinking['efforts'])}"] if thinking["efforts"] else []),
    ]
    return "; ".join(parts) + (f". {thinking['note']}" if thinking["note"] else "")


def _host(host: Entry) -> Iterator[str]:
    if host["swap_gb"]:
        yield f"{host['swap_gb']} GB of swap space while it loads"
    if host["nvme_file"]:
        size = f", about {host['nvme_file_gb']} GB" if host["nvme_file_gb"] else ""
        yield f"a file on a local NVMe disk ({host['nvme_file']}){size}"
    if host["earlyoom"]:
        yield EARLYOOM[host["earlyoom"]]
    yield from (words for name, words in HOST_WORDS.items() if host[name])
    yield from host["notes"]


def _memory(page: Entry, width: int) -> Iterator[str]:
    """Each form on a line; then the default variant's in parts."""
    heads = ("variant", "nodes", "weights", "draft", "in all", "share", "KV a token", "KV tokens")
    rows = []
    for form in page["forms"]:
        parts = [part["bytes"] for part in form["memory"]]
        tokens, token = form["kv_tokens"], form["kv_token_bytes"]
        rows.append(
            [
                form["variant"] or "(none)",
                str(form["nodes"]),
                gigabytes(form["weight_bytes"]),
                gigabytes(form["draft_bytes"]) if form["draft"] else "none",
                gigabytes(sum(part or 0 for part in parts)) + "+" * (None in parts),
                f"{form['settings']['mem_fraction']:.2f}",
                f"{token:,} B" if token else UNKNOWN,
                UNKNOWN if tokens is None else f"{tokens:,}",
            ]
        )
    if not rows:
        return
    yield from (f"  {line}" for line in table(heads, rows, right=heads[1:]).splitlines())
    visible = gigabytes(page["forms"][0]["memory_visible"])
    reasons = dict.fromkeys(reason for form in page["forms"] for reason in form["refused"])
    for text in (
        f"in all: of the {visible} of a Spark, for one request at full context; +: and what is "
        "unknown. KV tokens: of the group, at most: what SGLang's share leaves for the cache",
        *reasons,
    ):
        yield from _wrapped(text, width, "  ", "    ")
    for form in page["forms"]:
        if form["variant"] == page["model"]["default_variant"] and page["in_catalog"]:
            yield f"  {form['variant']} on {_split(form)}, in parts"
            for part in form["memory"]:
                text = f"{gigabytes(part['bytes']):>8}  {part['how']}"
                yield from _wrapped(text, width, f"    {part['name']:18}", " " * 32)


def _variants(page: Entry, width: int) -> Iterator[str]:
    """Each variant with its forms; what all of them have is shown once, before them."""
    model, parts = page["model"], [_form_parts(form) for form in page["forms"]]
    everywhere = _common(parts) if len(parts) > 1 else {}
    if any(everywhere.values()):
        yield "  in every one"
        yield from _block(everywhere, width, 4)
    pairs = zip(page["forms"], parts, strict=True)
    for name, group in groupby(pairs, key=lambda pair: pair[0]["variant"]):
        forms = list(group)
        shared = _less(_common([own for _, own in forms]), everywhere)
        default = " (default)" if name == model["default_variant"] else ""
        evidence = {form["evidence"] for form, _ in forms}
        one = f": {min(evidence)}" if len(evidence) == 1 and None not in evidence else ""
        if len(forms) == 1:
            title = ", ".join(filter(None, [f"{name}{default}", _split(forms[0][0])]))
            yield f"  {click.style(title, bold=True)}{one}"
            yield from _block(shared, width, 4)
            continue
        if name:
            yield f"  {click.style(f'{name}{default}', bold=True)}{one}"
            yield from _block(shared, width, 4)
        for form, own in forms:
            yield f"    {_split(form)}" + ("" if one or not name else f": {form['evidence']}")
            yield from _block(_less(_less(own, everywhere), shared), width, 6)
    if others := [v["name"] for v in model["variants"] if v["name"] != model["default_variant"]]:
        yield f"  to choose: spark-cluster use {model['alias']} --variant {others[0]}"


def _split(form: Entry) -> str:
    stages = f", pp {form['pp']}" if form["pp"] > 1 else ""
    return f"{form['nodes']} Spark{'s' * (form['nodes'] > 1)} (tp {form['tp']}{stages})"


def _common(blocks: Sequence[Parts]) -> Parts:
    """The parts that all of these have."""
    return {
        label: [part for part in parts if all(part in block[label] for block in blocks)]
        for label, parts in blocks[0].items()
    }


def _less(parts: Parts, shown: Parts) -> Parts:
    """The parts that were not shown already."""
    return {
        label: [part for part in each if part not in shown.get(label, ())]
        for label, each in parts.items()
    }


def _block(parts: Parts, width: int, indent: int) -> Iterator[str]:
    for label, each in parts.items():
        joined = (", " if label == "settings" else " ").join(each)
        yield from _labeled(label, joined, width, indent)


def _form_parts(form: Entry) -> Parts:
    settings, graphs = form["settings"], "on" if form["cuda_graphs"] else "off"
    reason = f" ({form['cuda_graphs_reason']})" if form["cuda_graphs_reason"] else ""
    return {
        "note": form["notes"],
        "image": [_image(form)],
        "speculation": [_speculation(form)],
        "CUDA graphs": [f"{graphs}{reason}"],
        "settings": [
            f"{words} {_value(settings[name])}"
            for name, words in SETTINGS.items()
            if settings.get(name) not in (None, "", False)
        ],
        "flags": _options(form["arguments"]),
        "environment": [f"{name}={value}" for name, value in form["env"].items()],
        "source": [form["source"]],
    }


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:.2f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else value
    )


def _options(arguments: Sequence[str]) -> list[str]:
    """Each option with its values."""
    options: list[str] = []
    for word in arguments:
        if word.startswith("--") or not options:
            options.append(word)
        else:
            options[-1] += f" {word}"
    return options


def _image(form: Entry) -> str:
    stated = form["image_stated"]
    if not stated:
        return f"{form['image']}, the project's default: its entry names none"
    marks = [f"by {stated['publisher']}"]
    if stated["third_party"]:
        marks.append("A THIRD PARTY'S, neither SGLang's nor the vendor's")
    if stated["tag_from_prose"]:
        marks.append("its tag appears only in a description, in no command that was run")
    digest = f"{stated['digest']} (stated by {stated['digest_source']})"
    marks.append(f"digest {digest if stated['digest'] else UNKNOWN}")
    marks.append(f"SGLang {stated['sglang'] or UNKNOWN}")
    marks.append(f"NCCL {stated['nccl'] or UNKNOWN}")
    note = f". {stated['note']}" if stated["note"] else ""
    return f"{stated['reference']}, " + "; ".join(marks) + note


def _speculation(form: Entry) -> str:
    speculation = form["speculation"]
    if not speculation:
        return "none"
    draft = f"draft {form['draft']}" if form["draft"] else "by heads in the checkpoint"
    parts = [f"{speculation['algorithm']}, {draft}"]
    for name, words in {
        "num_steps": "{} steps",
        "eagle_topk": "top {}",
        "num_draft_tokens": "{} draft tokens",
        "block_size": "blocks of {}",
    }.items():
        if speculation[name]:
            parts.append(words.format(speculation[name]))
    return ", ".join(parts) + (f". {speculation['note']}" if speculation["note"] else "")


def _drafts(model: Entry, width: int) -> Iterator[str]:
    for draft in model["drafts"]:
        size = gigabytes(draft["weight_bytes"])
        if draft["weight_evidence"]:
            size += f" ({draft['weight_evidence']})"
        yield f"  {click.style(draft['id'], bold=True)}"
        gated = "; gated: accept its license at the hub" if draft["gated"] else ""
        yield from _labeled("weights", size, width, 4)
        yield from _labeled("license", (draft["license"] or UNKNOWN) + gated, width, 4)
        yield from _labeled("revision", draft["revision"] or UNKNOWN, width, 4)
        yield from _labeled("note", draft["note"], width, 4)


def _published(model: Entry, width: int) -> Iterator[str]:
    """Figures of one setting and source together, each with its load."""
    for head, group in groupby(model["published"], key=_figure_head):
        figures = list(group)
        yield from _wrapped(head, width, "  ", "    ")
        for figure in figures:
            values = [
                words.format(f"{figure[name]:,.10g}")
                for name, words in RATES.items()
                if figure[name]
            ]
            if score := figure["score"]:
                values.append(f"{score['task']} {score['percent']:,.10g} %")
            text = f"{', '.join(values) or 'no figure'}; {_load(figure)}"
            if figure["note"]:
                text += f". Note: {figure['note']}"
            yield from _wrapped(text, width, "    ", "      ")
        source = f"source: {figures[0]['source']}"
        yield from _wrapped(source, width, "    ", "      ")


def _figure_head(figure: Entry) -> str:
    words = [figure["variant"] or figure["setting"] or "no variant of ours"]
    nodes = figure["nodes"]
    words.append(f"{nodes} Spark{'s' * (nodes > 1)} ({figure['parallelism']})")
    words += [figure[name] for name in ("model", "quantization", "engine") if figure[name]]
    return f"{', '.join(words)}: {figure['evidence']}"


def _load(figure: Entry) -> str:
    """The load of a figure, exactly as far as its source states it."""
    parts = [figure["workload"]] if figure["workload"] else []
    if figure["score"]:
        parts.append(figure["score"]["protocol"])
    if figure["input_tokens"] or figure["output_tokens"]:
        lengths = (figure["input_tokens"], figure["output_tokens"])
        parts.append("{} tokens in, {} out".format(*(f"{n:,}" if n else UNKNOWN for n in lengths)))
    if figure["streams"]:
        parts.append(f"{figure['streams']} stream{'s' * (figure['streams'] > 1)}")
    if figure["prompts"]:
        parts.append(f"{figure['prompts']} prompts")
    if figure["cache"]:
        parts.append(f"cache {figure['cache']}")
    return f"load: {', '.join(parts)}" if parts else "load not stated"


def _values(model: Entry, width: int) -> Iterator[str]:
    places = [("", model), *((f" ({v['name']})", v) for v in model["variants"])]
    places += [
        (f" ({v['name']}, {f['nodes']} node{'s' * (f['nodes'] > 1)})", f)
        for v in model["variants"]
        for f in v["forms"]
    ]
    for where, layer in places:
        for value in layer["values"]:
            note = f": {value['note']}" if value["note"] else ""
            source = f" [{value['source']}]" if value["source"] else ""
            text = f"{value['of']}{where} ({value['evidence']}){note}{source}"
            yield from _wrapped(text, width, "  ", "    ")


def _items(texts: Sequence[str], width: int) -> Iterator[str]:
    for text in filter(None, texts):
        yield from _wrapped(text, width, "  ", "    ")


def _labeled(label: str, text: str, width: int, indent: int = 0) -> Iterator[str]:
    """A line with a label before it, wrapped beside the label; nothing for an empty text."""
    before = f"{' ' * indent}{label:{LABEL}}"
    if text:
        yield from _wrapped(text, width, before, " " * len(before))


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    """Words are never cut: a digest or an option can be copied."""
    return wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
