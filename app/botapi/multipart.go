package botapi

import (
	"bytes"
	"strings"
)

const (
	maxBoundary = 70
	// maxPartHeaders bounds the headers of one part, in bytes.
	maxPartHeaders = 16 << 10
)

// parts reads multipart/form-data. Files pass by without being kept.
type parts struct {
	wants func(name string) bool
	found func(name, value string)

	delimiter []byte // with the line break before it
	at        partPlace
	left      []byte // what was not consumed yet, as a delimiter may have begun in it
	name      string
	file      bool
	keeps     bool
	value     text
}

type partPlace int

const (
	inPreamble partPlace = iota
	afterDelimiter
	inHeaders
	inPart
	inEpilogue
	broken
)

// newMultipart reads the boundary out of a content type as the real server does.
func newMultipart(contentType string, wants func(string) bool, found func(name, value string)) *parts {
	m := &parts{wants: wants, found: found, at: broken}
	i := strings.Index(strings.ToLower(contentType), "boundary")
	if i < 0 || i > len(contentType) {
		return m
	}
	_, value, ok := strings.Cut(contentType[i:], "=")
	value, _, _ = strings.Cut(value, ";")
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	if !ok || value == "" || len(value) > maxBoundary {
		return m
	}
	m.delimiter = []byte("\r\n--" + value)
	m.at = inPreamble
	return m
}

func (m *parts) write(p []byte) (parameters int, err error) {
	m.left = append(m.left, p...)
	p = m.left
	for more := true; more && err == nil; {
		var taken, counted int
		taken, counted, more, err = m.take(p)
		p = p[taken:]
		parameters += counted
	}
	m.left = append(m.left[:0], p...)
	return parameters, err
}

// take consumes bytes, of which some belong to parameters, and reports whether to call it again at once.
func (m *parts) take(p []byte) (taken, parameters int, more bool, err error) {
	switch m.at {
	case inPreamble: // a line break before the first delimiter is not needed
		first := m.delimiter[2:]
		if i := bytes.Index(p, first); i >= 0 {
			m.at = afterDelimiter
			return i + len(first), 0, true, nil
		}
		return max(0, len(p)-len(first)+1), 0, false, nil
	case afterDelimiter:
		if len(p) < 2 {
			return 0, 0, false, nil
		}
		if p[0] == '-' && p[1] == '-' {
			m.at = inEpilogue
			return 2, 0, true, nil
		}
		m.at = inHeaders
		return 0, 0, true, nil
	case inHeaders:
		i := bytes.Index(p, []byte("\r\n\r\n"))
		if i > maxPartHeaders || i < 0 && len(p) > maxPartHeaders {
			return 0, 0, false, errMalformed
		}
		if i < 0 {
			return 0, 0, false, nil
		}
		m.at = inPart
		return i + 4, i, true, m.headers(string(p[:i]))
	case inPart:
		if i := bytes.Index(p, m.delimiter); i >= 0 {
			parameters = m.part(p[:i])
			m.ended()
			m.at = afterDelimiter
			return i + len(m.delimiter), parameters, true, nil
		}
		n := max(0, len(p)-len(m.delimiter)+1)
		return n, m.part(p[:n]), false, nil
	case inEpilogue:
		return len(p), 0, false, nil
	case broken:
		return len(p), 0, false, errMalformed
	}
	return len(p), 0, false, errMalformed
}

// headers reads what a part is.
func (m *parts) headers(block string) error {
	m.name, m.file = "", false
	for line := range strings.SplitSeq(block, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "content-disposition") {
			continue
		}
		attributes, ok := strings.CutPrefix(strings.TrimSpace(value), "form-data;")
		if !ok {
			return errMalformed
		}
		for attribute := range strings.SplitSeq(attributes, ";") {
			key, value, ok := strings.Cut(attribute, "=")
			if value = strings.TrimSpace(value); len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			switch strings.TrimSpace(key) {
			case "name":
				m.name = value
			case "filename":
				m.file = m.file || ok
			}
		}
	}
	if m.name == "" {
		return errMalformed
	}
	m.keeps = !m.file && m.wants(m.name)
	return nil
}

// part takes in a piece of a part, and returns how many of its bytes count as parameters.
func (m *parts) part(p []byte) int {
	if m.keeps {
		m.value.add(p, maxValueSent)
	}
	if m.file {
		return 0
	}
	return len(p)
}

func (m *parts) ended() {
	if m.keeps {
		value := ""
		if !m.value.long {
			value = string(m.value.sent)
		}
		m.found(m.name, value)
	}
	m.value.reset()
	m.keeps = false
}

func (m *parts) end() error {
	if m.at != inEpilogue && (m.at != inPreamble || len(m.left) > 0) {
		return errMalformed // an empty body is none of them: it has no parts
	}
	return nil
}
