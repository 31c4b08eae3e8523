package bot

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mymmrac/telego/telegoapi"
)

// verdict is what an error of Telegram's means for what to do next.
type verdict int

const (
	// fine: no error.
	fine verdict = iota
	// transient: the network, a 5xx, a page that is no JSON, no answer in time, a code that is not known. Try again.
	transient
	// limited: too many requests; wait as told.
	limited
	// unauthorized: the token is not good here.
	unauthorized
	// conflict: another program polls with this token.
	conflict
	// webhook: a webhook is set.
	webhook
	// permanent: the request itself is wrong, or the chat is gone.
	permanent
	// over: the lease or the context has ended.
	over
)

// judge tells what an error means. ctx is the caller's: only its end, not a request's own time-out,
// is over.
func judge(ctx context.Context, err error) verdict {
	var api *telegoapi.Error
	switch {
	case err == nil:
		return fine
	case ctx.Err() != nil, errors.Is(err, ErrLeaseLost):
		return over
	case !errors.As(err, &api) || api == nil:
		return transient
	}
	switch {
	case api.ErrorCode == http.StatusTooManyRequests:
		return limited
	case refusesToken(api):
		return unauthorized
	case api.ErrorCode == http.StatusConflict && strings.Contains(api.Description, "webhook") &&
		!strings.Contains(api.Description, "setWebhook"):
		return webhook
	case api.ErrorCode == http.StatusConflict:
		return conflict
	case api.ErrorCode >= http.StatusInternalServerError || api.ErrorCode == 0:
		return transient
	case api.ErrorCode == http.StatusBadRequest, api.ErrorCode == http.StatusForbidden, api.ErrorCode == http.StatusRequestEntityTooLarge:
		return permanent
	default:
		return transient // a Bot API server answers with no other code: whatever it is may pass
	}
}

// refusesToken tells whether an answer is about the token, whatever was asked: it was revoked (401), is none or belongs to
// another server (404, 421), or the bot was logged out of this one (400). The server says so in these words (Client.cpp,
// get_closing_error; ClientManager.cpp, send; HttpConnection.cpp, handle).
func refusesToken(api *telegoapi.Error) bool {
	switch api.ErrorCode {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMisdirectedRequest:
		return true
	case http.StatusBadRequest:
		return strings.HasSuffix(strings.ToLower(api.Description), "logged out")
	default:
		return false
	}
}

// Bounds of what Telegram may ask us to wait.
const (
	minRetryAfter = time.Second
	maxRetryAfter = 5 * time.Minute
)

// retryAfter is how long Telegram wants us to wait.
func retryAfter(err error) time.Duration {
	var api *telegoapi.Error
	if errors.As(err, &api) && api != nil && api.Parameters != nil {
		seconds := min(api.Parameters.RetryAfter, int(maxRetryAfter/time.Second)) // before it can overflow
		return max(time.Duration(seconds)*time.Second, minRetryAfter)
	}
	return minRetryAfter
}

// movedTo is the supergroup that the group written to has become; 0 if the error is another.
func movedTo(err error) int64 {
	if api, ok := errors.AsType[*telegoapi.Error](err); ok && api != nil && api.Parameters != nil {
		return api.Parameters.MigrateToChatID
	}
	return 0
}

// backOff is the wait before attempt n+1 (n from 0): it doubles up to limit, and a random part of it, at
// most half, is left out. random is in [0, 1).
func backOff(n int, first, limit time.Duration, random float64) time.Duration {
	d := limit
	if n < 20 {
		d = min(first<<n, limit)
	}
	return d - time.Duration(random*float64(d)/2)
}
