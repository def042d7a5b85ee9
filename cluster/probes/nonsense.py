"""What no answer may look like, whatever the question: exact rules on its text."""

import re
import unicodedata

from cluster.probes.thresholds import ProbeLimits

# Words, and each other sign, and each character of a script without spaces, for itself.
UNIT = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)
# Ends of a turn, which no chat template leaves in an answer: SGLang's conversation.py and the
# tokenizers of the catalog's models.
TURN_TAGS = re.compile(
    r"<[|\uff5c](?:im_start|im_end|endoftext|eot_id|eom_id|start_header_id|end_header_id|end_of_text"
    r"|begin_of_text|end▁of▁sentence|begin▁of▁sentence|User|Assistant|user|assistant|system|eom|eot"
    r"|end_of_msg|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN)[|\uff5c]>"
    r"|</s>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|<eos>|<pad>|\[/?INST\]"
)
# The tags of the parsers of SGLang 0.5.23: parser/reasoning_parser.py, function_call/*_detector.py.
THOUGHT_TAGS = re.compile(
    r"</?(?:ifm\||mm:|seed:)?think(?:ing|_fast|er|_faster)?>|\[/?THINK\]"
    r"|<\|channel\|?>|<channel\|>|<\|message\|>|<\|start\|>assistant|<\|open\|>think"
    r"|<\|inner_(?:prefix|suffix)\|>|<\|(?:START|END)_THINKING\|>|◁/?think▷"
    r"| to=self<\|message\|>|</?reasoning>|<\|content_thinking\|>"
)
TOOL_TAGS = re.compile(
    r"</?(?:minimax:|seed:|iquest_|mm:)?tool_calls?>|\[TOOL_CALLS\]|\[ARGS\]|</?dots_function_call>"
    r"|<\|tool_calls?(?:_section)?_(?:begin|start|end)\|>|<\|tool_call_argument_begin\|>"
    r"|<\|?tool_call\|?>|<tool_call\|>|<ifm\|tool_call"
    r"|<\uff5ctool▁?_?calls?▁?_?(?:begin|end)\uff5c>|<\uff5ctool▁(?:sep|outputs▁begin)\uff5c>|</?\uff5cDSML\uff5c"
    r"|<function(?:=| name=)|</function>|<parameter=|</parameter>|<invoke\b|</invoke>"
    r"|</?arg_(?:key|value)>|<\|python_tag\|>|<\|action_(?:start|end)\|>|<\|(?:START|END)_ACTION\|>"
    r"|<\|tools_(?:prefix|suffix)\|>|<\|call\|>|<\|recipient\|>|to=functions\.|functioncall<\|"
)
# What text may hold of the control characters.
ALLOWED = "\n\r\t"


def nonsense(text: str, limits: ProbeLimits, *, cut: bool = False) -> str:
    """Why a text is no answer of a model that works; "" if nothing is wrong with it.

    + cut: the limit of tokens ended it, perhaps within a character: a last U+FFFD is then no fault
    """
    for character in text[: -1 if cut and text.endswith("\ufffd") else None]:
        category = unicodedata.category(character)
        if character == "\ufffd":
            return "it holds U+FFFD, what is left of a broken character"
        if category == "Cs" or (category == "Cc" and character not in ALLOWED):
            return f"it holds the control character or half character U+{ord(character):04X}"
    marks = max((len(run) for run in re.findall("!+", text)), default=0)
    if marks >= limits.exclamation_marks:
        return f"it holds {marks} exclamation marks in one run"
    if tag := TURN_TAGS.search(text):
        return f"it holds the chat template's {tag[0]}"
    phrase, times = repetition(text, limits)
    return f"it says {phrase!r} {times} times in a row" if phrase else ""


def repetition(text: str, limits: ProbeLimits) -> tuple[str, int]:
    """The shortest phrase that follows itself too often, and how often; ("", 0) if none does."""
    units = UNIT.findall(text)
    for size in range(1, limits.phrase_units + 1):
        run = 0
        for place in range(size, len(units) + 1):
            if place < len(units) and units[place] == units[place - size]:
                run += 1
                continue
            times = run // size + 1
            if times >= limits.phrase_times and run + size >= limits.repeated_units:
                return " ".join(units[place - size : place]), times
            run = 0
    return "", 0
