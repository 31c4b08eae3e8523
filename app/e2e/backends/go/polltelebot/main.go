// Command polltelebot is an echo bot with telebot that polls.
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	tele "gopkg.in/telebot.v4"
)

func main() {
	name := os.Getenv("NAME")
	bot, err := tele.NewBot(tele.Settings{Token: os.Getenv("BOT_TOKEN"), URL: os.Getenv("API_ROOT"), Poller: &tele.LongPoller{Timeout: 10 * time.Second}})
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("DROP") != "" {
		if err := bot.RemoveWebhook(true); err != nil {
			log.Fatal(err)
		}
	}
	bot.Handle(tele.OnText, func(c tele.Context) error { return c.Send(name + ": " + c.Text()) })
	bot.Handle(tele.OnDocument, func(c tele.Context) error {
		content, err := bot.File(&c.Message().Document.File)
		if err != nil {
			return err
		}
		defer content.Close()
		return c.Send(&tele.Document{File: tele.FromReader(content), FileName: "file", Caption: name})
	})
	if chat, err := strconv.ParseInt(os.Getenv("JOB_CHAT"), 10, 64); err == nil {
		go func() {
			for range time.Tick(time.Second) {
				if _, err := bot.Send(tele.ChatID(chat), name+": job"); err != nil {
					fmt.Println("job:", err)
				}
			}
		}()
	}
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
		<-stop
		bot.Stop()
	}()
	bot.Start()
}
