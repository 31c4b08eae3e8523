"""An echo bot with aiogram. It answers an update after handling it, 500 if that failed; the message is the answer itself (multipart)."""

import os

from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web

dp = Dispatcher()


@dp.message(F.text)
async def echo(message):
    return message.answer(f"{os.environ['NAME']}: {message.text}")


bot = Bot(os.environ["BOT_TOKEN"], session=AiohttpSession(api=TelegramAPIServer.from_base(os.environ["API_ROOT"])))
app = web.Application()
SimpleRequestHandler(dp, bot, handle_in_background=False, secret_token=os.environ["SECRET"]).register(app, path="/hook")
setup_application(app, dp, bot=bot)
web.run_app(app, port=int(os.environ["PORT"]))
