"""An echo bot with python-telegram-bot that polls."""

import logging
import os

from telegram.error import TelegramError
from telegram.ext import Application, MessageHandler, filters

NAME, ROOT = os.environ["NAME"], os.environ["API_ROOT"]
logging.basicConfig(level=logging.WARNING)
app = Application.builder().token(os.environ["BOT_TOKEN"]).base_url(ROOT + "/bot").base_file_url(ROOT + "/file/bot").build()


async def echo(update, context):
    await update.message.reply_text(f"{NAME}: {update.message.text}")


async def echo_file(update, context):
    file = await update.message.document.get_file()
    await update.message.reply_document(bytes(await file.download_as_bytearray()), caption=NAME, filename="file")


async def job(context):
    try:
        await context.bot.send_message(os.environ["JOB_CHAT"], f"{NAME}: job")
    except TelegramError as err:
        print("job:", err, flush=True)


app.add_handler(MessageHandler(filters.TEXT, echo))
app.add_handler(MessageHandler(filters.Document.ALL, echo_file))
if "JOB_CHAT" in os.environ:
    app.job_queue.run_repeating(job, interval=1)
app.run_polling(drop_pending_updates="DROP" in os.environ)
