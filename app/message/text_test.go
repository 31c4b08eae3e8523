package message

import (
	"html"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		limit      int
		want       []string
	}{
		{"empty", "", 10, nil},
		{"blank", " \n\t", 10, nil},
		{"fits", "0123456789", 10, []string{"0123456789"}},
		{"one too long", "0123456789a", 10, []string{"0123456789", "a"}},
		{"at a line's end", "abc\ndef\nghi", 10, []string{"abc\ndef", "ghi"}},
		{"line's end at the limit", "0123456789\nabc", 10, []string{"0123456789", "abc"}},
		{"keeps empty lines", "a\n\n\nb", 10, []string{"a\n\n\nb"}},
		{"long line after a short one", "ab\n0123456789cd", 10, []string{"ab", "0123456789", "cd"}},
		{"surrogate pairs count twice", "😀😀😀😀😀😀", 10, []string{"😀😀😀😀😀", "😀"}},
		{"no half of a pair", "a😀😀😀😀😀", 10, []string{"a😀😀😀😀", "😀"}},
		{"no half of an entity", "0123456&amp;x", 10, []string{"0123456", "&amp;x"}},
		{"after an entity", "01234&amp;xyz", 10, []string{"01234&amp;", "xyz"}},
		{"no half of a tag", "01234567<b>x</b>", 16, []string{"01234567<b>x</b>"}},
		{"no half of a start of a tag", "01234567<b>x", 10, []string{"01234567", "<b>x"}},
		{"leading line's end", "\n0123456789", 10, []string{"\n012345678", "9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Split(tt.text, tt.limit); !slices.Equal(got, tt.want) {
				t.Errorf("Split(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
			}
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("hello", 16)
	f.Add(strings.Repeat("<&>\n", 40), 17)
	f.Add(strings.Repeat("😀", 40), 19)
	f.Add(strings.Repeat(" ", 100)+"x", 16)
	f.Add(strings.Repeat("a'b\"", 50), 23)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if !utf8.ValidString(text) {
			return // texts come out of JSON
		}
		limit = 16 + int(uint(limit)%64)
		escaped := html.EscapeString(text)
		for _, s := range []string{text, escaped} {
			rest := s
			for _, part := range Split(s, limit) {
				if n := len(utf16.Encode([]rune(part))); n > limit {
					t.Errorf("a part of %d units, limit %d: %q", n, limit, part)
				}
				if !utf8.ValidString(part) {
					t.Errorf("a character was cut: %q", part)
				}
				// Between parts only a line's end is lost, or whole parts of white space.
				before, after, found := strings.Cut(rest, part)
				if !found || strings.TrimSpace(before) != "" {
					t.Fatalf("%q of %q was lost before %q", before, s, part)
				}
				if before != "" && before != "\n" && !strings.Contains(before+"\n", "\n") {
					t.Errorf("%q was lost before %q", before, part)
				}
				rest = after
			}
			if strings.TrimSpace(rest) != "" {
				t.Errorf("%q was lost at the end", rest)
			}
		}
		var parts []string
		for _, part := range Split(escaped, limit) {
			if html.EscapeString(html.UnescapeString(part)) != part {
				t.Errorf("an entity was cut: %q", part)
			}
			parts = append(parts, html.UnescapeString(part))
		}
		if got, want := strings.Join(strings.Fields(strings.Join(parts, "")), ""), strings.Join(strings.Fields(text), ""); got != want {
			t.Errorf("parts together are %q, want %q", got, want)
		}
	})
}
