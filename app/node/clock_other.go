//go:build !linux

package node

import (
	"time"

	"habot/app/election"
)

// bootedAt stands for the boot: the clock below begins with the process.
var bootedAt = time.Now() //nolint:gochecknoglobals // a clock's zero

// BootClock stands in for CLOCK_BOOTTIME where tests run but the product does not: this clock may stand still
// while the machine sleeps, and a lease would outlive its end.
type BootClock struct{}

// Read returns both clocks now.
func (BootClock) Read() election.Reading {
	now := time.Now()
	return election.Reading{Now: election.Instant(now.Sub(bootedAt)), Wall: now.UnixNano()}
}
