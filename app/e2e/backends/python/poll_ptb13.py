"""An echo bot with python-telegram-bot 13 that polls."""

import logging
import os
from io import BytesIO

from telegram.error import TelegramError
from telegram.ext import Filters, MessageHandler, Updater

NAME, ROOT = os.environ["NAME"], os.environ["API_ROOT"]
logging.basicConfig(level=logging.WARNING)
updater = Updater(os.environ["BOT_TOKEN"], base_url=ROOT + "/bot", base_file_url=ROOT + "/file/bot")


def echo(update, context):
    update.message.reply_text(f"{NAME}: {update.message.text}")


def echo_file(update, context):
    content = update.message.document.get_file().download_as_bytearray()
    update.message.reply_document(BytesIO(content), caption=NAME, filename="file")


def job(context):
    try:
        context.bot.send_message(os.environ["JOB_CHAT"], f"{NAME}: job")
    except TelegramError as err:
        print("job:", err, flush=True)


updater.dispatcher.add_handler(MessageHandler(Filters.text, echo))
updater.dispatcher.add_handler(MessageHandler(Filters.document, echo_file))
if "JOB_CHAT" in os.environ:
    updater.job_queue.run_repeating(job, interval=1)
updater.start_polling(drop_pending_updates="DROP" in os.environ)
updater.idle()
