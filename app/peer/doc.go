// Package peer lets replicas talk to replicas: a gin server, a client, discovery by name, and the
// mutual TLS 1.3 by which every replica of one bot proves that it belongs.
//
// It owns the wire: encoding, bounds, deadlines, refusals. It knows messages but decides nothing about
// them. It may import election, listener, logging, gin, client_golang, x/net and x/sys.
package peer
