#!/bin/bash
# Two homes behind NATs or firewalls of any kind, joined by a public network, all in network namespaces of its own: packets
# take the real path through the kernel, and nothing leaves the machine. Needs root, iproute2 and nftables.
#
#   natlab.sh up [A-KIND] [B-KIND]     natlab.sh down     natlab.sh exec NODE COMMAND...
#
#   a 10.1.0.2 -- 10.1.0.1 natA 198.51.100.11 --.
#                                               br0 in "pub": 198.51.100.1 and 198.51.100.2, where servers run
#   b 10.2.0.2 -- 10.2.0.1 natB 198.51.100.12 --'
#
# NODE is a, b, natA, natB or pub.
#
# KIND        mapping and filtering (RFC 4787), and how
#   open        no NAT, no filter: routed
#   firewall    no NAT; only answers come in
#   fullcone    endpoint-independent, endpoint-independent: ports are kept; in comes what goes to a port the home has used
#   restricted  endpoint-independent, address-dependent: the same, from addresses that port has sent to
#   port        endpoint-independent, address- and port-dependent: plain masquerade, the usual Linux router
#   symmetric   address- and port-dependent twice: masquerade with a random port for each destination
#   blocked     as port, but no UDP gets out
#   tlsonly     as port, but only TCP to port 443 gets out
#
# LAB=name        for several labs beside each other (default: natlab)
# HAIRPIN=1       fullcone and restricted turn back what goes to their own address
# UDP_TIMEOUT=n   how many seconds the kernel remembers a flow of UDP
# LOSS_A, LOSS_B  percent of forwarded packets to drop, each way
# MTU=n           of all links
set -euo pipefail
LAB=${LAB:-natlab}
NODES=(a b natA natB pub)

inside() { ip netns exec "$LAB-$1" "${@:2}"; }

down() {
  local node
  for node in "${NODES[@]}"; do
    if ip netns list | grep -qw "$LAB-$node"; then ip netns del "$LAB-$node"; fi
  done
}

# link NODE INTERFACE NODE INTERFACE
link() {
  ip link add "$2" netns "$LAB-$1" type veth peer name "$4" netns "$LAB-$3"
  ip -n "$LAB-$1" link set "$2" up ${MTU:+mtu "$MTU"}
  ip -n "$LAB-$3" link set "$4" up ${MTU:+mtu "$MTU"}
}

# Unknown addresses are routed to a router that is not there, as on the Internet. Without a route sendto() would fail at
# once, which no program with a default route ever sees.
default_route() {
  ip -n "$LAB-$1" neigh add 198.51.100.254 lladdr 02:00:00:00:00:fe dev "$2" nud permanent
  ip -n "$LAB-$1" route add default via 198.51.100.254 dev "$2"
}

# rules NODE KIND HOST EXTERNAL LOSS
rules() {
  local node=$1 kind=$2 host=$3 external=$4 loss=$5
  local ports='meta l4proto { tcp, udp }' pre='' post='' forward='' inbound=''
  local answers='iifname "wan" ct state established,related accept; iifname "wan" drop'
  [ "$loss" = 0 ] || forward="numgen random mod 100 < $loss drop;"
  case $kind in
    open) ;;
    firewall) inbound=$answers ;;
    fullcone | restricted)
      post="oifname \"wan\" $ports snat to $external; oifname \"wan\" masquerade;"
      pre="iifname \"wan\" $ports dnat to $host;"
      if [ "$kind" = fullcone ]; then
        inbound="iifname \"lan\" $ports update @used { th sport }; iifname \"wan\" th dport @used accept; $answers"
      else
        inbound="iifname \"lan\" $ports update @sent { th sport . ip daddr };
          iifname \"wan\" th dport . ip saddr @sent accept; $answers"
      fi
      if [ "${HAIRPIN:-0}" = 1 ]; then
        pre="$pre iifname \"lan\" ip daddr $external $ports dnat to $host;"
        post="$post iifname \"lan\" oifname \"lan\" snat to $external;"
      fi ;;
    port) post='oifname "wan" masquerade' inbound=$answers ;;
    symmetric) post='oifname "wan" masquerade random,fully-random' inbound=$answers ;;
    blocked) post='oifname "wan" masquerade' inbound=$answers
      forward="$forward iifname \"lan\" meta l4proto udp drop;" ;;
    tlsonly) post='oifname "wan" masquerade' inbound=$answers
      forward="$forward iifname \"lan\" tcp dport != 443 drop; iifname \"lan\" meta l4proto udp drop;" ;;
    *) echo "natlab.sh: unknown kind \"$kind\", see the top of this file" >&2; exit 2 ;;
  esac
  # The input chain: what comes to a port of the NAT before the home has used it must leave no trace, or masquerade takes
  # the port for taken and picks another.
  inside "$node" nft -f - <<RULES
table ip natlab {
  set used { type inet_service; flags dynamic,timeout; timeout ${UDP_TIMEOUT:-120}s; }
  set sent { type inet_service . ipv4_addr; flags dynamic,timeout; timeout ${UDP_TIMEOUT:-120}s; }
  chain before { type nat hook prerouting priority dstnat; $pre
  }
  chain after { type nat hook postrouting priority srcnat; $post
  }
  chain toself { type filter hook input priority 0; iifname "wan" $ports ct state new drop
  }
  chain through { type filter hook forward priority 0; $forward $inbound
  }
}
RULES
}

# home NUMBER LETTER KIND LOSS
home() {
  local number=$1 nat="nat$2" host=${2,} kind=$3 external="198.51.100.1$1"
  link "$nat" wan pub "port$number"
  ip -n "$LAB-pub" link set "port$number" master br0
  ip -n "$LAB-$nat" addr add "$external/24" dev wan
  link "$host" eth "$nat" lan
  ip -n "$LAB-$host" addr add "10.$number.0.2/24" dev eth
  ip -n "$LAB-$nat" addr add "10.$number.0.1/24" dev lan
  ip -n "$LAB-$host" route add default via "10.$number.0.1"
  default_route "$nat" wan
  inside "$nat" sysctl -qw net.ipv4.ip_forward=1
  if [ -n "${UDP_TIMEOUT:-}" ]; then
    inside "$nat" sysctl -qw net.netfilter.nf_conntrack_udp_timeout="$UDP_TIMEOUT" \
      net.netfilter.nf_conntrack_udp_timeout_stream="$UDP_TIMEOUT"
  fi
  rules "$nat" "$kind" "10.$number.0.2" "$external" "$4"
}

# Without NAT the others must know the way to the home.
routes() {
  case $2 in
    open | firewall) ;;
    *) return 0 ;;
  esac
  local node
  for node in pub "$3"; do ip -n "$LAB-$node" route add "10.$1.0.0/24" via "198.51.100.1$1"; done
}

up() {
  local a=${1:-port} b=${2:-port} node
  down
  for node in "${NODES[@]}"; do
    ip netns add "$LAB-$node"
    ip -n "$LAB-$node" link set lo up
  done
  ip -n "$LAB-pub" link add br0 type bridge
  ip -n "$LAB-pub" link set br0 up
  ip -n "$LAB-pub" addr add 198.51.100.1/24 dev br0
  ip -n "$LAB-pub" addr add 198.51.100.2/24 dev br0
  default_route pub br0
  home 1 A "$a" "${LOSS_A:-0}"
  home 2 B "$b" "${LOSS_B:-0}"
  routes 1 "$a" natB
  routes 2 "$b" natA
}

case ${1:-} in
  up) up "${@:2}" ;;
  down) down ;;
  exec) exec ip netns exec "$LAB-$2" "${@:3}" ;;
  *) sed -n '2,30s/^# \{0,1\}//p' "$0" ;;
esac
