// Command gotelegram is an echo bot with go-telegram/bot. It answers an update after handling it, 500 if that failed.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"
)

func echo(ctx context.Context, b *bot.Bot, u *models.Update) {
	if u.Message == nil {
		return
	}
	_, err := b.SendMessage(ctx, &bot.SendMessageParams{ChatID: u.Message.Chat.ID, Text: os.Getenv("NAME") + ": " + u.Message.Text})
	if err != nil {
		ctx.Value(failed{}).(*atomic.Bool).Store(true)
	}
}

// failed is where a handler says that it has: handlers return no error.
type failed struct{}

func main() {
	b, err := bot.New(os.Getenv("BOT_TOKEN"), bot.WithServerURL(os.Getenv("API_ROOT")), bot.WithNotAsyncHandlers(), bot.WithDefaultHandler(echo))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		var u models.Update
		switch {
		case r.Header.Get("X-Telegram-Bot-Api-Secret-Token") != os.Getenv("SECRET"):
			w.WriteHeader(http.StatusForbidden)
		case json.NewDecoder(r.Body).Decode(&u) != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			var bad atomic.Bool
			if b.ProcessUpdate(context.WithValue(r.Context(), failed{}, &bad), &u); bad.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
