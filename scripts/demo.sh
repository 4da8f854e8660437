#!/usr/bin/env bash
# Makes a project over a sample lake in .demo and runs it until Ctrl-C: demo.sh PATH-OF-LAKEGATE
set -euo pipefail

lakegate=${1:?path of the lakegate binary}
cd "$(dirname "$0")/.."
project=.demo
listen=${LAKEGATE_API_LISTEN:-127.0.0.1:8080}
api=http://$listen/v1

# A second demo goes on with the project of the first.
[ -d "$project/pipelines" ] || "$lakegate" init "$project"
[ -d "$project/sample/orders" ] || "$lakegate" sample "$project/sample"
cp pipelines/*.yaml "$project/pipelines/"

# Says what to try once every example below is answered.
announce() {
    local request
    local requests=(customers/1 'orders/7?columns=status,total,note' order_lines/7 order_lines/7/1 events/ev-00000001)
    for request in "${requests[@]}"; do
        until curl -fsS -o /dev/null "$api/$request" 2>/dev/null; do
            kill -0 "$1" 2>/dev/null || return 0
            sleep 0.2
        done
    done
    printf '\nTry, in another terminal:\n\n'
    printf "  curl '$api/%s'\n" "${requests[@]}"
    printf '  %q --project %q status\n\nCtrl-C ends the demo.\n' "$lakegate" "$PWD/$project"
}

announce $$ &
exec "$lakegate" --project "$project" up
