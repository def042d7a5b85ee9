# shellcheck shell=sh
# Of a local folder also what else lies there, to say why it can't be served; a Git LFS pointer is
# some 130 bytes: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
for f in * */*; do [ ! -f "$f" ] || printf 'file\t%s\n' "$f"; done
find -L . -type f -size -2 ! -path './.*' -exec \
  grep -l '^version https://git-lfs.github.com/spec/' {} + 2>/dev/null |
  while read -r f; do printf 'pointer\t%s\n' "${f#./}"; done
