package simulator

import (
	"bytes"
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

// maxBody bounds a request: the simulator takes no files.
const maxBody = 4 << 20

var errBody = errors.New("the request's body cannot be read")

// params are a request's parameters, whichever way they came: query string, form, multipart or JSON. As in
// the real server the first of a name counts, and the query comes before the body. What is no string in
// JSON stays as JSON writes it.
type params map[string]string

func readParams(req *http.Request) (params, error) {
	p := params{}
	p.add(req.URL.Query())
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, errBody
	}
	return p, p.addBody(req.Header.Get("Content-Type"), body)
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

func (p params) addBody(contentType string, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	kind, attributes, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil //nolint:nilerr // like the real server: a body of no known kind is not looked at
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
	case "multipart/form-data":
		return p.addMultipart(body, attributes["boundary"])
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

func (p params) addMultipart(body []byte, boundary string) error {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBody, err)
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return fmt.Errorf("%w: %w", errBody, err)
		}
		p.first(part.FormName(), string(value))
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
