// An echo bot with node-telegram-bot-api. It answers an update after handling it, 500 if that failed.
const { Bot } = require("node-telegram-bot-api");
const { createWebhookServer } = require("node-telegram-bot-api/node");

const { BOT_TOKEN, API_ROOT, SECRET, PORT, NAME } = process.env;
const bot = new Bot(BOT_TOKEN, { apiRoot: API_ROOT });
bot.on("message", (ctx) => ctx.reply(`${NAME}: ${ctx.message.text}`));
bot.catch((err) => { throw err; });
createWebhookServer(bot, { path: "/hook", secretToken: SECRET }).listen(Number(PORT));
