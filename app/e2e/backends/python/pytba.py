"""An echo bot with pyTelegramBotAPI. It answers an update after handling it, 500 if that failed."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import telebot

telebot.apihelper.API_URL = os.environ["API_ROOT"] + "/bot{0}/{1}"
telebot.apihelper.FILE_URL = os.environ["API_ROOT"] + "/file/bot{0}/{1}"
bot = telebot.TeleBot(os.environ["BOT_TOKEN"], threaded=False)


@bot.message_handler(content_types=["text"])
def echo(message):
    bot.send_message(message.chat.id, f"{os.environ['NAME']}: {message.text}")


class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 403
        if self.headers.get("X-Telegram-Bot-Api-Secret-Token") == os.environ["SECRET"]:
            try:
                bot.process_new_updates([telebot.types.Update.de_json(body.decode())])
                status = 200
            except Exception as err:
                status = 500
                print(err, flush=True)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("", int(os.environ["PORT"])), Hook).serve_forever()
