"""An echo bot with aiogram that polls."""

import asyncio
import logging
import os

from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramAPIError
from aiogram.types import BufferedInputFile

NAME = os.environ["NAME"]
logging.basicConfig(level=logging.WARNING)
dp = Dispatcher()


@dp.message(F.text)
async def echo(message):
    await message.answer(f"{NAME}: {message.text}")


@dp.message(F.document)
async def echo_file(message, bot):
    content = await bot.download(message.document)
    await message.answer_document(BufferedInputFile(content.read(), "file"), caption=NAME)


async def job(bot):
    while True:
        await asyncio.sleep(1)
        try:
            await bot.send_message(os.environ["JOB_CHAT"], f"{NAME}: job")
        except TelegramAPIError as err:
            print("job:", err, flush=True)


async def main():
    bot = Bot(os.environ["BOT_TOKEN"], session=AiohttpSession(api=TelegramAPIServer.from_base(os.environ["API_ROOT"])))
    if "DROP" in os.environ:
        await bot.delete_webhook(drop_pending_updates=True)
    if "JOB_CHAT" in os.environ:
        running = asyncio.create_task(job(bot))
    await dp.start_polling(bot)


asyncio.run(main())
