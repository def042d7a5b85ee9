"""The loads of published figures: which fit what the server runs, as a plan, and as options."""

from collections.abc import Iterator

from msgspec.structs import replace

from spark_bench.errors import BadInput
from spark_bench.expectations.as_published import Chosen, choose_figures, deployed, figures_text
from spark_bench.expectations.published import setting_words
from spark_bench.expectations.setting import hub_id
from spark_bench.load.profile import Profile
from spark_bench.options import PublishedOptions, RunOptions
from spark_bench.results.config_schema import Published
from spark_bench.results.provenance import gather_provenance
from spark_bench.run.reach import ReachedServer


def choose_published(options: PublishedOptions, server: ReachedServer) -> Chosen:
    """The published figures of what serves.

    Raises BadInput if there are none that can be compared, and if the project deployed something
    else than the options say.
    """
    listing = server.listing
    head = listing.head if listing else None
    if listing and head:
        for flag, typed, listed in (
            ("weights", options.weights, hub_id(head.model)),
            ("variant", options.variant, listing.served_variant),
            ("nodes", options.nodes, len(listing.ranks)),
        ):
            if typed and listed and typed != listed:
                raise BadInput(
                    f"--{flag} {typed}: the project has deployed {listed}: leave the option out"
                )
    provenance = gather_provenance(server.http, server.url, model=server.model, listing=listing)
    variant = options.variant or (listing.served_variant if listing else "")
    return choose_figures(
        deployed(provenance, server.model, options.weights, variant, options.nodes),
        options.streams,
    )


def plan_lines(published: Chosen) -> Iterator[str]:
    """What will be sent, beside which figures, and which figures are not compared."""
    for one in published.figures:
        yield (
            f"as published: {one.prompts} prompts, {one.load}, cache flushed before them: "
            f"{figures_text(one)}: {setting_words(one)} ({one.evidence}; {one.source})"
        )
    yield from published.notes


def at_load(options: RunOptions, one: Published) -> RunOptions:
    """These options with the load of published figures, which state all of it."""
    assert one.prompts and one.input_len and one.output_len
    profile = Profile(
        "as-published", one.prompts, one.input_len, one.output_len, concurrency=one.streams
    )
    return replace(options, load=replace(options.load, profile=profile, published=one))
