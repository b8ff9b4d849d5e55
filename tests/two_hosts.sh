#!/bin/sh
# Two hosts as network namespaces of this machine: a run over MPI between them, and a served rollout worker on the
# second that is killed and comes back. Needs root, iproute2, util-linux and Open MPI.
#
#   tests/two_hosts.sh [target/release/hearken]
set -eu

program=$(realpath "${1:-target/release/hearken}")
model=$(realpath crates/hearken-model/tests/fixtures/hf/llama)
work=$(mktemp -d)
worker=

cleanup() {
    [ -z "$worker" ] || kill "$worker" 2>/dev/null || true
    for host in a b; do
        ip netns pids hearken-$host 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del hearken-$host 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "$*" >&2
    exit 1
}

# Two hosts, 10.99.0.1 and 10.99.0.2, with a cable between them and no other network.
for host in a b; do
    ip netns add hearken-$host
done
ip link add hearken-va type veth peer name hearken-vb
for host in a b; do
    ip link set hearken-v$host netns hearken-$host
    ip -n hearken-$host link set hearken-v$host up
    ip -n hearken-$host link set lo up
done
ip -n hearken-a addr add 10.99.0.1/24 dev hearken-va
ip -n hearken-b addr add 10.99.0.2/24 dev hearken-vb

# What ssh is elsewhere: ON HOST COMMAND. Each has a host name of its own, by which Open MPI tells hosts apart.
cat >"$work/on" <<'ON'
#!/bin/sh
case "$1" in
10.99.0.1) host=a ;;
10.99.0.2) host=b ;;
*) echo "no host $1" >&2 && exit 1 ;;
esac
shift
exec ip netns exec hearken-$host unshare --uts sh -c "hostname hearken-$host; $*"
ON
chmod +x "$work/on"

for at in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"Question $at:\", \"completion\": \" the answer is $at.\"}"
done >"$work/demonstrations.jsonl"
cat >"$work/sft.toml" <<CONFIG
model.path = "$model"
data.train = "$work/demonstrations.jsonl"
data.shuffle = true
train.steps = 8
train.batch_size = 4
CONFIG
cat >"$work/grpo.toml" <<CONFIG
model.path = "$model"
data.train = "$work/demonstrations.jsonl"
train.steps = 60
train.save_every = 5
grpo.prompts = 4
rollout.completions = 4
rollout.max_new_tokens = 8
rollout.ahead = 1
rollout.servers = ["http://10.99.0.1:8000", "http://10.99.0.2:8000"]
rollout.server_key_env = "HEARKEN_ADMIN_KEY"
rollout.server_timeout_s = 10
[[score]]
kind = "heuristic"
name = "length_diversity"
CONFIG

export HEARKEN_ADMIN_KEY=secret HEARKEN_API_KEY=secret OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 RAYON_NUM_THREADS=1
mpi="mpirun --mca plm_rsh_agent $work/on --mca btl tcp,self --mca btl_tcp_if_include 10.99.0.0/24 \
--mca oob_tcp_if_include 10.99.0.0/24 --host 10.99.0.1:1,10.99.0.2:1 --bind-to none -n 2"

losses() {
    grep -o '"loss":[^,]*' "$1/metrics.jsonl" | cut -d: -f2
}

echo "== the same run by one process and by two hosts"
"$program" sft "$work/sft.toml" --set run.dir="$work/one" 2>"$work/one.log" || fail "$(cat "$work/one.log")"
"$work/on" 10.99.0.1 "$mpi $program sft $work/sft.toml --set run.dir=$work/two" >"$work/two.log" 2>&1 || fail "$(cat "$work/two.log")"
losses "$work/one" >"$work/one.losses"
losses "$work/two" >"$work/two.losses"
paste "$work/one.losses" "$work/two.losses" | awk '
    { d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) { print "step " NR ": " $1 " and " $2; bad = 1 } }
    END { if (NR != 8) { print NR " steps, expected 8"; bad = 1 } exit bad }' || fail "the losses differ"
paste "$work/one.losses" "$work/two.losses"

serve() {
    "$work/on" "$1" "exec $program serve --model $model --bind $1:8000 " >>"$work/serve-$1.log" 2>&1 &
}

wait_for() {
    for _ in $(seq 100); do
        "$work/on" 10.99.0.1 "curl --silent --fail http://$1:8000/health" >/dev/null 2>&1 && return
        sleep 0.2
    done
    fail "nothing serves on $1: $(cat "$work/serve-$1.log")"
}

records() {
    [ -f "$work/sampled/metrics.jsonl" ] && wc -l <"$work/sampled/metrics.jsonl" || echo 0
}

reach() {
    while [ "$(records)" -lt "$1" ]; do
        kill -0 "$run" 2>/dev/null || fail "the run ended early: $(cat "$work/grpo.log")"
        sleep 0.05
    done
}

echo "== two ranks on two hosts whose completions are sampled by two servers, one of which is killed and comes back"
serve 10.99.0.1
serve 10.99.0.2
worker=$!
wait_for 10.99.0.1
wait_for 10.99.0.2
"$work/on" 10.99.0.1 "$mpi $program grpo $work/grpo.toml --set run.dir=$work/sampled" >"$work/grpo.log" 2>&1 &
run=$!
reach 10
kill -9 "$worker"
echo "killed the server on 10.99.0.2 after step $(records)"
reach 25
serve 10.99.0.2
worker=$!
wait_for 10.99.0.2
echo "it is back at step $(records)"
wait "$run" || fail "the run failed: $(cat "$work/grpo.log")"
for news in 'left out until it answers: http://10.99.0.2' 'http://10.99.0.2:8000: samples again'; do
    grep "$news" "$work/grpo.log" || fail "expected \"$news\" in $(cat "$work/grpo.log")"
done
[ "$(grep -c '"loss"' "$work/sampled/metrics.jsonl")" = 60 ] || fail "found $(records) records, expected 60 steps"
echo "all 60 steps were made"
