package botapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// scan reads a body in pieces of random length, and sees that little is held at any time.
func scan(t *testing.T, query, kind string, body []byte, random *rand.Rand, wanted ...string) (Params, error) {
	t.Helper()
	s := NewScanner(query, kind, wanted...)
	for len(body) > 0 {
		n := min(len(body), 1+random.IntN(1+random.IntN(100)))
		if m, err := s.Write(body[:n]); err != nil || m != n {
			break // Params has the error
		}
		body = body[n:]
		held := 0
		switch p := s.parser.(type) {
		case *form:
			held = len(p.name.sent) + len(p.value.sent)
		case *object:
			held = len(p.name.sent) + len(p.value.sent)
		case *parts:
			held = len(p.left) + len(p.value.sent)
		}
		if held > maxNameSent+maxValueSent+maxPartHeaders+1024 {
			t.Fatalf("%d bytes are held", held)
		}
	}
	return s.Params()
}

// Whatever a body holds, and however it is cut, the same is read, and nothing panics.
func FuzzBodies(f *testing.F) {
	for _, c := range []struct{ query, kind, body string }{
		{"a=1&b", formType, "a=2&c=%41+%"},
		{"", jsonType, `{"a":"\u0041\\","b":[1,{"c":"]"}],"c":null}`},
		{"", jsonType, `{"a":"x" , "b":-1.5e3}`},
		{"", jsonType, "null"},
		{"", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\nContent-Disposition: form-data; name=b; filename=\"\"\r\n\r\n2\r\n--x--"},
		{"", `multipart/form-data; boundary="--"`, "------\r\n"},
		{"", "multipart/form-data; BOUNDARY", "x"},
		{"", "multipart/form-data; boundary=ſ=\u212a", "--"},
	} {
		f.Add(c.query, c.kind, []byte(c.body), uint64(1))
	}
	f.Fuzz(func(t *testing.T, query, kind string, body []byte, seed uint64) {
		wanted := []string{"a", "b", "c", "chat_id"}
		whole, err := ReadParams(query, kind, "", bytes.NewReader(body), wanted...)
		pieces, perr := scan(t, query, kind, body, rand.New(rand.NewPCG(seed, 0)), wanted...)
		if !errors.Is(err, perr) || !maps.Equal(whole, pieces) {
			t.Errorf("whole %q, %v; in pieces %q, %v", whole, err, pieces, perr)
		}
		for name := range whole {
			if name != "a" && name != "b" && name != "c" && name != "chat_id" {
				t.Errorf("%q was not wanted", name)
			}
		}
	})
}

// What the standard library finds in a JSON object is found here, the first of each name.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":"\u0041\ud83d\ude00","b":[1,{"c":"]\""}],"c":null,"a":2}`), uint64(1))
	f.Add([]byte(` { "b" : { } , "c":1e5 , "a" : "" } `), uint64(2))
	f.Add([]byte(`{"":0,"a":[[],[]],"b":"{"}`), uint64(3))
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		want, ok := fieldsOf(body)
		if !ok {
			return
		}
		got, err := scan(t, "", jsonType, body, rand.New(rand.NewPCG(seed, 0)), "a", "b", "c")
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	})
}

// fieldsOf are the fields a, b and c of a JSON object as encoding/json reads them; false if it is none.
func fieldsOf(body []byte) (Params, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if first, err := d.Token(); !json.Valid(body) || err != nil || first != json.Delim('{') {
		return nil, false
	}
	p := Params{}
	for d.More() {
		name, err := d.Token()
		var raw json.RawMessage
		if err != nil || d.Decode(&raw) != nil || len(raw) > maxValueSent {
			return nil, false
		}
		value := string(raw)
		if raw[0] == '"' && json.Unmarshal(raw, &value) != nil {
			return nil, false
		}
		switch name := name.(string); name {
		case "a", "b", "c":
			p.first(name, value)
		}
	}
	return p, true
}

// What the standard library finds in a form is found here.
func FuzzForm(f *testing.F) {
	f.Add("a=1&b=%20+&c&a=2&=&&", uint64(1))
	f.Fuzz(func(t *testing.T, body string, seed uint64) {
		values, err := url.ParseQuery(body)
		if err != nil || len(body) > maxValueSent {
			return // it takes semicolons and escapes that are none for errors
		}
		want := Params{}
		for _, name := range []string{"a", "b", "c"} {
			if v := values[name]; len(v) > 0 {
				want[name] = v[0]
			}
		}
		random := rand.New(rand.NewPCG(seed, 0))
		for _, c := range []struct{ query, body string }{{"", body}, {body, ""}} {
			got, err := scan(t, c.query, formType, []byte(c.body), random, "a", "b", "c")
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
	})
}

// What the standard library writes as multipart is read here, files aside.
func FuzzMultipart(f *testing.F) {
	f.Add("a", "1", "b", []byte("\r\n--x--\r\n"), true, uint64(1))
	f.Add("b", "\r\n", "a", []byte{}, false, uint64(2))
	f.Fuzz(func(t *testing.T, name1, value1, name2 string, value2 []byte, file bool, seed uint64) {
		for _, s := range []string{name1, name2} {
			if !utf8.ValidString(s) || s == "" || strings.ContainsAny(s, "\";=\\") || strings.ContainsFunc(s, unicode.IsControl) || strings.TrimSpace(s) != s {
				return // the header of a part would change it
			}
		}
		if len(value1) > maxValueSent || len(value2) > maxValueSent {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		want := Params{name1: value1}
		_ = w.WriteField(name1, value1)
		var part io.Writer
		if file {
			part, _ = w.CreateFormFile(name2, "name")
		} else {
			part, _ = w.CreateFormField(name2)
			want.first(name2, string(value2))
		}
		_, _ = part.Write(value2)
		_ = w.Close()
		kind := w.FormDataContentType()
		if _, attributes, err := mime.ParseMediaType(kind); err != nil || strings.Contains(string(value2)+value1, attributes["boundary"]) {
			return
		}
		got, err := scan(t, "", kind, b.Bytes(), random, name1, name2)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	})
}

// Whatever a description holds, a framework can decode the answer and finds all that it looks for.
func FuzzDescriptions(f *testing.F) {
	f.Add("Not Found", 1)
	f.Add("\xff\"\\\x00</script>\u2028", 3600)
	f.Fuzz(func(t *testing.T, description string, seconds int) {
		var got struct {
			OK          *bool   `json:"ok"`
			Code        int     `json:"error_code"`
			Description *string `json:"description"`
			Parameters  struct {
				RetryAfter int `json:"retry_after"`
			} `json:"parameters"`
		}
		if err := json.Unmarshal(Later(429, description, seconds).Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.OK == nil || *got.OK || got.Code != 429 || got.Description == nil || got.Parameters.RetryAfter != seconds {
			t.Errorf("%+v of %q, %d", got, description, seconds)
		} else if utf8.ValidString(description) && *got.Description != description {
			t.Errorf("%q became %q", description, *got.Description)
		}
	})
}
