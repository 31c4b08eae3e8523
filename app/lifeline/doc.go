// Package lifeline detects the death of replicas' processes on the same machine, at once and with certainty.
//
// Replicas of one machine share a folder. Each listens on a Unix socket in it and connects to the sockets that it
// finds there. When a process ends, however it ends, the kernel closes its sockets and its pidfd becomes readable:
// no time-out has to be waited for. This is the Falcon failure detector (Leners, Wu, Hung, Aguilera, Walfish,
// "Detecting failures in distributed systems with the Falcon spy network", SOSP 2011) reduced to the one layer that
// is certain.
//
// What it guarantees:
//
//   - Died is called for a replica only after its process has ended. A process that is frozen, starved or cut off from
//     the network keeps its connections.
//   - The other end has proved that it holds the cluster secret, for its replica id, and (Linux 6.9 and later) that
//     it is the very process whose pidfd is watched. On older kernels a process that can write to the folder can relay a
//     handshake without the secret, and its end is taken for the death of the replica that it relayed.
//
// What it does not: a death may go unnoticed (no shared folder, another machine, a connection that could not be
// made). The lease decides then.
//
// Where the kernel has no SO_PEERPIDFD (Linux before 6.5) the end of an established connection counts instead.
// That is sound only because a replica never closes its end of one while it may act as primary: no deadline, no
// shortage, no error closes it. Run's context MUST end only after the replica's claim was released or the replica never
// had one.
//
// This room imports election (for ReplicaID) and the standard library, and golang.org/x/sys for pidfds.
package lifeline
