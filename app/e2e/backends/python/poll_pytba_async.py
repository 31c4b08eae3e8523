"""An echo bot with pyTelegramBotAPI's asynchronous half that polls."""

import asyncio
import os

import telebot.asyncio_helper
from telebot.async_telebot import AsyncTeleBot

NAME, ROOT = os.environ["NAME"], os.environ["API_ROOT"]
telebot.asyncio_helper.API_URL = ROOT + "/bot{0}/{1}"
telebot.asyncio_helper.FILE_URL = ROOT + "/file/bot{0}/{1}"
bot = AsyncTeleBot(os.environ["BOT_TOKEN"])


@bot.message_handler(content_types=["text"])
async def echo(message):
    await bot.send_message(message.chat.id, f"{NAME}: {message.text}")


@bot.message_handler(content_types=["document"])
async def echo_file(message):
    content = await bot.download_file((await bot.get_file(message.document.file_id)).file_path)
    await bot.send_document(message.chat.id, content, caption=NAME, visible_file_name="file")


async def job():
    while True:
        await asyncio.sleep(1)
        try:
            await bot.send_message(os.environ["JOB_CHAT"], f"{NAME}: job")
        except Exception as err:
            print("job:", err, flush=True)


async def main():
    if "JOB_CHAT" in os.environ:
        running = asyncio.create_task(job())
    await bot.infinity_polling(skip_pending="DROP" in os.environ)


asyncio.run(main())
