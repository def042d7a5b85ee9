"""Words that steer terminals or hide what they say: (as they come, as they may be shown)."""

from __future__ import annotations

ESC = "\x1b"
WORDS = (
    ("plain", "plain"),
    ("ü 日本 😀 é", "ü 日本 😀 é"),
    (f"{ESC}[31mred{ESC}[0m", "red"),
    (f"{ESC}[2J{ESC}[H{ESC}[?25l", ""),
    (f"{ESC}[{ESC}[0m2J", "[2J"),
    (f"{ESC}[{ESC}[{ESC}[1;31m0m2Jx", "[[0m2Jx"),
    (f"{ESC}c", "c"),
    (f"{ESC}]0;title\x07x", "x"),
    (f"{ESC}]0;without an end", "]0;without an end"),
    (f"{ESC}]8;;http://evil{ESC}\\link{ESC}]8;;{ESC}\\", "link"),
    (f"{ESC}P1$r{ESC}\\x", "x"),
    (f"{ESC}_application{ESC}\\{ESC}^private{ESC}\\{ESC}Xstring{ESC}\\x", "x"),
    ("\x9b2Jx", "x"),
    ("\x9d0;title\x9cx", "x"),
    ("\x90q\x9cx", "x"),
    ("a\x85b\x8dc", "a bc"),
    ("a\x00\x07\x08\x7fb", "ab"),
    ("one\ntwo\r\nthree\x0b\x0cfour\tfive", "one two  three  four five"),
    ("line\u2028separator\u2029paragraph", "line separator paragraph"),
    ("abc\u202egnp.exe\u202c", "abc?gnp.exe?"),
    ("\u2066x\u2069\u200e\u200f\u061c", "?x????"),
    ("zero\u200bwidth\u200d\u2060\ufeff", "zero?width???"),
    ("half\ud800", "half?"),
    ("tag\U000e0041", "tag?"),
    ("blank\u3164letter\u115f", "blankletter"),
    ("no\xa0break", "no break"),
    ("[/no][red]markup[/]", "[/no][red]markup[/]"),
)
# All of it together: what no output may let through as it stands.
HOSTILE = "".join(word for word, _ in WORDS if "\ud800" not in word)
