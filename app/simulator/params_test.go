package simulator

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNumbersAreReadAsTheRealServerReadsThem(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int{
		"": 42, "0": 0, "17": 17, "-17": -17, "17x": 17, "x": 0, "-": 0, "1.9": 1, "99999999999": math.MaxInt32, "-99999999999": -math.MaxInt32,
	} {
		if got := (params{"n": raw}).number("n", 42); got != want {
			t.Errorf("%q is read as %d, want %d", raw, got, want)
		}
	}
	if got := (params{}).number("n", 42); got != 42 {
		t.Errorf("absent is %d", got)
	}
}

func TestTruthIsTrueYesOrOne(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{"true": true, "True": true, "YES": true, "1": true, "": false, "0": false, "false": false, "on": false} {
		if got := (params{"b": raw}).truth("b"); got != want {
			t.Errorf("%q is %t", raw, got)
		}
	}
}

func TestListIsNilUnlessItIsAListOfStrings(t *testing.T) {
	t.Parallel()
	for raw, known := range map[string]bool{`["a"]`: true, `[]`: true, `null`: false, `{}`: false, `[1]`: false, `"a"`: false, ``: false} {
		if got := (params{"l": raw}).list("l"); (got != nil) != known {
			t.Errorf("%s is read as %v", raw, got)
		}
	}
	if (params{}).list("l") != nil {
		t.Error("an absent list is not nil: the server would forget the last one")
	}
}

func TestHTMLIsReadAsTheRealServerReadsIt(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct{ plain, complaint string }{
		"plain":                                  {"plain", ""},
		"<b>a</b> <i>b</i>":                      {"a b", ""},
		"<B>a</b >":                              {"a", ""},
		`<a href="https://example.org">x</a>`:    {"x", ""},
		"<pre><code class=\"go\">x</code></pre>": {"x", ""},
		"a &lt;b&gt; &amp; &quot;c&quot;":        {`a <b> & "c"`, ""},
		"a & b; c":                               {"a & b; c", ""},
		"&#128512;":                              {"\U0001F600", ""},
		"R&D <b>a;</b>":                          {"R&D a;", ""},
		"a&nbsp;b &apos;":                        {"a&nbsp;b &apos;", ""},
		"<b>a</>":                                {"a", ""},
		"a > b":                                  {"a > b", ""},
		"a < b":                                  {"", "Unclosed start tag at byte offset 2"},
		"</b>":                                   {"", "Unexpected end tag at byte offset 0"},
		"<b>a</i>":                               {"", `Unmatched end tag at byte offset 4, expected "</b>", found "</i>"`},
		"<b><i>a</i>":                            {"", `Can't find end tag corresponding to start tag "b"`},
		"x<div>a</div>":                          {"", `Unsupported start tag "div" at byte offset 1`},
	} {
		if plain, complaint := parseHTML(text); plain != c.plain || complaint != c.complaint {
			t.Errorf("%q is %q, complaint %q; want %q, %q", text, plain, complaint, c.plain, c.complaint)
		}
	}
	if plain, _ := plainText("<b>a</b>", ""); plain != "<b>a</b>" {
		t.Errorf("without a mode the markup is text; got %q", plain)
	}
}

func TestLengthIsCountedInUTF16(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "abc": 3, "ä": 1, "\U0001F600": 2} {
		if got := length(text); got != want {
			t.Errorf("%q is %d long, want %d", text, got, want)
		}
	}
}

func FuzzReadParams(f *testing.F) {
	f.Add("a=1&b=2", "application/x-www-form-urlencoded", []byte("a=3&c=%20"))
	f.Add("", "application/json", []byte(`{"a":1,"b":"x","c":null,"d":{"e":[]}}`))
	f.Add("", "application/json", []byte(`{"a":`))
	f.Add("a=%zz", "multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n"))
	f.Add("", "multipart/form-data", []byte("--\r\n\r\n----"))
	f.Add("", "text/plain; =", []byte("a=1"))
	f.Fuzz(func(t *testing.T, query, kind string, body []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://telegram/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = query
		req.Header.Set("Content-Type", kind)
		p, _, err := readParams(req)
		if err != nil {
			if !errors.Is(err, errBody) {
				t.Errorf("%v is not the error of a body", err)
			}
			return
		}
		for name, values := range req.URL.Query() {
			if p[name] != values[0] {
				t.Errorf("%q is %q, the query says %q", name, p[name], values[0])
			}
		}
		for name := range p {
			if n := p.number(name, 1); n > math.MaxInt32 || n < -math.MaxInt32 {
				t.Errorf("%q is read as %d", p[name], n)
			}
			p.truth(name)
			p.list(name)
		}
	})
}

func FuzzParseHTML(f *testing.F) {
	for _, text := range []string{
		"plain", "<b>a</b>", "<a href=\"x\">b</a>", "a &lt; b", "&", "&;", "<", "</", "</>", "<b></i>", "<b>", "&#0;", "&#xD800;", "<tg-spoiler >x</tg-spoiler>",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plain, complaint := parseHTML(text)
		if complaint != "" {
			if plain != "" {
				t.Errorf("%q gives %q and a complaint", text, plain)
			}
			return
		}
		if utf8.ValidString(text) && !utf8.ValidString(plain) {
			t.Errorf("%q gives %q, which is no UTF-8", text, plain)
		}
		if !strings.ContainsAny(text, "<&") && plain != text {
			t.Errorf("%q without markup gives %q", text, plain)
		}
		if escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text); true {
			if back, wrong := parseHTML(escaped); back != text || wrong != "" {
				t.Errorf("%q escaped comes back as %q, complaint %q", text, back, wrong)
			}
		}
	})
}
