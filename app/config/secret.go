package config

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

const (
	acceptedToken         = "a token from BotFather: digits, a colon, 35 of A-Z a-z 0-9 _ -"
	acceptedAdminToken    = "at least 16 bytes"
	acceptedClusterSecret = "at least 32 random bytes as base64 or hex, made with: openssl rand -base64 32" +
		" (a stranger who reaches PEER_ADDR can test guesses of anything weaker); or two such secrets, NEW,OLD, while one replaces the other"

	minAdminToken = 16 // bytes
	minSecret     = 32 // bytes, decoded
	// minDistinct is how many different bytes are among those of a secret. Of 32 random ones 30 are, on average; the
	// chance of fewer than 20 is below 1e-9.
	minDistinct = 20
	// maxSecrets: one to use, one that it replaces.
	maxSecrets = 2
)

// secret is what a variable or its _FILE twin holds.
type secret struct {
	text string
	// name is the variable to blame: the one that is set.
	name string
}

// byteOrderMark is put in front of a text by editors on Windows.
const byteOrderMark = "\ufeff"

// clean is a text without a byte order mark and the white space around it.
func clean(text string) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), byteOrderMark))
}

// SecretFile is a file that a secret is read from.
type SecretFile struct {
	// Variable ends with _FILE.
	Variable string
	// Path may be the secret itself, put in the wrong variable: it MUST NOT be shown.
	Path string
}

// SecretFiles are the files that an environment names, in the order of Variables.
func SecretFiles(environ []string) ([]SecretFile, error) {
	known, err := Variables()
	if err != nil {
		return nil, err
	}
	set := given(environ)
	var all []SecretFile
	for _, v := range known {
		if path := set[v.Name]; path != "" && strings.HasSuffix(v.Name, "_FILE") {
			all = append(all, SecretFile{v.Name, path})
		}
	}
	return all, nil
}

// secret reads a variable or its _FILE twin.
func (c *checker) secret(name, value, file string) secret {
	switch {
	case file == "":
		return secret{value, name}
	case value != "":
		c.secretProblem(name, fmt.Sprintf("both %s and %s_FILE are set; set one", name, name))
		return secret{}
	}
	name += "_FILE"
	raw, err := c.readFile(file)
	if err != nil {
		// The value is not shown: it may be the secret itself, put in the wrong variable.
		c.secretProblem(name, "the name of a readable file ("+reason(err)+")")
		return secret{}
	}
	text := clean(string(raw))
	switch {
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		c.secretProblem(name, "the name of a file in UTF-8 (this one is UTF-16, as PowerShell's > writes)")
		return secret{}
	case text == "":
		c.secretProblem(name, "the name of a file that is not empty")
	}
	return secret{text, name}
}

// reason is why a file cannot be read, without its name.
func reason(err error) string {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err.Error()
	}
	return "it cannot be read"
}

var (
	tokenShape = regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]{35}$`)
	// tokenWithin finds tokens where none belongs, mistyped ones too.
	tokenWithin = regexp.MustCompile(`[0-9]{3}:[A-Za-z0-9_-]{20}`)
)

func (c *checker) token(raw environment) string {
	before := len(c.problems)
	token := c.secret("BOT_TOKEN", raw.BotToken, raw.BotTokenFile)
	switch {
	case token.text != "" && !tokenShape.MatchString(token.text):
		c.secretProblem(token.name, acceptedToken)
	case token.text == "" && len(c.problems) == before:
		return DemoToken
	}
	return token.text
}

func (c *checker) adminToken(raw environment) string {
	token := c.secret("ADMIN_TOKEN", raw.AdminToken, raw.AdminTokenFile)
	if token.text != "" && len(token.text) < minAdminToken {
		c.secretProblem(token.name, acceptedAdminToken)
	}
	return token.text
}

// clusterSecrets are what replicas prove to each other: the first is sent, all are accepted. Their bytes are those
// of the text, not those that it encodes: so they were in 1.0.0.
func (c *checker) clusterSecrets(raw environment, token string) [][]byte {
	given := c.secret("CLUSTER_SECRET", raw.ClusterSecret, raw.ClusterSecretFile)
	if given.text == "" && token == "" {
		return nil // a witness, refused already
	}
	if given.text == "" {
		return [][]byte{[]byte("derived from the token " + token)}
	}
	var all [][]byte
	seen := map[string]bool{}
	for text := range strings.SplitSeq(given.text, ",") {
		text = strings.TrimSpace(text)
		if !generated(text) || seen[text] || len(all) == maxSecrets {
			c.secretProblem(given.name, acceptedClusterSecret)
			return nil
		}
		seen[text] = true
		all = append(all, []byte(text))
	}
	return all
}

// operatorKey derives the command line's key, by HKDF-SHA256 (RFC 5869).
func (c *checker) operatorKey(secrets [][]byte) string {
	if len(secrets) == 0 {
		return "" // refused already
	}
	key, err := hkdf.Key(sha256.New, secrets[0], nil, "habot operator key v1", sha256.Size)
	if err != nil {
		c.secretProblem("CLUSTER_SECRET", "a key cannot be derived from it")
		return ""
	}
	return hex.EncodeToString(key)
}

// generated reports whether a text looks like what a generator of random bytes writes: long enough, and not words or a
// pattern. It cannot tell for sure.
func generated(text string) bool {
	raw, err := hex.DecodeString(text)
	switch digits := strings.ContainsAny(text, "0123456789"); {
	case err == nil && digits && strings.ContainsAny(text, "abcdefABCDEF"):
	case err == nil: // digits alone, or letters alone
		return false
	default:
		raw = decodeBase64(text)
		if raw == nil || strings.ToLower(text) == text || strings.ToUpper(text) == text {
			return false
		}
	}
	distinct := map[byte]bool{}
	for _, b := range raw {
		distinct[b] = true
	}
	return len(raw) >= minSecret && len(distinct) >= minDistinct
}

// decodeBase64 takes both alphabets of RFC 4648, padded or not; nil if the text is neither.
func decodeBase64(text string) []byte {
	alphabet := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		alphabet = base64.RawURLEncoding
	}
	raw, err := alphabet.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return raw
}
