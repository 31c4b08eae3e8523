package node

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"habot/app/election"
)

// BootClock reads CLOCK_BOOTTIME, which cannot be set and which runs while the machine sleeps.
type BootClock struct{}

// Read returns both clocks now. It panics if the kernel has no such clock: there is no safe way on.
func (BootClock) Read() election.Reading {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err))
	}
	return election.Reading{Now: election.Instant(ts.Nano()), Wall: time.Now().UnixNano()}
}
