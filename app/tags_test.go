//go:build !nomsgpack || !stdjson

package main

import "testing"

// The image is built with other codecs than tests without these tags.
func TestTheTestsAreBuiltAsTheImageIs(t *testing.T) {
	t.Fatal(`what is tested is not what ships: export GOFLAGS="-tags=nomsgpack,stdjson" (see Dockerfile)`)
}
