package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Documents that count mutants count those that there are.
func TestDocumentsCountTheMutants(t *testing.T) {
	t.Parallel()
	election, ofTurns := len(mutants), len(turns())
	for name, want := range map[string]string{
		"../../SAFETY.md":         fmt.Sprintf("| mutants | %d;", election),
		"../../../README.md":      fmt.Sprintf("mutants, %d of the election and %d of turns", election, ofTurns),
		"../../../turns/TURNS.md": fmt.Sprintf("broken one at a time in a copy. %d, each", ofTurns),
	} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not have %q", name, want)
		}
	}
}
