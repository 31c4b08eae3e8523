package botapi

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"maps"
	"math"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// A request as a framework sends it.
type sent struct{ query, kind, body string }

func (s sent) read(t *testing.T, wanted ...string) Params {
	t.Helper()
	p, err := ReadParams(s.query, s.kind, "", strings.NewReader(s.body), wanted...)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return p
}

// fields are written as multipart, from name, value pairs.
func fields(t *testing.T, pairs ...string) sent {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sent{kind: w.FormDataContentType(), body: b.String()}
}

// Each framework's getUpdates, as it sends it by default.
func TestGetUpdatesOfEachFramework(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for framework, c := range map[string]struct {
		sent sent
		want Updates
	}{
		"python-telegram-bot 22: POST, form": {
			sent{kind: formType, body: "offset=0&timeout=10"}, Updates{Limit: 100, Timeout: 10 * s},
		},
		"python-telegram-bot 22, the last call": {
			sent{kind: formType, body: "offset=731&timeout=0"}, Updates{Offset: 731, Limit: 100},
		},
		"python-telegram-bot 13: JSON, numbers as strings, no offset": {
			sent{kind: jsonType, body: `{"timeout": "10"}`}, Updates{Limit: 100, Timeout: 10 * s},
		},
		"aiogram: form, a list of kinds": {
			sent{kind: formType, body: "timeout=10&allowed_updates=%5B%22message%22%2C+%22callback_query%22%5D"},
			Updates{Limit: 100, Timeout: 10 * s, Allowed: `["message","callback_query"]`},
		},
		"pyTelegramBotAPI: GET, all in the query": {
			sent{query: "offset=1&timeout=20"}, Updates{Offset: 1, Limit: 100, Timeout: 20 * s},
		},
		"pyTelegramBotAPI, skip_pending": {
			sent{query: "offset=-1&timeout=20"}, Updates{Offset: -1, Limit: 100, Timeout: 20 * s},
		},
		"pyTelegramBotAPI, async: GET with a form as its body": {
			sent{kind: formType, body: "timeout=20"}, Updates{Limit: 100, Timeout: 20 * s},
		},
		"telegraf: JSON": {
			sent{kind: jsonType, body: `{"timeout":50,"offset":0,"allowed_updates":[]}`}, Updates{Limit: 100, Timeout: 50 * s, Allowed: "[]"},
		},
		"telegraf, the last call": {
			sent{kind: jsonType, body: `{"offset":17,"limit":1}`}, Updates{Offset: 17, Limit: 1},
		},
		"grammY: JSON": {
			sent{kind: jsonType, body: `{"offset":1,"limit":100,"timeout":30,"allowed_updates":[]}`},
			Updates{Offset: 1, Limit: 100, Timeout: 30 * s, Allowed: "[]"},
		},
		"grammY, later polls": {
			sent{kind: jsonType, body: `{"offset":12,"limit":100,"timeout":30}`}, Updates{Offset: 12, Limit: 100, Timeout: 30 * s},
		},
		"node-telegram-bot-api: form": {
			sent{kind: formType, body: "timeout=10&offset=0"}, Updates{Limit: 100, Timeout: 10 * s},
		},
		"telego: JSON": {
			sent{kind: jsonType, body: `{"timeout":8}`}, Updates{Limit: 100, Timeout: 8 * s},
		},
		"telebot: JSON, all values strings, null as text": {
			sent{kind: jsonType, body: `{"allowed_updates":"null","offset":"1","timeout":"0"}`}, Updates{Offset: 1, Limit: 100},
		},
		"go-telegram: multipart, 59 s": {
			fields(t, "offset", "1", "timeout", "59"), Updates{Offset: 1, Limit: 100, Timeout: 50 * s},
		},
		"tgbotapi: form, null as text": {
			sent{kind: formType, body: "allowed_updates=null&timeout=60"}, Updates{Limit: 100, Timeout: 50 * s},
		},
	} {
		if got := UpdatesIn(c.sent.read(t, Wanted("getupdates")...)); got != c.want {
			t.Errorf("%s: %+v, want %+v", framework, got, c.want)
		}
	}
}

// Each framework's getMe and its like: a body that is empty, null, or no body of its kind has no parameters.
func TestBodiesWithoutParameters(t *testing.T) {
	t.Parallel()
	const boundary = "multipart/form-data; boundary=x"
	for name, s := range map[string]sent{
		"nothing":                                {},
		"telebot: null":                          {kind: jsonType, body: "null"},
		"telebot: null and a line break":         {kind: jsonType, body: "null\n"},
		"go-telegram: multipart without a body":  {kind: boundary},
		"multipart without parts":                {kind: boundary, body: "--x--\r\n"},
		"multipart without a boundary":           {kind: "multipart/form-data", body: "--x\r\n\r\n"},
		"multipart with an empty boundary":       {kind: "multipart/form-data; boundary=", body: "--\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n----"},
		"multipart with a long boundary":         {kind: boundary + strings.Repeat("x", 70), body: "--x--"},
		"multipart that ends in a part":          {kind: boundary, body: "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1"},
		"multipart that ends after a part":       {kind: boundary, body: "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x"},
		"multipart that ends in headers":         {kind: boundary, body: "--x\r\nContent-Disposition: form-data"},
		"multipart, a part without a name":       {kind: boundary, body: "--x\r\nContent-Disposition: form-data; nam=\"a\"\r\n\r\n1\r\n--x--"},
		"multipart, a part without headers":      {kind: boundary, body: "--x\r\n\r\n\r\n1\r\n--x--"},
		"multipart, a part that is no form data": {kind: boundary, body: "--x\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n1\r\n--x--"},
		"multipart, headers without end":         {kind: boundary, body: "--x\r\nContent-Disposition: form-data; name=\"a\"; b=\"" + strings.Repeat("x", 17<<10) + "\"\r\n\r\n1\r\n--x--"},
		"JSON, an empty object":                  {kind: jsonType, body: "{}"},
		"JSON that breaks off":                   {kind: jsonType, body: `{"a":"1"`},
		"JSON that breaks off in a string":       {kind: jsonType, body: `{"a":"1","b":"`},
		"JSON that breaks off in an array":       {kind: jsonType, body: `{"a":"1","b":["]"`},
		"JSON with something after it":           {kind: jsonType, body: `{"a":"1"}{}`},
		"JSON without quotes":                    {kind: jsonType, body: `{a:1}`},
		"JSON without a colon":                   {kind: jsonType, body: `{"a" 1}`},
		"JSON without a value":                   {kind: jsonType, body: `{"a":}`},
		"JSON without a comma":                   {kind: jsonType, body: `{"a":"1" "b":"2"}`},
		"JSON with an escape that is none":       {kind: jsonType, body: `{"a":"\x"}`},
		"JSON, a string":                         {kind: jsonType, body: `"a"`},
		"JSON, an array":                         {kind: jsonType, body: `[{"a":1}]`},
		"a form of another type":                 {kind: "text/plain", body: "a=1"},
		"a form of no type":                      {body: "a=1"},
	} {
		if got := s.read(t, "a"); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheSameParametersInEachEncoding(t *testing.T) {
	t.Parallel()
	want := Params{"a": "1 & ä", "b": `["x", {"y": "}"}]`, "c": "null", "d": ""}
	for name, s := range map[string]sent{
		"query":                 {query: `a=1+%26+%C3%A4&b=%5B"x",+{"y":+"}"}%5D&c=null&d=&z=9`},
		"form":                  {kind: formType, body: `z=&a=1%20%26%20%c3%a4&b=%5B"x",+{"y":+"}"}%5D&c=null&d`},
		"form, with a charset":  {kind: "Application/X-WWW-Form-Urlencoded; charset=UTF-8", body: `a=1 %26 ä&b=["x", {"y": "}"}]&c=null&d=&=7`},
		"JSON":                  {kind: jsonType, body: ` {"z":{"a":[1,"\"}"]},"a":"1 & \u00e4","b":["x", {"y": "}"}],"c":null , "d" : ""} `},
		"JSON, strings":         {kind: "APPLICATION/JSON; charset=utf-8", body: `{"\u0061":"1 & ä","b":"[\"x\", {\"y\": \"}\"}]","c":"null","d":"","z":1.5e3,}`},
		"multipart":             fields(t, "z", "\r\n--", "a", "1 & ä", "b", `["x", {"y": "}"}]`, "c", "null", "d", ""),
		"multipart, no quotes":  {kind: "multipart/form-data; boundary=x; y=z", body: "preamble --x\r\ncontent-disposition:form-data;name=a\r\n\r\n1 & ä\r\n--x\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name=b\r\n\r\n" + `["x", {"y": "}"}]` + "\r\n--x\r\nContent-Disposition: form-data; name=c\r\n\r\nnull\r\n--x\r\nContent-Disposition: form-data; name=d\r\n\r\n\r\n--x--\r\nepilogue --x\r\n"},
		"multipart, a file too": {kind: `multipart/form-data; charset=utf-8; Boundary="x"`, body: "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 & ä\r\n--x\r\nContent-Disposition: form-data; name=\"b\"; filename=\"b\"\r\n\r\nfile\r\n--y\r\n-\r\n--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n" + `["x", {"y": "}"}]` + "\r\n--x\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\nnull\r\n--x\r\nContent-Disposition: form-data; name=\"d\"\r\n\r\n\r\n--x--"},
		"query and body":        {query: "a=1+%26+%C3%A4&d", kind: formType, body: `a=2&b=%5B"x",+{"y":+"}"}%5D&c=null&d=3`},
		"twice":                 {query: "c=null&c=1&d=&d=2", kind: jsonType, body: `{"a":"1 & ä","a":"2","b":["x", {"y": "}"}],"b":2}`},
	} {
		if got := s.read(t, "a", "b", "c", "d"); !maps.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestEscapesThatAreNoneStay(t *testing.T) {
	t.Parallel()
	s := sent{query: "a=100%&b=%zz%4&c=%41%2&d=a;b=c=d"}
	want := Params{"a": "100%", "b": "%zz%4", "c": "A%2", "d": "a;b=c=d"}
	if got := s.read(t, "a", "b", "c", "d"); !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The method's name may be a parameter, in each encoding, and is then read like one in the path.
func TestTheMethodMayBeAParameter(t *testing.T) {
	t.Parallel()
	for _, s := range []sent{
		{query: "method=logOut"}, {query: "method=LOGOUT", kind: jsonType, body: `{"method":"getMe"}`}, {query: "%6Dethod=log%4Fut&method=getMe"},
		{kind: formType, body: "method=logout"}, {kind: jsonType, body: `{"method":"logOut","method":"getMe"}`}, fields(t, "method", "LogOut"),
	} {
		if name, ok := MethodName(s.read(t, "method")["method"]); !ok || ClassOf(name) != Local || name != "logout" {
			t.Errorf("%+v names %q", s, name)
		}
	}
}

func TestCompressedParameters(t *testing.T) {
	t.Parallel()
	const plain = `{"offset":5}`
	var zipped, deflated bytes.Buffer
	for _, w := range []io.WriteCloser{gzip.NewWriter(&zipped), zlib.NewWriter(&deflated)} {
		_, _ = io.WriteString(w, plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for encoding, body := range map[string]string{"": plain, "gzip": zipped.String(), "GZIP": zipped.String(), "deflate": deflated.String()} {
		if p, err := ReadParams("", jsonType, encoding, strings.NewReader(body), "offset"); err != nil || p.Int("offset", 0) != 5 {
			t.Errorf("%q: %v, %v", encoding, p, err)
		}
	}
	if _, err := ReadParams("", jsonType, "br", strings.NewReader(plain), "offset"); !errors.Is(err, ErrEncoding) {
		t.Errorf("br: %v", err)
	}
	for _, encoding := range []string{"gzip", "deflate"} {
		if _, err := ReadParams("", jsonType, encoding, strings.NewReader(plain), "offset"); err == nil || errors.Is(err, ErrEncoding) || errors.Is(err, ErrTooLarge) {
			t.Errorf("what is not compressed as %s: %v", encoding, err)
		}
	}
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = w.Write(make([]byte, 64<<10))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadParams("", formType, "gzip", bytes.NewReader(bomb.Bytes()), "offset"); errors.Is(err, ErrTooLong) {
		t.Errorf("parameters are taken for files: %v", err)
	}
	if _, err := ReadParams("", "text/plain", "gzip", bytes.NewReader(bomb.Bytes()), "offset"); !errors.Is(err, ErrTooLong) {
		t.Errorf("what may be files: %v", err)
	}
	for _, kind := range []string{jsonType, formType, "multipart/form-data; boundary=x", "text/plain"} {
		if _, err := ReadParams("", kind, "gzip", bytes.NewReader(bomb.Bytes()), "offset"); !errors.Is(err, ErrTooLarge) {
			t.Errorf("4 MiB of %s in %d bytes: %v", kind, bomb.Len(), err)
		}
	}
}

func TestParametersAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxParameters)
	half := long[:len(long)/2]
	for name, c := range map[string]struct {
		sent sent
		fits bool
	}{
		"query":                      {sent{query: "a=1&b=" + long[6:]}, true},
		"query, too long":            {sent{query: "a=1&b=" + long}, false},
		"form":                       {sent{kind: formType, body: "a=1&b=" + long[6:]}, true},
		"form, too long":             {sent{kind: formType, body: "a=1&b=" + long}, false},
		"JSON":                       {sent{kind: jsonType, body: `{"a":"1","b":"` + long[16:] + `"}`}, true},
		"JSON, too long":             {sent{kind: jsonType, body: `{"a":"1","b":"` + long + `"}`}, false},
		"multipart":                  {fields(t, "a", "1", "b", long[1024:]), true},
		"multipart, too long":        {fields(t, "a", "1", "b", long), false},
		"query and body, too long":   {sent{query: "b=" + half, kind: formType, body: "a=1&b=" + half}, false},
		"query and body":             {sent{query: "b=" + half[1024:], kind: formType, body: "a=1&b=" + half}, true},
		"a body that is not read":    {sent{query: "a=1", kind: "text/plain", body: half}, true},
		"a body without end":         {sent{query: "a=1", kind: "text/plain", body: long + half}, false},
		"multipart without end":      {sent{kind: "multipart/form-data; boundary=x", body: long + half}, false},
		"multipart, a long preamble": {sent{kind: "multipart/form-data; boundary=x", body: half + "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--"}, true},
	} {
		p, err := ReadParams(c.sent.query, c.sent.kind, "", strings.NewReader(c.sent.body), "a")
		switch {
		case c.fits && (err != nil || p["a"] != "1"):
			t.Errorf("%s: %v, %v", name, p, err)
		case !c.fits && !errors.Is(err, ErrTooLarge):
			t.Errorf("%s: %v, want %v", name, err, ErrTooLarge)
		}
	}
}

// A value that no parameter of use is as long as counts as empty, and so does its kind of name: it is not wanted.
func TestALongValueCountsAsEmpty(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", maxValueSent+1)
	for _, s := range []sent{
		{query: "a=" + long + "&b=2"}, {kind: jsonType, body: `{"a":"` + long + `","b":"2"}`}, {kind: jsonType, body: `{"a":` + long + `,"b":2}`},
		{kind: jsonType, body: `{"a":[` + long + `],"b":2}`}, fields(t, "a", long, "b", "2"),
		{query: long + "=1&a=&b=2"}, {kind: jsonType, body: `{"` + long + `":1,"a":"","b":2}`},
	} {
		if got := s.read(t, "a", "b"); !maps.Equal(got, Params{"a": "", "b": "2"}) {
			t.Errorf("%.40q, %.40q: %.80q", s.query, s.body, got)
		}
	}
}

func TestABodyThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken off")
	_, err := ReadParams("a=1", jsonType, "", io.MultiReader(strings.NewReader(`{"b":2`), iotest.ErrReader(broken)), "a")
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// Of an upload nothing is held but the parameters that are wanted, wherever they stand.
func TestAnUploadStreamsThrough(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	for _, first := range []bool{true, false} {
		r, w := io.Pipe()
		m := multipart.NewWriter(w)
		go func() {
			if first {
				_ = m.WriteField("chat_id", "-77")
			}
			file, _ := m.CreateFormFile("document", "chat_id")
			piece := bytes.Repeat([]byte("\r\n--\r\n\r\n-"), 8<<10)
			for n := 0; n < size; n += len(piece) {
				_, _ = file.Write(piece)
			}
			if !first {
				_ = m.WriteField("chat_id", "-77")
			}
			_ = m.Close()
			_ = w.Close()
		}()
		s := NewScanner("", m.FormDataContentType(), Wanted("senddocument")...)
		n, err := io.Copy(io.Discard, io.TeeReader(r, s))
		if err != nil || n < size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if held := cap(s.parser.(*parts).left); held > 128<<10 {
			t.Errorf("%d bytes are held", held)
		}
		p, err := s.Params()
		if names := NamesIn("senddocument", p); err != nil || len(names.Chats) != 1 || names.Chats[0] != -77 {
			t.Errorf("it names %+v, %v", names, err)
		}
	}
}

func TestBeforeTheEndOnlyTheQueryCounts(t *testing.T) {
	t.Parallel()
	for kind, body := range map[string]string{jsonType: `{"b":2,`, "multipart/form-data; boundary=x": fields(t, "b", "2").body[:40]} {
		s := NewScanner("a=1", kind, "a", "b")
		if _, err := io.WriteString(s, body); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Params(); err != nil || !maps.Equal(p, Params{"a": "1"}) {
			t.Errorf("%s: %v, %v", kind, p, err)
		}
	}
}

func TestNumbersAndBooleansAsTheRealServerReadsThem(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{
		"": 42, "0": 0, "17": 17, "-17": -17, "17x": 17, "x": 0, "-": 0, "--1": 0, "+1": 0, " 1": 0, "1.9": 1, "null": 0, "1e3": 1,
		"9223372036854775807": math.MaxInt64, "9223372036854775808": math.MaxInt64, "-99999999999999999999": -math.MaxInt64,
	} {
		if got := (Params{"n": raw}).Int("n", 42); got != want {
			t.Errorf("%q is %d, want %d", raw, got, want)
		}
	}
	for raw, want := range map[string]bool{"true": true, "True": true, "YES": true, " 1 ": true, "": false, "0": false, "false": false, "on": false} {
		if got := (Params{"b": raw}).Bool("b"); got != want {
			t.Errorf("%q is %t", raw, got)
		}
	}
}

func TestBoundsOfGetUpdates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		params Params
		want   Updates
	}{
		{Params{}, Updates{Limit: 100}},
		{Params{"limit": "0", "timeout": "-5", "offset": "99999999999"}, Updates{Offset: math.MaxInt32, Limit: 1}},
		{Params{"limit": "1000", "timeout": "50", "offset": "-99999999999"}, Updates{Offset: math.MinInt32, Limit: 100, Timeout: 50 * time.Second}},
		{Params{"offset": "7", "allowed_updates": `["message"]`}, Updates{Offset: 7, Limit: 100, Allowed: `["message"]`}},
		{Params{"limit": "x", "timeout": "99999999999999999999"}, Updates{Limit: 1, Timeout: 50 * time.Second}},
	} {
		if got := UpdatesIn(c.params); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.params, got, c.want)
		}
	}
}

func TestAllowedKinds(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"": "", "null": "", "x": "", "{}": "", `"message"`: "", "[1]": "", `["message",null]`: "", `["message"`: "", "7": "",
		"[]": "[]", ` [ "Message" , "poll" ] `: `["message","poll"]`,
		`["` + strings.Repeat("x", MaxAllowed-4) + `"]`: `["` + strings.Repeat("x", MaxAllowed-4) + `"]`,
		`["` + strings.Repeat("x", MaxAllowed-3) + `"]`: "", // a copy's kinds are kept, on each replica
	} {
		if got := UpdatesIn(Params{"allowed_updates": raw}).Allowed; got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for name, s := range map[string]sent{
		"multipart": {kind: "multipart/form-data; boundary=x", body: "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" + strings.Repeat("0123456789abcdef", 64<<10) + "\r\n--x--"},
		"JSON":      {kind: jsonType, body: `{"text":"` + strings.Repeat("0123456789abcdef", 60<<10) + `","chat_id":1}`},
		"a call":    {kind: jsonType, body: `{"chat_id":1234567,"text":"a message","parse_mode":"HTML","disable_notification":true}`},
		"form":      {kind: formType, body: "text=" + strings.Repeat("0123456789abcdef", 60<<10) + "&chat_id=1"},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s.body)))
			b.ReportAllocs()
			for b.Loop() {
				scanner := NewScanner("", s.kind, Wanted("sendmessage")...)
				if _, err := io.CopyBuffer(struct{ io.Writer }{scanner}, struct{ io.Reader }{strings.NewReader(s.body)}, make([]byte, 32<<10)); err != nil {
					b.Fatal(err)
				}
				if _, err := scanner.Params(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
