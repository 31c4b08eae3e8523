// Package messagetest judges texts as Telegram does. Tests use it; it shares no code with what it judges.
//
// It imports the standard library only.
package messagetest

import (
	"strings"
	"unicode/utf16"
)

// Units is a text's length as Telegram counts it.
func Units(s string) int { return len(utf16.Encode([]rune(s))) }

// ValidHTML tells whether Telegram would take s: known tags, closed in order, and escaped otherwise.
func ValidHTML(s string) bool {
	var open []string
	for s != "" {
		i := strings.IndexAny(s, "<>&")
		if i < 0 {
			break
		}
		s = s[i:]
		length := 0
		for _, e := range []string{"&lt;", "&gt;", "&amp;", "&#34;", "&#39;"} {
			if strings.HasPrefix(s, e) {
				length = len(e)
			}
		}
		for _, tag := range []string{"b", "code"} {
			if start := "<" + tag + ">"; strings.HasPrefix(s, start) {
				open = append(open, tag)
				length = len(start)
			}
			if end := "</" + tag + ">"; strings.HasPrefix(s, end) && len(open) > 0 && open[len(open)-1] == tag {
				open = open[:len(open)-1]
				length = len(end)
			}
		}
		if length == 0 {
			return false
		}
		s = s[length:]
	}
	return len(open) == 0
}
