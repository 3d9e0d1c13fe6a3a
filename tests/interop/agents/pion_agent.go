// An ICE agent on pion/ice v2 (Debian: golang-github-pion-ice.v2-dev) that speaks JSON lines; see README.md.
// Build: GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS= go build -o pion_agent pion_agent.go
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v2"
)

type message struct {
	T      string  `json:"t"`
	Ufrag  string  `json:"ufrag,omitempty"`
	Pwd    string  `json:"pwd,omitempty"`
	C      string  `json:"c,omitempty"`
	D      string  `json:"d,omitempty"`
	S      string  `json:"s,omitempty"`
	E      string  `json:"e,omitempty"`
	Local  string  `json:"local,omitempty"`
	Remote string  `json:"remote,omitempty"`
	Ms     float64 `json:"ms,omitempty"`
}

var (
	role      = flag.String("role", "controlling", "controlling|controlled")
	bind      = flag.String("bind", "", "IP[,IP]")
	stun      = flag.String("stun", "", "HOST:PORT")
	turn      = flag.String("turn", "", "HOST:PORT")
	transport = flag.String("turn-transport", "udp", "udp|tcp|tls")
	user      = flag.String("user", "test", "")
	pass      = flag.String("pass", "secret", "")
	mdns      = flag.String("mdns", "off", "off|resolve|hide: names in place of addresses")
	policy    = flag.String("policy", "all", "all|relay")
	tcpOnly   = flag.Bool("tcp-only", false, "no UDP, but TCP connections that come in (it makes none)")
	lite      = flag.Bool("lite", false, "a lite agent, which has host candidates only and never checks")

	output sync.Mutex
)

func emit(m message) {
	output.Lock()
	defer output.Unlock()
	text, _ := json.Marshal(m)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		emit(message{T: "failed", E: err.Error()})
		os.Exit(1)
	}
}

func servers() (urls []*ice.URL) {
	add := func(text string) {
		url, err := ice.ParseURL(text)
		check(err)
		url.Username, url.Password = *user, *pass
		urls = append(urls, url)
	}
	if *stun != "" {
		add("stun:" + *stun)
	}
	if *turn != "" && *transport == "tls" {
		add("turns:" + *turn + "?transport=tcp")
	} else if *turn != "" {
		add("turn:" + *turn + "?transport=" + *transport)
	}
	return urls
}

func multicastDNS() ice.MulticastDNSMode {
	switch *mdns {
	case "resolve":
		return ice.MulticastDNSModeQueryOnly
	case "hide":
		return ice.MulticastDNSModeQueryAndGather
	}
	return ice.MulticastDNSModeDisabled
}

func newAgent() *ice.Agent {
	noWait := time.Duration(0)
	config := &ice.AgentConfig{
		NetworkTypes:     []ice.NetworkType{ice.NetworkTypeUDP4},
		MulticastDNSMode: multicastDNS(),
		// It would wait for something better by default.
		SrflxAcceptanceMinWait: &noWait,
		PrflxAcceptanceMinWait: &noWait,
		RelayAcceptanceMinWait: &noWait,
		InsecureSkipVerify:     true,
		Lite:                   *lite,
	}
	if *bind != "" {
		addresses := map[string]bool{}
		for _, address := range strings.Split(*bind, ",") {
			addresses[address] = true
		}
		config.IncludeLoopback = true
		config.IPFilter = func(ip net.IP) bool { return addresses[ip.String()] }
	}
	if *tcpOnly {
		listener, err := net.Listen("tcp4", *bind+":0")
		check(err)
		config.NetworkTypes = []ice.NetworkType{ice.NetworkTypeTCP4}
		config.TCPMux = ice.NewTCPMuxDefault(ice.TCPMuxParams{Listener: listener, ReadBufferSize: 8})
		config.CandidateTypes = []ice.CandidateType{ice.CandidateTypeHost}
	}
	if *lite {
		config.CandidateTypes = []ice.CandidateType{ice.CandidateTypeHost}
	} else {
		config.Urls = servers()
	}
	if *policy == "relay" && !*lite {
		config.CandidateTypes = []ice.CandidateType{ice.CandidateTypeRelay}
	}
	agent, err := ice.NewAgent(config)
	check(err)
	return agent
}

// Connects, then reads until the connection is closed.
func run(agent *ice.Agent, remote message, connected chan<- *ice.Conn) {
	start := time.Now()
	connect := agent.Dial
	if *role == "controlled" {
		connect = agent.Accept
	}
	conn, err := connect(context.Background(), remote.Ufrag, remote.Pwd)
	check(err)
	ms := float64(time.Since(start).Microseconds()) / 1000
	pair, err := agent.GetSelectedCandidatePair()
	check(err)
	connected <- conn
	emit(message{T: "connected", Local: pair.Local.Marshal(), Remote: pair.Remote.Marshal(), Ms: ms})
	buffer := make([]byte, 65536)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		emit(message{T: "recv", D: string(buffer[:n])})
	}
}

func addCandidate(agent *ice.Agent, line string) {
	candidate, err := ice.UnmarshalCandidate(strings.TrimPrefix(line, "candidate:"))
	if err == nil {
		err = agent.AddRemoteCandidate(candidate)
	}
	if err != nil {
		emit(message{T: "warn", E: err.Error()})
	}
}

func main() {
	flag.Parse()
	agent := newAgent()
	check(agent.OnConnectionStateChange(func(s ice.ConnectionState) { emit(message{T: "state", S: s.String()}) }))
	check(agent.OnCandidate(func(candidate ice.Candidate) {
		if candidate == nil {
			emit(message{T: "eoc"})
		} else {
			emit(message{T: "cand", C: "candidate:" + candidate.Marshal()})
		}
	}))
	ufrag, pwd, err := agent.GetLocalUserCredentials()
	check(err)
	emit(message{T: "params", Ufrag: ufrag, Pwd: pwd})
	check(agent.GatherCandidates())
	connected := make(chan *ice.Conn, 1)
	var conn *ice.Conn
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var input message
		if json.Unmarshal(lines.Bytes(), &input) != nil {
			continue
		}
		switch input.T {
		case "params":
			go run(agent, input, connected)
		case "cand":
			addCandidate(agent, input.C)
		case "send":
			if conn == nil {
				conn = <-connected
			}
			_, _ = conn.Write([]byte(input.D))
		case "close":
			_ = agent.Close()
			return
		}
	}
}
