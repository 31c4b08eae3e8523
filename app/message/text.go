package message

import (
	"strings"
	"unicode/utf8"
)

// MaxText is Telegram's bound on a message, in UTF-16 code units after entities are parsed. Texts are
// measured before that, which is never less.
const MaxText = 4096

// units is a text's length as Telegram counts it.
func units(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// Split cuts a text into parts of at most limit units, after a line's end if there is one, otherwise
// where no character, HTML entity or tag is cut. Tags MUST NOT span lines. Empty parts are left out.
func Split(text string, limit int) []string {
	var parts []string
	for units(text) > limit {
		cut := Prefix(text, limit)
		if i := strings.LastIndexByte(text[:cut], '\n'); i > 0 {
			cut = i
		} else if i := openAt(text[:cut]); i > 0 {
			cut = i
		}
		parts = append(parts, text[:cut])
		text = strings.TrimPrefix(text[cut:], "\n")
	}
	parts = append(parts, text)
	kept := parts[:0]
	for _, p := range parts {
		if strings.TrimSpace(p) != "" {
			kept = append(kept, p)
		}
	}
	return kept
}

// Prefix is the length in bytes of the longest start of text that has at most limit units.
func Prefix(text string, limit int) int {
	n := 0
	for i, r := range text {
		n++
		if r > 0xFFFF {
			n++
		}
		if n > limit {
			return i
		}
	}
	return len(text)
}

// openAt is where an entity or tag begins that s does not end; 0 if there is none nearby.
func openAt(s string) int {
	const longest = 16
	from := max(0, len(s)-longest)
	for from > 0 && !utf8.RuneStart(s[from]) {
		from--
	}
	tail := s[from:]
	if i := strings.LastIndexByte(tail, '&'); i >= 0 && !strings.Contains(tail[i:], ";") {
		return from + i
	}
	if i := strings.LastIndexByte(tail, '<'); i >= 0 && !strings.Contains(tail[i:], ">") {
		return from + i
	}
	return 0
}
