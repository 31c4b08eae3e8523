package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// typoHints warns of variables that are none of ours but look as if they were meant to be. A mistyped token is refused where
// the demo would run instead of the user's bot; so is a token under any other name.
func (c *checker) typoHints(set map[string]string, demo bool) error {
	known, err := Variables()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		nearest := meant(name, known)
		if demo && !isKnown(name, known) && variableShape.MatchString(name) && set[name] != DemoToken && tokenShape.MatchString(set[name]) {
			nearest = "BOT_TOKEN"
		}
		switch {
		case nearest == "":
		case demo && (nearest == "BOT_TOKEN" || nearest == "BOT_TOKEN_FILE"):
			c.secretProblem("BOT_TOKEN", fmt.Sprintf("it is not set, but %s is, which has no effect; rename it to %s, or unset it to run the demo", name, nearest))
		default:
			c.warn("the variable %s is not known and has no effect; did you mean %s?", name, nearest)
		}
	}
	return nil
}

// variableShape bounds what is compared, and shown: nothing that breaks a line.
var variableShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// meant is the variable of ours that a name was probably meant to be; empty if it is one, or is not like one.
func meant(name string, known []Variable) string {
	if isKnown(name, known) || !variableShape.MatchString(name) {
		return ""
	}
	plain := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, prefix := range []string{"HABOT_", "TELEGRAM_"} {
		plain = strings.TrimPrefix(plain, prefix)
	}
	best, nearest := 3, ""
	for _, v := range known {
		d := distance(plain, strings.TrimPrefix(v.Name, "TELEGRAM_"))
		// Short names have many innocent neighbours: NODE is not MODE.
		if d < best && (d == 0 || len(v.Name) >= 8*d-3) {
			best, nearest = d, v.Name
		}
	}
	return nearest
}

func isKnown(name string, known []Variable) bool {
	return slices.ContainsFunc(known, func(v Variable) bool { return v.Name == name })
}

// distance is how many letters to insert, drop, replace or swap with their neighbour make b of a
// (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
