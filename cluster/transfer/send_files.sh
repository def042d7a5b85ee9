# shellcheck shell=sh
# A forced command, so one line without single quotes and backslashes. $1: the folder, or the file,
# that may be read; $2: the image; both in base64, "-" for none. Nothing is evaluated. `send` reads
# what is wanted from stdin, one file a line: bytes that are there already / its size ("-" for
# whatever it is) / its path below the folder; it sends the rests, one after another.
set -f; no() { echo spark-serving: this key only sends files and images >&2; exit 126; };
plain() { [ "$1" != - ] || no; printf %s "$1" | base64 -d || no; };
case $SSH_ORIGINAL_COMMAND in (true) exit 0;;
("docker save "*) image=$(plain "${2:--}") || exit;
[ "$SSH_ORIGINAL_COMMAND" = "docker save $image" ] || no; exec docker save -- "$image";;
(send) ;; (*) no;; esac;
root=$(plain "${1:--}") || exit; root=$(realpath -e -- "$root") || exit;
while IFS=/ read -r have size name; do
case $have in (*[!0-9]*) no;; esac; case /$name/ in (*/../*) no;; esac;
file=$root; [ -f "$root" ] || file=$(realpath -e -- "$root/$name") || exit;
case $file in ("$root"|"$root"/*) ;; (*)
echo "spark-serving: $name is a link that leaves $root" >&2; exit 3;; esac;
[ -f "$file" ] || no; bytes=$(stat -c %s -- "$file") || exit;
[ "$size" = - ] || [ "$size" = "$bytes" ] ||
{ echo "spark-serving: $name has $bytes bytes now, not $size" >&2; exit 3; };
dd if="$file" bs=1M iflag=skip_bytes skip="${have:-0}" status=none || exit; done
