# shellcheck shell=sh
# As place_api_key.sh; prints how the key on stdin compares with the file: same, different or missing.
IFS= read -r new || exit; [ -s "/at/$1" ] || { echo missing; exit; }
IFS= read -r old <"/at/$1"; [ "$new" = "$old" ] && echo same || echo different
