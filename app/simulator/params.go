package simulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds a request's parameters, maxMultipart a request with files.
const (
	maxBody      = 4 << 20
	maxMultipart = maxUpload + 2*maxBody
)

var errBody = errors.New("the request's body cannot be read")

// params are a request's parameters, whichever way they came: query string, form, multipart or JSON. As in
// the real server the first of a name counts, and the query comes before the body. What is no string in
// JSON stays as JSON writes it.
//
// The gateway reads requests by botapi, and the simulator does not use that: it judges the gateway, and with the same reader a
// mistake in it would go unnoticed. It also needs all parameters and files, of which botapi keeps only a few short ones.
type params map[string]string

func readParams(req *http.Request) (params, uploads, error) {
	p, files := params{}, uploads{}
	p.add(req.URL.Query())
	kind, attributes, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err == nil && kind == "multipart/form-data" {
		return p, files, p.addMultipart(io.LimitReader(req.Body, maxMultipart), attributes["boundary"], files)
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, nil, errBody
	}
	return p, files, p.addBody(kind, body)
}

func (p params) add(v url.Values) {
	for name, values := range v {
		p.first(name, values[0])
	}
}

// first sets a parameter that is not set yet.
func (p params) first(name, value string) {
	if _, set := p[name]; !set {
		p[name] = value
	}
}

// addBody reads a body; like the real server it does not look at one of no known kind.
func (p params) addBody(kind string, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	switch kind {
	case "application/json":
		return p.addJSON(body)
	case "application/x-www-form-urlencoded":
		v, err := url.ParseQuery(string(body))
		if err != nil {
			return fmt.Errorf("%w: %w", errBody, err)
		}
		p.add(v)
	}
	return nil
}

func (p params) addJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	for name, raw := range fields {
		var s string
		switch {
		case string(raw) == "null":
		case json.Unmarshal(raw, &s) == nil:
			p.first(name, s)
		default:
			p.first(name, string(raw))
		}
	}
	return nil
}

// addMultipart reads parts one after another: files are not held in memory. A body without any is like none.
func (p params) addMultipart(body io.Reader, boundary string, files uploads) error {
	buffered := bufio.NewReader(body)
	if _, err := buffered.Peek(1); errors.Is(err, io.EOF) {
		return nil
	}
	left := maxBody
	for r := multipart.NewReader(buffered, boundary); ; {
		part, err := r.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil && part.FileName() != "":
			err = files.add(part)
		case err == nil:
			var value []byte
			value, err = io.ReadAll(io.LimitReader(part, int64(left)+1))
			if left -= len(value); left < 0 {
				return errBody
			}
			p.first(part.FormName(), string(value))
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBody, err)
		}
	}
}

// number reads as the real server does: the digits at the start count, anything else is 0, absent is
// otherwise.
func (p params) number(name string, otherwise int) int {
	s := strings.TrimSpace(p[name])
	if s == "" {
		return otherwise
	}
	negative := strings.HasPrefix(s, "-")
	n := 0
	for _, r := range strings.TrimPrefix(s, "-") {
		if r < '0' || r > '9' {
			break
		}
		if n = n*10 + int(r-'0'); n > math.MaxInt32 {
			n = math.MaxInt32
			break
		}
	}
	if negative {
		return -n
	}
	return n
}

func (p params) truth(name string) bool {
	switch strings.ToLower(p[name]) {
	case "true", "yes", "1":
		return true
	}
	return false
}

// list reads a JSON array of strings; nil if it is absent or no such thing.
func (p params) list(name string) []string {
	raw, ok := p[name]
	if !ok {
		return nil
	}
	list := []string{}
	if json.Unmarshal([]byte(raw), &list) != nil {
		return nil
	}
	return list
}
