// An echo bot with grammY. It answers an update after handling it, 500 if that failed; the message is the answer itself (JSON).
const http = require("http");
const { Bot, webhookCallback } = require("grammy");

const { BOT_TOKEN, API_ROOT, SECRET, PORT, NAME } = process.env;
const bot = new Bot(BOT_TOKEN, { client: { apiRoot: API_ROOT, canUseWebhookReply: (method) => method === "sendMessage" } });
bot.on("message:text", (ctx) => ctx.reply(`${NAME}: ${ctx.message.text}`));
http.createServer(webhookCallback(bot, "http", { secretToken: SECRET, timeoutMilliseconds: 55_000 })).listen(PORT);
