// A TURN server by pion/turn: pion_server ADDRESS:PORT CERTIFICATE KEY. UDP and TCP on the port, TLS on the next one, DTLS on
// the one after that; user "test", password "secret". Says "ready", and ends with its stdin.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"

	"github.com/pion/dtls/v2"
	"github.com/pion/turn/v2"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	host, portText, err := net.SplitHostPort(os.Args[1])
	must(err)
	port, err := strconv.Atoi(portText)
	must(err)
	relay := &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(host), Address: host}
	datagrams, err := net.ListenPacket("udp4", os.Args[1])
	must(err)
	plain, err := net.Listen("tcp4", os.Args[1])
	must(err)
	identity, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	must(err)
	secure, err := tls.Listen("tcp4", net.JoinHostPort(host, strconv.Itoa(port+1)), &tls.Config{
		Certificates: []tls.Certificate{identity},
		NextProtos:   []string{"stun.turn"},
	})
	must(err)
	overUDP, err := dtls.Listen("udp4", &net.UDPAddr{IP: net.ParseIP(host), Port: port + 2}, &dtls.Config{
		Certificates: []tls.Certificate{identity},
	})
	must(err)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "example.org",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, "secret"), user == "test"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: datagrams, RelayAddressGenerator: relay}},
		ListenerConfigs: []turn.ListenerConfig{
			{Listener: plain, RelayAddressGenerator: relay},
			{Listener: secure, RelayAddressGenerator: relay},
			{Listener: overUDP, RelayAddressGenerator: relay},
		},
	})
	must(err)
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = server.Close()
}
