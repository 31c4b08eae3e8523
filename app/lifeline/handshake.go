package lifeline

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"habot/app/election"
)

const (
	// version is the first byte of a hello. Another one ends the handshake.
	version = 1
	// idLength is the length of a replica id: 64 random bits in hex.
	idLength    = 16
	nonceLength = 16
	helloLength = 1 + 1 + idLength + nonceLength
)

// errProof means that the other end does not hold the cluster secret, or is not the process that it passes for.
var errProof = errors.New("the other end of the lifeline has not proved that it is a replica of this bot")

// hello opens a handshake in both directions.
type hello struct {
	id    election.ReplicaID
	nonce [nonceLength]byte
	// bound: this end knows its own process identity, so the proof can be bound to it.
	bound bool
}

func (h hello) bytes() []byte {
	b := make([]byte, 0, helloLength)
	b = append(b, version, 0)
	if h.bound {
		b[1] = 1
	}
	b = append(b, h.id...)
	return append(b, h.nonce[:]...)
}

// isID tells whether s can be a replica id: it becomes part of a path.
func isID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == idLength/2
}

func readHello(r io.Reader) (hello, error) {
	var b [helloLength]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return hello{}, fmt.Errorf("read the hello: %w", err)
	}
	if b[0] != version || b[1] > 1 {
		return hello{}, fmt.Errorf("read the hello: version %d is unknown", b[0])
	}
	h := hello{id: election.ReplicaID(b[2 : 2+idLength]), bound: b[1] == 1}
	if !isID(string(h.id)) {
		return hello{}, fmt.Errorf("read the hello: %q is no replica id", h.id)
	}
	copy(h.nonce[:], b[2+idLength:])
	return h, nil
}

// deriveKey makes the key of the proofs from the cluster secret, by HKDF-SHA256 (RFC 5869).
func deriveKey(secret []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "habot lifeline v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the lifelines: %w", err)
	}
	return key, nil
}

// processes are the kernel's identities of both ends' processes, as one end knows them: its own, and that of the
// process at the other end of the connection. Zero if the kernel does not tell.
type processes struct{ dialer, listener uint64 }

// proof is what the named side sends. It covers everything that was said, so it can be neither replayed nor
// reflected. With the processes in it, no process can pass a proof on from one connection to another.
func proof(key []byte, side string, dialer, listener hello, p processes) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(side))
	mac.Write(dialer.bytes())
	mac.Write(listener.bytes())
	if dialer.bound && listener.bound {
		mac.Write(binary.BigEndian.AppendUint64(nil, p.dialer))
		mac.Write(binary.BigEndian.AppendUint64(nil, p.listener))
	}
	return mac.Sum(nil)
}

const (
	dialerSide   = "dialer"
	listenerSide = "listener"
)

// handshake proves this end to the other and has the other prove itself, and returns who it is. own and other are the
// processes' identities, zero if the kernel does not tell. whose is the replica whose socket was dialled, which the other end must
// be; empty if the other end has dialled. The dialer proves itself first, so the listener keeps only connections of members.
// commit is called right before this end's proof is sent: from then on the other end may take the end of the connection for the
// death of this process, so c MUST stay open and have no deadline.
func handshake(c io.ReadWriter, key []byte, self, whose election.ReplicaID, own, other uint64, commit func() error) (election.ReplicaID, error) {
	mine := hello{id: self, bound: own != 0 && other != 0}
	_, _ = rand.Read(mine.nonce[:]) // never fails: crypto/rand ends the process rather than return an error
	if _, err := c.Write(mine.bytes()); err != nil {
		return "", fmt.Errorf("send the hello: %w", err)
	}
	theirs, err := readHello(c)
	if err != nil {
		return "", err
	}
	if whose != "" && theirs.id != whose {
		return "", fmt.Errorf("%w: %s has the socket of %s", errProof, theirs.id, whose)
	}
	send := func(side string, dialer, listener hello, p processes) error {
		if err := commit(); err != nil {
			return err
		}
		if _, err := c.Write(proof(key, side, dialer, listener, p)); err != nil {
			return fmt.Errorf("send the proof: %w", err)
		}
		return nil
	}
	check := func(side string, dialer, listener hello, p processes) error {
		var got [sha256.Size]byte
		if _, err := io.ReadFull(c, got[:]); err != nil {
			return fmt.Errorf("read the proof: %w", err)
		}
		if !hmac.Equal(got[:], proof(key, side, dialer, listener, p)) || theirs.id == self {
			return errProof
		}
		return nil
	}
	if whose != "" {
		p := processes{dialer: own, listener: other}
		if err := send(dialerSide, mine, theirs, p); err != nil {
			return "", err
		}
		return theirs.id, check(listenerSide, mine, theirs, p)
	}
	p := processes{dialer: other, listener: own}
	if err := check(dialerSide, theirs, mine, p); err != nil {
		return "", err
	}
	return theirs.id, send(listenerSide, theirs, mine, p)
}
