"""An echo bot with pyTelegramBotAPI that polls."""

import os
import threading
import time

import telebot

NAME, ROOT = os.environ["NAME"], os.environ["API_ROOT"]
telebot.apihelper.API_URL = ROOT + "/bot{0}/{1}"
telebot.apihelper.FILE_URL = ROOT + "/file/bot{0}/{1}"
bot = telebot.TeleBot(os.environ["BOT_TOKEN"])


@bot.message_handler(content_types=["text"])
def echo(message):
    bot.send_message(message.chat.id, f"{NAME}: {message.text}")


@bot.message_handler(content_types=["document"])
def echo_file(message):
    content = bot.download_file(bot.get_file(message.document.file_id).file_path)
    bot.send_document(message.chat.id, content, caption=NAME, visible_file_name="file")


def job():
    while True:
        time.sleep(1)
        try:
            bot.send_message(os.environ["JOB_CHAT"], f"{NAME}: job")
        except Exception as err:
            print("job:", err, flush=True)


if "JOB_CHAT" in os.environ:
    threading.Thread(target=job, daemon=True).start()
bot.infinity_polling(skip_pending="DROP" in os.environ)
