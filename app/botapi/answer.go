package botapi

import (
	"encoding/json"
	"strconv"
)

// ContentType is the content type of each answer.
const ContentType = "application/json"

// success is the HTTP status of each success.
const success = 200

// Answer is an answer of the Bot API, as JSON.
type Answer struct {
	// Status is the HTTP status, the same number as error_code.
	Status int
	Body   []byte
	// RetryAfter is for the header of that name, in seconds; 0 if there is none.
	RetryAfter int
}

// Result is a success. The result MUST be valid JSON.
func Result(result []byte) Answer {
	return Answer{Status: success, Body: join(`{"ok":true,"result":`, result, "}")}
}

// True is the success of a method whose result is true. The description may be empty.
func True(description string) Answer {
	if description == "" {
		return Result([]byte("true"))
	}
	return Answer{Status: success, Body: join(`{"ok":true,"result":true,"description":`, quote(description), "}")}
}

// List is a success whose result is a list of updates, each of which MUST be valid JSON. It is copied byte for byte.
func List[T ~[]byte](updates []T) Answer {
	size := 32
	for _, u := range updates {
		size += len(u) + 1
	}
	body := append(make([]byte, 0, size), `{"ok":true,"result":[`...)
	for i, u := range updates {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, u...)
	}
	return Answer{Status: success, Body: append(body, `]}`...)}
}

// Failure is an error. The description says what went wrong, for readers of the bot's log.
func Failure(status int, description string) Answer {
	return Answer{Status: status, Body: failure(status, description, "}")}
}

// Later is an error that may be over in some seconds, 1 or more.
func Later(status int, description string, seconds int) Answer {
	end := `,"parameters":{"retry_after":` + strconv.Itoa(seconds) + "}}"
	return Answer{Status: status, Body: failure(status, description, end), RetryAfter: seconds}
}

// WebhookInfo is the answer of getWebhookInfo to a bot that polls. pending is how many updates wait.
func WebhookInfo(pending int) Answer {
	return Result([]byte(`{"url":"","has_custom_certificate":false,"pending_update_count":` + strconv.Itoa(pending) + "}"))
}

func failure(status int, description, end string) []byte {
	return join(`{"ok":false,"error_code":`+strconv.Itoa(status)+`,"description":`, quote(description), end)
}

func quote(s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // a string can always be written
	}
	return text
}

func join(start string, middle []byte, end string) []byte {
	b := make([]byte, 0, len(start)+len(middle)+len(end))
	return append(append(append(b, start...), middle...), end...)
}
