package relay

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// files is a multipart body with these fields in order, name=value each, and a file.
func files(t testing.TB, size int, fields ...string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if size > 0 {
		part, err := w.CreateFormFile("document", "a.bin")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write(bytes.Repeat([]byte{'x'}, size))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

func TestACallIsFoundInEveryEncoding(t *testing.T) {
	t.Parallel()
	small, smallBody := files(t, 1000, "chat_id=5", "method=sendDocument")
	large, largeBody := files(t, 5<<20, "method=sendDocument", "chat_id=5")
	for name, tt := range map[string]struct {
		contentType, body, method string
	}{
		"json":                    {jsonType, `{"method":"sendMessage","chat_id":9007199254740993,"text":"a"}`, "sendMessage"},
		"json with charset":       {"application/json; charset=utf-8", ` {"method":"answerCallbackQuery"} `, "answerCallbackQuery"},
		"json, odd parameters":    {"Application/JSON; charset", `{"method":"sendMessage"}`, "sendMessage"},
		"form":                    {formType, "method=sendMessage&chat_id=5&text=a+b", "sendMessage"},
		"multipart":               {small, string(smallBody), "sendDocument"},
		"multipart, large":        {large, string(largeBody), "sendDocument"},
		"json without":            {jsonType, `{}`, ""},
		"json null":               {jsonType, `{"method":null}`, ""},
		"json number":             {jsonType, `{"method":5}`, ""},
		"json, no object":         {jsonType, `[1]`, ""},
		"json true":               {jsonType, `true`, ""},
		"json, another's method":  {jsonType, `{"x":{"method":"sendMessage"}}`, ""},
		"json, empty":             {jsonType, ``, ""},
		"form without":            {formType, "a=b", ""},
		"text that looks like it": {"text/plain", `{"method":"sendMessage"}`, ""},
		"no type":                 {"", `{"method":"sendMessage"}`, ""},
	} {
		if !mayBeReply(tt.contentType) {
			if tt.method != "" {
				t.Errorf("%s: it is not read", name)
			}
			continue
		}
		r, err := readReply(tt.contentType, strings.NewReader(tt.body))
		if err != nil || r.method != tt.method {
			t.Errorf("%s: %q, %v; want %q", name, r.method, err, tt.method)
			continue
		}
		if tt.method == "" {
			continue
		}
		if body, err := io.ReadAll(r.body()); err != nil || string(body) != tt.body {
			t.Errorf("%s: the body to send differs: %d bytes of %d, %v", name, len(body), len(tt.body), err)
		}
		if (r.rest != nil) != (len(tt.body) > maxParameters) || len(r.start) > maxParameters {
			t.Errorf("%s: %d bytes of %d are kept in memory", name, len(r.start), len(tt.body))
		}
	}
}

func TestAnswersThatAreNoCallsAreBounded(t *testing.T) {
	t.Parallel()
	late, lateBody := files(t, 2<<20)
	lateBody = bytes.Replace(lateBody, []byte("--\r\n"), []byte("\r\nContent-Disposition: form-data; name=\"method\"\r\n\r\nsendDocument"), 1)
	broken := errors.New("reset")
	for name, tt := range map[string]struct {
		contentType string
		body        io.Reader
		want        error
	}{
		"json of 100 MB":        {jsonType, io.LimitReader(zeros{'1'}, 100<<20), errTooLarge},
		"form without an end":   {formType, zeros{'a'}, errTooLarge},
		"multipart, no end":     {"multipart/form-data; boundary=x", zeros{'a'}, errTooLarge},
		"the method comes late": {late, bytes.NewReader(lateBody), errTooLarge},
		"half json":             {jsonType, io.MultiReader(strings.NewReader(`{"method":`), iotest.ErrReader(broken)), errIncomplete},
		"json cut short":        {jsonType, io.MultiReader(strings.NewReader(`{"method":"sendMessage"}`), iotest.ErrReader(io.ErrUnexpectedEOF)), errIncomplete},
		"half multipart":        {"multipart/form-data; boundary=x", io.MultiReader(strings.NewReader("--x\r\n"), iotest.ErrReader(broken)), errIncomplete},
		"half a file": {"multipart/form-data; boundary=x", io.MultiReader(
			strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"method\"\r\n\r\nsendPhoto\r\n--x\r\n"), iotest.ErrReader(broken)), errIncomplete},
		"junk as json":      {jsonType, strings.NewReader("<html>"), errMalformed},
		"junk as form":      {formType, strings.NewReader("%zz=%"), errMalformed},
		"junk as multipart": {"multipart/form-data; boundary=x", strings.NewReader("junk"), nil},
		"no boundary":       {"multipart/form-data", strings.NewReader("junk"), errMalformed},
	} {
		r, err := readReply(tt.contentType, tt.body)
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || r.method != "" {
			t.Errorf("%s: %q, %v; want %v", name, r.method, err, tt.want)
		}
	}
}

// zeros is a reader without an end.
type zeros struct{ b byte }

func (z zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = z.b
	}
	return len(p), nil
}

// The rest of a long answer is sent on as it comes, up to what Telegram takes.
func TestALongReplyIsBounded(t *testing.T) {
	t.Parallel()
	contentType, body := files(t, 1, "method=sendDocument")
	head := body[:bytes.Index(body, []byte("x\r\n"))] //nolint:gocritic // it is there
	for size, want := range map[int64]error{maxReply: nil, maxReply + 1: errTooLarge, 100 << 20: errTooLarge} {
		r, err := readReply(contentType, io.LimitReader(io.MultiReader(bytes.NewReader(head), zeros{'x'}), size))
		if err != nil || r.method != "sendDocument" {
			t.Fatalf("%d bytes: %q, %v", size, r.method, err)
		}
		n, err := io.Copy(io.Discard, r.body())
		if !errors.Is(err, want) || want == nil && (err != nil || n != size) {
			t.Errorf("%d bytes: %d, %v; want %v", size, n, err, want)
		}
	}
	// What the backend breaks off is not whole for Telegram either.
	broken := errors.New("reset")
	r, err := readReply(contentType, io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{'x'}, 2<<20), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r.body()); !errors.Is(err, broken) {
		t.Errorf("it ends with %v", err)
	}
}

func TestMethodsThatAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	for _, m := range []string{
		"getUpdates", "GETUPDATES", "getMe", "get", "getFuture", "setWebhook", "SetWebHook", "deleteWebhook", "DELETEWEBHOOK", "close", "Close",
		"logOut", "LOGOUT", "logout", "", "send message", "../getMe", "sendMessage?x=1", "sendMessage/../close", "%67etMe", "send\nMessage",
		"1send", "_x", "sendMessage ", strings.Repeat("a", 65), "ſendMessage", "ＬogOut",
	} {
		if forbidden(m) == "" {
			t.Errorf("%q would be carried out", m)
		}
	}
	for _, m := range []string{"sendMessage", "SENDMESSAGE", "answerCallbackQuery", "doSomethingNew2", "closeForumTopic", "deleteWebhooks", "forgetMe"} {
		if why := forbidden(m); why != "" {
			t.Errorf("%q is not carried out: %s", m, why)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	contentType, body := files(f, 10, "chat_id=5", "method=sendDocument")
	f.Add(contentType, body)
	f.Add(jsonType, []byte(`{"method":"sendMessage","x":{"y":[1,2]}}`))
	f.Add(formType, []byte("method=a&b=%20"))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=method\r\n\r\nlogOut\r\n--x--"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if !mayBeReply(contentType) {
			return
		}
		r, err := readReply(contentType, bytes.NewReader(body))
		switch {
		case errors.Is(err, errIncomplete):
			t.Fatalf("a whole body is incomplete: %v", err)
		case err != nil && !errors.Is(err, errMalformed) && !errors.Is(err, errTooLarge):
			t.Fatalf("an error of another kind: %v", err)
		case r.method == "":
			return
		}
		if sent, err := io.ReadAll(r.body()); err != nil || !bytes.Equal(sent, body) {
			t.Fatalf("the body is not sent as it is: %v", err)
		}
		if forbidden(r.method) == "" && strings.ContainsAny(r.method, "/?#%. \r\n") {
			t.Fatalf("%q would be carried out", r.method)
		}
	})
}
