package telegram

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Verdict is what an error of Telegram's means for what to do next.
type Verdict int

const (
	// Fine means no error.
	Fine Verdict = iota
	// Transient is a failure of the network, a 5xx, a page that is no JSON, no answer in time, a code that is not known: try again.
	Transient
	// Limited means too many requests: wait for as long as the error names.
	Limited
	// Unauthorized means that the token is not good here.
	Unauthorized
	// Conflict means that another program polls with this token.
	Conflict
	// Webhook means that a webhook is set.
	Webhook
	// Permanent means that the request itself is wrong, or the chat is gone.
	Permanent
	// Over means that the lease or the context has ended.
	Over
)

// Judge tells what an error means. ctx is the caller's: only its end, not a request's own time-out,
// is Over.
func Judge(ctx context.Context, err error) Verdict {
	var api *Error
	switch {
	case err == nil:
		return Fine
	case ctx.Err() != nil, errors.Is(err, ErrLeaseLost):
		return Over
	case !errors.As(err, &api) || api == nil:
		return Transient
	}
	switch {
	case api.Code == http.StatusTooManyRequests:
		return Limited
	case noSuchMethod(api):
		return Permanent
	case refusesToken(api):
		return Unauthorized
	case api.Code == http.StatusConflict && strings.Contains(api.Description, "webhook") &&
		!strings.Contains(api.Description, "setWebhook"):
		return Webhook
	case api.Code == http.StatusConflict:
		return Conflict
	case api.Code >= http.StatusInternalServerError || api.Code == 0:
		return Transient
	case api.Code == http.StatusBadRequest, api.Code == http.StatusForbidden, api.Code == http.StatusRequestEntityTooLarge:
		return Permanent
	default:
		return Transient // a Bot API server answers with no other code: whatever it is may pass
	}
}

// refusesToken tells whether an answer is about the token, whatever was asked: it was revoked (401), is none or belongs to
// another server (404, 421), or the bot was logged out of this one (400). The server says so in these words (Client.cpp,
// get_closing_error; ClientManager.cpp, send; HttpConnection.cpp, handle).
func refusesToken(api *Error) bool {
	switch api.Code {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMisdirectedRequest:
		return true
	case http.StatusBadRequest:
		return strings.HasSuffix(strings.ToLower(api.Description), "logged out")
	default:
		return false
	}
}

// noSuchMethod tells whether a server does not know the method, which a backend may have named: a 404 as for a token that is none, in other
// words (Client.cpp, on_cmd).
func noSuchMethod(api *Error) bool {
	return api.Code == http.StatusNotFound && strings.HasSuffix(strings.ToLower(api.Description), "method not found")
}

// Bounds of what Telegram may ask us to wait.
const (
	minRetryAfter = time.Second
	maxRetryAfter = 5 * time.Minute
)

// RetryAfter is how long Telegram wants us to wait, bounded.
func RetryAfter(err error) time.Duration {
	if api, ok := errors.AsType[*Error](err); ok && api != nil {
		seconds := min(api.RetryAfter, int(maxRetryAfter/time.Second)) // before it can overflow
		return max(time.Duration(seconds)*time.Second, minRetryAfter)
	}
	return minRetryAfter
}

// MovedTo is the supergroup that the group written to has become; 0 if the error is another.
func MovedTo(err error) int64 {
	if api, ok := errors.AsType[*Error](err); ok && api != nil {
		return api.MigrateTo
	}
	return 0
}

// BackOff is the wait before attempt n+1 (n from 0): it doubles up to limit, and a random part of it, at
// most half, is left out. random is in [0, 1).
func BackOff(n int, first, limit time.Duration, random float64) time.Duration {
	d := limit
	if n < 20 {
		d = min(first<<n, limit)
	}
	return d - time.Duration(random*float64(d)/2)
}
