package simulator

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// maxText is the bound on a message after its entities are parsed.
const maxText = 4096

func htmlTags() []string {
	return []string{
		"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "span", "tg-spoiler", "a", "tg-emoji", "code", "pre", "blockquote",
	}
}

// plainText is a text as people see it, or the complaint of the real server about its markup.
func plainText(text, mode string) (string, string) {
	if strings.EqualFold(mode, "html") {
		return parseHTML(text)
	}
	return text, ""
}

var entity = regexp.MustCompile(`^&(lt|gt|amp|quot|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});$`)

func parseHTML(text string) (plain, complaint string) {
	var out strings.Builder
	var open []string
	for i := 0; i < len(text); {
		switch text[i] {
		case '<':
			end := strings.IndexByte(text[i:], '>')
			if end < 0 {
				return "", fmt.Sprintf("Unclosed start tag at byte offset %d", i)
			}
			tag := text[i+1 : i+end]
			if name, closing := strings.CutPrefix(tag, "/"); closing {
				if len(open) == 0 {
					return "", fmt.Sprintf("Unexpected end tag at byte offset %d", i)
				}
				last := open[len(open)-1]
				if name = strings.TrimSpace(name); name != "" && !strings.EqualFold(name, last) {
					return "", fmt.Sprintf("Unmatched end tag at byte offset %d, expected \"</%s>\", found \"</%s>\"", i, last, name)
				}
				open = open[:len(open)-1]
			} else {
				name, _, _ := strings.Cut(strings.ToLower(tag), " ")
				if !slices.Contains(htmlTags(), name) {
					return "", fmt.Sprintf("Unsupported start tag \"%s\" at byte offset %d", name, i)
				}
				open = append(open, name)
			}
			i += end + 1
		case '&':
			// No other names are known to the real server; what it does not know stays as it is.
			end := strings.IndexByte(text[i:], ';')
			if end > 0 && entity.MatchString(text[i:i+end+1]) {
				out.WriteString(html.UnescapeString(text[i : i+end+1]))
				i += end + 1
				continue
			}
			out.WriteByte('&')
			i++
		default:
			out.WriteByte(text[i])
			i++
		}
	}
	if len(open) > 0 {
		return "", fmt.Sprintf("Can't find end tag corresponding to start tag \"%s\"", open[len(open)-1])
	}
	return out.String(), ""
}

// length is counted as Telegram counts: in UTF-16 code units.
func length(text string) int { return len(utf16.Encode([]rune(text))) }
