// Command polltgbotapi is an echo bot with go-telegram-bot-api that polls.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
)

func echo(bot *tgbotapi.BotAPI, m *tgbotapi.Message) error {
	if m.Document == nil {
		_, err := bot.Send(tgbotapi.NewMessage(m.Chat.ID, os.Getenv("NAME")+": "+m.Text))
		return err
	}
	file, err := bot.GetFile(tgbotapi.FileConfig{FileID: m.Document.FileID})
	if err != nil {
		return err
	}
	// File.Link leads to api.telegram.org whatever the API root is.
	answer, err := http.Get(os.Getenv("API_ROOT") + "/file/bot" + bot.Token + "/" + file.FilePath)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	document := tgbotapi.NewDocument(m.Chat.ID, tgbotapi.FileReader{Name: "file", Reader: answer.Body})
	document.Caption = os.Getenv("NAME")
	_, err = bot.Send(document)
	return err
}

func main() {
	bot, err := tgbotapi.NewBotAPIWithAPIEndpoint(os.Getenv("BOT_TOKEN"), os.Getenv("API_ROOT")+"/bot%s/%s")
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("DROP") != "" {
		if _, err := bot.Request(tgbotapi.DeleteWebhookConfig{DropPendingUpdates: true}); err != nil {
			log.Fatal(err)
		}
	}
	if chat, err := strconv.ParseInt(os.Getenv("JOB_CHAT"), 10, 64); err == nil {
		go func() {
			for range time.Tick(time.Second) {
				if _, err := bot.Send(tgbotapi.NewMessage(chat, os.Getenv("NAME")+": job")); err != nil {
					fmt.Println("job:", err)
				}
			}
		}()
	}
	config := tgbotapi.NewUpdate(0)
	config.Timeout = 60
	for u := range bot.GetUpdatesChan(config) {
		if u.Message == nil {
			continue
		}
		if err := echo(bot, u.Message); err != nil {
			log.Print(err)
		}
	}
}
