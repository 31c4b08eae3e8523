package intake

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestFirstPollOfATermIsTracedOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	poll := func(ctx context.Context) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	poll(t.Context()) // as a standby's probe, which keeps the connection warm
	var logs strings.Builder
	ctx := traced(t.Context(), slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	poll(ctx)
	poll(ctx)
	if got := logs.String(); strings.Count(got, "msg=") != 1 || !strings.Contains(got, `msg="first poll sent" connection_reused=true microseconds=`) {
		t.Errorf("logged %s", got)
	}
	if ctx := t.Context(); traced(ctx, slog.New(slog.DiscardHandler)) != ctx {
		t.Error("it is traced though it is not logged")
	}
}
