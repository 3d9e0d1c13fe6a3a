// A Binding request with credentials by pion/stun: SERVER short-term|long-term USER PASSWORD.
// Says "mapped ADDRESS" when the answer's integrity is right, else "error CODE" and ends with 1.
package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pion/stun"
)

func main() {
	server, kind, user, password := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	conn, err := net.Dial("udp", server)
	fail(err)
	defer conn.Close()
	integrity := stun.NewShortTermIntegrity(password)
	credentials := []stun.Setter{stun.NewUsername(user)}
	if kind == "long-term" {
		challenge := ask(conn, stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint))
		var realm stun.Realm
		var nonce stun.Nonce
		fail(challenge.Parse(&realm, &nonce))
		integrity = stun.NewLongTermIntegrity(user, realm.String(), password)
		credentials = append(credentials, realm, nonce)
	}
	setters := append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, credentials...)
	answer := ask(conn, stun.MustBuild(append(setters, integrity, stun.Fingerprint)...))
	var code stun.ErrorCodeAttribute
	if code.GetFrom(answer) == nil {
		fmt.Println("error", int(code.Code))
		os.Exit(1)
	}
	fail(integrity.Check(answer))
	fail(stun.Fingerprint.Check(answer))
	var mapped stun.XORMappedAddress
	fail(mapped.GetFrom(answer))
	fmt.Println("mapped", mapped)
}

func ask(conn net.Conn, request *stun.Message) *stun.Message {
	_, err := conn.Write(request.Raw)
	fail(err)
	fail(conn.SetReadDeadline(time.Now().Add(10 * time.Second)))
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	fail(err)
	answer := &stun.Message{Raw: buffer[:n]}
	fail(answer.Decode())
	return answer
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}
