package botapi

import (
	"errors"
	"net/netip"
	"strings"
)

// ErrNotFound says that a path leads to no method and no file. Its answer is 404. The path is not in its text, because
// it may hold a token.
var ErrNotFound = errors.New("not a path of the Bot API")

const (
	maxName = 64
	// folderTest stands before the method in requests for Telegram's test servers.
	folderTest = "test"
)

// Path is what the path of a request says.
type Path struct {
	// Copy is the name that the client gives itself, /copy/NAME/bot...; empty if it gives none. It is no IP address: copies without
	// a name are known by theirs.
	Copy string
	// Token is not checked, and may be empty: the answer to one that is none is 401, as that to a wrong one is.
	Token string
	// Test tells that the request is for Telegram's test servers, /bot<token>/test/<method>.
	Test bool
	// Method is in lower case, of letters, digits and underscores; empty if the parameter "method" has it, or if the
	// request is for a file.
	Method string
	// File is the file's path, without a slash at its start and without dot segments; empty if the request is for a method.
	File string
}

// ParsePath reads the path of a request, percent-decoded. Slashes may be doubled before "bot" and "file", which is what
// an API root with a slash at its end gives. The error is ErrNotFound.
func ParsePath(path string) (Path, error) {
	var p Path
	rest := strings.TrimLeft(path, "/")
	if rest == path {
		return Path{}, ErrNotFound
	}
	if name, ok := strings.CutPrefix(rest, "copy/"); ok {
		p.Copy, rest, ok = strings.Cut(name, "/")
		if !ok || !isName(p.Copy) {
			return Path{}, ErrNotFound
		}
		rest = strings.TrimLeft(rest, "/")
	}
	file, isFile := strings.CutPrefix(rest, "file/")
	if isFile {
		rest = strings.TrimLeft(file, "/")
	}
	rest, isBot := strings.CutPrefix(rest, "bot")
	token, rest, found := strings.Cut(rest, "/")
	if !isBot || !found {
		return Path{}, ErrNotFound
	}
	p.Token = token
	if test, ok := strings.CutPrefix(rest, folderTest+"/"); ok {
		p.Test, rest = true, test
	}
	if isFile {
		p.File = rest
		if !isFilePath(rest) {
			return Path{}, ErrNotFound
		}
		return p, nil
	}
	if rest == "" {
		return p, nil
	}
	if rest == folderTest { // no method: another server might take the parameter "method" for it
		return Path{}, ErrNotFound
	}
	var ok bool
	if p.Method, ok = MethodName(rest); !ok {
		return Path{}, ErrNotFound
	}
	return p, nil
}

// MethodName is a method's name in lower case, as the real server compares it; false if it can be no method's.
func MethodName(s string) (string, bool) {
	if s == "" || len(s) > maxName {
		return "", false
	}
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && c != '_' {
			return "", false
		}
	}
	return strings.ToLower(s), true
}

func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

func isLetterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isFilePath reports whether a path stays below the folder that it is relative to.
func isFilePath(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
