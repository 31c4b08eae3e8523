//go:build !linux

package lifeline

import "errors"

// writable is known on Linux alone, where replicas run.
func writable(string) error { return errors.ErrUnsupported }
