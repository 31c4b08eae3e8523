package listener

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAHandlerIsAskedWithoutAConnection(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		switch {
		case r.Method != http.MethodHead || r.URL.Path != "/livez" || r.Header.Get("Who") != "me":
			w.WriteHeader(http.StatusNotFound)
		case r.Context().Err() != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, err := w.Write([]byte("ok")); err != nil {
			t.Error(err)
		}
	})
	me := http.Header{"Who": {"me"}}
	if err := Ask(t.Context(), h, http.MethodHead, "/livez", me); err != nil {
		t.Error(err)
	}
	if err := Ask(t.Context(), h, http.MethodHead, "/livez", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v for 404", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Ask(over, h, http.MethodHead, "/livez", me); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v for 503", err)
	}
}

func TestAServerIsAskedOverItsPortOnceInAWhileAndUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		down := errors.New("down")
		ports := []error{down, down, nil, nil}
		ask := Asking(func(context.Context) error {
			asked = append(asked, "port")
			err := ports[0]
			ports = ports[1:]
			return err
		}, func(context.Context) error {
			asked = append(asked, "handler")
			return nil
		})
		for range 2 {
			if err := ask(t.Context()); !errors.Is(err, down) {
				t.Errorf("got %v", err)
			}
		}
		for range 4 {
			if err := ask(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(connectEvery / 2)
		}
		if want := []string{"port", "port", "port", "handler", "port", "handler"}; !slices.Equal(asked, want) {
			t.Errorf("asked by %v, want %v", asked, want)
		}
	})
}
