"""Which vocabularies gpt-oss reads, and how one is put on a node."""

from __future__ import annotations

from cluster.words import Words

# openai_harmony reads these from TIKTOKEN_ENCODINGS_BASE; the digests stand in tiktoken's own
# tiktoken_ext/openai_public.py.
TIKTOKEN = {
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}

# $1 folder, $2 file name, $3 its SHA-256; stdin brings the content, or $4: a URL, or the rest: ssh
# to a node that sends it (carry.DISPATCHER). Moved into place only when whole: a half file would
# stay for ever.
_PLACE = """
mkdir -p "$1" && part="$1/.$2.part" && trap 'rm -f "$part"' EXIT || exit
if [ $# -gt 4 ]; then (name=$2; shift 4; printf '0/-/%s\\n' "$name" | "$@" send) >"$part"
elif [ -n "$4" ]; then curl -fsSL --max-time 600 -o "$part" "$4"
else base64 -d >"$part"
fi || exit
got=$(sha256sum "$part") && got=${got%% *}
[ "$got" = "$3" ] || { echo "SHA-256 is $got, wanted is $3" >&2; exit 1; }
chmod 644 "$part" && mv "$part" "$1/$2"
"""


def place(folder: str, name: str, sha256: str, url: str = "") -> Words:
    """Put a file (base64 on stdin, or from `url`) into a folder: checked, then moved."""
    return ("timeout", "660", "sh", "-c", _PLACE.strip(), "sh", folder, name, sha256, url)


def copied(folder: str, name: str, sha256: str, ssh: Words) -> Words:
    """The same from another node: `ssh` reaches its folder of them."""
    words = ("timeout", "660", "sh", "-c", _PLACE.strip(), "sh")
    return (*words, folder, name, sha256, "", *ssh)
