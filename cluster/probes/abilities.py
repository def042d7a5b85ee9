"""What the model that serves can answer: made from how it was started and its entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.catalog.entry import Thinking
from cluster.engine.argv import Launch, split_options

# The efforts that templates know, the lowest first.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# This parser leaves the thoughts, with their tags, in the content: that is what it is for.
APPENDING_PARSERS = frozenset({"minimax-append-think"})
ALGORITHM = "--speculative-algorithm"
# Draft tokens and the one that the model adds itself.
CEILING = "--speculative-num-draft-tokens"


@dataclass(frozen=True)
class Abilities:
    """What the model that serves can answer.

    + basic: it is small, or has no chat: it continues plain texts, and nothing more
    + tool_parser, reasoning_parser: whether the engine has one whose tags may not be seen
    + quiet, thinking: what a chat request says so that the model thinks as little as it can, and
      so that it thinks; None: the entry does not know the switch
    + silenced: `quiet` switches thoughts off, not only to their lowest effort
    + speculative: draft tokens are proposed
    + ceiling: tokens that one step of speculative decoding yields at most; None: not stated
    """

    basic: bool = False
    tool_parser: bool = False
    reasoning_parser: bool = False
    quiet: Mapping[str, Any] | None = field(default=None, hash=False)
    thinking: Mapping[str, Any] | None = field(default=None, hash=False)
    silenced: bool = False
    speculative: bool = False
    ceiling: int | None = None


def abilities(launch: Launch, thinking: Thinking | None, *, basic: bool) -> Abilities:
    """What the model that a rank 0 serves can answer.

    + launch: how it was started: what its label says
    + thinking: how its entry says that thinking is switched; None: unknown
    + basic: as the setting `probes` says, or for `auto` the entry
    """
    # The user's arguments win over the model's, and both over the settings.
    stated = {
        "--reasoning-parser": launch.reasoning_parser,
        "--tool-call-parser": launch.tool_call_parser,
    }
    for word, *values in split_options((*launch.model_args, *launch.extra_args)):
        name, _, value = word.partition("=")
        stated[name] = value or " ".join(values)
    parser = stated["--reasoning-parser"]
    quiet, talkative, silenced = _switches(thinking) if thinking else (None, None, False)
    ceiling = stated.get(CEILING, "")
    return Abilities(
        basic=basic,
        tool_parser=stated["--tool-call-parser"] not in ("", "none", "auto"),
        reasoning_parser=parser not in ("", "none", "auto", *APPENDING_PARSERS),
        quiet=quiet,
        thinking=talkative,
        silenced=silenced,
        speculative=bool(stated.get(ALGORITHM)),
        ceiling=int(ceiling) if ceiling.isdecimal() else None,
    )


def _switches(
    thinking: Thinking,
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, bool]:
    """The fields of a chat request that keep thinking lowest, that switch it on, and whether the
    first switch it off; None where the entry does not know them."""
    if thinking.switch == "reasoning_effort":
        efforts = sorted(set(thinking.efforts) & set(EFFORTS), key=EFFORTS.index)
        if not efforts:
            return None, None, False
        on = next((effort for effort in efforts if effort != "none"), None)
        return (
            {"reasoning_effort": efforts[0]},
            {"reasoning_effort": on} if on else None,
            efforts[0] == "none",
        )
    if not thinking.switch:
        return None, None, False
    quiet = {"chat_template_kwargs": {thinking.switch: False}}
    return quiet, {"chat_template_kwargs": {thinking.switch: True}}, thinking.default != "always"
