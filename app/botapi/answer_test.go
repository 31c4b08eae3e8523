package botapi

import (
	"encoding/json"
	"testing"
)

func TestAnswersHaveTheFormOfTheBotAPI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer Answer
		status int
		retry  int
		want   string
	}{
		{Result([]byte(`{"id":1}`)), 200, 0, `{"ok":true,"result":{"id":1}}`},
		{True(""), 200, 0, `{"ok":true,"result":true}`},
		{True("Webhook is already deleted"), 200, 0, `{"ok":true,"result":true,"description":"Webhook is already deleted"}`},
		{List[json.RawMessage](nil), 200, 0, `{"ok":true,"result":[]}`},
		{List([]json.RawMessage{[]byte(`{"update_id": 1}`), []byte(`{"update_id":2,"new":1.0}`)}), 200, 0, `{"ok":true,"result":[{"update_id": 1},{"update_id":2,"new":1.0}]}`},
		{WebhookInfo(3), 200, 0, `{"ok":true,"result":{"url":"","has_custom_certificate":false,"pending_update_count":3}}`},
		{Failure(401, "Unauthorized"), 401, 0, `{"ok":false,"error_code":401,"description":"Unauthorized"}`},
		{Failure(409, "Conflict: \"a\"\nis active"), 409, 0, `{"ok":false,"error_code":409,"description":"Conflict: \"a\"\nis active"}`},
		{Later(502, "Bad Gateway", 2), 502, 2, `{"ok":false,"error_code":502,"description":"Bad Gateway","parameters":{"retry_after":2}}`},
	} {
		if a := c.answer; a.Status != c.status || a.RetryAfter != c.retry || string(a.Body) != c.want {
			t.Errorf("%d, %d, %s; want %d, %d, %s", a.Status, a.RetryAfter, a.Body, c.status, c.retry, c.want)
		}
	}
}
