package peer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestSameSecretMakesTheSameIdentity(t *testing.T) {
	t.Parallel()
	a, b, c := identity(t, "ours"), identity(t, "ours"), identity(t, "theirs")
	if !bytes.Equal(a.cert.Certificate[0], b.cert.Certificate[0]) || !a.keys[0].Equal(b.keys[0]) {
		t.Error("one secret made two identities")
	}
	if a.keys[0].Equal(c.keys[0]) {
		t.Error("two secrets made one identity")
	}
}

// Replicas of 1.0.0 have these keys: another would tear a cluster apart while it is updated, one replica at a time.
func TestASecretsIdentityStays(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		"q83vEjRWeJCrze8SNFZ4kLzN7xI0VniQq83vEjRWeJA=":                         "042dc0250dc097fab269e7d706f95de7cbb8f00f79c615e174df2de09a152865",
		"derived from the token 123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQ-_": "c4202cf3064063f34add1abd29cec984304f2a3cb9aa5fce30bc007d88cb0b6c",
	} {
		if got := fmt.Sprintf("%x", []byte(identity(t, secret).keys[0])); got != want {
			t.Errorf("the key of %q is %s, want %s", secret, got, want)
		}
	}
}

// A secret is replaced without a stop: first all replicas accept the new one too, then they send it, then they forget
// the old one. At each step the replicas of two neighbouring steps talk, both ways; those two steps apart do not.
func TestASecretIsReplacedStepByStep(t *testing.T) {
	t.Parallel()
	steps := []*Identity{identity(t, "old"), identity(t, "old", "new"), identity(t, "new", "old"), identity(t, "new")}
	for i, server := range steps {
		for j, client := range steps {
			err := handshake(t, server, client)
			if apart := i - j; (apart*apart <= 1) != (err == nil) {
				t.Errorf("server at step %d, client at step %d: %v", i, j, err)
			}
		}
	}
}

// handshake has two identities meet, and returns what either has against the other.
func handshake(t *testing.T, server, client *Identity) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a pipe holds nothing: two that write at once would wait for ever
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = tls.Server(conn, server.config()).Handshake()
			_ = conn.Close()
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	err = tls.Client(conn, client.config()).Handshake()
	return errors.Join(err, <-served)
}

func TestReplicasOfOneBotTalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, _ := s.client("ours")
		if _, err := c.Status(t.Context(), "b:7175"); err != nil {
			t.Error(err)
		}
		if n := s.replica.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		for r, n := range s.refusals() {
			if n != 0 {
				t.Errorf("%v refusals because of %s", n, r)
			}
		}
	})
}

func TestInstanceOfAnotherBotIsRefusedAndReportedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		c, log := s.client("theirs")
		warnings := func() int { return log.count(slog.LevelWarn, "belongs to another bot") }
		for i := range 3 {
			if _, err := c.Status(t.Context(), "b:7175"); !errors.Is(err, ErrIdentity) {
				t.Fatalf("request %d: %v, want ErrIdentity", i, err)
			}
		}
		if err := c.End(t.Context(), "c:7175", endRequest("a")); !errors.Is(err, ErrIdentity) {
			t.Errorf("%v, want ErrIdentity", err)
		}
		if n := warnings(); n != 2 {
			t.Errorf("%d warnings of two addresses in one minute", n)
		}
		synctest.Wait()
		s.refused(reasonTLS, 4)
		if n := s.log.count(slog.LevelDebug, "refused a connection"); n != 1 {
			t.Errorf("one unknown client was logged %d times in one minute", n)
		}
		time.Sleep(time.Minute)
		_, _ = c.Status(t.Context(), "b:7175")
		synctest.Wait()
		if n := warnings(); n != 3 {
			t.Errorf("%d warnings after a minute, want another", n)
		}
		if n := s.log.count(slog.LevelDebug, "refused a connection"); n != 2 {
			t.Errorf("the unknown client was logged %d times in two minutes", n)
		}
	})
}

// A client that takes any server meets the server's own judgement.
func TestUnknownClientsAreRefusedByTheServer(t *testing.T) {
	t.Parallel()
	ours, theirs := identity(t, "ours"), identity(t, "theirs")
	_, otherKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]*tls.Config{
		"a replica of another bot":        {Certificates: theirs.config().Certificates},
		"no certificate":                  {},
		"another kind of key":             {Certificates: []tls.Certificate{ecdsaCertificate(t)}},
		"our certificate without its key": {Certificates: []tls.Certificate{{Certificate: ours.cert.Certificate, PrivateKey: otherKey}}},
		"our certificate behind theirs": {Certificates: []tls.Certificate{{
			Certificate: [][]byte{theirs.cert.Certificate[0], ours.cert.Certificate[0]}, PrivateKey: theirs.cert.PrivateKey,
		}}},
		"TLS 1.2": {Certificates: ours.config().Certificates, MaxVersion: tls.VersionTLS12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				cfg := cfg.Clone()
				cfg.InsecureSkipVerify = true
				raw, err := s.net.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				conn := tls.Client(raw, cfg)
				defer func() { _ = conn.Close() }()
				go func() { // in TLS 1.3 the client thinks it is done before the server has judged it
					_, _ = io.WriteString(conn, "GET /v1/primary HTTP/1.1\r\nHost: b\r\nHabot-Protocol: 1\r\n\r\n")
				}()
				if answer, err := io.ReadAll(conn); err == nil || len(answer) > 0 {
					t.Errorf("answered %q, %v", answer, err)
				}
				synctest.Wait()
				s.refused(reasonTLS, 1)
			})
		})
	}
}

func TestClientRefusesAServerThatOnlyHasTheCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		defer func() { _ = p.Close() }()
		c, _ := clientOver(t, p, "ours")
		fake := identity(t, "theirs").config()
		fake.VerifyConnection = nil
		fake.Certificates = []tls.Certificate{{
			Certificate: identity(t, "ours").cert.Certificate, PrivateKey: identity(t, "theirs").cert.PrivateKey,
		}}
		go func() {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(conn, fake).Handshake()
			_ = conn.Close()
		}()
		if s, err := c.Status(t.Context(), "b:7175"); err == nil {
			t.Errorf("took %+v", s)
		}
	})
}

func TestPlainHTTPIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		plain := &http.Client{Transport: &http.Transport{DialContext: s.net.dial}}
		defer plain.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://b:7175/v1/primary", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(protocolHeader, "1")
		resp, err := plain.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("answered with %d", resp.StatusCode)
		}
		synctest.Wait()
		s.refused(reasonTLS, 1)
	})
}

func ecdsaCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
