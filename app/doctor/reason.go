package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// reason is why something failed, without the addresses that the line names anyway.
func reason(err error) string {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		number      syscall.Errno
		file        *fs.PathError
		timeout     interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "there is no such name"
	case errors.As(err, &name) && name.IsTimeout:
		return "no name server has answered"
	case errors.As(err, &name):
		return "the name server fails (" + name.Err + ")"
	case errors.As(err, &certificate):
		return "its certificate is not trusted (" + certificate.Err.Error() + ")"
	case alien(err):
		return "what answers there does not speak TLS"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &file):
		return file.Err.Error()
	case errors.As(err, &number):
		return number.Error()
	default:
		return err.Error()
	}
}

// absent tells whether an error means that nothing is there yet: no such name, or no program at a port of a machine that
// answers.
func absent(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name) && name.IsNotFound || errors.Is(err, syscall.ECONNREFUSED)
}

// unknownYet tells whether the failure to resolve a name may only mean that what it names does not run yet. The name server of
// Docker passes a service's name on while no container has it, and in a network without a way out that fails.
func unknownYet(host string, err error) bool {
	var name *net.DNSError
	return absent(err) || errors.As(err, &name) && !strings.Contains(host, ".")
}

// alien tells whether what answers speaks another protocol.
func alien(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
}

// noRoute tells whether this machine has no way to an address, as to IPv6 in Docker's default network: that takes no time.
func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// undialled tells whether an error is that of making a connection.
func undialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
