// Package mirror keeps on each replica what a primary has to know of its predecessor's turns.
//
// It owns the encoding of what is sent, the sending to all replicas, the count of those that have it, and the search for the
// freshest when a term begins. What is sent it does not judge: turns does.
//
// What it guarantees: Replicated(seq) is called once so many replicas as the election's quorum, this one among them, have all
// deltas up to seq. A replica that was asked by a term, or has one of its deltas, takes none of an earlier term. What it needs:
// that replicas are asked by a term only after the lease of the term before has ended.
//
// It may import turns.
package mirror
