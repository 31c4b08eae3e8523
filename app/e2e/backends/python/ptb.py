"""An echo bot with python-telegram-bot. It answers an update after handling it, 500 if that failed."""

import os

from aiohttp import web
from telegram import Update
from telegram.ext import Application, MessageHandler, filters

failed = {}
ROOT = os.environ["API_ROOT"]
app = Application.builder().token(os.environ["BOT_TOKEN"]).base_url(ROOT + "/bot").base_file_url(ROOT + "/file/bot").updater(None).build()


async def echo(update, context):
    await update.effective_message.reply_text(f"{os.environ['NAME']}: {update.effective_message.text}")


async def keep(update, context):
    failed[update.update_id] = context.error


async def hook(request):
    if request.headers.get("X-Telegram-Bot-Api-Secret-Token") != os.environ["SECRET"]:
        return web.Response(status=403)
    update = Update.de_json(await request.json(), app.bot)
    await app.process_update(update)
    return web.Response(status=500 if failed.pop(update.update_id, None) else 200)


async def run(server):
    async with app:
        yield


app.add_handler(MessageHandler(filters.TEXT, echo))
app.add_error_handler(keep)
server = web.Application()
server.router.add_post("/hook", hook)
server.cleanup_ctx.append(run)
web.run_app(server, port=int(os.environ["PORT"]))
