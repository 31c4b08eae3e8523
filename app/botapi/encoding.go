package botapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// errMalformed says that a body is not what its content type says.
var errMalformed = errors.New("malformed body")

// Bounds of what is kept of one parameter, in bytes as they are sent. A name that is longer is not wanted, a value that
// is longer counts as empty.
const (
	maxNameSent  = 256
	maxValueSent = 8 << 10
)

// text is a name or a value as it comes, bounded.
type text struct {
	sent []byte
	long bool
}

func (t *text) add(p []byte, most int) {
	if t.long = t.long || len(t.sent)+len(p) > most; !t.long {
		t.sent = append(t.sent, p...)
	}
}

func (t *text) reset() { t.sent, t.long = t.sent[:0], false }

// --- application/x-www-form-urlencoded ----------------------------------------------------------

// form reads name=value&name=value. Nothing is malformed: what is no escape stays as it is.
type form struct {
	wants func(name string) bool
	found func(name, value string)

	name, value    text
	inValue, keeps bool
}

func (f *form) write(p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 {
		stop := "=&"
		if f.inValue {
			stop = "&"
		}
		part, rest, stopped := p, []byte(nil), byte(0)
		if i := bytes.IndexAny(p, stop); i >= 0 {
			part, rest, stopped = p[:i], p[i+1:], p[i]
		}
		if !f.inValue {
			f.name.add(part, maxNameSent)
		} else if f.keeps {
			f.value.add(part, maxValueSent)
		}
		p = rest
		switch stopped {
		case '=':
			f.inValue, f.keeps = true, !f.name.long && f.wants(unescape(f.name.sent))
		case '&':
			f.ended()
		}
	}
	return size, nil
}

func (f *form) ended() {
	if name := unescape(f.name.sent); f.keeps || !f.inValue && !f.name.long && f.wants(name) {
		value := ""
		if !f.value.long {
			value = unescape(f.value.sent)
		}
		f.found(name, value)
	}
	f.name.reset()
	f.value.reset()
	f.inValue, f.keeps = false, false
}

func (f *form) end() error {
	f.ended()
	return nil
}

// unescape decodes percent signs and pluses. An escape that is none stays as it is.
func unescape(s []byte) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(hex(s[i+1])<<4 | hex(s[i+2]))
			i += 2
		case s[i] == '+':
			b.WriteByte(' ')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	default:
		return c - 'A' + 10
	}
}

// --- application/json -----------------------------------------------------------------------------

// object reads the fields of one JSON object. Inside of nested values it only looks for their end. A document that is
// no object has no parameters.
type object struct {
	wants func(name string) bool
	found func(name, value string)

	at          place
	depth       int  // of brackets in a nested value
	quoted      bool // in a string of a nested value
	escaped     bool // after a backslash in a string
	keeps       bool
	name, value text
}

// place is where in a document it stands.
type place int

const (
	atStart   place = iota // before the brace
	atName                 // before a name, or the end
	inName                 // in a name
	atColon                // before the colon
	atValue                // before a value
	inString               // in a string that is a value
	inScalar               // in a number, true, false or null
	inNested               // in an object or array that is a value
	atComma                // before a comma, or the end
	atEnd                  // after the object
	elsewhere              // the document is no object
)

const space = " \t\r\n"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }

func (o *object) write(p []byte) (int, error) {
	for i := 0; i < len(p); i++ {
		// Long strings are the bulk of a body: they are not looked at byte for byte.
		if (o.at == inString || o.quoted) && !o.escaped {
			n := bytes.IndexAny(p[i:], "\"\\")
			if n < 0 {
				n = len(p) - i
			}
			o.keep(p[i : i+n])
			if i += n; i == len(p) {
				break
			}
		}
		if err := o.take(p[i]); err != nil {
			return len(p), err
		}
	}
	return len(p), nil
}

func (o *object) keep(p []byte) {
	if o.keeps {
		o.value.add(p, maxValueSent)
	}
}

func (o *object) take(c byte) error {
	switch o.at {
	case atStart:
		switch {
		case isSpace(c):
		case c == '{':
			o.at = atName
		default:
			o.at = elsewhere
		}
	case atName:
		switch {
		case isSpace(c):
		case c == '"':
			o.at = inName
		case c == '}':
			o.at = atEnd
		default:
			return errMalformed
		}
	case inName:
		if c == '"' && !o.escaped {
			o.at = atColon
			return nil
		}
		o.escaped = c == '\\' && !o.escaped
		o.name.add([]byte{c}, maxNameSent)
	case atColon:
		switch {
		case isSpace(c):
		case c == ':':
			name, ok := unquote(o.name)
			o.at, o.keeps = atValue, ok && o.wants(name)
		default:
			return errMalformed
		}
	case atValue:
		return o.begin(c)
	case inString:
		if c == '"' && !o.escaped {
			value, ok := unquote(o.value)
			if !ok && !o.value.long {
				return errMalformed
			}
			o.ended(value)
			return nil
		}
		o.escaped = c == '\\' && !o.escaped
		o.keep([]byte{c})
	case inScalar:
		if c != ',' && c != '}' && !isSpace(c) {
			o.keep([]byte{c})
			return nil
		}
		o.ended(o.raw())
		return o.take(c)
	case inNested:
		o.nest(c)
	case atComma:
		switch {
		case isSpace(c):
		case c == ',':
			o.at = atName
		case c == '}':
			o.at = atEnd
		default:
			return errMalformed
		}
	case atEnd:
		if !isSpace(c) {
			return errMalformed
		}
	case elsewhere:
	}
	return nil
}

// begin takes the first byte of a value.
func (o *object) begin(c byte) error {
	switch {
	case isSpace(c):
	case c == '"':
		o.at = inString
	case c == '{' || c == '[':
		o.at = inNested
		o.nest(c)
	case c == ',' || c == '}' || c == ']' || c == ':':
		return errMalformed
	default:
		o.at = inScalar
		o.keep([]byte{c})
	}
	return nil
}

func (o *object) nest(c byte) {
	o.keep([]byte{c})
	switch {
	case o.quoted && o.escaped:
		o.escaped = false
	case o.quoted:
		o.escaped, o.quoted = c == '\\', c != '"'
	case c == '"':
		o.quoted = true
	case c == '{' || c == '[':
		o.depth++
	case c == '}' || c == ']':
		if o.depth--; o.depth == 0 {
			o.ended(o.raw())
		}
	}
}

// raw is a value that is no string.
func (o *object) raw() string {
	if o.value.long {
		return ""
	}
	return string(o.value.sent)
}

func (o *object) ended(value string) {
	if o.keeps {
		name, _ := unquote(o.name)
		o.found(name, value)
	}
	o.name.reset()
	o.value.reset()
	o.at, o.keeps = atComma, false
}

func (o *object) end() error {
	if o.at != atEnd && o.at != elsewhere {
		return errMalformed
	}
	return nil
}

// plain tells whether a JSON string is what it is written as: names are, and most values that are looked at.
func plain(sent []byte) bool {
	for _, c := range sent {
		if c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// unquote decodes what stands between the quotes of a JSON string.
func unquote(t text) (string, bool) {
	var s string
	if !t.long && plain(t.sent) {
		return string(t.sent), true
	}
	if t.long || json.Unmarshal([]byte(`"`+string(t.sent)+`"`), &s) != nil {
		return "", false
	}
	return s, true
}
