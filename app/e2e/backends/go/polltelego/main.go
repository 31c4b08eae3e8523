// Command polltelego is an echo bot with telego that polls.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/mymmrac/telego"
	th "github.com/mymmrac/telego/telegohandler"
	tu "github.com/mymmrac/telego/telegoutil"
)

func main() {
	name := os.Getenv("NAME")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bot, err := telego.NewBot(cmp.Or(os.Getenv("BOT_TOKEN"), os.Getenv("DEMO_TOKEN")), telego.WithAPIServer(os.Getenv("API_ROOT")))
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("DROP") != "" {
		if err := bot.DeleteWebhook(ctx, &telego.DeleteWebhookParams{DropPendingUpdates: true}); err != nil {
			log.Fatal(err)
		}
	}
	updates, err := bot.UpdatesViaLongPolling(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := th.NewBotHandler(bot, updates)
	if err != nil {
		log.Fatal(err)
	}
	handler.HandleMessage(func(ctx *th.Context, m telego.Message) error {
		_, err := bot.SendMessage(ctx, tu.Message(m.Chat.ChatID(), name+": "+m.Text))
		return err
	}, th.AnyMessageWithText())
	handler.HandleMessage(func(ctx *th.Context, m telego.Message) error {
		file, err := bot.GetFile(ctx, &telego.GetFileParams{FileID: m.Document.FileID})
		if err != nil {
			return err
		}
		content, err := tu.DownloadFile(bot.FileDownloadURL(file.FilePath))
		if err != nil {
			return err
		}
		_, err = bot.SendDocument(ctx, tu.Document(m.Chat.ChatID(), tu.FileFromBytes(content, "file")).WithCaption(name))
		return err
	}, func(_ context.Context, u telego.Update) bool { return u.Message != nil && u.Message.Document != nil })
	if chat, err := strconv.ParseInt(os.Getenv("JOB_CHAT"), 10, 64); err == nil {
		go func() {
			for range time.Tick(time.Second) {
				if _, err := bot.SendMessage(ctx, tu.Message(tu.ID(chat), name+": job")); err != nil {
					fmt.Println("job:", err)
				}
			}
		}()
	}
	if err := handler.Start(); err != nil {
		log.Fatal(err)
	}
}
