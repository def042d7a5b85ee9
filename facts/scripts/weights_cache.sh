# shellcheck shell=sh disable=SC2154,SC2034
# The cache's layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
# A file of a running download is touched all the time; one older than an hour was left behind.
rev=; { read -r rev <"$repo/refs/$name" || [ -n "$rev" ]; } 2>/dev/null
case $rev in (*[!0-9A-Za-z]*) rev=;; esac
[ -n "$rev" ] || [ ! -d "$repo/snapshots/$name" ] || rev=$name
at=$repo; [ -z "$rev" ] || at=$repo/snapshots/$rev
[ -z "$(find "$repo/blobs" -name '*.incomplete' -mmin -60 2>/dev/null)" ] || echo incomplete
[ -z "$rev" ] || printf 'revision\t%s\n' "$rev"
kib=$(du -sk "$repo/blobs" 2>/dev/null)
[ -z "$kib" ] || printf 'blobs\t%s\n' "${kib%%[!0-9]*}"
