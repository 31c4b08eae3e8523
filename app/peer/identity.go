package peer

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// ErrIdentity says that the other side belongs to another bot: its cluster secret differs.
var ErrIdentity = errors.New("the other side belongs to another bot: its cluster secret differs")

// Identity is the TLS identity that all replicas of one bot share. It is derived from the cluster
// secret, so there is nothing to set up, and two bots on one network never mix.
type Identity struct {
	cert tls.Certificate
	keys []ed25519.PublicKey // of those who belong; the first is its own
}

// NewIdentity derives the identity from secrets, by HKDF-SHA256 (RFC 5869). The same secret gives the same identity
// everywhere. This replica presents the first secret's and accepts all: a secret can be replaced without a stop. A
// client that does not belong can test guesses of a secret against the key that a handshake shows: it MUST be a generated one.
func NewIdentity(secrets ...[]byte) (*Identity, error) {
	if len(secrets) == 0 {
		return nil, errors.New("derive the cluster's identity: no secret")
	}
	var identity Identity
	for _, secret := range secrets {
		seed, err := hkdf.Key(sha256.New, secret, nil, "habot replica identity v1", ed25519.SeedSize)
		if err != nil {
			return nil, fmt.Errorf("derive the cluster's identity: %w", err)
		}
		key := ed25519.NewKeyFromSeed(seed)
		pub, ok := key.Public().(ed25519.PublicKey)
		if !ok {
			return nil, errors.New("derive the cluster's identity: no Ed25519 key")
		}
		identity.keys = append(identity.keys, pub)
		if identity.cert.PrivateKey == nil {
			if identity.cert, err = certificate(key, pub); err != nil {
				return nil, err
			}
		}
	}
	return &identity, nil
}

// certificate is for form's sake, and so are its dates: only the key is looked at, whatever the wall clock says.
func certificate(key ed25519.PrivateKey, pub ed25519.PublicKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "habot"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(nil, template, template, pub, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the cluster's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// config is for both ends. Membership is proved by the handshake's signature with the shared key;
// names and dates in the certificate mean nothing.
func (i *Identity) config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{i.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection compares the key itself
		SessionTicketsDisabled: true,
		// A hybrid key exchange (ML-KEM) would protect recorded messages from a future quantum computer. It makes a handshake
		// half as dear again, and no message holds a secret.
		CurvePreferences: []tls.CurveID{tls.X25519},
		VerifyConnection: i.verify,
	}
}

func (i *Identity) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return ErrIdentity
	}
	pub, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || !slices.ContainsFunc(i.keys, func(key ed25519.PublicKey) bool { return pub.Equal(key) }) {
		return ErrIdentity
	}
	return nil
}
