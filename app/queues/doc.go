// Package queues makes a consumer of updates out of a handler of one update: updates of one queue are handled one
// after the other, queues side by side, at most so many at a time.
//
// It owns the order within a queue, the slots, the waits between attempts, which give the slot away, and what a stop
// leaves to the successor. It knows no Telegram and no backend, decides nothing about leases, and confirms nothing.
//
// It may import update.
package queues
