// Command pollgotelegram is an echo bot with go-telegram/bot that polls.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"
)

func echo(ctx context.Context, b *bot.Bot, u *models.Update) {
	var err error
	switch m := u.Message; {
	case m == nil:
	case m.Document != nil:
		err = echoFile(ctx, b, m)
	default:
		_, err = b.SendMessage(ctx, &bot.SendMessageParams{ChatID: m.Chat.ID, Text: os.Getenv("NAME") + ": " + m.Text})
	}
	if err != nil {
		log.Print(err)
	}
}

func echoFile(ctx context.Context, b *bot.Bot, m *models.Message) error {
	file, err := b.GetFile(ctx, &bot.GetFileParams{FileID: m.Document.FileID})
	if err != nil {
		return err
	}
	answer, err := http.Get(b.FileDownloadLink(file))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	document := &models.InputFileUpload{Filename: "file", Data: answer.Body}
	_, err = b.SendDocument(ctx, &bot.SendDocumentParams{ChatID: m.Chat.ID, Document: document, Caption: os.Getenv("NAME")})
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b, err := bot.New(os.Getenv("BOT_TOKEN"), bot.WithServerURL(os.Getenv("API_ROOT")), bot.WithDefaultHandler(echo))
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("DROP") != "" {
		if _, err := b.DeleteWebhook(ctx, &bot.DeleteWebhookParams{DropPendingUpdates: true}); err != nil {
			log.Fatal(err)
		}
	}
	if chat := os.Getenv("JOB_CHAT"); chat != "" {
		go func() {
			for range time.Tick(time.Second) {
				if _, err := b.SendMessage(ctx, &bot.SendMessageParams{ChatID: chat, Text: os.Getenv("NAME") + ": job"}); err != nil {
					fmt.Println("job:", err)
				}
			}
		}()
	}
	b.Start(ctx)
}
