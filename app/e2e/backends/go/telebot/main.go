// Command telebot is an echo bot with telebot. It answers an update after handling it, 500 if that failed.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"

	tele "gopkg.in/telebot.v4"
)

func main() {
	bot, err := tele.NewBot(tele.Settings{
		Token: os.Getenv("BOT_TOKEN"), URL: os.Getenv("API_ROOT"), Synchronous: true,
		OnError: func(err error, c tele.Context) { c.Set("failed", err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	bot.Handle(tele.OnText, func(c tele.Context) error { return c.Send(os.Getenv("NAME") + ": " + c.Text()) })
	http.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		var u tele.Update
		switch {
		case r.Header.Get("X-Telegram-Bot-Api-Secret-Token") != os.Getenv("SECRET"):
			w.WriteHeader(http.StatusForbidden)
		case json.NewDecoder(r.Body).Decode(&u) != nil:
			w.WriteHeader(http.StatusBadRequest)
		default:
			c := bot.NewContext(u)
			if bot.ProcessContext(c); c.Get("failed") != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
