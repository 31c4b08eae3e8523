// Command telego is an echo bot with telego. It answers an update after handling it, 500 if that failed.
package main

import (
	"cmp"
	"encoding/json"
	"log"
	"net/http"
	"os"

	"github.com/mymmrac/telego"
	th "github.com/mymmrac/telego/telegohandler"
	tu "github.com/mymmrac/telego/telegoutil"
)

func main() {
	bot, err := telego.NewBot(cmp.Or(os.Getenv("BOT_TOKEN"), os.Getenv("DEMO_TOKEN")), telego.WithAPIServer(os.Getenv("API_ROOT")))
	if err != nil {
		log.Fatal(err)
	}
	handler, err := th.NewBotHandler(bot, nil)
	if err != nil {
		log.Fatal(err)
	}
	handler.HandleMessage(func(ctx *th.Context, m telego.Message) error {
		_, err := ctx.Bot().SendMessage(ctx, tu.Message(m.Chat.ChatID(), os.Getenv("NAME")+": "+m.Text))
		return err
	}, th.AnyMessageWithText())
	http.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		var u telego.Update
		switch {
		case r.Header.Get("X-Telegram-Bot-Api-Secret-Token") != os.Getenv("SECRET"):
			w.WriteHeader(http.StatusForbidden)
		case json.NewDecoder(r.Body).Decode(&u) != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			if err := handler.BaseGroup().HandleUpdate(r.Context(), bot, u); err != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
